"""The switch to a release as one transaction: what was there is noted first, and any failure puts it back.

transaction/  exists from before the first change until the new release is live or the old one is back
  compose.yml, placed.yml   the Compose file as it was, and as this program left it
  env, env-placed           .env as it was, if there was one; and that this program has replaced it
  schema                    the last migration that had been run
  dump                      the database was migrated; these files, of one database each, are what it was
  dump-restored, dump-failed   they were restored; that was tried, and the old release has started without
  started                   containers of the new release may have been started, besides one-shots
  published                 the assets that may have been published, a directory a line
  one-shots                 their containers may be those of the new release
  containers                those that there were
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from functools import partial
from pathlib import Path

from server import environment, releases, sockets
from server.commands import Docker
from server.containers import Container, inspected, listing, reached_at
from server.database import Database, remove_unfinished_dumps
from server.health import Gate, is_shown_here
from server.placement import put_environment_in_place, put_in_place
from server.preparation import Candidate
from server.project import Project
from server.proxies import Proxy
from server.public import Measured, Public, Target
from server.run import Run

RESERVE = 2 << 20
"""Bytes that a transaction holds, so that it can be put back on a disk that it has found full."""


class OldHealth(Enum):
    """What the old release must be again, should it be put back."""

    NONE = "it did not serve"
    STATUS = "it answered with the wanted status"
    FULL = "it answered as the new one should"


@dataclass
class Rollout:
    """A release on its way.

    previous: the release that was live when it began, "" for none
    database: what is dumped before migrations are run, or None: there are none to run
    measured: what is asked to measure the downtime
    proxies:  those of the web service, as far as they are known
    seen:     whether it was seen as visitors get it
    """

    run: Run
    candidate: Candidate
    public: Public
    previous: str
    old_health: OldHealth
    database: Database | None
    measured: Measured = field(default_factory=Measured)
    proxies: Sequence[Proxy] = ()
    seen: bool = False

    @property
    def project(self) -> Project:
        """As the release wants it."""
        return self.candidate.project

    def note_targets(self, docker: Docker) -> None:
        """The containers that serve now are looked at from now on, and asked where there is no public address."""
        health = self.run.request.health
        containers = inspected(docker, listing(docker, self.project.name).of(self.run.request.web))
        targets = [Target.at(f"{self.public.url}{health.path}")]
        if self.public.url is None:
            targets = targets_of(self.run, docker, containers)
        shown = [it.process for it in containers if is_shown_here(it) and sockets.shows(it.process)]
        self.measured = Measured(targets, shown, health.port)


def targets_of(run: Run, docker: Docker, containers: list[Container]) -> list[Target]:
    """The health pages of containers, which are asked as the health gate asks them."""
    gate = Gate.of(run)
    return [
        Target((container.id, address), partial(gate.ask, address))
        for container in containers
        for address in reached_at(docker, container)
    ]


def old_health(run: Run, docker: Docker, project: Project) -> OldHealth:
    """How the release answers that serves now."""
    web = listing(docker, project.name).of(run.request.web, states=("running",))
    if not web:
        return OldHealth.NONE
    gate = Gate.of(run)
    if gate.is_answered_by(docker, web):
        return OldHealth.FULL
    return OldHealth.STATUS if gate.without_texts().is_answered_by(docker, web) else OldHealth.NONE


# ---------------------------------------------------------------------------------------------------------- the journal


def begin(run: Run, docker: Docker, candidate: Candidate, ready: Callable[[], None]) -> None:
    """Notes what is there.

    `ready` raises where something else speaks against it. A killed run's notes are gone on with.
    """
    remove_unfinished_dumps(run.state)
    reserve = run.state / "reserve"
    try:
        with reserve.open("wb") as file:
            file.write(bytes(RESERVE))
    except OSError:
        reserve.unlink(missing_ok=True)
        remedy = "Nothing was stopped. Make room, then run `pulumi up` again."
        raise docker.failure(f"There is no room on the disk of {run.directory}.", remedy) from None
    new = run.state / "transaction.new"
    try:
        if not run.transaction.exists():
            _note_what_is_there(run, docker, candidate, new)
        ready()
    except BaseException:
        reserve.unlink(missing_ok=True)
        raise
    if not run.transaction.exists():
        new.rename(run.transaction)


def _note_what_is_there(run: Run, docker: Docker, candidate: Candidate, new: Path) -> None:
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir()
    for path, name in ((candidate.files.compose, "compose.yml"), (run.directory / environment.FILE, "env")):
        if path.exists():
            shutil.copy2(path, new / name)
    (new / "schema").write_text(f"{releases.schema(run.state)}\n")
    there = listing(docker, candidate.project.name).of(*run.request.services)
    (new / "containers").write_text("".join(f"{container}\n" for container in there))


def place(rollout: Rollout) -> None:
    """Puts the release's environment and its Compose file in place."""
    run, candidate = rollout.run, rollout.candidate
    if candidate.environment is None:
        # That of a rollout which was interrupted, and whose configuration is not wanted any more.
        put_environment_back(run)
    elif not environment.is_in_place(run.directory, candidate.environment):
        (run.transaction / "env-placed").touch()
        put_environment_in_place(run, candidate)
    put_in_place(run, candidate)
    shutil.copy2(candidate.files.compose, run.transaction / "placed.yml")


def note_started(run: Run) -> None:
    """Containers of the new release may serve from now on, and write."""
    (run.transaction / "started").touch()


def end(run: Run) -> None:
    """It is over: nothing is to be put back any more."""
    shutil.rmtree(run.transaction)
    (run.state / "reserve").unlink(missing_ok=True)


def put_environment_back(run: Run) -> None:
    """.env as it was, where this transaction has replaced it."""
    if not (run.transaction / "env-placed").exists():
        return
    before = run.transaction / "env"
    if before.exists():
        text = before.read_text(errors="surrogateescape")
        if not environment.is_in_place(run.directory, text):
            environment.replace(run.directory, run.state, text)
    else:
        (run.directory / environment.FILE).unlink(missing_ok=True)
