"""The application's services after the web service, replaced under the strategy `rolling`: never two of one at once."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from server.background import Background
from server.commands import Docker
from server.containers import RUNNING, inspect, listing
from server.health import failure_with_logs
from server.project import Project
from server.run import Run


@dataclass(frozen=True)
class Sorted:
    """Containers of the workers.

    staying:  those of the release that run
    leaving, idle: the others, that run and that do not
    outdated: services that have others, or none that stays
    lacking:  services of which none stays
    running:  service → how many run
    """

    staying: tuple[str, ...]
    leaving: tuple[str, ...]
    idle: tuple[str, ...]
    outdated: tuple[str, ...]
    lacking: tuple[str, ...]
    running: dict[str, int]


@dataclass(frozen=True)
class Workers:
    """Those of a rollout. made: the file that lists the containers that belong to the release."""

    run: Run
    docker: Docker
    project: Project
    made: Path

    def sort(self) -> Sorted:
        """As they are now."""
        there, belonging = listing(self.docker, self.project.name), listed(self.made)
        staying, leaving, idle, outdated, lacking = [], [], [], [], []
        for service in self.run.request.workers:
            running = there.of(service, states=RUNNING)
            stay = [container for container in running if container in belonging]
            others = [container for container in there.of(service) if container not in stay]
            staying += stay
            leaving += [container for container in others if container in running]
            idle += [container for container in others if container not in running]
            lacking += [] if stay else [service]
            outdated += [] if stay and not others else [service]
        counts = {service: len(there.of(service, states=RUNNING)) for service in self.run.request.workers}
        return Sorted(tuple(staying), tuple(leaving), tuple(idle), tuple(outdated), tuple(lacking), counts)

    def replace(self) -> None:
        """Ends the old ones and starts the new ones. Raises Failure."""
        docker, now = self.docker, self.sort()
        if not now.outdated:
            return
        self._remove(now, now.idle)
        stopping = Background(lambda: self._quiet_and_stop(now))
        new: list[str] = []
        try:
            # While the old ones end what they do. Not possible for one with a container_name, for example.
            if now.lacking and self.project.starts_at_once(self.run.request.services) and self._make_beside(now):
                new = note_new(docker, self.project, self.made, now.leaving, now.lacking)
        finally:
            stopping.wait()
        stopping.result()
        # Not before: what is gone is not counted.
        self._remove(now, now.leaving)
        if now.lacking and not new:
            self._make(now)
            new = note_new(docker, self.project, self.made, (), now.lacking)
        if new and docker.run("start", *new) != 0:
            message = f"The containers of {' '.join(now.lacking)} cannot be started."
            raise failure_with_logs(self.run, docker, message)
        self.run.say(f"stopped {' '.join(now.outdated)}, and started anew")

    def remove_others(self) -> None:
        """A failed release's: whatever they answer, they go."""
        now = self.sort()
        quiet = self.run.request.worker_quiet
        for container in now.leaving if quiet else ():
            if self.docker.run("exec", container, *quiet) != 0:
                self.run.output.complain(f"{container} cannot be told to take no more work (app.workerQuiet).")
        self._stop(now)
        self._remove(now, (*now.leaving, *now.idle))

    def _quiet_and_stop(self, now: Sorted) -> None:
        """What they have begun, they may end before they are stopped."""
        quiet = self.run.request.worker_quiet
        for container in now.leaving if quiet else ():
            if self.docker.run("exec", container, *quiet) == 0:
                continue
            # One that has just ended by itself, and is to be started again, takes no word.
            (found,) = inspect(self.docker, container)
            if found.status != "restarting":
                message = f"{found.name} cannot be told to take no more work (app.workerQuiet)."
                raise self.docker.failure(message)
        self._stop(now)

    def _make_beside(self, now: Sorted) -> bool:
        """For each that lacks, as many again as run; whether that succeeded."""
        scales = [f"--scale={service}={2 * now.running[service]}" for service in now.lacking if now.running[service]]
        return self.docker.run(*self._compose("create"), *scales, *now.lacking) == 0

    def _compose(self, *command: str) -> tuple[str, ...]:
        return ("compose", *command, *self.project.without_asking, "--no-recreate")

    def _make(self, now: Sorted) -> None:
        names = " ".join(now.lacking)
        if self.project.starts_at_once(self.run.request.services):
            words = (*self._compose("create"), *now.lacking)
            self.docker.must(*words, failing=f"The containers of {names} cannot be made.")
            return
        # A number can be given for a service only where it is meant, too; without one, Compose would make it what it
        # was.
        web = self.run.request.web
        count = len(listing(self.docker, self.project.name).of(web))
        words = (*self._compose("up", "-d"), f"--scale={web}={count}", web, *now.lacking)
        self.docker.must(*words, failing=f"{names} cannot be started.")

    def _stop(self, now: Sorted) -> None:
        if now.leaving:
            self.docker.must("stop", *now.leaving, failing=f"{' '.join(now.outdated)} cannot be stopped.")

    def _remove(self, now: Sorted, containers: Sequence[str]) -> None:
        if containers:
            failing = f"The containers of {' '.join(now.outdated)} cannot be removed."
            self.docker.must("rm", *containers, failing=failing)


def listed(file: Path) -> set[str]:
    """The containers that a file lists."""
    try:
        return set(file.read_text().split())
    except OSError:
        return set()


def note_made(file: Path, containers: Sequence[str]) -> None:
    """Adds containers to such a file."""
    with file.open("a") as lines:
        lines.write("".join(f"{container}\n" for container in containers))


def new_containers(docker: Docker, project: Project, earlier: Collection[str], services: Sequence[str]) -> list[str]:
    """The services' containers that were not there earlier."""
    return [container for container in listing(docker, project.name).of(*services) if container not in earlier]


def note_new(
    docker: Docker, project: Project, file: Path, earlier: Collection[str], services: Sequence[str]
) -> list[str]:
    """The services' containers that were not there earlier, which the file lists from now on. Raises Failure."""
    new = new_containers(docker, project, earlier, services)
    if not new:
        raise docker.failure(f"Compose has made no container of {' '.join(services)}.")
    note_made(file, new)
    return new
