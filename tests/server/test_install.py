"""install: every check first, and not a byte on the server when one fails."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from release.program import Program
from server.request import Image
from tests.server.server import PROGRAM, Result, Server


def install(server: Server, program: Program | None = None, **fields: Any) -> Result:
    """As release/program.py has it done: by a line for the login shell, and standard input."""
    program = program or Program.read(PROGRAM)
    if not (server.stubs / "python3").exists():
        # One that has PyYAML, as a server's own has.
        server.write_command("python3", f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    temporary = server.home / "tmp"
    temporary.mkdir(exist_ok=True)
    result = server.run_exactly(
        ["sh", "-c", program.install_command()],
        stdin=program.install_input(server.request("install", **fields)),
        more={"TMPDIR": str(temporary)},
    )
    assert list(temporary.iterdir()) == [], "something is left elsewhere"
    return result


def programs(server: Server) -> list[str]:
    return sorted(path.name for path in (server.state / "bin").glob("*"))


def snapshot(server: Server) -> dict[str, tuple[int, int]]:
    return {str(path): (path.stat().st_mtime_ns, path.stat().st_size) for path in server.directory.rglob("*")}


def changed(text: str) -> Program:
    """Another version of the program."""
    program = Program.read(PROGRAM)
    return Program({**program.files, "server/__init__.py": text}, program.bootstrap)


def test_the_program_is_its_owners_alone_the_same_byte_for_byte_and_compiled(server: Server) -> None:
    server.state.rmdir()
    result = install(server)
    assert result.status == 0, result
    program = Program.read(PROGRAM)
    assert programs(server) == [program.name]
    place = server.state / "bin" / program.name
    for name, text in program.files.items():
        assert (place / name).read_text() == text
    assert {path.stat().st_mode & 0o077 for path in [server.state, *server.state.rglob("*")]} == {0}
    compiled = {path.name.partition(".")[0] for path in place.rglob("*.pyc")}
    assert {"program", "staged", "rolling", "request"} <= compiled
    assert [path.name for path in server.directory.iterdir() if path.name != ".releve"] == ["docker-compose.yml"]


def test_what_was_installed_runs(server: Server) -> None:
    assert install(server).status == 0
    shutil.rmtree(server.program)
    (server.home / "program").symlink_to(server.state / "bin" / Program.read(PROGRAM).name)
    result = server.run("pull")
    assert result.status == 0, result


def test_a_program_that_is_there_is_not_written_again(server: Server) -> None:
    assert install(server).status == 0
    place = server.state / "bin" / Program.read(PROGRAM).name
    before = {path: path.stat().st_mtime_ns for path in place.rglob("*.py")}
    assert install(server).status == 0
    assert {path: path.stat().st_mtime_ns for path in place.rglob("*.py")} == before


def test_the_newest_programs_are_kept(server: Server) -> None:
    (server.state / "bin").mkdir()
    (server.state / "bin" / "rollout-0123456789ab.sh").touch()  # of a former version
    os.utime(server.state / "bin" / "rollout-0123456789ab.sh", (1, 1))
    (server.state / "bin" / ".0123456789ab.1").mkdir()  # half copied, when a former one was killed
    names = []
    for number in range(6):
        program = changed(f'"""{number}"""\n')
        assert install(server, program).status == 0
        names.append(program.name)
    assert programs(server) == sorted(names[1:])


def without_group_docker(server: Server) -> None:
    server.behave('case "$*" in version*) echo "permission denied while trying to connect" >&2; exit 1 ;; esac')


def without_engine(server: Server) -> None:
    server.behave('case "$*" in version*) echo "Cannot connect to the Docker daemon" >&2; exit 1 ;; esac')


def without_compose(server: Server) -> None:
    server.behave("""case "$*" in compose*) echo "docker: 'compose' is not a docker command." >&2; exit 1 ;; esac""")


def without_compose_file(server: Server) -> None:
    server.compose_file.unlink()


def with_another_service(server: Server) -> None:
    server.compose_file.write_text(server.compose_file.read_text().replace("web", "app"))


def with_linked_compose_file(server: Server) -> None:
    server.compose_file.rename(server.directory / "real.yml")
    server.compose_file.symlink_to("real.yml")


def with_old_compose(server: Server) -> None:
    server.answer("compose-version", "v2.19.9\n")


def with_bad_compose(server: Server) -> None:
    server.answer("compose-version", "5.2.0\n")


def with_podmans_command(server: Server) -> None:
    server.behave('case "$*" in --version) echo "podman version 4.9.3"; exit ;; version*) exit 125 ;; esac')


def with_podmans_engine(server: Server) -> None:
    server.answer("version", "4.9.3 Podman Engine Conmon OCI Runtime (crun)\n")


def with_rootless_engine(server: Server) -> None:
    server.answer("info", '["name=seccomp,profile=builtin","name=rootless"] /home/deploy/.local/share/docker\n')


def with_the_snap(server: Server) -> None:
    server.answer("info", '["name=apparmor"] /var/snap/docker/common/var-lib-docker\n')


def with_python_that_lacks_yaml(server: Server) -> None:
    lacks = server.home / "lacks"
    lacks.mkdir()
    (lacks / "yaml.py").write_text("raise ImportError\n")
    server.write_command("python3", f'#!/bin/sh\nshift\nPYTHONPATH={lacks} exec {sys.executable} "$@"\n')


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (without_group_docker, "usermod -aG docker"),
        (without_engine, "The Docker Engine does not answer."),
        (without_compose, "There is no Docker Compose v2"),
        (with_podmans_command, "What answers to `docker` on this server is Podman"),
        (with_podmans_engine, "What answers to `docker` on this server is Podman"),
        (with_rootless_engine, "is rootless"),
        (with_the_snap, "The Docker Engine is the snap"),
        (with_old_compose, "Docker Compose is 2.19.9; 2.20 or newer is needed"),
        (with_bad_compose, "Docker Compose 5.2.0 recreates services with volumes_from"),
        (without_compose_file, "There is no Compose file in"),
        (with_another_service, "no service 'web' (app.services)"),
        (with_linked_compose_file, "is a symbolic link"),
        (with_python_that_lacks_yaml, "apt-get install python3-yaml"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_server_that_is_not_ready_is_left_as_it_is(
    server: Server, spoil: Callable[[Server], None], message: str
) -> None:
    spoil(server)
    before = snapshot(server)
    result = install(server)
    assert result.status == 1
    assert message in result.errors
    assert snapshot(server) == before


@pytest.mark.parametrize("version", ["2.20.0", "v2.26.1-4", "2.40.3", "5.1.9", "5.2.1", "5.20.0", "10.0.0"])
def test_other_versions_of_compose_are_fine(server: Server, version: str) -> None:
    server.answer("compose-version", version + "\n")
    assert install(server).status == 0


def test_who_equals_root_is_said_where_the_group_is_recommended(server: Server) -> None:
    without_group_docker(server)
    assert "the group docker is as good as root" in install(server).errors


def test_a_missing_directory_is_named(server: Server) -> None:
    server.compose_file.unlink()
    server.state.rmdir()
    server.directory.rmdir()
    result = install(server)
    assert result.status == 1
    assert f"There is no directory {server.directory}" in result.errors


@pytest.mark.parametrize("tool", ["python3", "docker"])
def test_a_missing_tool_is_named(server: Server, tool: str) -> None:
    only = server.home / "only"
    only.mkdir()
    install(server)  # for its python3
    shutil.rmtree(server.state / "bin")
    for folder in [server.stubs, *map(Path, os.environ["PATH"].split(":"))]:
        for found in folder.glob("*"):
            link = only / found.name
            if found.name != tool and not link.exists() and not link.is_symlink():
                link.symlink_to(found)
    before = snapshot(server)
    program = Program.read(PROGRAM)
    result = server.run_exactly(
        [str(only / "sh"), "-c", program.install_command()],
        stdin=program.install_input(server.request("install")),
        more={"PATH": str(only)},
    )
    assert result.status == 1
    assert "no command" in result.errors
    assert tool in result.errors
    assert snapshot(server) == before


def test_of_what_the_former_program_needed_nothing_is_needed(server: Server) -> None:
    for tool in ("curl", "awk", "flock", "timeout", "base64", "sha256sum"):
        server.write_command(tool, f'#!/bin/sh\necho {tool} >>"$STUBS/used"\nexit 127\n')
    (server.stubs / "sha256sum").unlink()  # the docker stub's own
    assert install(server).status == 0
    for step in ("pull", "stop", "up", "verify"):
        assert server.run(step).status == 0
    assert not (server.stubs / "used").exists()


def test_no_compose_file_is_needed_where_the_repository_brings_it(server: Server) -> None:
    server.compose_file.unlink()
    assert install(server, keeps_compose_file=True).status == 0
    assert len(programs(server)) == 1


def test_no_release_need_be_known(server: Server) -> None:
    assert install(server, image=Image("a", "1", "sha256:" + "0" * 64)).status == 0
