"""Where a project is no longer what was released: changes by hand, and what has come to a stop.

Facts that hold secrets, as the Compose file and the environment may, are compared here and do not leave the server:
names are told, never values.
"""

import hashlib
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional

from server import assets, environment, releases
from server.commands import Docker
from server.containers import id_of_image
from server.project import Project
from server.project_files import find_files
from server.request import Image
from server.run import Run, read_line, timestamp

if TYPE_CHECKING:
    from server.facts import ContainerFacts

STARTING = 10
"""Seconds for which a container must be up before it counts as started, as Docker's restart policies have it
(docs.docker.com/engine/containers/start-containers-automatically): one that ends again and again runs for moments."""
LISTED = 3
"""Files that are named, of many."""
_SUMS = 'cd "$1" || exit 1; while IFS= read -r file; do [ ! -f "$file" ] || sha256sum "./$file"; done'
"""A program for the web service's container: SHA-256 of the files below $1, one a line of its input, that are there."""


@dataclass(frozen=True)
class Difference:
    """Something that is not as it was released.

    item: what it concerns, for example "image" or "environment"
    what: the same in words, which name the place
    """

    item: str
    what: str


def differences(
    run: Run,
    docker: Docker,
    project: Project,
    containers: "Sequence[ContainerFacts]",
    *,
    release: str,
    since: str,
    known: Collection[str],
) -> tuple[Difference, ...]:
    """All of them. Raises StepError.

    containers: those of the project, as they are now
    release:    the one that serves; since: when it became that
    known:      the services that the Compose file names, those of inactive profiles included
    """
    kept = releases.directory_of(run, release)
    image = Image.parse(read_line(kept / "image"))
    found = [
        *_other_images(containers, run.request.services, id_of_image(docker, image.pinned) if image else ""),
        *_not_running(containers, project, since),
        *_orphans(containers, known),
        *_left_behind(project, run.request.services, image),
        *_compose_file(kept / "compose.yml", find_files(run.request).compose),
        *_environment(kept / "env", run.directory / environment.FILE),
        *_assets(run, docker, containers),
    ]
    return tuple(found)


def running(containers: "Sequence[ContainerFacts]", service: str) -> list[str]:
    """The names of a service's containers that run."""
    return [
        container.name for container in containers if container.service == service and container.status == "running"
    ]


def _other_images(containers: "Sequence[ContainerFacts]", services: Sequence[str], wanted: str) -> Iterable[Difference]:
    for service in services:
        there = [container for container in containers if container.service == service]
        if not there:
            yield Difference("service", f"'{service}' has no container")
        for container in there:
            if wanted and container.image_id != wanted:
                yield Difference("image", f"{container.name} runs {container.image}, not the released image")


def _not_running(containers: "Sequence[ContainerFacts]", project: Project, since: str) -> Iterable[Difference]:
    recently = timestamp(time.time() - STARTING)[:19]
    for container in containers:
        if container.status == "running":
            if container.restarts and container.started_at[:19] > recently:
                yield Difference("service", f"{container.name} is restarting, {container.restarts} times so far")
            continue
        # What was made to end may end well: before the release was live, or because others wait for that.
        to_end = container.policy in ("no", "on-failure") and (
            container.finished_at[:19] <= since[:19] or container.service in project.one_shots
        )
        if container.status != "exited" or container.exit_status != 0 or not to_end:
            yield Difference("service", f"{container.name} is {container.status}")


def _orphans(containers: "Sequence[ContainerFacts]", known: Collection[str]) -> Iterable[Difference]:
    for container in containers:
        if container.service not in known:
            yield Difference("orphan", f"{container.name} belongs to no service of the Compose file")


def _left_behind(project: Project, services: Sequence[str], image: Optional[Image]) -> Iterable[Difference]:
    for name, other in project.left_behind(services, image) if image else ():
        yield Difference("other image", f"'{name}' is on the same repository, with {other}")


def _compose_file(kept: Path, there: Path) -> Iterable[Difference]:
    if not kept.exists() or (there.exists() and kept.read_bytes() == there.read_bytes()):
        return
    from server import compose_file  # noqa: PLC0415 - PyYAML takes a while

    try:
        before, now = (compose_file.parse(path.read_text()) for path in (kept, there))
    except (OSError, UnicodeDecodeError, compose_file.ComposeFileError):
        yield Difference("Compose file", f"{there.name} cannot be read any more")
        return
    changed = ", ".join(_changed(before["services"], now["services"])) or "not what it says of services"
    yield Difference("Compose file", f"{there.name} was edited: {changed}")


def _environment(kept: Path, there: Path) -> Iterable[Difference]:
    """Only where the configuration holds it."""
    if not kept.exists():
        return
    texts = [path.read_text(errors="surrogateescape") if path.exists() else "" for path in (kept, there)]
    if texts[0] == texts[1]:
        return
    before, now = (dict(_lines_by_name(text)) for text in texts)
    names = ", ".join(_changed(before, now)) or "comments or their order"
    yield Difference("environment", f"{there.name} was edited: {names}")


def _lines_by_name(text: str) -> Iterable[tuple[str, str]]:
    for line in text.splitlines():
        for name in environment.names_in(line):
            yield name, line


def _changed(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """The names whose values differ, or that are in one of the two alone."""
    return [name for name in dict.fromkeys([*before, *now]) if before.get(name) != now.get(name)]


def _assets(run: Run, docker: Docker, containers: "Sequence[ContainerFacts]") -> Iterable[Difference]:
    """Files of the live release that visitors do not get as they were made."""
    directory = assets.assets_of(run, releases.linked(run.state, "current"))
    web = running(containers, run.request.web)
    if directory is None or not web:
        return
    for number, path in enumerate(run.request.assets.paths):
        wanted = dict(_sums_here(directory / str(number)))
        names = "".join(f"{name}\n" for name in wanted).encode()
        words = ("exec", "-i", "--user", "0:0", web[0], "sh", "-c", _SUMS, "sh", path)
        answer = docker.ask(*words, stdin=names)
        there = {line[66:].removeprefix("./"): line[:64] for line in answer.text.splitlines()}
        other = sorted(name for name, sum_ in wanted.items() if there.get(name) != sum_)
        if other:
            more = f" and {len(other) - LISTED} more" if len(other) > LISTED else ""
            yield Difference("assets", f"changed or missing in {path}: {', '.join(other[:LISTED])}{more}")


def _sums_here(directory: Path) -> Iterable[tuple[str, str]]:
    """Name and SHA-256 of each file that this user may read."""
    for path in sorted(directory.rglob("*")):
        if path.is_file() and not path.is_symlink() and "\n" not in path.name:
            try:
                yield str(path.relative_to(directory)), hashlib.sha256(path.read_bytes()).hexdigest()
            except OSError:
                continue
