"""install: every check first, and not a byte on the server when one fails."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from configuration.tree import AppSettings
from release import steps
from tests.shell.server import TEXT, Server


def scripts(server: Server) -> list[str]:
    return sorted(path.name for path in (server.directory / ".releve" / "bin").glob("*"))


def snapshot(server: Server) -> dict[str, tuple[int, int]]:
    return {str(path): (path.stat().st_mtime_ns, path.stat().st_size) for path in server.directory.rglob("*")}


def test_the_script_is_written_for_its_owner_alone_and_is_the_same_byte_for_byte(server: Server) -> None:
    (server.directory / ".releve").rmdir()
    result = server.install()
    assert result.status == 0, result
    (name,) = scripts(server)
    script = server.directory / ".releve" / "bin" / name
    assert script.read_bytes() == TEXT.encode()
    assert script.stat().st_mode & 0o777 == 0o600
    assert (server.directory / ".releve").stat().st_mode & 0o777 == 0o700
    assert [path.name for path in server.directory.iterdir() if path.name != ".releve"] == ["docker-compose.yml"]


def test_the_command_line_takes_a_script_of_any_size_and_leaves_nothing_elsewhere(server: Server) -> None:
    script = steps.Script(TEXT + "# more\n" * 50_000)
    app = AppSettings(directory=str(server.directory), services=("web",))
    temporary = server.home / "tmp"
    temporary.mkdir()
    command = ["sh", "-c", steps.install_command(script, app)]
    result = server.run_exactly(command, stdin=script.text, more={"TMPDIR": str(temporary)})
    assert result.status == 0, result
    assert scripts(server) == [script.name]
    assert list(temporary.iterdir()) == []
    without_engine(server)
    assert server.run_exactly(command, stdin=script.text, more={"TMPDIR": str(temporary)}).status == 1
    assert list(temporary.iterdir()) == []


def test_the_newest_scripts_are_kept(server: Server) -> None:
    for number in range(7):
        assert server.install(text=f"{TEXT}# {number}\n").status == 0
        os.utime(max((server.directory / ".releve" / "bin").iterdir(), key=lambda path: path.stat().st_mtime_ns))
    assert len(scripts(server)) == 5


def test_a_damaged_script_is_not_written(server: Server) -> None:
    result = server.install(text=TEXT + "# more\n", script_name="rollout-0123456789ab.sh")
    assert result.status == 1
    assert "What arrived is not rollout-0123456789ab.sh" in result.errors
    assert scripts(server) == []


@pytest.mark.parametrize("name", ["x.sh", "rollout-x.sh", "../rollout-0123456789ab.sh", "rollout-0123456789AB.sh"])
def test_another_name_is_refused(server: Server, name: str) -> None:
    assert server.install(script_name=name).status == 2


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


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (without_group_docker, "usermod -aG docker"),
        (without_engine, "The Docker Engine does not answer."),
        (without_compose, "There is no Docker Compose v2"),
        (with_old_compose, "Docker Compose is 2.19.9; 2.20 or newer is needed"),
        (with_bad_compose, "Docker Compose 5.2.0 recreates services with volumes_from"),
        (without_compose_file, "There is no Compose file in"),
        (with_another_service, "no service 'web' (app.services)"),
        (with_linked_compose_file, "is a symbolic link"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_server_that_is_not_ready_is_left_as_it_is(server: Server, spoil: object, message: str) -> None:
    assert callable(spoil)
    spoil(server)
    before = snapshot(server)
    result = server.install()
    assert result.status == 1
    assert message in result.errors
    assert snapshot(server) == before


@pytest.mark.parametrize("version", ["2.20.0", "v2.26.1-4", "2.40.3", "5.1.9", "5.2.1", "5.20.0", "10.0.0"])
def test_other_versions_of_compose_are_fine(server: Server, version: str) -> None:
    server.answer("compose-version", version + "\n")
    assert server.install().status == 0


def test_who_equals_root_is_said_where_the_group_is_recommended(server: Server) -> None:
    without_group_docker(server)
    assert "the group docker is as good as root" in server.install().errors


def test_a_missing_directory_is_named(server: Server) -> None:
    arguments = server.command("install", "--script-name", "rollout-0123456789ab.sh", "--directory", "/no/such/place")
    result = server.run_exactly(arguments)
    assert result.status == 1
    assert "There is no directory /no/such/place" in result.errors


@pytest.mark.parametrize("tool", ["flock", "timeout", "curl", "docker", "sha256sum"])
def test_a_missing_tool_is_named(server: Server, tool: str) -> None:
    only = server.home / "only"
    only.mkdir()
    for folder in [*os.environ["PATH"].split(":"), str(server.stubs)]:
        for program in Path(folder).glob("*"):
            link = only / program.name
            if program.name != tool and not link.exists() and not link.is_symlink():
                link.symlink_to(program)
    before = snapshot(server)
    arguments = server.command("install", "--script-name", "rollout-0123456789ab.sh")
    result = server.run_exactly([str(only / "sh"), *arguments[1:]], more={"PATH": str(only)})
    assert result.status == 1
    assert f"The server has no command '{tool}'" in result.errors
    assert snapshot(server) == before


def test_no_compose_file_is_needed_where_the_repository_brings_it(server: Server) -> None:
    server.compose_file.unlink()
    assert server.install("--compose-file-follows").status == 0
    assert len(scripts(server)) == 1
