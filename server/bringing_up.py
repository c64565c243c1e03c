"""Containers of the release made and started, by Compose, and what they depend on."""

from __future__ import annotations

from collections.abc import Sequence

from server.commands import Docker
from server.containers import DOWN, Compose, listing
from server.errors import Refusal
from server.project import Project
from server.run import Run


def missing_dependencies(run: Run, docker: Docker, project: Project) -> list[str]:
    """The services on which the web service depends that have no container yet. Raises Refusal where one is stopped."""
    web, there = run.request.web, listing(docker, project.name)
    missing = []
    for service in project.needed_by([web, *project.early(run.request.services)], run.request.services):
        if not there.of(service):
            missing.append(service)
        elif not there.of(service, states=("running",)):
            raise Refusal(
                f"The service '{service}', on which '{web}' depends, is not running.",
                f"Start it, then try again:  cd '{run.directory}' && docker compose up -d --no-recreate {service}",
            )
    return missing


def start_missing(run: Run, docker: Docker, project: Project, compose: Compose, remedy: str) -> None:
    """Starts the services on which the web service depends, where they have no container yet: at the first release."""
    for service in missing_dependencies(run, docker, project):
        # What does not exist yet cannot be recreated by this.
        if docker.run(*compose.words("up", "-d", "--no-recreate", "--wait", service), stdin=compose.stdin) != 0:
            # Not left as one that somebody has stopped: the next run starts it anew, with what it lacked.
            cleaning = docker.cleaning_up()
            for words in (("logs", "--no-color", "--tail", "50", service), ("rm", "--stop", "--force", service)):
                cleaning.run(*compose.words(*words), stdin=compose.stdin)
            raise docker.failure(f"'{service}' cannot be started.", remedy)
        run.say(f"started {service}")


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
    if not _up(run, docker, project, "--remove-orphans"):
        raise docker.failure("The project cannot be brought up as a whole.")
    run.say("the project is up")


def _up(run: Run, docker: Docker, project: Project, what: str) -> bool:
    """`docker compose up -d` with a service or an option, in two parts where that comes to the same.

    Between its own two parts Compose looks only twice a second whether dependencies are healthy, with the old container
    stopped.
    """
    services = run.request.services
    if project.starts_at_once(services):
        if docker.run("compose", "create", what) != 0:
            return False
        if start_created(run, docker, project, services if what.startswith("--") else (what,)):
            return True
    return docker.run("compose", "up", "-d", what) == 0


def start_created(run: Run, docker: Docker, project: Project, services: Sequence[str]) -> bool:
    """Starts the containers of these services that do nothing; whether that is all there is to start.

    It is not where a container of another service than the application's does nothing.
    """
    created = []
    for container in listing(docker, project.name).containers:
        if container.state not in DOWN:
            continue
        if container.service in services:
            created.append(container.id)
        elif container.service not in run.request.services:
            return False
    return not created or docker.run("start", *created) == 0
