"""What there is on a server before anything of it is configured, for ./releve adopt: looked at, and never changed.

One JSON document, as of facts.py. Of an environment the names are told, and of values those of TOLD alone: addresses,
which the site's visitors know, and names of databases and their users.
"""

import dataclasses
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Optional

from server import identity, one_shots, postgres, proxies
from server.commands import Docker
from server.containers import RUNNING, Container, inspected, listing
from server.install import check_tools
from server.nginx import sites_of
from server.placement import read_resolved
from server.postgres import Postgres
from server.request import read
from server.run import Run
from server.sockets import listening

NOWHERE = "/"
"""The directory of a request that only asks where projects are."""
TOLD = frozenset({
    "APP_HOST", "APP_URL", "DEFAULT_HOST", "DEFAULT_PROTOCOL", "FRONTEND_URL", "LETSENCRYPT_HOST", "LOCAL_DOMAIN",
    "POSTGRES_DB", "POSTGRES_USER", "VIRTUAL_HOST", "WEB_DOMAIN", "ZAMMAD_FQDN",
})  # fmt: skip
VERSION = "org.opencontainers.image.version"
"""The label of an image that says which version it holds."""
_LOCAL = re.compile(r"(?:localhost|127\.0\.0\.1|\[::1\]|0\.0\.0\.0)(?::\d+)?(/[^\s'\"|;&)]*)")
"""What a health check in a container asks of its own application."""


@dataclass(frozen=True)
class Place:
    """A directory with a Compose project that has containers. running: how many of them run."""

    project: str
    directory: str
    running: int


@dataclass(frozen=True)
class Published:
    """A port of a container that the server publishes. address: "" for all of the server's."""

    port: int
    address: str
    published: int


@dataclass(frozen=True)
class Volume:
    """What a service mounts. type: as Compose has it, "bind", "volume" …; source: "" of an anonymous volume."""

    type: str
    source: str
    target: str


@dataclass(frozen=True)
class Running:
    """A service's running container.

    image:   as it was asked for
    tags:    the image's, on this server, as repository:tag
    version: the image's label of that name, or ""
    listens: ports on which somebody listens there, as far as this server shows them
    """

    image: str
    tags: tuple[str, ...]
    version: str
    listens: tuple[int, ...]


@dataclass(frozen=True)
class Service:
    """A service, as the Compose file has it.

    image:     "" where none is named
    is_built:  the server builds it
    ends:      it runs to its end, as one that migrates
    hands_on:  it has nothing of its own to run: others merge it
    variables: names of its environment
    told:      values of it, of TOLD alone
    health:    the path that its health check asks for, or ""
    running:   its container, or None where none runs
    """

    name: str
    image: str
    is_built: bool
    ends: bool
    hands_on: bool
    ports: tuple[Published, ...]
    volumes: tuple[Volume, ...]
    variables: tuple[str, ...]
    told: dict[str, str]
    health: str
    running: Optional[Running] = None


@dataclass(frozen=True)
class Passing:
    """An nginx that passes requests for a host to a service. host: "" for any; tls: whether it is reached by HTTPS."""

    proxy: str
    service: str
    host: str
    tls: bool


@dataclass(frozen=True)
class Database:
    """A database of PostgreSQL. is_migrated: it has a table schema_migrations."""

    service: str
    name: str
    is_migrated: bool


@dataclass(frozen=True)
class Installation:
    """A Compose project. postgres: the services in which PostgreSQL runs."""

    directory: str
    project: str
    services: tuple[Service, ...]
    passing: tuple[Passing, ...]
    postgres: tuple[str, ...]
    databases: tuple[Database, ...]


@dataclass(frozen=True)
class Survey:
    """The projects of a server, and the one in the directory of the request; None where that is NOWHERE."""

    places: tuple[Place, ...]
    installation: Optional[Installation]


def load(text: str) -> Survey:
    """Reads the document. Raises RequestError."""
    return read(Survey, json.loads(text), "")


def tell(run: Run) -> str:
    """The document, one line. Raises StepError where the server cannot say what there is."""
    docker = run.docker
    check_tools(run, docker)
    found = None if run.request.directory == NOWHERE else _installation(run, docker)
    return json.dumps(dataclasses.asdict(Survey(places_of(identity.placed_containers(docker)), found)))


def places_of(containers: Iterable[identity.Placed]) -> tuple[Place, ...]:
    """The directories that containers were made from, as far as they are still there."""
    places: dict[tuple[str, str], int] = {}
    for it in containers:
        if it.project and it.directory and it.is_there:
            place = (it.project, it.directory)
            places[place] = places.get(place, 0) + (it.state in RUNNING)
    return tuple(Place(project, directory, running) for (project, directory), running in sorted(places.items()))


def services_of(resolved: Mapping[str, Any]) -> tuple[Service, ...]:
    """The services of a project, from `docker compose config --format json`."""
    services = resolved.get("services") or {}
    return tuple(_service(services, name, service or {}) for name, service in services.items())


def _service(services: Mapping[str, Any], name: str, service: Mapping[str, Any]) -> Service:
    variables = {key: str(value) for key, value in (service.get("environment") or {}).items() if value is not None}
    own = ("command", "entrypoint", "ports", "restart")
    test = (service.get("healthcheck") or {}).get("test") or ()
    asked = _LOCAL.search(test if isinstance(test, str) else " ".join(map(str, test)))
    return Service(
        name=name,
        image=str(service.get("image") or ""),
        is_built="build" in service,
        ends=one_shots.ends(services, name),
        hands_on=not any(service.get(key) for key in own),
        ports=tuple(_published(port) for port in service.get("ports") or () if port.get("published")),
        volumes=tuple(
            Volume(str(it.get("type", "")), str(it.get("source") or ""), str(it.get("target")))
            for it in service.get("volumes") or ()
        ),
        variables=tuple(variables),
        told={key: value for key, value in variables.items() if key in TOLD},
        health=asked[1] if asked else "",
    )


def _published(port: Mapping[str, Any]) -> Published:
    # A range, of which one will be taken, begins with its first.
    published = re.match(r"\d+", str(port["published"]))
    return Published(int(port["target"]), str(port.get("host_ip") or ""), int(published[0]) if published else 0)


def _installation(run: Run, docker: Docker) -> Installation:
    resolved = read_resolved(run, docker)
    name = str(resolved.get("name", ""))
    running = listing(docker, name).containers
    containers = inspected(docker, [it.id for it in running if it.state == "running"])
    by_service = _running(docker, containers)
    services = tuple(
        dataclasses.replace(service, running=by_service.get(service.name)) for service in services_of(resolved)
    )
    databases = sorted(postgres.services_running(docker, name))
    return Installation(
        directory=str(run.directory),
        project=name,
        services=services,
        passing=_passing(docker, [it.name for it in services], containers),
        postgres=tuple(databases),
        databases=tuple(database for service in databases for database in _databases(run, docker, service)),
    )


def _running(docker: Docker, containers: Sequence[Container]) -> dict[str, Running]:
    """By service."""
    answer = docker.ask("image", "inspect", *{it.image for it in containers})
    images = {it.get("Id"): it for it in json.loads(answer.text or "[]")}
    found = {}
    for it in containers:
        image = images.get(it.image) or {}
        labels = (image.get("Config") or {}).get("Labels") or {}
        found[it.service] = Running(
            it.image_name, tuple(image.get("RepoTags") or ()), str(labels.get(VERSION) or ""),
            tuple(sorted(listening(it.process))),
        )  # fmt: skip
    return found


def _passing(docker: Docker, services: Iterable[str], containers: Sequence[Container]) -> tuple[Passing, ...]:
    """What the project's own nginx do with the names of its services, whether these run or not."""
    configurations = proxies.configurations(docker, containers)
    return tuple(
        Passing(proxy.service, service, site.host, site.tls)
        for proxy in containers
        if proxy.id in configurations
        for service in services
        if service != proxy.service
        for site in sites_of(configurations[proxy.id], _names(service, containers))
    )


def _names(service: str, containers: Iterable[Container]) -> set[str]:
    """By which others reach a service."""
    ours = [it for it in containers if it.service == service]
    aliases = {alias for it in ours for network in it.networks for alias in network.aliases}
    return {service, *(it.name for it in ours), *aliases}


def _databases(run: Run, docker: Docker, service: str) -> list[Database]:
    """Those of a PostgreSQL server; none where it does not let itself be asked."""
    server = Postgres(run, service)
    answer = server.sql(docker, postgres.DATABASES, database="template1")
    found = []
    for name in answer.text.splitlines() if answer.succeeded else ():
        if not name.startswith("template"):
            asked = server.sql(docker, "SELECT to_regclass('schema_migrations') IS NOT NULL", database=name)
            found.append(Database(service, name, asked.text.strip() == "t"))
    return found
