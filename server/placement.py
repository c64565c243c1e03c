"""The release's Compose file in the place of the project's."""

from __future__ import annotations

import filecmp
import json
import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

from server import environment
from server.commands import Docker, keep_newest
from server.containers import Compose, project_answer
from server.errors import Refusal
from server.preparation import CANDIDATE, KEPT_COMPOSE_FILES, Candidate, without_asking
from server.project import Project
from server.project_files import find_files
from server.run import Run, file_timestamp


def put_in_place(run: Run, candidate: Candidate) -> None:
    """Makes the candidate's Compose file the project's; what was there is kept."""
    compose = candidate.files.compose
    if compose.exists():
        if filecmp.cmp(candidate.file, compose, shallow=False):
            return
        kept = run.state / "compose"
        kept.mkdir(exist_ok=True)
        shutil.copyfile(compose, kept / f"{file_timestamp()}-before-{run.image.tag}.yml")
        keep_newest(kept, KEPT_COMPOSE_FILES)
    replace_compose_file(candidate.file.read_bytes(), compose)
    run.say(f"{compose.name} names {run.image}")


def put_first_in_place(run: Run, candidate: Candidate) -> Compose:
    """Puts environment and Compose file in place on a server that has no Compose file, so that nothing serves yet.

    Returns how Compose is asked for what the release needs.
    """
    if candidate.files.compose.exists():
        return candidate.compose
    put_environment_in_place(run, candidate)
    put_in_place(run, candidate)
    return Compose(run.directory)


def put_environment_in_place(run: Run, candidate: Candidate) -> None:
    """Makes the candidate's environment the project's, where it has one."""
    if candidate.environment is not None and not environment.is_in_place(run.directory, candidate.environment):
        environment.put_in_place(run.directory, run.state, candidate.environment)
        run.say(".env is that of the release")


def own_compose(run: Run, project: Project) -> Compose:
    """How Compose is asked for one-off containers of the project as it is."""
    if not project.asking:
        return Compose(run.directory)
    files = find_files(run.request)
    own = Compose(run.directory, files.compose, (files.override,) if files.override else ())
    return without_asking(run.scratch, project, own)


def replace_compose_file(content: bytes, compose: Path) -> None:
    """Gives the project's Compose file this content. Its mode stays, and its owner where this user may set that."""
    # Nothing to write, and nothing that could fail, on a full disk for one.
    if compose.exists() and compose.read_bytes() == content:
        return
    new = compose.with_name(CANDIDATE)
    if compose.exists():
        shutil.copy2(compose, new)
        owner = compose.stat()
        with suppress(PermissionError):
            os.chown(new, owner.st_uid, owner.st_gid)
    else:
        new.touch()
        new.chmod(0o644)  # for everybody who works in the directory
    with new.open("wb") as file:
        file.write(content)
    new.replace(compose)


def require_in_place(run: Run, docker: Docker) -> Project:
    """The project as its own file says it. Raises Refusal where that names another release."""
    files = find_files(run.request)
    project = read_project(run, docker)
    if not project.runs(run.request.services, str(run.image)):
        raise Refusal(
            f"{files.compose} no longer names {run.image}: someone changed it meanwhile.",
            "Let it name that image again, then run `pulumi up`.",
        )
    return project


def read_project(run: Run, docker: Docker) -> Project:
    """The project as its own files say it."""
    return Project.of(read_resolved(run, docker), run.request.services, run.request.one_shots)


def read_resolved(run: Run, docker: Docker) -> dict[str, Any]:
    """What Compose makes of the project's own files."""
    answer = project_answer(docker, Compose(run.directory))
    if not answer.succeeded:
        file = find_files(run.request).compose
        remedy = "Correct it, until `docker compose config` in its directory prints no error."
        raise docker.failure(f"Docker Compose does not accept {file}.", remedy)
    resolved: dict[str, Any] = json.loads(answer.text)
    return resolved
