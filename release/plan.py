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
from language import Message, _, decimal, said
from release import steps
from release.reference import ImageReference
from release.steps import COMPILES_AGAIN
from release.upgrade.plan import Planned
from server.request import AssetsFrom, Image, StepName, Strategy, tag_of

BUILDING = ("build", "check", "smoke-test", "publish")
"""What is done here before the servers' turn, where the image is built."""
APPROVED = "RELEVE_APPROVED"
"""The environment variable with the fingerprint of the plan that was approved."""
FILE = "RELEVE_PLAN_FILE"
"""The environment variable that names a file for the plan as JSON: ./releve plan reads it."""
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

    def live(self, repository: str) -> Image | None:
        """What runs: a rollout that failed after `up` has replaced it, but has not ended.

        repository: what such a rollout was about
        """
        ended, replaced = Image.parse(self.release), self.triggers.get(StepName.UP, ())[:2]
        if len(replaced) < 2 or (ended and [ended.tag, ended.digest] == list(replaced)):  # noqa: PLR2004 - tag, digest
            return ended
        return Image(repository, *replaced)

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
    upgrade:     what is known of what the release's changelog asks for; None: it is not looked at
    """

    settings: Settings
    server: ServerSettings
    digest: str | None
    made_of: str
    specification: str
    environment: tuple[str, ...]
    program: str
    others: tuple[str, ...]
    upgrade: Planned | None = None


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
    upgrade:    what the release's changelog asks for, a line each
    obstacles:  what of that speaks against the release, with what to do
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
    upgrade: tuple[str, ...] = ()
    obstacles: tuple[str, ...] = ()

    @property
    def rolls_out(self) -> bool:
        """Whether more is to be done than to renew Relève's own program."""
        return StepName.PULL in self.steps or StepName.UP in self.steps


@dataclass(frozen=True)
class Plan:
    """What an `up` will do. fingerprint: 12 hexadecimal digits that change with all of it."""

    stack: str
    servers: tuple[ServerPlan, ...]
    fingerprint: str

    def document(self) -> dict[str, Any]:
        """For programs, with `text` as it is for people."""
        return {**asdict(self), "empty": self.is_empty, "text": self.text()}

    @property
    def is_empty(self) -> bool:
        """Whether nothing is to be done."""
        return not any(server.steps for server in self.servers)

    @property
    def obstacles(self) -> tuple[str, ...]:
        """What speaks against it, with what to do; none: nothing."""
        return tuple(dict.fromkeys(obstacle for server in self.servers for obstacle in server.obstacles))

    def text(self) -> str:
        """For people: a few lines a server."""
        lines = [line for server in self.servers for line in _lines(server)]
        if self.is_empty:
            return "\n".join(lines)
        last = f"{_('fingerprint'):<13} {self.fingerprint}   ({APPROVED}={self.fingerprint} pulumi up)"
        return "\n".join([*lines, last])


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
    upgrade = target.upgrade if rolls_out else None
    tasks = [*app.before_up, *app.after_up] if rolls_out else []
    return ServerPlan(
        server=target.server.name,
        address=target.server.url or target.server.host,
        runs=past.release,
        wanted=str(wanted),
        origin=_origin(target, past),
        strategy=str(app.strategy),
        steps=will_run,
        reasons=(tuple(_reasons(target, past)) or (_unfinished(past),)) if rolls_out else (),
        others=tuple(dict.fromkeys([*target.others, *_RECREATED.findall(past.said.get(StepName.PULL, ""))])),
        tasks=tuple(" ".join(task) for task in tasks),
        migrations=" ".join(app.migrate) if rolls_out else "",
        downtime=_expected(past) if past.specified.get("strategy", app.strategy) == app.strategy else None,
        upgrade=upgrade.lines(settings) if upgrade else (),
        obstacles=upgrade.obstacles(settings) if upgrade else (),
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
        return Message("built from {source}", source=target.made_of)
    name = f"{target.settings.tag}-{target.digest[7:19]}"
    kept = _KEPT.search(past.said.get(StepName.PURGE, ""))
    if kept and name in kept[1].split():
        return Message("kept on the server: nothing is pulled")
    return Message("released already: nothing is built")


def _reasons(target: Target, past: Past) -> Iterator[str]:
    settings, before = target.settings, Image.parse(past.release)
    if before is None:
        yield Message("nothing was released here before")
        return
    if before.tag != settings.tag:
        yield f"tag {before.tag} → {settings.tag}"
    elif target.digest is not None and before.digest != target.digest:
        yield Message("the tag {tag} is another image", tag=settings.tag)
    now = specified(settings, target.server)
    changed = [
        key for key in sorted({*past.specified, *now}) if past.specified and past.specified.get(key) != now.get(key)
    ]
    for key in changed:
        yield f"{key} {_short(past.specified.get(key))} → {_short(now.get(key))}"
    if not changed and target.specification not in past.triggers.get(StepName.PULL, ()):
        kept = settings.app.compose_file
        yield Message("the Compose file of the repository changed") if kept else Message("the configuration changed")
    yield from _environment_reasons(target, past)


def _unfinished(past: Past) -> str:
    """What is to be done where nothing has changed since the last rollout that ended."""
    begun = past.triggers.get(StepName.PULL, ())
    return f"the rollout of {begun[0]} has not come to its end" if begun else "a rollout has not come to its end"


def _environment_reasons(target: Target, past: Past) -> Iterator[str]:
    had = {value for value in past.triggers.get(StepName.PULL, ()) if value.startswith("env ")}
    names = sorted({value.split(" ")[1] for value in had ^ set(target.environment)})
    if names:
        compiled = target.settings.app.assets and target.settings.app.assets_from is AssetsFrom.COMPILE
        yield Message(
            "env changed: {names}; the assets are compiled again" if compiled else "env changed: {names}",
            names=", ".join(names),
        )


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}…"  # noqa: PLR2004 - fits a line of the plan


def _expected(past: Past) -> float | None:
    found = _EXPECTED.search(past.said.get(StepName.UP, ""))
    return float(found[1]) if found else None


def _lines(server: ServerPlan) -> Iterator[str]:
    if not server.steps:
        yield _("{server}: nothing to do, it runs {release}", server=server.server, release=_named(server.runs))
        return
    yield f"{server.server} ({server.address})"
    if server.steps == (StepName.INSTALL,):
        yield _line(_("runs"), _("{release}, and goes on", release=_named(server.runs)))
        yield _line(_("steps"), _("install   (strategy none: Relève's own program there is renewed)"))
        return
    yield _line(_("runs"), _named(server.runs))
    yield _line(_("will run"), f"{_named(server.wanted)}, {said(server.origin)}")
    if server.reasons:
        yield _line(_("because"), "; ".join(map(said, server.reasons)))
    how = _("{steps}   (strategy {strategy})", steps=", ".join(server.steps), strategy=server.strategy)
    yield _line(_("steps"), how)
    if server.tasks:
        yield _line(_("tasks"), "; ".join(server.tasks))
    if server.migrations:
        when = _("{command}, after a dump, where the release has some that are pending", command=server.migrations)
        yield _line(_("migrations"), when)
    for number, told in enumerate(server.upgrade):
        yield _line("" if number else _("upgrade"), said(told))
    if server.others:
        yield _line(_("interrupts"), _("{services}, too", services=", ".join(server.others)))
    yield _line(_("downtime"), _downtime(server))


def _line(name: str, what: str) -> str:
    return f"  {name:<11} {what}"


def _downtime(server: ServerPlan) -> str:
    if server.strategy == Strategy.ROLLING:
        return _("none expected")
    if server.downtime is None:
        return _("not known yet")
    return _("about {seconds} s, as the last times here", seconds=decimal(server.downtime))


def _named(text: str) -> str:
    image = Image.parse(text)
    if image:
        return f"{image.tag} ({image.digest[:19]}…)"
    return text.rpartition(":")[2] if text else _("nothing of Relève's")
