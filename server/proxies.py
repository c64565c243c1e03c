"""The nginx that passes requests to the web service: how it learns of a new container, and that an old one is gone.

By a reload, in both cases: what it has looked up it believes for a while, and an address that nobody has any more is
not refused but waited for.
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from server.commands import Docker
from server.containers import Container, inspect, inspected, reached_at
from server.health import is_shown_here
from server.nginx import Door, Lookups, doors_of, lookups_of
from server.request import Strategy
from server.run import Run

UNKNOWN_PROXY = 2.0
"""Seconds in which a proxy that is no nginx should have found a new container."""
NOT_THERE = (126, 127)
"""Statuses of `docker exec` where there is no such program in the container."""
_MASTER, _WORKER = "nginx: master process ", "nginx: worker process"
"""What an nginx calls its processes; the first one's arguments follow."""


@dataclass(frozen=True)
class Proxy:
    """An nginx that passes requests to the web service.

    command:   how it was started in its container: without these words another configuration might be read
    doors:     where it listens for these requests
    addresses: its container's
    """

    id: str
    name: str
    lookups: Lookups
    command: Sequence[str] = ("nginx",)
    doors: Sequence[Door] = ()
    addresses: Sequence[str] = ()

    @property
    def must_be_told(self) -> bool:
        """Whether it does not find a new container by itself, or not soon."""
        return self.lookups.keeps or self.lookups.believes


def find(run: Run, docker: Docker, container: str) -> list[Proxy]:
    """The proxies of a container of the web service. Raises Failure where one could not be reloaded."""
    (web,) = inspect(docker, container)
    # A container's id is one of its names; that of its service always. Docker's DNS knows each with its network, too.
    aliases = [(alias, network.name) for network in web.networks for alias in network.aliases if alias != web.id[:12]]
    names = sorted({run.request.web, *(alias for alias, _ in aliases), *map(".".join, aliases)})
    # In one question: a container that ends between two, of whomever, is no reason to fail.
    running = docker.answer(
        *("ps", "--no-trunc", "--format", '{{.ID}}|,{{.Networks}},|{{.Names}}|{{.Label "com.docker.compose.project"}}'),
        failing="docker ps failed.",
    )
    there = [line.split("|") for line in running.splitlines()]
    networks = {network.name for network in web.networks}
    near = [it for it in there if networks & set(it[1].split(",")) and it[0] != web.id]
    commands = _commands(docker, [it[0] for it in near], shown=is_shown_here(web))
    ours = [it[3] for it in there if it[0] == web.id]
    found: dict[str, str] = {}
    for candidate, _, name, project in near:
        if candidate in commands:
            strict = run.request.strategy is Strategy.ROLLING or project in ours
            found[candidate] = _configuration(run, docker, candidate, name, commands[candidate], strict=strict)
    lookups = {candidate: lookups_of(text, names) for candidate, text in found.items()}
    passing = [candidate for candidate in found if lookups[candidate]]
    if not passing and run.request.strategy is Strategy.ROLLING:
        run.say(
            f"notice: no nginx was found that passes requests to '{run.request.web}'; what does must find a new "
            f"container "
            f"within {UNKNOWN_PROXY:.0f} s"
        )
    return [
        Proxy(
            id=it.id, name=it.name, lookups=known, command=commands[it.id],
            doors=doors_of(found[it.id], names), addresses=reached_at(docker, it),
        )
        for it in inspected(docker, passing)
        if (known := lookups.get(it.id))
    ]  # fmt: skip


def configurations(docker: Docker, containers: Sequence[Container]) -> dict[str, str]:
    """Of those containers in which an nginx runs whose configuration is in order: id → all of that."""
    shown = bool(containers) and is_shown_here(containers[0])
    commands = _commands(docker, [it.id for it in containers], shown=shown)
    answers = {container: docker.ask("exec", container, *command, "-T") for container, command in commands.items()}
    return {container: answer.text for container, answer in answers.items() if answer.succeeded}


def _configuration(run: Run, docker: Docker, container: str, name: str, command: Sequence[str], *, strict: bool) -> str:
    """All of an nginx's, "" where it has none to show. strict: one that would not be accepted is a failure."""
    # It tests the configuration, as -t does, and prints it.
    answer = docker.ask("exec", container, *command, "-T")
    if answer.succeeded:
        return answer.text
    if answer.status not in NOT_THERE:
        message = f"The configuration of {name} is not accepted (nginx -T)."
        if strict:
            raise docker.failure(message, "Fix it: it is read when nginx is told of the new container.")
        run.say(f"notice: {message} If it passes requests to '{run.request.web}', it is not told of the new container.")
    return ""


def _commands(docker: Docker, containers: Sequence[str], *, shown: bool) -> dict[str, list[str]]:
    """Those of the containers in which an nginx runs → how it was started.

    shown: this server shows their processes, which takes a tenth of what it takes to ask Docker
    """
    found = {}
    masters = [(it, title) for it, title in _titles() if title.startswith(_MASTER)] if shown else []
    for container in containers:
        titles = [title for process, title in masters if _is_in(process, container)]
        if not shown:
            titles = [title for _, title in _asked_for(docker, container) if title.startswith(_MASTER)]
        if titles:
            found[container] = command_of(titles[0])
    return found


def command_of(title: str) -> list[str]:
    """How an nginx was started, from what its first process calls itself: its words, joined by spaces."""
    program, *words = title[len(_MASTER) :].split() or ["nginx"]
    command = [program]
    for word in words:
        if re.match("-[a-zA-Z]", word) or re.fullmatch("-[cegp]", command[-1]):
            command.append(word)
        else:
            command[-1] += f" {word}"  # directives of -g
    return command


def tell(run: Run, docker: Docker, proxies: Sequence[Proxy], container: str) -> list[Proxy]:
    """Tells those that must be told that the web service has other containers; `container` is one. Returns the proxies.

    Raises Failure.
    """
    for proxy in proxies:
        if proxy.must_be_told and not reload(run, docker, proxy):
            if not docker.ask("ps", "-q", "--filter", f"id={proxy.id}").text.strip():
                # It was made anew with the containers, and has looked the name up.
                return find(run, docker, container)
            message = f"{proxy.name} cannot be reloaded, and looks for '{run.request.web}' where it was."
            raise docker.failure(message)
    return list(proxies)


def reload(run: Run, docker: Docker, proxy: Proxy) -> bool:
    """Reloads an nginx; returns when its new workers have taken over. Whether that succeeded."""
    before = set(_workers(docker, proxy.id))
    if docker.run("exec", proxy.id, *proxy.command, "-s", "reload") != 0:
        return False
    while True:
        workers = set(_workers(docker, proxy.id))
        if workers and not workers & before:
            run.say(f"reloaded {proxy.name}")
            return True
        if docker.phase.is_over:
            return False
        time.sleep(0.05)


def _workers(docker: Docker, container: str) -> list[str]:
    """The processes of an nginx that take requests."""
    shown = [process.name for process, title in _titles() if title == _WORKER and _is_in(process, container)]
    return shown or [process for process, title in _asked_for(docker, container) if title == _WORKER]


def _asked_for(docker: Docker, container: str) -> list[tuple[str, str]]:
    """The processes of a container, and what they call themselves, from Docker."""
    lines = (line.split(None, 1) for line in docker.ask("top", container, "-o", "pid,args").text.splitlines())
    return [(line[0], line[1].rstrip()) for line in lines if len(line) == 2]  # noqa: PLR2004


def _titles() -> list[tuple[Path, str]]:
    """The processes that this server shows, and what they call themselves."""
    found = []
    for cmdline in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found.append((cmdline.parent, cmdline.read_bytes().rstrip(b"\0 ").decode(errors="replace")))
        except OSError:
            continue  # it has just ended
    return found


def _is_in(process: Path, container: str) -> bool:
    try:
        return container in (process / "cgroup").read_text()
    except OSError:
        return False  # it has just ended
