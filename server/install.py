"""The step `install`: every check first, and not a byte on the server when one fails; then the program is put there."""

from __future__ import annotations

import compileall
import os
import re
import shutil
from pathlib import Path

from server.commands import Answer, Docker
from server.errors import Refusal
from server.identity import identity_of, require_identity
from server.preparation import check
from server.project_files import user
from server.run import Run

MINIMAL_COMPOSE = (2, 20)
COMPOSE_REMEDY = "Install it as Docker's plugin: https://docs.docker.com/compose/install/linux"
BROKEN_COMPOSE = "5.2.0"
"""It recreates services with volumes_from at every `up`."""
KEPT = 5
"""Programs that stay, the newest."""


def install(run: Run, scratch: Path, program: Path) -> None:
    """Checks the server, and puts the program there.

    scratch: for files of this step; program: where it was unpacked.
    """
    compose = check_tools(run, run.docker)
    files, resolved = check(run, run.docker, scratch)
    # What `env` holds may give the project another name; `pull` brings it, and looks.
    if resolved is not None and not run.request.keeps_environment:
        wanted = identity_of(str(resolved.get("name", "")), run.directory, files.compose, files.override)
        require_identity(run, run.docker, wanted, lambda: resolved)
    if run.state.exists() and not os.access(run.state, os.W_OK):
        raise Refusal(f"{user()} cannot write in {run.state}.")
    place = run.state / "bin" / program.name
    run.state.mkdir(mode=0o700, exist_ok=True)
    (run.state / "bin").mkdir(mode=0o700, exist_ok=True)
    for directory in (run.state, run.state / "bin"):
        directory.chmod(0o700)
    if not place.exists():
        new = place.with_name(f".{program.name}.{os.getpid()}")
        shutil.copytree(program, new, ignore=shutil.ignore_patterns("__pycache__"))
        # The files' own dates are in the bytecode: a copy keeps them. And where they are, for who reads a traceback.
        compileall.compile_dir(str(new), quiet=2, ddir=str(place))
        new.rename(place)
    os.utime(place)
    _keep_newest(run.state / "bin")
    run.say(f"Docker Compose {compose}; the program {program.name} is in place")


def check_tools(run: Run, docker: Docker) -> str:
    """That the login may use Docker, and that Compose is one that works. Returns its version."""
    if shutil.which("docker") is None:
        raise Refusal("The server has no command 'docker'.", "Install it, then try again.")
    engine = docker.ask("version", "--format", "{{.Server.Version}} {{range .Server.Components}}{{.Name}} {{end}}")
    _refuse_podman(docker, engine)
    if not engine.succeeded:
        if "permission denied" in run.output.logged():
            raise docker.failure(
                f"{user()} may not use Docker.",
                f"As root:  usermod -aG docker {user()}   (On this server, the group docker is as good as root.)",
            )
        raise docker.failure("The Docker Engine does not answer.", "Start it, then try again.")
    _refuse_confined(docker)
    version = docker.answer(
        *("compose", "version", "--short"),
        failing="There is no Docker Compose v2 (docker compose version).",
        remedy=COMPOSE_REMEDY,
    )
    version = version.strip().lstrip("v")
    numbers = tuple(int(number) for number in re.findall(r"\d+", version)[:2])
    if numbers < MINIMAL_COMPOSE:
        oldest = ".".join(map(str, MINIMAL_COMPOSE))
        raise Refusal(f"Docker Compose is {version}; {oldest} or newer is needed.", COMPOSE_REMEDY)
    if re.match(re.escape(BROKEN_COMPOSE) + r"(\D|$)", version):
        raise Refusal(
            f"Docker Compose {BROKEN_COMPOSE} recreates services with volumes_from at every `up`.",
            "Install another version.",
        )
    return version


def _refuse_podman(docker: Docker, engine: Answer) -> None:
    """Raises Refusal where the command, or the Engine that it speaks to, is Podman's."""
    # Podman's command knows no Engine, and says what it is only when asked for its own version.
    if "Podman" in (engine.text if engine.succeeded else docker.ask("--version").text).title():
        raise Refusal(
            "What answers to `docker` on this server is Podman, under which the project's containers would be others.",
            "Install Docker Engine (https://docs.docker.com/engine/install), without podman-docker.",
        )


def _refuse_confined(docker: Docker) -> None:
    """Raises Refusal where the Engine is shut off from the server's network or files."""
    info = docker.answer(
        "info", "--format", "{{json .SecurityOptions}} {{.DockerRootDir}}", failing="docker info failed."
    )
    if "name=rootless" in info:
        raise Refusal(
            f"The Docker Engine of {user()} is rootless: its containers have no addresses that the server reaches, by "
            "which a release is looked at before visitors see it.",
            "Run the project under the server's own Docker Engine. Where there is one:  docker context use default",
        )
    if "/snap/docker/" in info:
        raise Refusal(
            "The Docker Engine is the snap, which sees no files of the server but those of home directories.",
            "Install the distribution's, or Docker's packages (https://docs.docker.com/engine/install), and move the "
            "project's volumes there before you remove the snap, which deletes its own.",
        )


def _keep_newest(directory: Path) -> None:
    """Of the programs, and of the scripts of former versions; what a killed one has left half copied is none."""
    found = sorted(directory.iterdir(), key=lambda path: path.stat().st_mtime_ns, reverse=True)
    programs = [path for path in found if not path.name.startswith(".")]
    for path in found:
        if path in programs[:KEPT]:
            continue
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink()
