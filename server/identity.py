"""Which of this server's containers are the project's, and whether Compose would take them for the same.

Compose finds its containers by the project's name alone. Under another name, or from other files, it makes a second set
of them: a second database server on the same files, for one.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from server.commands import Docker
from server.containers import RUNNING
from server.errors import Refusal
from server.project import repository_of
from server.releases import linked
from server.run import Run

_LABEL = "com.docker.compose"
_LABELS = (
    "project", "project.working_dir", "project.config_files", "service", "oneoff", "config-hash", "image"
)  # fmt: skip
ENVIRONMENT = Path("/etc/environment")
"""Whose variables a login may have, and another one not."""


@dataclass(frozen=True)
class Placed:
    """A container of this server, and what Compose has noted of where it is from: "" where that is not known.

    directory:  the project's, without symbolic links
    is_there:   that directory exists, or cannot be looked at
    files:      its Compose files that exist, or cannot be looked at, without symbolic links; empty: nobody knows
    lost_files: there were others, which are gone
    hash:       of the service's settings, as of its making
    image_id:   the image's, as of its making
    mounts:     names of volumes, and what is mounted from the server, without symbolic links
    """

    name: str
    state: str
    image: str
    project: str = ""
    directory: str = ""
    is_there: bool = True
    files: tuple[str, ...] = ()
    lost_files: bool = False
    service: str = ""
    hash: str = ""
    image_id: str = ""
    mounts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Identity:
    """What Compose makes of the directory: the project's name, and its files, without symbolic links."""

    name: str
    directory: str
    files: tuple[str, ...]


@dataclass(frozen=True)
class Verdict:
    """Why the project must be left alone, or None; and what is to be said of it otherwise."""

    refusal: Refusal | None = None
    notices: tuple[str, ...] = ()


# ---------------------------------------------------------------------------------------------------------------- facts


def identity_of(name: str, directory: Path, *files: Path | None) -> Identity:
    """The project of a directory. files: its Compose file and the one on top of it, if any."""
    return Identity(name, os.path.realpath(directory), tuple(os.path.realpath(file) for file in files if file))


def placed_containers(docker: Docker) -> list[Placed]:
    """All of this server, but for those that are made for one command."""
    fields = ["json .Names", "json .State", "json .Image", "json .Mounts", 'json (.Label "releve.project")']
    fields += [f'json (.Label "{_LABEL}.{label}")' for label in _LABELS]
    text = docker.answer(
        *("ps", "-a", "--no-trunc", "--format", f"[{','.join(f'{{{{{field}}}}}' for field in fields)}]"),
        failing="docker ps failed.",
    )
    return list(_placed(text))


def _placed(text: str) -> Iterator[Placed]:
    for line in text.splitlines():
        names, state, image, mounts, releve, project, directory, files, service, oneoff, hashed, image_id = json.loads(
            line
        )
        if releve or oneoff == "True":
            continue
        # Of a file from standard input there is a dash.
        paths = [Path(file) for file in files.split(",") if file]
        paths = [] if "-" in [path.name for path in paths] else paths
        yield Placed(
            names.partition(",")[0], state, image, project,
            directory=os.path.realpath(directory) if directory else "",
            is_there=not directory or _is_there(Path(directory)),
            files=tuple(os.path.realpath(path) for path in paths if _is_there(path)),
            lost_files=not all(_is_there(path) for path in paths),
            service=service, hash=hashed, image_id=image_id,
            mounts=tuple(os.path.realpath(mount) if mount.startswith("/") else mount for mount in mounts.split(",")),
        )  # fmt: skip


def _is_there(path: Path) -> bool:
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    return True


def login_variables(environ: Mapping[str, str], file: Path = ENVIRONMENT) -> dict[str, str]:
    """What a login may tell Compose about the project's name and files."""
    names = ("COMPOSE_FILE", "COMPOSE_PROJECT_NAME")
    try:
        text = file.read_text(errors="replace")
    except OSError:
        text = ""
    pattern = rf"^\s*(?:export\s+)?({'|'.join(names)})\s*=\s*[\"']?([^\"'\s]+)"
    return {
        **dict(re.findall(pattern, text, re.MULTILINE)),
        **{name: environ[name] for name in names if environ.get(name)},
    }


def require_identity(
    run: Run, docker: Docker, wanted: Identity, resolved: Callable[[], Mapping[str, Any]]
) -> list[Placed]:
    """The project's containers, one-off containers left out.

    resolved: asks what Compose makes of the project, where that matters
    Raises Refusal where Compose would not take the containers of the directory for the project's, or others as well.
    """
    containers = placed_containers(docker)
    current = linked(run.state, "current")
    released = bool(current) and not current.startswith("found-")
    verdict = judge(wanted, containers, login_variables(run.variables), resolved, released=released)
    if verdict.refusal:
        raise verdict.refusal
    for notice in verdict.notices:
        run.say(f"notice: {notice}")
    return [it for it in containers if it.project == wanted.name]


# ------------------------------------------------------------------------------------------------------------ decisions


def judge(
    wanted: Identity,
    containers: Sequence[Placed],
    variables: Mapping[str, str],
    resolved: Callable[[], Mapping[str, Any]],
    *,
    released: bool,
) -> Verdict:
    """Whether Compose would take the containers of the directory for those of the project, and no others.

    variables: of the login, as login_variables has them
    resolved:  asks what Compose makes of the project, where that matters
    released:  a release of Relève's is live there
    """
    ours = [it for it in containers if it.project == wanted.name and _is_of(wanted, it)]
    theirs = [it for it in containers if it.project == wanted.name and not _is_of(wanted, it)]
    checks: tuple[Callable[[], Verdict], ...] = (
        lambda: _taken_over(wanted, theirs),
        lambda: _of_another_name(wanted, ours, containers),
        lambda: _of_other_files(wanted, ours, released=released),
        lambda: _of_variables(wanted, ours, variables),
        lambda: _on_the_same_files(wanted, ours, containers, resolved),
    )
    notices: list[str] = []
    for check in checks:
        verdict = check()
        if verdict.refusal:
            return verdict
        notices += verdict.notices
    return Verdict(notices=tuple(notices))


def _is_of(wanted: Identity, container: Placed) -> bool:
    """Of the directory, of one that has been moved, or of a Compose that noted none: by the name Compose takes it."""
    return not container.directory or not container.is_there or container.directory == wanted.directory


def _taken_over(wanted: Identity, others: Sequence[Placed]) -> Verdict:
    if not others:
        return Verdict()
    there = others[0].directory
    return Verdict(
        Refusal(
            f"The Compose project '{wanted.name}' of {wanted.directory} would take over the containers of another one "
            f"of the same name, of {there}: {_names(others)}.",
            f"Nothing was changed. Give this project a name of its own: write COMPOSE_PROJECT_NAME=… into .env, or a "
            f"line `name: …` into the Compose file. Or, if it has come here from there:  "
            f"cd '{there}' && docker compose down",
        )
    )


def _of_another_name(wanted: Identity, ours: Sequence[Placed], containers: Sequence[Placed]) -> Verdict:
    beside = [it for it in containers if it.project != wanted.name and it.directory == wanted.directory]
    # Another project may live in the same directory, with files of its own.
    beside = [it for it in beside if not ours or set(it.files) & set(wanted.files)]
    if not beside:
        return Verdict()
    name = beside[0].project
    if ours and not any(it.state in RUNNING for it in beside):
        return Verdict(
            notices=(
                f"of this directory, but of the Compose project '{name}', and stopped; they stay: {_names(beside)}",
            )
        )
    return Verdict(
        Refusal(
            f"Containers of {wanted.directory} are of the Compose project '{name}': {_names(beside)}. Compose "
            f"would now make the project '{wanted.name}': a second set of containers, on the same files.",
            f"Nothing was changed. Let everybody use the same name: write COMPOSE_PROJECT_NAME={name} into .env (into "
            f"`env`, where the configuration holds it), or a line `name: {name}` into the Compose file. Or, if "
            f"they are not needed any more:  cd '{wanted.directory}' && docker compose -p {name} down",
        )
    )


def _of_other_files(wanted: Identity, ours: Sequence[Placed], *, released: bool) -> Verdict:
    known = [it for it in ours if it.files]
    more = [it for it in known if set(it.files) - set(wanted.files)]
    if more:
        files, wanted_files = _files(wanted, more[0].files), _files(wanted, wanted.files)
        return Verdict(
            Refusal(
                f"Containers of the project '{wanted.name}' were made from the files {files}, not from {wanted_files}, "
                f"which Compose reads by itself: {_names(more)}. What only the others say would be lost, and services "
                "that only they name would be removed.",
                "Nothing was changed. Write all of it into one file, docker-compose.yml, or move the second one to "
                "docker-compose.override.yml, which Compose reads on top of it, and remove the others. Where one must "
                f"stay, as other projects need it:  cd '{wanted.directory}' && docker compose up -d --force-recreate",
            )
        )
    # Where one is gone, it may have become the one on top.
    less = [it for it in known if set(it.files) < set(wanted.files) and not it.lost_files]
    if not less:
        return Verdict()
    missing = _files(wanted, [file for file in wanted.files if file not in less[0].files])
    if released:
        return Verdict(notices=(f"{missing} came since these were made, and takes effect now: {_names(less)}",))
    return Verdict(
        Refusal(
            f"Containers of the project '{wanted.name}' were made without {missing}, which Compose reads by itself: "
            f"{_names(less)}.",
            "Nothing was changed. Give that file another name. Or, if it is to take effect:  "
            f"cd '{wanted.directory}' && docker compose up -d --force-recreate",
        )
    )


def _of_variables(wanted: Identity, ours: Sequence[Placed], variables: Mapping[str, str]) -> Verdict:
    name, given = variables.get("COMPOSE_PROJECT_NAME", wanted.name), variables.get("COMPOSE_FILE")
    files = (
        [os.path.realpath(Path(wanted.directory, file)) for file in given.split(":")] if given else list(wanted.files)
    )
    if name == wanted.name and set(files) == set(wanted.files):
        return Verdict()
    variable, value = ("COMPOSE_PROJECT_NAME", name) if name != wanted.name else ("COMPOSE_FILE", given)
    is_so = f"Logins on this server have {variable}={value}"
    if ours:
        instead = wanted.name if name != wanted.name else _files(wanted, wanted.files)
        return Verdict(notices=(f"{is_so}, which rollouts do not heed: what runs is of {instead}",))
    remedy = (
        f"write {variable}={value} into .env (into `env`, where the configuration holds it)"
        if name != wanted.name
        else "name the file docker-compose.yml, a second one docker-compose.override.yml"
    )
    return Verdict(
        Refusal(
            f"{is_so}: what people start by hand would be another project than what rollouts start.",
            f"Nothing was changed. Unset it, in {ENVIRONMENT} or where the login sets it; and {remedy}.",
        )
    )


def _on_the_same_files(
    wanted: Identity, ours: Sequence[Placed], containers: Sequence[Placed], resolved: Callable[[], Mapping[str, Any]]
) -> Verdict:
    """What no label tells: of a service that has no container yet, one of somebody else's works on its files."""
    suspects = [
        it
        for it in containers
        if it not in ours and it.state in RUNNING and any(m.startswith(f"{wanted.directory}/") for m in it.mounts)
    ]
    there = {it.service for it in ours}
    services = (resolved().get("services") or {}).items() if suspects else ()
    for service, said in services:
        same = [it for it in suspects if service not in there and _stands_for(it, service, said)]
        if same:
            whose = (
                f"the project '{same[0].project}', of {same[0].directory}" if same[0].project else "no Compose project"
            )
            return Verdict(
                Refusal(
                    f"The container {same[0].name}, of {whose}, works on the files of the service '{service}' of "
                    f"{wanted.directory}: a second one would be started on them.",
                    f"Nothing was changed. Stop it:  docker stop {same[0].name}",
                )
            )
    return Verdict()


def _stands_for(container: Placed, service: str, said: Mapping[str, Any]) -> bool:
    """A tool that saves these files, or a proxy that serves them, does not."""
    sources = {
        os.path.realpath(str(volume.get("source")))
        for volume in said.get("volumes") or ()
        if volume.get("type") == "bind"
    }
    is_alike = container.service == service or repository_of(container.image) == repository_of(str(said.get("image")))
    return is_alike and bool(sources & set(container.mounts))


def _names(containers: Collection[Placed]) -> str:
    return ", ".join(sorted(it.name for it in containers))


def _files(wanted: Identity, files: Sequence[str]) -> str:
    """Short where they are in the directory."""
    return " and ".join(
        file[len(wanted.directory) + 1 :] if file.startswith(f"{wanted.directory}/") else file for file in files
    )
