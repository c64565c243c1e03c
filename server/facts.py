"""What a server says of a project when it is asked: looked at, and never changed.

One JSON document on standard output, which the client reads into the same dataclasses. Nothing of the environment's
values, of the Compose file or of the application's data is in it.
"""

import dataclasses
import fcntl
import json
import platform
import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

from server import drift, releases, rolling_advice
from server.answers import NoAnswer, get
from server.commands import Docker
from server.containers import Compose, Container, inspected, listing, project_answer
from server.drift import Difference
from server.errors import StepError
from server.health import Gate
from server.install import check_tools
from server.memory import memory_of_server
from server.placement import read_resolved
from server.postgres import service_of
from server.preparation import check
from server.project import Project
from server.public import QUESTION
from server.request import read
from server.run import RESTORING, Run, read_line, timestamp

HISTORY = 200
"""Rollouts of the history that are told, the newest."""


@dataclass(frozen=True)
class ContainerFacts:
    """A container of the project.

    exit_status: of one that has ended
    restarts:    how often Docker has started it again
    finished_at: when it has ended, the last time
    policy:      when Docker starts it again, as Compose writes it: "no", "always", …
    image:       as it was asked for
    image_id:    the one that it was made from
    """

    service: str
    name: str
    status: str
    exit_status: int
    restarts: int
    started_at: str
    finished_at: str
    policy: str
    image: str
    image_id: str


@dataclass(frozen=True)
class Backup:
    """A dump of the database. size: bytes."""

    name: str
    size: int
    made: str


@dataclass(frozen=True)
class Machine:
    """What there is, and what of it is free: bytes. clock: seconds since 1970."""

    python: str
    engine: str
    compose: str
    clock: int
    disk: int
    disk_free: int
    memory: int
    memory_free: int


@dataclass(frozen=True)
class Facts:
    """What there is of a project on a server.

    release, previous: names of the live release and of the one before it; "" for none
    image:       of the live release, as repository:tag@digest
    since:       when it became the live one
    kept:        names of the releases that have served and can be gone back to without a pull, the last first
    busy:        what the lock says while a step works here, or ""
    interrupted: a rollout has begun and has neither ended nor been undone
    problem:     what is wrong with the application's answer; "" where it answers as it should
    public:      status of the health page at the public address, asked from the server; 0 where it does not answer,
                 None where there is no such address
    history:     a line of JSON a rollout, the newest last
    differences: from what was released; None where nothing was
    database:    the service in which the database is, or "" where that is not known
    databases:   their names, as the application named them last
    restoring:   the backup whose restore has begun and has not come to its end, or ""
    refused:     why a rollout would be refused here, or ""
    unrollable:  why the strategy rolling cannot be used, each reason with its remedy
    advice:      what it could be used without, but should not be, in the same way
    """

    directory: str
    project: str
    release: str
    image: str
    since: str
    previous: str
    kept: tuple[str, ...]
    busy: str
    interrupted: bool
    problem: str
    public: Optional[int]
    containers: tuple[ContainerFacts, ...]
    history: tuple[str, ...]
    backups: tuple[Backup, ...]
    machine: Machine
    differences: Optional[tuple[Difference, ...]]
    database: str
    databases: tuple[str, ...]
    restoring: str
    refused: str
    unrollable: tuple[str, ...]
    advice: tuple[str, ...]


def load(text: str) -> Facts:
    """Reads the document. Raises RequestError."""
    return read(Facts, json.loads(text), "")


def tell(run: Run) -> str:
    """The document, one line. Raises StepError where the server cannot say what there is."""
    return json.dumps(dataclasses.asdict(gather(run, run.docker)))


def gather(run: Run, docker: Docker) -> Facts:
    """Looks at everything. Raises StepError."""
    compose, state = check_tools(run, docker), run.state
    resolved = read_resolved(run, docker)
    project = Project.of(resolved, run.request.services, run.request.one_shots)
    known = json.loads(project_answer(docker, Compose(run.directory), profiles="*").text or "{}").get("services") or {}
    release = releases.shown(state)
    since = _since(state, release) if release else ""
    containers = _containers(docker, project.name)
    return Facts(
        directory=str(run.directory),
        project=project.name,
        release=release,
        image=read_line(state / "releases" / release / "image") if release else "",
        since=since,
        previous=releases.linked(state, "previous"),
        kept=tuple(releases.served(state)),
        busy=_busy(state / "lock"),
        interrupted=run.transaction.is_dir(),
        problem=_problem(run, docker, containers),
        public=_public(run),
        containers=containers,
        history=tuple(json.dumps(entry) for entry in list(releases.history(state))[-HISTORY:]),
        backups=tuple(
            Backup(path.name, path.stat().st_size, _changed(path))
            for path in sorted((state / "backups").glob("*.dump"))
        ),
        machine=_machine(run, docker, compose),
        differences=drift.differences(run, docker, project, containers, release=release, since=since, known=known)
        if release
        else None,
        database=_database(run, docker, project),
        databases=tuple(_lines(state / "databases")),
        restoring=read_line(state / RESTORING),
        refused=_refusal(run, docker),
        unrollable=_unrollable(run, resolved),
        advice=_advice(run, docker, resolved, containers),
    )


def _since(state: Path, release: str) -> str:
    """When it became the one that serves."""
    is_live = releases.linked(state, "current") == release
    return _changed(state / "releases" / release / ("live" if is_live else "verified"))


def _refusal(run: Run, docker: Docker) -> str:
    """As `install` would say it."""
    with tempfile.TemporaryDirectory(prefix="releve-") as scratch:
        try:
            check(run, docker, Path(scratch))
        except StepError as error:
            return f"{error.message}\n{error.remedy}".strip()
    return ""


def _database(run: Run, docker: Docker, project: Project) -> str:
    try:
        return service_of(run, docker, project)
    except StepError:
        return ""


def _unrollable(run: Run, resolved: dict[str, Any]) -> tuple[str, ...]:
    from server import compose_file  # noqa: PLC0415 - PyYAML takes a while

    if run.request.web not in resolved["services"]:
        return (f"there is no service '{run.request.web}'.",)
    found = compose_file.rolling_obstacles(resolved["services"], run.request.services)
    return tuple(" ".join(sentences) for sentences in found)


def _advice(
    run: Run, docker: Docker, resolved: dict[str, Any], containers: Sequence[ContainerFacts]
) -> tuple[str, ...]:
    if run.request.web not in resolved["services"]:
        return ()
    web = inspected(docker, drift.running(containers, run.request.web)[:1])
    started = web[0].started if web else ()
    found = rolling_advice.advice(resolved["services"], run.request.services, started)
    return tuple(" ".join(sentences) for sentences in found)


def _containers(docker: Docker, project: str) -> tuple[ContainerFacts, ...]:
    ids = [container.id for container in listing(docker, project).containers]
    found = [_container(container) for container in inspected(docker, ids)]
    return tuple(sorted(found, key=lambda container: (container.service, container.name)))


def _container(container: Container) -> ContainerFacts:
    return ContainerFacts(
        service=container.service,
        name=container.name,
        status=container.status,
        exit_status=container.exit_code,
        restarts=container.restarts,
        started_at=container.started_at,
        finished_at=container.finished_at,
        policy=container.policy,
        image=container.image_name,
        image_id=container.image,
    )


def _problem(run: Run, docker: Docker, containers: Sequence[ContainerFacts]) -> str:
    """What is wrong with the answers of the web service's containers."""
    web = drift.running(containers, run.request.web)
    if not web:
        return f"'{run.request.web}' does not run"
    gate = Gate.of(run)
    return "" if gate.is_answered_by(docker, web) else gate.problem


def _public(run: Run) -> Optional[int]:
    health = run.request.health
    if not health.url:
        return None
    try:
        return get(f"{health.url.rstrip('/')}{health.path}", health.headers, QUESTION, redirections=0).status
    except NoAnswer:
        return 0


def _busy(lock: Path) -> str:
    """What the lock says, if somebody holds it. It is opened to read, and let go at once."""
    try:
        with lock.open() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return file.read().strip() or "a step"
    except OSError:
        pass
    return ""


def _machine(run: Run, docker: Docker, compose: str) -> Machine:
    disk = shutil.disk_usage(run.directory)
    memory = memory_of_server()
    return Machine(
        python=platform.python_version(),
        engine=docker.ask("version", "--format", "{{.Server.Version}}").text.strip(),
        compose=compose,
        clock=int(time.time()),
        disk=disk.total,
        disk_free=disk.free,
        memory=memory.get("MemTotal", 0),
        memory_free=memory.get("MemAvailable", 0),
    )


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(errors="replace").splitlines()
    except OSError:
        return []


def _changed(path: Path) -> str:
    """When a file was written."""
    try:
        return timestamp(path.stat().st_mtime)
    except OSError:
        return ""
