"""The project's services besides the application's: what a rollout does to them, said before it does.

Its last command, `docker compose up -d --remove-orphans`, is about all of the project: it applies whatever else was
changed by hand since the containers were made.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from server.commands import Docker
from server.containers import id_of_image, project_answer
from server.identity import Placed
from server.preparation import Candidate
from server.project import Project
from server.run import Run


@dataclass(frozen=True)
class Other:
    """A service of the project that is none of the application's.

    hashes:   of its settings, of which one is what Compose notes
    image_id: of its image on this server; "" where it is not here
    """

    name: str
    image: str
    hashes: Collection[str]
    image_id: str


def _is_started(service: Mapping[str, Any]) -> bool:
    """By every `up`, as far as the files say."""
    replicas = (service.get("deploy") or {}).get("replicas", service.get("scale"))
    return not service.get("profiles") and replicas != 0


def _is_comparable(service: Mapping[str, Any]) -> bool:
    """Whether its hash says whether it will be recreated: not where ids of other containers are part of it."""
    from server.compose_file import bonds  # noqa: PLC0415 - PyYAML takes a while, and most steps need none

    return _is_started(service) and not any(bonds(service))


def _is_pulled(service: Mapping[str, Any]) -> bool:
    return _is_started(service) and not service.get("build") and service.get("pull_policy") not in ("never", "build")


def changes(others: Sequence[Other], containers: Sequence[Placed]) -> Iterator[tuple[str, str]]:
    """What `up` would do to other services: which, and what. containers: the project's."""
    for other in others:
        made = [it for it in containers if it.service == other.name]
        if not made:
            yield other.name, "will be started, too: it has no container yet"
        elif any(it.hash and it.hash not in other.hashes for it in made):
            yield other.name, "will be recreated, too: its settings were changed since it was made"
        elif other.image_id and any(it.image_id and it.image_id != other.image_id for it in made):
            yield other.name, f"will be recreated, too: {other.image} is another image than when it was made"


def orphans(services: Collection[str], containers: Sequence[Placed]) -> Iterator[tuple[str, str]]:
    """The containers that `up` would remove. services: all that the files name, those of inactive profiles included."""
    for it in containers:
        if it.service and it.service not in services:
            yield it.service, f"will be removed ({it.name}): no Compose file of this release names it"


# ---------------------------------------------------------------------------------------------------------------- facts


def announce(run: Run, docker: Docker, candidate: Candidate, containers: Sequence[Placed]) -> list[str]:
    """Says what will become of the other services. containers: the project's.

    Returns the images that these need and that are not on this server.
    """
    project, compose = candidate.project, candidate.compose
    tell_left_behind(run, project)
    hashes = _hashes(docker, compose.words("config", "--hash", "*"), compose.stdin)
    expected = {*run.request.services, *project.along}
    images = {name: service.image for name, service in project.services.items() if name not in expected}
    others = [
        Other(name, image, (hashes[name],), id_of_image(docker, image) if image else "")
        for name, image in images.items()
        if name in hashes
    ]
    missing = [other.name for other in others if other.image and not other.image_id]
    suspects = [*changes(others, containers), *orphans(hashes, containers)] if hashes and containers else []
    resolved = json.loads(project_answer(docker, compose, profiles="*").text or "{}") if missing or suspects else {}
    if suspects and resolved:
        # What the files say in full has other hashes, where there is env_file: one of both is that of the containers.
        words = ("compose", "--project-directory", str(run.directory), "-p", project.name, "-f", "-")
        full = _hashes(
            docker, [*words, "config", "--hash", "*"], json.dumps({**resolved, "name": project.name}).encode()
        )
        others = [replace(other, hashes=(*other.hashes, full.get(other.name, ""))) for other in others]
        # With the application, as said elsewhere.
        said = {dependant.partition(" ")[0] for dependant in candidate.prepared.dependants}
        comparable = [it for it in others if it.name not in said and _is_comparable(resolved["services"][it.name])]
        for name, what in (*changes(comparable, containers), *orphans(resolved["services"], containers)):
            run.say(f"notice: '{name}' {what}")
    return [images[name] for name in missing if resolved and _is_pulled(resolved["services"][name])]


def tell_left_behind(run: Run, project: Project) -> None:
    """Which services do not get the release, although their image is of its repository."""
    for name, image in project.left_behind(run.request.services, run.image):
        run.say(f"notice: '{name}' stays on {image}: it is of the same repository, but not in app.services")


def _hashes(docker: Docker, words: Sequence[str], stdin: bytes) -> dict[str, str]:
    """Service → the hash of its settings, for those that `up` starts; {} where Compose does not say."""
    return dict(re.findall(r"^(\S+) ([0-9a-f]{64})$", docker.ask(*words, stdin=stdin).text, re.MULTILINE))
