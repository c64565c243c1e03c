"""A release prepared: its Compose file and its environment, decided once by `pull` and kept with the release.

The steps after `pull` use what is kept, as long as nothing of what it was made from has changed.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from server import environment, request
from server.asset_inputs import content_hash
from server.commands import Docker
from server.containers import Compose
from server.errors import Failure, Refusal
from server.project import Project, settings_hash
from server.project_files import Files, find_files, refuse_unwritable, text_of
from server.request import Delivery, Image, Request
from server.resolving import Trial, compose_file_of, refuse_profiles, refuse_two, resolve
from server.run import Run, replace_file

CANDIDATE = ".releve-candidate.yml"
"""The new Compose file, in the directory of the old one, before it takes its place."""
KEPT_COMPOSE_FILES = 20
PREPARE_AGAIN = "Prepare it again:  pulumi up --replace '**-pull'"
CHECK = Image("releve.invalid/check", "check", f"sha256:{0:064}")
"""An image of no release: whether one could be set."""


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


# ------------------------------------------------------------------------------------------------- what steps ask for


def prepare(run: Run, docker: Docker) -> Candidate:
    """The release of the request, prepared now or before. Raises Refusal where it cannot be set safely."""
    asked, release = run.request, run.state / "releases" / run.image.release
    files = find_files(asked)
    refuse_unwritable(run.directory)
    delivery = _delivery(asked, release)
    _refuse_environment(run, delivery.environment)
    prepared, trial = _kept(release), Trial(asked, files, delivery.environment, run.scratch)
    if prepared is None or prepared.inputs != _hash(asked, files, prepared, files.compose):
        file = run.scratch / "candidate.yml"
        file.write_bytes(compose_file_of(asked, files, delivery.compose_file))
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
    file.write_bytes(compose_file_of(asked, files, None))
    try:
        return files, resolve(docker, Trial(asked, files, None, scratch), file)
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


def _prepare_anew(docker: Docker, trial: Trial, file: Path) -> Prepared:
    from server import compose_file  # noqa: PLC0415 - PyYAML takes a while, and most steps need none

    asked, files, assets = trial.asked, trial.files, trial.asked.assets
    resolved = resolve(docker, trial, file)
    refuse_profiles(trial, file, resolved)
    if asked.strategy is request.Strategy.ROLLING:
        refuse_two(asked, resolved)
    texts = [text_of(path) for path in (file, files.override) if path]
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
                found += compose_file.files_named(service or {}, key)
    return tuple(dict.fromkeys(found)), not any("$" in name for name in found)


def _refuse_environment(run: Run, wanted: str | None) -> None:
    """Raises Refusal where this environment must not take the place of the one that is there."""
    if wanted is None or environment.is_in_place(run.directory, wanted):
        return
    if "COMPOSE_FILE" in environment.names_in(wanted):
        raise Refusal("env.COMPOSE_FILE: which file holds the image lines would not be certain.", "Remove it.")
    environment.refuse_lost_names(run.directory, run.state, wanted)
