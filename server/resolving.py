"""What Compose makes of a release that is not in place yet: nothing but the images of its services may differ."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from server import environment
from server.background import Background
from server.commands import Docker
from server.containers import Compose, project_answer
from server.errors import Refusal
from server.project import Project
from server.project_files import Files, text_of
from server.request import Request


def compose_file_of(asked: Request, files: Files, delivered: str | None) -> bytes:
    """The release's Compose file: the repository's, or the server's own with the images set."""
    from server import compose_file  # noqa: PLC0415 - as above

    text = text_of(files.compose) if delivered is None else delivered
    try:
        for part in [*([text_of(files.override)] if files.override else []), text]:
            compose_file.refuse_parts(part)
    except compose_file.ComposeFileError as error:
        raise Refusal(str(error)) from None
    if delivered is not None:
        return delivered.encode()
    try:
        return compose_file.with_image(text, asked.services, str(asked.image), asked.one_shots).encode()
    except compose_file.ComposeFileError as error:
        raise Refusal(f"{files.compose} is left as it is. {error}") from None


@dataclass(frozen=True)
class Trial:
    """What is asked of Compose before it is so. environment: as in Delivery; scratch: for files of this step."""

    asked: Request
    files: Files
    environment: str | None
    scratch: Path

    def compose(self, file: Path) -> Compose:
        """The project as if it had this Compose file and, where it is given, this environment."""
        directory, more = Path(self.asked.directory), [self.files.override] if self.files.override else []
        if self.environment is None or environment.is_in_place(directory, self.environment):
            return Compose(directory, file, tuple(more))
        new = self.scratch / environment.FILE
        environment.write(new, self.environment)
        file, *more = (_with_environment(directory, path, new) for path in (file, *more))
        return Compose(directory, file, tuple(more), new)


def _with_environment(directory: Path, file: Path, new: Path) -> Path:
    """A Compose file that names another .env where this one names that of the directory."""
    from server import compose_file  # noqa: PLC0415 - as above

    text, own = text_of(file), os.path.normpath(directory / environment.FILE)
    if environment.FILE not in text:
        return file
    changed = compose_file.with_path(text, lambda path: os.path.normpath(directory / path) == own, str(new))
    if changed == text:
        return file
    trial = new.with_name(f"trial-{file.name}")
    trial.write_bytes(changed.encode())
    return trial


def resolve(docker: Docker, trial: Trial, file: Path) -> dict[str, Any]:
    """What Compose makes of the release; refuses where another thing than its images would differ."""
    asked, files = trial.asked, trial.files
    candidate = trial.compose(file)
    resolving = Background(lambda: project_answer(docker, candidate))
    try:
        if not asked.keeps_compose_file:
            _compare(asked, docker, files, candidate, trial.compose(files.compose))
    finally:
        resolving.wait()
    answer = resolving.result()
    if not answer.succeeded:
        raise docker.failure("Docker Compose does not accept the Compose file or the environment of this release.")
    # Where the environment will be.
    text = answer.text.replace(str(trial.scratch / environment.FILE), f"{asked.directory}/{environment.FILE}")
    resolved: dict[str, Any] = json.loads(text)
    project = Project.of(resolved, asked.services, asked.one_shots)
    active = [name for name in asked.services if name in project.services]  # a release may bring other profiles
    if not project.runs(active, str(asked.image)):
        raise Refusal(
            f"The Compose file of this release does not give {' '.join(active)} the image {asked.image}.",
            f"Remove the image from {files.override.name if files.override else 'the place that sets another one'}.",
        )
    return resolved


def _compare(asked: Request, docker: Docker, files: Files, candidate: Compose, own: Compose) -> None:
    """Exactly the images of the services may differ, as Compose itself understands the file before and after."""
    from server import compose_file  # noqa: PLC0415 - as above

    reading = Background(lambda: _normal_form(docker, own, f"Docker Compose does not accept {files.compose}."))
    try:
        after = _normal_form(
            docker, candidate, f"Docker Compose does not accept {files.compose.name} with the new image."
        )
    finally:
        reading.wait()
    before = reading.result()
    given = compose_file.services_with(compose_file.parse(candidate.stdin.decode()), str(asked.image))
    before["services"] = {
        name: {**service, "image": str(asked.image)} if name in given else service
        for name, service in before["services"].items()
    }
    try:
        compose_file.explain_difference(before, after, given)
    except compose_file.ComposeFileError as error:
        raise Refusal(f"{files.compose} is left as it is. {error}") from None


def _normal_form(docker: Docker, compose: Compose, failing: str) -> dict[str, Any]:
    """What Compose understands, of all profiles, without the `x-…` sections: what these say has had its effect."""
    answer = project_answer(docker, compose, "--no-interpolate", profiles="*")
    if not answer.succeeded:  # some variables stand where only a number may
        answer = project_answer(docker, compose, profiles="*")
    if not answer.succeeded:  # some file that a service of an inactive profile needs is not there
        answer = project_answer(docker, compose)
    if not answer.succeeded:
        raise docker.failure(failing)
    return {key: value for key, value in json.loads(answer.text).items() if not key.startswith("x-")}


def refuse_profiles(trial: Trial, file: Path, resolved: Mapping[str, Any]) -> None:
    """Raises Refusal where a service of the application would not be started, or another one would be."""
    from server import compose_file  # noqa: PLC0415 - as above

    asked, document = trial.asked, compose_file.parse(text_of(file))
    for name in asked.services:
        if name not in resolved["services"]:
            profile = (document["services"][name].get("profiles") or ["?"])[0]
            where = "env" if trial.environment is not None else f"{asked.directory}/{environment.FILE}"
            raise Refusal(
                f"The service '{name}' (app.services) is in the profile '{profile}', which is not active: `docker "
                "compose up` would not start it.",
                f"Nothing was stopped. Set COMPOSE_PROFILES={profile} in {where}, or remove `profiles:` from '{name}'.",
            )
    try:
        known = (*asked.services, *asked.one_shots)
        compose_file.refuse_active(document, resolved["services"], known, str(asked.image))
    except compose_file.ComposeFileError as error:
        raise Refusal(f"{trial.files.compose} is left as it is. {error}") from None


def refuse_two(asked: Request, resolved: Mapping[str, Any]) -> None:
    """Raises Refusal where two containers of the web service cannot run side by side."""
    from server import compose_file  # noqa: PLC0415 - as above

    obstacle = next(compose_file.rolling_obstacles(resolved["services"], asked.services), None)
    if obstacle:
        raise cannot_roll(asked.web, *obstacle)


def cannot_roll(web: str, reason: str, remedy: str) -> Refusal:
    """The error of the strategy `rolling` where it cannot be used."""
    return Refusal(f"'{web}' cannot be rolled: {reason}", f"Nothing was stopped. {remedy} Or set app.strategy: staged.")
