"""Containers of the release made and started, by Compose, what they depend on, and what runs to its end before them."""

from __future__ import annotations

import time
from collections.abc import Sequence

from server.commands import Docker
from server.containers import (
    DOWN,
    RUNNING,
    Compose,
    Container,
    Listed,
    Listing,
    containers_from,
    inspect,
    listing,
)
from server.errors import Failure, Refusal
from server.project import Project
from server.request import StepName
from server.run import Run

FAILURES = 5
"""Times that Docker may start a one-shot again which fails: what it needs may take a moment to be there."""


def missing_dependencies(run: Run, docker: Docker, project: Project) -> list[str]:
    """The services on which the web service depends that have no container yet. Raises Refusal where one is stopped."""
    web, there = run.request.web, listing(docker, project.name)
    missing = []
    for service in project.needed_by([web, *project.early(run.request.services)], run.request.services):
        if not there.of(service):
            missing.append(service)
        elif not there.of(service, states=("running",)) and not project.may_have_ended(service):
            raise Refusal(
                f"The service '{service}', on which '{web}' depends, is not running.",
                f"Start it, then try again:  cd '{run.directory}' && docker compose up -d --no-recreate {service}",
            )
    return missing


def start_missing(run: Run, docker: Docker, project: Project, compose: Compose, remedy: str) -> None:
    """Starts the services on which the web service depends, where they have no container yet: at the first release."""
    for service in missing_dependencies(run, docker, project):
        # What does not exist yet cannot be recreated by this.
        # For Compose, one that has ended well is none to wait for.
        wait = () if project.may_have_ended(service) else ("--wait",)
        words = ("up", "-d", *project.without_asking, "--no-recreate", *wait, service)
        if docker.run(*compose.words(*words), stdin=compose.stdin) != 0:
            # Not left as one that somebody has stopped: the next run starts it anew, with what it lacked.
            cleaning = docker.cleaning_up()
            for words in (("logs", "--no-color", "--tail", "50", service), ("rm", "--stop", "--force", service)):
                cleaning.run(*compose.words(*words), stdin=compose.stdin)
            raise docker.failure(f"'{service}' cannot be started.", remedy)
        run.say(f"started {service}")


# ------------------------------------------------------------------------------------------------------------ one-shots


def run_one_shots(run: Run, project: Project) -> None:
    """Runs the one-shots that do not need the application, one after the other. Raises StepError where one fails."""
    names = project.early(run.request.services)
    if not names:
        return
    docker = run.begin(StepName.MIGRATE)
    start_missing(run, docker, project, Compose(run.directory), "")
    # At the first release, because few say of what they use that they depend on it.
    there = listing(docker, project.name)
    others = project.independent_of((*run.request.services, *project.along))
    missing = [name for name in others if not there.of(name) and not project.is_optional(name)]
    if missing:
        words = ("up", "-d", *project.without_asking, "--no-recreate", *missing)
        docker.must("compose", *words, failing=f"{' '.join(missing)} cannot be started.")
    (run.transaction / "one-shots").touch()
    make_one_shots(run, docker, project)
    there = listing(docker, project.name)
    for name in names:
        containers = there.of(name)
        docker.must("start", *containers, failing=f"'{name}' cannot be started.")
        await_end(docker, name, containers)
        for container in containers:
            docker.run("logs", "--tail", "1000", container)
        run.say(f"'{name}' ran to its end")


def make_one_shots(run: Run, docker: Docker, project: Project) -> None:
    """Makes the containers of the same one-shots anew, and no others: `up` would recreate what they need.

    And, where an old release is put back, what needs them: containers that have never stopped, and serve.
    """
    names = project.early(run.request.services)
    for words in (("rm", "--stop", "--force"), ("create", *project.without_asking, "--no-recreate")) if names else ():
        docker.must("compose", *words, *names, failing=f"The containers of {' '.join(names)} cannot be made anew.")


def await_end(docker: Docker, service: str, containers: Sequence[str], remedy: str = "") -> None:
    """Waits until the containers of a one-shot have ended well. Raises Failure."""
    while True:
        answer = docker.ask("inspect", *containers)
        if docker.phase.is_over:
            break
        if not answer.succeeded:
            raise docker.failure("docker inspect failed.", remedy)
        found = containers_from(answer.text)
        failed = [container for container in found if has_failed(container)]
        if failed:
            raise one_shot_failed(docker, service, failed[0], remedy)
        if all(container.status == "exited" for container in found):
            return
        time.sleep(0.1)
    docker.cleaning_up().run("stop", *containers)
    message = f"'{service}' has not ended in its time. If it is to keep running, name it in app.services."
    raise docker.failure(message, remedy)


def has_failed(container: Container) -> bool:
    """Whether a one-shot's container has ended with an error, and Docker has given up."""
    return (container.status in DOWN and container.exit_code != 0) or container.restarts >= FAILURES


def one_shot_failed(docker: Docker, service: str, container: Container, remedy: str = "") -> Failure:
    """The error, after the last lines of the container have been put into the log."""
    late = docker.cleaning_up()
    if container.status not in DOWN:
        late.run("stop", container.id)
    late.run("logs", "--tail", "58", container.id)
    return docker.failure(f"The service '{service}' ended with status {container.exit_code}.", remedy)


def require_one_shots(docker: Docker, project: Project, remedy: str = "") -> None:
    """Raises Failure where a one-shot has failed: those that need the application were not waited for."""
    there = listing(docker, project.name) if project.one_shots else Listing(())
    for name in project.one_shots:
        for container in inspect(docker, *there.of(name)):
            if has_failed(container):
                raise one_shot_failed(docker, name, container, remedy)


# ---------------------------------------------------------------------------------------------------------- the project


def stop_application(run: Run, docker: Docker, project: Project) -> None:
    """Stops the application's services, and what else runs its image."""
    there = listing(docker, project.name)
    along = [name for name in project.along if there.of(name, states=RUNNING)]
    docker.must("compose", "stop", *run.request.services, *along, failing="The services cannot be stopped.")


def bring_up(run: Run, docker: Docker, project: Project) -> None:
    """The release's containers take the place of those that there are."""
    # What others depend on first, then the whole: the other way round Compose recreates these, nginx for one.
    # The web service before the workers: it need not wait, stopped, until they have ended what they do.
    for service in (run.request.web, *project.needed_workers(run.request.services)):
        if not _up(run, docker, project, service):
            raise docker.failure(f"The service '{service}' cannot be started.")
    bring_up_whole(run, docker, project)


def bring_up_whole(run: Run, docker: Docker, project: Project) -> None:
    """All of the project, as its Compose file wants it."""
    if not _up(run, docker, project, *without_orphans(docker, project)):
        raise docker.failure("The project cannot be brought up as a whole.")
    run.tell("the project is up")


def without_orphans(docker: Docker, project: Project) -> list[str]:
    """As an option of Compose, unless it would take containers of an inactive profile for orphans (before 2.23.2)."""
    others = {container.service for container in listing(docker, project.name).containers} - set(project.services)
    words = ("compose", "--profile", "*", "config", "--services")
    return [] if others and others & set(docker.ask(*words).text.split()) else ["--remove-orphans"]


def _up(run: Run, docker: Docker, project: Project, *what: str) -> bool:
    """`docker compose up -d` with a service, or for the whole, in two parts where that comes to the same.

    Between its own two parts Compose looks only twice a second whether dependencies are healthy, with the old container
    stopped.
    """
    if project.starts_at_once(run.request.services):
        if docker.run("compose", "create", *project.without_asking, *what) != 0:
            return False
        if start_created(run, docker, project, [word for word in what if not word.startswith("--")]):
            return True
    return docker.run("compose", "up", "-d", *project.without_asking, *what) == 0


def start_created(run: Run, docker: Docker, project: Project, services: Sequence[str] = ()) -> bool:
    """Starts the containers that do nothing, of these services or of all; whether that is all there is to start.

    It is not where a container that is not the application's does nothing.
    """
    down = [container for container in listing(docker, project.name).containers if container.state in DOWN]
    wanted = {container.id: _is_started(run, project, container, services) for container in down}
    if None in wanted.values():
        return False
    created = [container for container, starts in wanted.items() if starts]
    return not created or docker.run("start", *created) == 0


def _is_started(run: Run, project: Project, container: Listed, services: Sequence[str]) -> bool | None:
    """Whether a container that does nothing is to be started; None: Compose knows how."""
    name, ours = container.service, run.request.services
    if name in ours:
        return not services or name in services
    if name in project.early(ours):  # what has ended need not run again
        return not services and container.state == "created"
    if name in project.along and not project.needs(name, ours):
        return not services
    # One that nobody needs, and that somebody has stopped.
    return False if project.is_optional(name) and container.state == "exited" else None
