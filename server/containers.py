"""The project's containers as Docker tells of them, and those that are made for one command and never stay."""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

from server.commands import Answer, Docker
from server.request import Request
from server.run import name_of_project

RUNNING = ("running", "restarting", "paused")
"""States that end only when a container is told to stop."""
DOWN = ("created", "exited", "dead")
"""States in which a container does nothing until it is started."""


@dataclass(frozen=True)
class Listed:
    """A container of the project."""

    service: str
    state: str
    id: str


@dataclass(frozen=True)
class Listing:
    """The project's containers at one moment, one-off containers left out."""

    containers: Sequence[Listed]

    def of(self, *services: str, states: Sequence[str] = ()) -> list[str]:
        """The ids of the services' containers, in their order; of any state where none is named."""
        return [
            container.id
            for service in services
            for container in self.containers
            if container.service == service and (not states or container.state in states)
        ]


def listing(docker: Docker, project: str) -> Listing:
    """The containers of the Compose project of this name."""
    text = docker.answer(
        *("ps", "-a", "--no-trunc", "--filter", f"label=com.docker.compose.project={project}"),
        *("--filter", "label=com.docker.compose.oneoff=False"),
        *("--format", '{{.Label "com.docker.compose.service"}} {{.State}} {{.ID}}'),
        failing="docker ps failed.",
    )
    return Listing([Listed(*line.split()) for line in text.splitlines() if len(line.split()) == 3])  # noqa: PLR2004


@dataclass(frozen=True)
class Network:
    """A container's place in a network."""

    name: str
    address: str
    address6: str
    aliases: tuple[str, ...]


@dataclass(frozen=True)
class Mount:
    """What is mounted in a container. source: a directory, or a volume's name."""

    type: str
    source: str
    target: str
    writable: bool
    subpath: str

    @property
    def is_kept(self) -> bool:
        """Whether it outlives the container."""
        return self.type in ("bind", "volume")

    @property
    def is_anonymous(self) -> bool:
        """Docker names such volumes itself, by 64 hexadecimal digits."""
        return self.type == "volume" and len(self.source) == 64 and not set(self.source) - set("0123456789abcdef")  # noqa: PLR2004


@dataclass(frozen=True)
class Container:
    """A container as `docker inspect` tells of it.

    policy:     when Docker starts it again, as Compose writes it: "no", "always", …
    image:      its id
    image_name: what whoever made the container wrote
    started:    the command line of its first process
    """

    id: str
    name: str
    service: str
    status: str
    exit_code: int
    restarts: int
    policy: str
    started_at: str
    finished_at: str
    image: str
    image_name: str
    process: int
    started: tuple[str, ...]
    network_mode: str
    networks: tuple[Network, ...]
    mounts: tuple[Mount, ...]

    @property
    def state(self) -> str:
        """When it changes, the container stopped or was started again."""
        return (
            f"{self.name} {self.status}, restarts: {self.restarts}, started: {self.started_at}, image: {self.image}, "
            f"process: {self.process}"
        )

    @property
    def addresses(self) -> list[str]:
        """Its own addresses in its networks."""
        return [address for network in self.networks for address in (network.address, network.address6) if address]


def inspect(docker: Docker, *ids: str, failing: str = "docker inspect failed.", remedy: str = "") -> list[Container]:
    """The containers with these ids or names, in this order."""
    return containers_from(docker.answer("inspect", *ids, failing=failing, remedy=remedy)) if ids else []


def containers_from(text: str) -> list[Container]:
    """From what `docker inspect` prints, for as many as there are."""
    return [_container(found) for found in json.loads(text or "[]")]


def _container(found: Mapping[str, Any]) -> Container:
    state, host = found.get("State") or {}, found.get("HostConfig") or {}
    networks = (found.get("NetworkSettings") or {}).get("Networks") or {}
    subpaths = {
        mount.get("Target"): (mount.get("VolumeOptions") or {}).get("Subpath") or ""
        for mount in host.get("Mounts") or ()
    }
    return Container(
        id=found["Id"],
        name=found.get("Name", "").lstrip("/"),
        service=((found.get("Config") or {}).get("Labels") or {}).get("com.docker.compose.service", ""),
        status=state.get("Status", ""),
        exit_code=state.get("ExitCode", 0),
        restarts=found.get("RestartCount", 0),
        policy=(host.get("RestartPolicy") or {}).get("Name") or "no",
        started_at=state.get("StartedAt", ""),
        finished_at=state.get("FinishedAt") or "",
        image=found.get("Image", ""),
        image_name=(found.get("Config") or {}).get("Image") or "",
        process=state.get("Pid", 0),
        started=tuple(word for word in (found.get("Path"), *(found.get("Args") or ())) if word),
        network_mode=host.get("NetworkMode", ""),
        networks=tuple(
            Network(name, it.get("IPAddress") or "", it.get("GlobalIPv6Address") or "", tuple(it.get("Aliases") or ()))
            for name, it in networks.items()
        ),
        mounts=tuple(
            Mount(
                type=mount["Type"],
                source=mount.get("Source", "") if mount["Type"] == "bind" else mount.get("Name", ""),
                target=mount["Destination"],
                writable=bool(mount.get("RW")),
                subpath=subpaths.get(mount["Destination"], ""),
            )
            for mount in found.get("Mounts") or ()
        ),
    )


def inspected(docker: Docker, ids: Sequence[str]) -> list[Container]:
    """The containers with these ids, as many of them as there still are."""
    return containers_from(docker.ask("inspect", *ids).text) if ids else []


def id_of_image(docker: Docker, reference: str) -> str:
    """The id of an image on this server, "" where it is not here."""
    return docker.ask("image", "inspect", "--format", "{{.Id}}", reference).text.strip()


def reached_at(docker: Docker, container: Container) -> list[str]:
    """The addresses under which this server reaches a container."""
    mode = container.network_mode
    if mode == "host":
        return ["127.0.0.1"]
    if mode.startswith("container:"):
        answer = docker.ask("inspect", mode.partition(":")[2])
        return [address for other in containers_from(answer.text) for address in reached_at(docker, other)]
    return [network.address for network in container.networks if network.address]


@dataclass(frozen=True)
class Compose:
    """How Compose is asked: about the project's own file, or about the project as if it had another one.

    directory:   the project's
    file:        another Compose file than the project's own, or None
    more:        files on top of it
    environment: another .env than the project's own, or None
    """

    directory: Path
    file: Path | None = None
    more: tuple[Path, ...] = ()
    environment: Path | None = None

    def with_file(self, file: Path) -> Compose:
        """With one more file on top."""
        return replace(self, more=(*self.more, file))

    def words(self, *arguments: str) -> list[str]:
        """The arguments of docker."""
        if self.file is None and not self.more:
            return ["compose", *arguments]
        # By standard input: relative paths, .env and the project's name stay those of the directory, wherever the file
        # is.
        environment = ("--env-file", str(self.environment)) if self.environment else ()
        more = [word for file in self.more for word in ("-f", str(file))]
        return ["compose", "--project-directory", str(self.directory), *environment, "-f", "-", *more, *arguments]

    @property
    def stdin(self) -> bytes:
        """What Compose reads."""
        return self.file.read_bytes() if self.file else b""


@dataclass(frozen=True)
class OneOffs:
    """Containers of one project that are made for one command.

    What a killed run left of them is found by their label.
    """

    directory: str
    release: str
    entrypoint: tuple[str, ...] | None

    @classmethod
    def of(cls, request: Request) -> OneOffs:
        """Those that are made for a request."""
        return cls(request.directory, request.image.tag if request.image else "on-demand", request.entrypoint)

    def name(self, purpose: str) -> str:
        """The container's name."""
        return f"{name_of_project(self.directory)}-{purpose}"

    @property
    def labels(self) -> tuple[str, ...]:
        """As options of `docker run`."""
        return ("--label", f"releve.project={self.directory}", "--label", f"releve.release={self.release}")

    def command(self, service: str, command: Sequence[str]) -> tuple[str, ...]:
        """A service and a command of the application's, as `run` takes them, with the configured entrypoint."""
        if self.entrypoint is None:
            return (service, *command)
        if self.entrypoint:
            return ("--entrypoint", shlex.join(self.entrypoint), service, *command)
        # An empty one means the image's to some versions of Compose.
        return ("--entrypoint", shlex.join(command[:1]), service, *command[1:])

    def run(self, docker: Docker, compose: Compose, purpose: str, *words: str, stdout: IO[bytes] | None = None) -> int:
        """Runs `docker compose run` with these options, service and command. Returns the command's status."""
        # Without --no-deps, `run` may recreate the database.
        run = ("run", "-T", "--rm", "--no-deps", "--name", self.name(purpose), *self.labels, *words)
        status = docker.run(*compose.words(*run), stdin=compose.stdin, stdout=stdout)
        if status != 0:
            # At the end of the time only the client was ended. Not a `timeout` inside: entrypoints look at their
            # command.
            self.remove(docker.cleaning_up(), purpose)
        return status

    def run_as_root(self, docker: Docker, purpose: str, *words: str) -> int:
        """Runs `docker run` with these options, image and arguments: Compose takes twice as long. Returns the status.

        The image's program gets what is mounted in these options, and nothing of the server besides.
        """
        capabilities = [word for name in ("CHOWN", "DAC_OVERRIDE", "FOWNER") for word in ("--cap-add", name)]
        status = docker.run(
            *("run", "--rm", "--name", self.name(purpose), *self.labels, "--user", "0:0", "--network", "none"),
            *("--cap-drop", "ALL", *capabilities, "--security-opt", "no-new-privileges", *words),
        )
        if status != 0:
            self.remove(docker.cleaning_up(), purpose)
        return status

    def remove(self, docker: Docker, purpose: str = "") -> None:
        """Removes those that are left, or the one for this purpose: it would go on writing into the assets."""
        named = ("--filter", f"name={self.name(purpose)}") if purpose else ()
        left = docker.answer(
            *("ps", "-aq", "--filter", f"label=releve.project={self.directory}", *named), failing="docker ps failed."
        )
        for container in left.split():
            # Not done while its own --rm is at work; done when there is none any more.
            while docker.run("rm", "-f", "-v", container) != 0:
                if docker.phase.is_over:
                    raise docker.failure(f"The one-off container {container} cannot be removed.")
                time.sleep(0.2)


def project_answer(docker: Docker, compose: Compose, *options: str, profiles: str = "") -> Answer:
    """What `docker compose config` makes of the project, as JSON. profiles: active besides those of .env; `*`: all."""
    first, *words = compose.words("config", *options, "--format", "json")
    return docker.ask(first, *(("--profile", profiles) if profiles else ()), *words, stdin=compose.stdin)


def mount_option(kind: str, source: str, target: str, *, subpath: str = "", read_only: bool = False) -> str:
    """As `--mount` reads it, a line of CSV."""
    fields = [f"source={source}", f"target={target}", *([f"volume-subpath={subpath}"] if subpath else [])]
    quoted = "".join(',"' + field.replace('"', '""') + '"' for field in fields)
    return f"type={kind}{quoted}{',readonly' if read_only else ''}"
