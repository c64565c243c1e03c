"""The nginx that passes requests to the web service: how it learns of a new container, and that an old one is gone.

By a reload, in both cases: what it has looked up it believes for a while, and an address that nobody has any more is
not refused but waited for.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from server.commands import Docker
from server.containers import Container, containers_from, inspect
from server.nginx import Lookups, lookups_of
from server.run import Run

UNKNOWN_PROXY = 2.0
"""Seconds in which a proxy that is no nginx should have found a new container."""
NOT_THERE = (126, 127)
"""Statuses of `docker exec` where there is no such program in the container."""
_WORKER = b"nginx: worker process"


@dataclass(frozen=True)
class Proxy:
    """An nginx that passes requests to the web service."""

    id: str
    name: str
    lookups: Lookups


def find(run: Run, docker: Docker, container: str) -> list[Proxy]:
    """The proxies of a container of the web service. Raises Failure where one could not be reloaded."""
    (web,) = inspect(docker, container)
    # A container's id is one of its names; that of its service always.
    aliases = {alias for network in web.networks for alias in network.aliases if not web.id.startswith(alias)}
    names = sorted({run.request.web, *aliases})
    networks = {network.name for network in web.networks}
    # In one question: a container that ends between two, of whomever, is no reason to fail.
    running = docker.answer(
        *("ps", "--no-trunc", "--format", "{{.ID}}|,{{.Networks}},|{{.Command}} {{.Image}}"),
        failing="docker ps failed.",
    )
    found: dict[str, Lookups] = {}
    for line in running.splitlines():
        candidate, its_networks, command = line.split("|", 2)
        if "nginx" in command and networks & set(its_networks.split(",")):
            lookups = _ask(docker, candidate, names)
            if lookups:
                found[candidate] = lookups
    if not found:
        run.say(
            f"notice: no nginx was found that passes requests to '{run.request.web}'; what does must find a new "
            f"container "
            f"within {UNKNOWN_PROXY:.0f} s"
        )
        return []
    called = {it.id: it.name for it in containers_from(docker.ask("inspect", *found).text)}
    return [Proxy(candidate, called.get(candidate, candidate), lookups) for candidate, lookups in found.items()]


def _ask(docker: Docker, container: str, names: Sequence[str]) -> Lookups | None:
    # It tests the configuration, as -t does, and prints it.
    answer = docker.ask("exec", container, "nginx", "-T")
    if answer.status in NOT_THERE:
        return None
    if not answer.succeeded:
        raise docker.failure(
            f"The configuration of {_name(docker, container)} is not accepted (nginx -T).",
            "Fix it: it is read at a reload, which the strategy rolling needs.",
        )
    return lookups_of(answer.text, names)


def _name(docker: Docker, container: str) -> str:
    found: list[Container] = containers_from(docker.ask("inspect", container).text)
    return found[0].name if found else container


def reload(run: Run, docker: Docker, proxy: Proxy) -> bool:
    """Reloads an nginx; returns when its new workers have taken over. Whether that succeeded."""
    before = set(_workers(docker, proxy.id))
    if docker.run("exec", proxy.id, "nginx", "-s", "reload") != 0:
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
    # As this server shows them, which takes a tenth of what it takes to ask Docker.
    shown = [process.parent.name for process in Path("/proc").glob("[0-9]*/cmdline") if _is_worker(process, container)]
    if shown:
        return shown
    table = docker.ask("top", container, "-o", "pid,args").text.splitlines()
    return [line.split()[0] for line in table if line.endswith(_WORKER.decode())]


def _is_worker(cmdline: Path, container: str) -> bool:
    try:
        if cmdline.read_bytes().rstrip(b"\0 ") != _WORKER:
            return False
        return container in (cmdline.parent / "cgroup").read_text()
    except OSError:
        return False  # it has just ended
