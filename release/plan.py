"""What an `up` will do, in the words of people, and a fingerprint of it.

Made from the configuration, the registry's answer and the state: no server is asked.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from configuration.keys import specified
from configuration.tree import ServerSettings, Settings
from release import steps
from release.reference import ImageReference
from release.steps import COMPILES_AGAIN
from server.request import AssetsFrom, Image, StepName, Strategy, tag_of

BUILDING = ("build", "check", "smoke-test", "publish")
"""What is done here before the servers' turn, where the image is built."""
_RECREATED = re.compile(r"notice: (\S+) will be (?:recreated|restarted), too")
_EXPECTED = re.compile(r"usual here: ([0-9.]+) s")
_KEPT = re.compile(r"kept: (.*) \([0-9.]+ s\)")


@dataclass(frozen=True)
class Past:
    """What the state tells of a server.

    release:   repository:tag@digest of the last rollout that ended, or ""
    triggers:  step → what it has run for; without the step before it
    said:      step → what it printed
    specified: the keys that make a rollout, as they were; empty where the state is of an older Relève
    """

    release: str
    triggers: Mapping[str, Sequence[str]]
    said: Mapping[str, str]
    specified: Mapping[str, Any]

    @classmethod
    def of(cls, server: str, outputs: Mapping[str, Mapping[str, Any]]) -> Past:
        """From the outputs of all resources in the state, by URN."""
        triggers, said = {}, {}
        release, known = "", dict[str, Any]()
        for urn, resource in outputs.items():
            kind, _, name = urn.rpartition("::")
            values = resource.get("outputs") or {}
            if kind.endswith("command:remote:Command") and name.startswith(f"{server}-"):
                step = name.removeprefix(f"{server}-")
                triggers[step] = [str(value).removesuffix(COMPILES_AGAIN) for value in values.get("triggers") or ()]
                said[step] = str(values.get("stdout") or "")
            elif kind.endswith("releve:index:ComposeRollout") and name == server:
                release, known = str(values.get("release") or ""), values.get("specified") or {}
        return cls(release, triggers, said, known)

    @property
    def tags(self) -> tuple[str, ...]:
        """Those that were released to the server, as far as it runs or keeps them."""
        kept = _KEPT.search(self.said.get("purge", ""))
        of_kept = [tag for tag in map(tag_of, kept[1].split() if kept else ()) if tag]
        live = Image.parse(self.release)
        return tuple(dict.fromkeys([*([live.tag] if live else []), *of_kept]))


@dataclass(frozen=True)
class Target:
    """What is wanted on a server.

    digest:      of the image, or None: it is yet to be built
    made_of:     what the image is or was built from, in a few words; "" where this stack cannot build
    environment: for each variable of `env`, its name and something that changes with its value but does not tell it
    program:     SHA-256 of the program for servers
    """

    settings: Settings
    server: ServerSettings
    digest: str | None
    made_of: str
    specification: str
    environment: tuple[str, ...]
    program: str
    others: tuple[str, ...]


@dataclass(frozen=True)
class ServerPlan:
    """What will be done on a server.

    runs:       what serves now, "" for nothing of Relève's
    wanted:     what will
    origin:     where that comes from
    steps:      those that will run, in order; none: nothing is to be done
    reasons:    why, one thing each
    others:     services that are interrupted besides the application's
    tasks:      commands that are run with it
    migrations: the command that is run where migrations are pending, "" for none
    downtime:   seconds for which the site is expected to be away, as the server's history has it; None: not known
    """

    server: str
    address: str
    runs: str
    wanted: str
    origin: str
    strategy: str
    steps: tuple[str, ...]
    reasons: tuple[str, ...]
    others: tuple[str, ...]
    tasks: tuple[str, ...]
    migrations: str
    downtime: float | None


@dataclass(frozen=True)
class Plan:
    """What an `up` will do. fingerprint: 12 hexadecimal digits that change with all of it."""

    stack: str
    servers: tuple[ServerPlan, ...]
    fingerprint: str

    @property
    def is_empty(self) -> bool:
        """Whether nothing is to be done."""
        return not any(server.steps for server in self.servers)

    def document(self) -> dict[str, Any]:
        """For other programs, as JSON has it: all of it, and the text."""
        return {**asdict(self), "empty": self.is_empty, "text": self.text()}

    def text(self) -> str:
        """For people: a few lines a server."""
        lines = [line for server in self.servers for line in _lines(server)]
        if self.is_empty:
            return "\n".join(lines)
        return "\n".join([*lines, f"fingerprint   {self.fingerprint}   (RELEVE_APPROVED={self.fingerprint} pulumi up)"])


def make(stack: str, targets: Sequence[tuple[Target, Past]]) -> Plan:
    """The plan for a stack's servers."""
    servers = tuple(_server(target, past) for target, past in targets)
    # Times are no part of it: they differ from one rollout to the next, and change nothing of what is done.
    said = [{**asdict(server), "downtime": None} for server in servers]
    more = [[target.digest, target.specification, target.environment, target.program] for target, _ in targets]
    text = json.dumps([stack, said, more], sort_keys=True)
    return Plan(stack, servers, hashlib.sha256(text.encode()).hexdigest()[:12])


def _server(target: Target, past: Past) -> ServerPlan:
    settings = target.settings
    wanted = ImageReference(settings.image.repository, settings.tag, target.digest)
    will_run = tuple(_steps(target, past))
    app = settings.app
    rolls_out = StepName.PULL in will_run or StepName.UP in will_run
    tasks = [*app.before_up, *app.after_up] if rolls_out else []
    return ServerPlan(
        server=target.server.name,
        address=target.server.url or target.server.host,
        runs=past.release,
        wanted=str(wanted),
        origin=_origin(target, past),
        strategy=str(app.strategy),
        steps=will_run,
        reasons=tuple(_reasons(target, past)) if rolls_out else (),
        others=tuple(dict.fromkeys([*target.others, *_RECREATED.findall(past.said.get(StepName.PULL, ""))])),
        tasks=tuple(" ".join(task) for task in tasks),
        migrations=" ".join(app.migrate) if rolls_out else "",
        downtime=_expected(past) if past.specified.get("strategy", app.strategy) == app.strategy else None,
    )


def _steps(target: Target, past: Past) -> Iterator[str]:
    """Those that will run: the first one that something has changed for, and all after it."""
    if target.digest is None:
        yield from BUILDING
    install = [target.program, target.server.host, target.settings.app.directory]
    if list(past.triggers.get(StepName.INSTALL, ())) != install:
        yield str(StepName.INSTALL)
    wanted = [target.settings.tag, target.digest, target.specification, *target.environment]
    runs = False
    for step in steps.plan(target.settings):
        had = list(past.triggers.get(step, ())[:-1])  # the last is the step before it
        runs = runs or target.digest is None or had != wanted
        if runs:
            yield str(step)


def _origin(target: Target, past: Past) -> str:
    if target.digest is None:
        return f"built from {target.made_of}"
    name = f"{target.settings.tag}-{target.digest[7:19]}"
    kept = _KEPT.search(past.said.get(StepName.PURGE, ""))
    if kept and name in kept[1].split():
        return "kept on the server: nothing is pulled"
    return "released already: nothing is built"


def _reasons(target: Target, past: Past) -> Iterator[str]:
    settings, before = target.settings, Image.parse(past.release)
    if before is None:
        yield "nothing was released here before"
        return
    if before.tag != settings.tag:
        yield f"tag {before.tag} → {settings.tag}"
    elif target.digest is not None and before.digest != target.digest:
        yield f"the tag {settings.tag} is another image"
    now = specified(settings, target.server)
    changed = [
        key for key in sorted({*past.specified, *now}) if past.specified and past.specified.get(key) != now.get(key)
    ]
    for key in changed:
        yield f"{key} {_short(past.specified.get(key))} → {_short(now.get(key))}"
    if not changed and target.specification not in past.triggers.get(StepName.PULL, ()):
        yield "the Compose file of the repository changed" if settings.app.compose_file else "the configuration changed"
    yield from _environment_reasons(target, past)


def _environment_reasons(target: Target, past: Past) -> Iterator[str]:
    had = {value for value in past.triggers.get(StepName.PULL, ()) if value.startswith("env ")}
    names = sorted({value.split(" ")[1] for value in had ^ set(target.environment)})
    if names:
        compiled = target.settings.app.assets and target.settings.app.assets_from is AssetsFrom.COMPILE
        yield f"env changed: {', '.join(names)}{'; the assets are compiled again' if compiled else ''}"


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}…"  # noqa: PLR2004 - fits a line of the plan


def _expected(past: Past) -> float | None:
    found = _EXPECTED.search(past.said.get(StepName.UP, ""))
    return float(found[1]) if found else None


def _lines(server: ServerPlan) -> Iterator[str]:
    if not server.steps:
        yield f"{server.server}: nothing to do, it runs {_named(server.runs)}"
        return
    yield f"{server.server} ({server.address})"
    if server.steps == (StepName.INSTALL,):
        yield f"  runs        {_named(server.runs)}, and goes on"
        yield "  steps       install   (strategy none: Relève's own program there is renewed)"
        return
    yield f"  runs        {_named(server.runs)}"
    yield f"  will run    {_named(server.wanted)}, {server.origin}"
    if server.reasons:
        yield f"  because     {'; '.join(server.reasons)}"
    yield f"  steps       {', '.join(server.steps)}   (strategy {server.strategy})"
    if server.tasks:
        yield f"  tasks       {'; '.join(server.tasks)}"
    if server.migrations:
        yield f"  migrations  {server.migrations}, after a dump, where the release has some that are pending"
    if server.others:
        yield f"  interrupts  {', '.join(server.others)}, too"
    yield f"  downtime    {_downtime(server)}"


def _downtime(server: ServerPlan) -> str:
    if server.strategy == Strategy.ROLLING:
        return "none expected"
    return "not known yet" if server.downtime is None else f"about {server.downtime:.1f} s, as the last times here"


def _named(text: str) -> str:
    image = Image.parse(text)
    if image:
        return f"{image.tag} ({image.digest[:19]}…)"
    return text.rpartition(":")[2] if text else "nothing of Relève's"
