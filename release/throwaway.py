"""A Compose project that is gone afterwards: when its user is done, is interrupted, or is killed with -9.

Who removes it is the watchdog, a process of its own that outlives its user: it holds the reading end of a pipe, whose
end tells it that the user is gone. When even the watchdog was killed, or the machine went down, the next project on
this machine removes what is left: a project's lock, which the kernel frees with the process, tells a dead one from one
that runs beside. So does its deadline, which is a label.

Run by itself as `python -m release.throwaway PROJECT DEADLINE`: the watchdog.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import select
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from release.docker_command import DockerError, docker, kill_group

LABEL = "releve.smoke-test"
"""On every container, network and volume; its value is the project."""
LOCK_LABEL = f"{LABEL}.lock"
DEADLINE_LABEL = f"{LABEL}.deadline"
"""Seconds since the epoch, after which nobody uses the project any more."""

COMPOSE_LABEL = "com.docker.compose.project"

DONE = "done"
"""Last line in the pipe of a user that was not killed. Before it come ids: the process group of the `docker compose`
that runs now, or 0."""
REMOVAL = 30
"""Seconds in which Docker must be able to remove a project."""
SETTLING = 5
"""Seconds in which Docker may still finish what a killed client has asked for."""


class Throwaway:
    """A Compose project with a name of its own, as a context manager: removed when it is left, in every way.

    directory: where the locks lie, the same for all who use this machine's Docker from one checkout
    lifetime:  seconds after which everything is removed even while this process lives
    """

    def __init__(self, directory: Path, lifetime: int) -> None:
        self.project = f"releve-smoke-{secrets.token_hex(4)}"
        self._lock = directory.resolve() / f"{self.project}.lock"
        self._deadline = int(time.time()) + lifetime

    def __enter__(self) -> Self:
        self._lock.parent.mkdir(parents=True, exist_ok=True)
        # Not inheritable: the lock goes with this process, whatever it has started.
        self._held = os.open(self._lock, os.O_CREAT | os.O_RDWR, 0o600)
        fcntl.flock(self._held, fcntl.LOCK_EX)
        reader, self._writer = os.pipe()
        self._watchdog = subprocess.Popen(
            [sys.executable, "-m", "release.throwaway", self.project, str(self._deadline)],
            stdin=reader,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            # A session of its own: what is done to this process's group, by a terminal or by Pulumi, does not reach it.
            start_new_session=True,
        )
        os.close(reader)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Raises DockerError when something could not be removed and nothing else went wrong before."""
        self._tell(DONE)
        os.close(self._writer)
        _, errors = self._watchdog.communicate()
        if self._watchdog.returncode == 0:
            self._lock.unlink(missing_ok=True)
        os.close(self._held)
        if self._watchdog.returncode != 0:
            problem = f"what the smoke test {self.project} has made could not be removed: {errors.strip()}"
            if kind is None:
                raise DockerError(problem)
            print(problem, file=sys.stderr)

    def compose(
        self, *arguments: str, stdin: str = "", timeout: float, environment: Mapping[str, str] | None = None
    ) -> str:
        """Runs `docker compose` on the project; what it prints. Raises DockerError."""
        command = ("compose", "--project-name", self.project, *arguments)
        return docker(*command, stdin=stdin, timeout=timeout, environment=environment, started=self._tell)

    def _tell(self, what: int | str) -> None:
        with suppress(BrokenPipeError):  # the watchdog is gone: the deadline has come
            os.write(self._writer, f"{what}\n".encode())

    def labelled(self, model: Mapping[str, Any]) -> dict[str, Any]:
        """A Compose model whose services, networks and volumes carry the labels by which leftovers are found."""
        labels = {LABEL: self.project, LOCK_LABEL: _place(self._lock), DEADLINE_LABEL: str(self._deadline)}
        # Compose makes this network in any case; named here, it gets the labels, too.
        networks = {"default": {}} | {name: value or {} for name, value in (model.get("networks") or {}).items()}
        return {
            **model,
            "services": {
                name: {**value, "labels": {**(value.get("labels") or {}), **labels}}
                for name, value in model["services"].items()
            },
            "networks": {name: {**value, "labels": labels} for name, value in networks.items()},
            "volumes": {
                name: {**(value or {}), "labels": labels} for name, value in (model.get("volumes") or {}).items()
            },
        }


def remove_leftovers(directory: Path) -> list[str]:
    """Removes the projects of this machine's dead processes, and those past their deadline; returns their names.

    directory: where the locks lie; those of dead processes go as well
    Raises DockerError.
    """
    labels = "\t".join(f'{{{{.Label "{label}"}}}}' for label in (LABEL, LOCK_LABEL, DEADLINE_LABEL))
    listed: set[str] = set()
    for kind in _KINDS:
        listed |= set(_listing(kind, LABEL, "--format", labels).splitlines())
    removed = []
    for line in sorted(listed):
        project, place, deadline = line.split("\t")
        lock = _path(place)
        if (lock and _is_free(lock)) or int(deadline) < time.time():
            remove(project)
            removed.append(project)
    for lock in directory.glob("*.lock"):
        if _is_free(lock):
            lock.unlink(missing_ok=True)
    return removed


_KINDS: Mapping[str, tuple[str, ...]] = {"container": ("--force", "--volumes"), "network": (), "volume": ()}
"""What a project consists of, in the order in which it can be removed, with the options for that."""


def remove(project: str) -> None:
    """Removes a project's containers with their anonymous volumes, its networks and its volumes. Raises DockerError."""
    until = time.monotonic() + REMOVAL
    for kind, options in _KINDS.items():
        while found := _listing(kind, f"{COMPOSE_LABEL}={project}", "--quiet").split():
            try:
                docker(kind, "rm", *options, *found)
            except DockerError:
                # Somebody else may be removing the same, or Docker has not let go of it yet.
                if time.monotonic() > until:
                    raise
                time.sleep(0.2)


def _listing(kind: str, label: str, *options: str) -> str:
    everything = ("--all",) if kind == "container" else ()
    return docker(kind, "ls", *everything, "--filter", f"label={label}", *options)


def _place(lock: Path) -> str:
    return f"{socket.gethostname()}:{lock}"


def _path(place: str) -> Path | None:
    """The path of a lock on this machine; None for one of another machine, or of another container's files."""
    host, _, path = place.partition(":")
    return Path(path) if host == socket.gethostname() and Path(path).exists() else None


def _is_free(lock: Path) -> bool:
    with suppress(FileNotFoundError), lock.open("r+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def watch(project: str, deadline: int) -> None:
    """Waits for the end of the pipe on stdin, or for the deadline, and removes the project. Raises DockerError."""
    said = b""
    while select.select([sys.stdin], [], [], max(0.0, deadline - time.time()))[0]:
        part = os.read(sys.stdin.fileno(), 4096)
        said += part
        if not part:
            break
    last = said.decode().split()[-1:]
    if last == [DONE]:
        remove(project)
        return
    if last and int(last[0]):
        kill_group(int(last[0]))
    # Docker may be in the middle of making something for a client that was killed, which is not in its lists yet.
    until = time.monotonic() + SETTLING
    while time.monotonic() < until:
        remove(project)
        time.sleep(0.5)
    remove(project)


def main(arguments: list[str]) -> int:
    """Entry point of the watchdog: PROJECT and DEADLINE; returns the exit status."""
    project, deadline = arguments
    try:
        watch(project, int(deadline))
    except DockerError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
