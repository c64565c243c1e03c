"""A release prepared: its Compose file and its environment, decided once by `pull` and kept with the release.

The steps after `pull` use what is kept, as long as nothing of what it was made from has changed.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from server import environment, request
from server.asset_inputs import content_hash
from server.background import Background
from server.commands import Docker
from server.containers import Compose, project_answer
from server.errors import Failure, Refusal
from server.project import Project, settings_hash
from server.request import Delivery, Image, Request
from server.run import Run, replace_file

FILE_NAMES = ("compose.yaml", "compose.yml", "docker-compose.yml", "docker-compose.yaml")
"""In the order in which Compose looks for them."""
OVERRIDE_NAMES = (
    "compose.override.yml", "compose.override.yaml", "docker-compose.override.yml", "docker-compose.override.yaml",
)  # fmt: skip
CANDIDATE = ".releve-candidate.yml"
"""The new Compose file, in the directory of the old one, before it takes its place."""
KEPT_COMPOSE_FILES = 20
PREPARE_AGAIN = "Prepare it again:  pulumi up --replace '**-pull'"
CHECK = Image("releve.invalid/check", "check", f"sha256:{0:064}")
"""An image of no release: whether one could be set."""


@dataclass(frozen=True)
class Files:
    """The project's Compose file, which need not exist where the repository keeps it, and the override file, if any."""

    compose: Path
    override: Path | None


@dataclass(frozen=True)
class Prepared:
    """What was decided for a release, as it is kept.

    inputs:     hash of all that it was made from; "" where that cannot be said
    outcome:    the same with the release's Compose file in the place of the server's: other images in that one's lines
                make the same release
    files, variables: names of the files and of the login's variables that are part of it
    project:    what Compose makes of the release's Compose file and environment
    assets:     names a set of compiled assets: it depends on what compiles them and on the web service's settings
    settings:   changes with the settings of app.services
    dependants: the services that are recreated together with these
    """

    inputs: str
    outcome: str
    files: tuple[str, ...]
    variables: tuple[str, ...]
    project: Project
    assets: str
    settings: str
    dependants: tuple[str, ...]


@dataclass(frozen=True)
class Candidate:
    """A release that can be tried, and put in place.

    file:        its Compose file
    environment: the text of its .env, or None: the server's own is left alone
    compose:     the project as this release wants it, before it is in place
    """

    files: Files
    file: Path
    environment: str | None
    compose: Compose
    prepared: Prepared

    @property
    def project(self) -> Project:
        """As the release wants it."""
        return self.prepared.project


def find_files(asked: Request) -> Files:
    """The files that Compose itself would choose. Raises Refusal where it is not certain, or would not do."""
    directory = Path(asked.directory)
    text = environment.content(directory) or ""
    if "COMPOSE_FILE" in environment.names_in(text):
        raise Refusal(
            f"{directory}/.env sets COMPOSE_FILE: which file holds the image lines is then not certain.",
            "Name the file docker-compose.yml, a second one docker-compose.override.yml, and remove COMPOSE_FILE.",
        )
    compose, override = (_first_of(directory, names) for names in (FILE_NAMES, OVERRIDE_NAMES))
    if compose is None:
        if not asked.keeps_compose_file:
            raise Refusal(
                f"There is no Compose file in {directory}.", "Put docker-compose.yml there, or set app.composeFile."
            )
        return Files(directory / "docker-compose.yml", override)
    if compose.is_symlink():
        raise Refusal(
            f"{compose} is a symbolic link; setting the image would replace it.",
            "Put the file itself there, or set app.directory to the directory that holds it.",
        )
    if not compose.is_file() or not os.access(compose, os.R_OK):
        raise Refusal(f"{compose} is not a file that {user()} can read.")
    return Files(compose, override)


def _first_of(directory: Path, names: Iterable[str]) -> Path | None:
    return next((directory / name for name in names if os.path.lexists(directory / name)), None)


def user() -> str:
    """The login, for messages."""
    import getpass  # noqa: PLC0415 - for a message only, and it takes a while

    try:
        return getpass.getuser()
    except (KeyError, OSError):  # the latter since Python 3.13
        return f"the user {os.getuid()}"


# ------------------------------------------------------------------------------------------------- what steps ask for


def prepare(run: Run, docker: Docker) -> Candidate:
    """The release of the request, prepared now or before. Raises Refusal where it cannot be set safely."""
    asked, release = run.request, run.state / "releases" / run.image.release
    files = find_files(asked)
    refuse_unwritable(run.directory)
    delivery = _delivery(asked, release)
    _refuse_environment(run, delivery.environment)
    prepared, trial = _kept(release), _Trial(asked, files, delivery.environment, run.scratch)
    if prepared is None or prepared.inputs != _hash(asked, files, prepared, files.compose):
        file = run.scratch / "candidate.yml"
        file.write_bytes(_compose_file(asked, files, delivery.compose_file))
        if prepared is None or prepared.outcome != _hash(asked, files, prepared, file):
            prepared = _prepare_anew(docker, trial, file)
        release.mkdir(parents=True, exist_ok=True)
        environment.write(release / "delivery.json", json.dumps(dataclasses.asdict(delivery)))
        file.replace(release / "candidate.yml")
        _keep(asked, files, prepared, release)
    file = release / "candidate.yml"
    compose = without_asking(run.scratch, prepared.project, trial.compose(file))
    return Candidate(files, file, delivery.environment, compose, prepared)


def check(run: Run, docker: Docker, scratch: Path) -> tuple[Files, dict[str, Any] | None]:
    """Whether a release could be set in the server's Compose file: as for one, but nothing is kept.

    Returns the files, and what Compose makes of them; None where the repository keeps the Compose file.
    """
    files = find_files(run.request)
    refuse_unwritable(run.directory)
    if run.request.keeps_compose_file:
        return files, None
    asked = dataclasses.replace(run.request, image=CHECK)
    file = scratch / "candidate.yml"
    file.write_bytes(_compose_file(asked, files, None))
    try:
        return files, _resolve(docker, _Trial(asked, files, None, scratch), file)
    except Failure:
        # The environment may be what `pull` brings.
        if environment.content(run.directory) is not None:
            raise
    return files, None


def without_asking(scratch: Path, project: Project, compose: Compose) -> Compose:
    """The same for one-off containers, whose images are there: `run` has no option with which no registry is asked."""
    if not project.asking:
        return compose
    overlay = scratch / "pull-policy.json"
    overlay.write_text(json.dumps({"services": {name: {"pull_policy": "missing"} for name in project.asking}}))
    return compose.with_file(overlay)


def refuse_unwritable(directory: Path) -> None:
    """Raises Refusal where the files of the project cannot be changed."""
    if not os.access(directory, os.W_OK):
        raise Refusal(f"{user()} cannot write in {directory}.", "Let the user of servers[].user own the directory.")


def name_release(run: Run) -> Path:
    """The directory in which all of the release is kept; it is made."""
    directory = run.state / "releases" / run.image.release
    (directory / "tasks").mkdir(parents=True, exist_ok=True)
    (directory / "image").write_text(f"{run.image}\n")
    return directory


def note_prepared(run: Run) -> None:
    """Notes that the steps to come are about this release."""
    replace_file(run.state / "prepared", f"{run.image.release}\n")


def require_prepared(run: Run) -> None:
    """Raises Refusal where the last `pull` was for another release."""
    file = run.state / "prepared"
    prepared = file.read_text().strip() if file.exists() else "no release"
    if prepared != run.image.release:
        raise Refusal(
            f"This server has been prepared for {prepared}, not for {run.image.release}: another run came in between.",
            PREPARE_AGAIN,
        )


# ---------------------------------------------------------------------------------------------------- what is decided


def _delivery(asked: Request, release: Path) -> Delivery:
    """What the repository and the configuration hold: of the request, or as it was kept."""
    if asked.delivery is not None:
        return asked.delivery
    file = release / "delivery.json"
    delivery = request.read(Delivery, json.loads(file.read_text()), "") if file.exists() else Delivery()
    if delivery.sha256 != asked.delivered:
        raise Refusal(
            f"What was prepared for {release.name} has another Compose file or environment: another run came in "
            f"between.",
            PREPARE_AGAIN,
        )
    return delivery


def _kept(release: Path) -> Prepared | None:
    try:
        return request.read(Prepared, json.loads((release / "prepared.json").read_text()), "")
    except (OSError, ValueError):
        return None  # none, or one of another version of this program


def _keep(asked: Request, files: Files, prepared: Prepared, release: Path) -> None:
    if prepared.outcome:
        prepared = dataclasses.replace(prepared, inputs=_hash(asked, files, prepared, files.compose))
    new = release / "prepared.json.new"
    environment.write(new, json.dumps(dataclasses.asdict(prepared)))
    new.replace(release / "prepared.json")


def _prepare_anew(docker: Docker, trial: _Trial, file: Path) -> Prepared:
    from server import compose_file  # noqa: PLC0415 - PyYAML takes a while, and most steps need none

    asked, files, assets = trial.asked, trial.files, trial.asked.assets
    resolved = _resolve(docker, trial, file)
    _refuse_profiles(trial, file, resolved)
    if asked.strategy is request.Strategy.ROLLING:
        _refuse_two(asked, resolved)
    texts = [_text(path) for path in (file, files.override) if path]
    names, certain = _referred_files(texts)
    compiled = settings_hash(
        resolved, [asked.web], assets.source, assets.paths, assets.precompile, *_asset_inputs(asked)
    )
    prepared = Prepared(
        inputs="",
        outcome="",
        files=names,
        variables=tuple(sorted({name for text in texts for name in _VARIABLE.findall(text)})),
        project=Project.of(resolved, asked.services, asked.one_shots),
        assets=f"assets-{compiled}",
        settings=settings_hash(resolved, asked.services),
        dependants=tuple(compose_file.dependants(resolved["services"], asked.services)),
    )
    return dataclasses.replace(prepared, outcome=_hash(asked, files, prepared, file)) if certain else prepared


def _asset_inputs(asked: Request) -> list[str]:
    """Hash of what is compiled into the assets; nothing where that is not configured, so that they keep their name."""
    inputs = asked.assets.inputs
    return [content_hash(Path(asked.directory), inputs)] if inputs else []


_VARIABLE = re.compile(r"\$\{?([A-Za-z_][A-Za-z0-9_]*)")


def _hash(asked: Request, files: Files, prepared: Prepared, compose: Path) -> str:
    """Hash of all that the decision depends on, as it is now. compose: the file that stands for the Compose file."""
    assets, directory = asked.assets, Path(asked.directory)
    said = [
        *(str(asked.image), asked.services, asked.one_shots, asked.delivered, asked.keeps_compose_file, asked.strategy),
        *(assets.source, assets.paths, assets.precompile, *_asset_inputs(asked)),
        [(name, os.environ.get(name)) for name in prepared.variables],
    ]
    hashed = hashlib.sha256(json.dumps(said).encode())
    for path in (compose, files.override, directory / environment.FILE, *(directory / name for name in prepared.files)):
        try:
            content = path.read_bytes() if path else None
        except OSError:
            content = None
        hashed.update(b"-" if content is None else hashlib.sha256(content).digest())
    return hashed.hexdigest()


def _referred_files(texts: Iterable[str]) -> tuple[tuple[str, ...], bool]:
    """The files whose content Compose takes into services, and whether these are all: names may hold variables."""
    from server import compose_file  # noqa: PLC0415 - as above

    found = []
    for text in texts:
        for service in compose_file.services_in(text).values():
            for key in ("env_file", "label_file"):
                entries = (service or {}).get(key) or ()
                listed = entries if isinstance(entries, (list, tuple)) else [entries]
                found += [str(entry.get("path", "") if isinstance(entry, dict) else entry) for entry in listed]
    return tuple(dict.fromkeys(found)), not any("$" in name for name in found)


def _compose_file(asked: Request, files: Files, delivered: str | None) -> bytes:
    """The release's Compose file: the repository's, or the server's own with the images set."""
    from server import compose_file  # noqa: PLC0415 - as above

    text = _text(files.compose) if delivered is None else delivered
    try:
        for part in [*([_text(files.override)] if files.override else []), text]:
            compose_file.refuse_parts(part)
    except compose_file.ComposeFileError as error:
        raise Refusal(str(error)) from None
    if delivered is not None:
        return delivered.encode()
    try:
        return compose_file.with_image(text, asked.services, str(asked.image), asked.one_shots).encode()
    except compose_file.ComposeFileError as error:
        raise Refusal(f"{files.compose} is left as it is. {error}") from None


def _text(file: Path) -> str:
    """Of a Compose file. By bytes: line endings are part of the file and stay as they are."""
    try:
        return file.read_bytes().decode()
    except UnicodeDecodeError as error:
        raise Refusal(f"{file} is not in UTF-8, as Compose reads it: {error}.", "Save it in that encoding.") from None


def _refuse_environment(run: Run, wanted: str | None) -> None:
    """Raises Refusal where this environment must not take the place of the one that is there."""
    if wanted is None or environment.is_in_place(run.directory, wanted):
        return
    if "COMPOSE_FILE" in environment.names_in(wanted):
        raise Refusal("env.COMPOSE_FILE: which file holds the image lines would not be certain.", "Remove it.")
    environment.refuse_lost_names(run.directory, run.state, wanted)


@dataclass(frozen=True)
class _Trial:
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

    text, own = _text(file), os.path.normpath(directory / environment.FILE)
    if environment.FILE not in text:
        return file
    changed = compose_file.with_path(text, lambda path: os.path.normpath(directory / path) == own, str(new))
    if changed == text:
        return file
    trial = new.with_name(f"trial-{file.name}")
    trial.write_bytes(changed.encode())
    return trial


def _resolve(docker: Docker, trial: _Trial, file: Path) -> dict[str, Any]:
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


def _refuse_profiles(trial: _Trial, file: Path, resolved: Mapping[str, Any]) -> None:
    """Raises Refusal where a service of the application would not be started, or another one would be."""
    from server import compose_file  # noqa: PLC0415 - as above

    asked, document = trial.asked, compose_file.parse(_text(file))
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


def _refuse_two(asked: Request, resolved: Mapping[str, Any]) -> None:
    """Raises Refusal where two containers of the web service cannot run side by side."""
    from server import compose_file  # noqa: PLC0415 - as above

    obstacle = next(compose_file.rolling_obstacles(resolved["services"], asked.services), None)
    if obstacle:
        raise cannot_roll(asked.web, *obstacle)


def cannot_roll(web: str, reason: str, remedy: str) -> Refusal:
    """The error of the strategy `rolling` where it cannot be used."""
    return Refusal(f"'{web}' cannot be rolled: {reason}", f"Nothing was stopped. {remedy} Or set app.strategy: staged.")
