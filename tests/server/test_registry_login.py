"""pull: the registry's account is there for one command, and for nobody else to see."""

from __future__ import annotations

import signal
import subprocess
import time

import pytest

from release.registry import Credentials, docker_configuration
from tests.server.server import IMAGE, Result, Server

LOGIN = docker_configuration("registry.example:5000", Credentials("fablab", "s3cret"))
ACCOUNT = LOGIN.rpartition('": "')[2].rstrip('"}')

# The image is not there yet; what `docker --config DIR … pull` finds in DIR is kept beside the stubs.
ABSENT = 'case "$*" in "image inspect"*) exit 1 ;; esac\n'
SEES = (
    'case "$1" in --config) cat "$2/config.json" >"$STUBS/seen"; stat -c %a "$2/config.json" >"$STUBS/mode" ;; esac\n'
)


def pull(server: Server) -> Result:
    return server.run("pull", registry_login=LOGIN)


def left(server: Server) -> list[str]:
    """The files of the project and of Relève, logs included, that hold the account."""
    found = subprocess.run(
        ["grep", "-rlF", "-e", ACCOUNT, "-e", "s3cret", server.directory],
        check=False,
        capture_output=True,
        text=True,
    )
    return found.stdout.splitlines()


def test_the_image_is_pulled_with_the_account_and_it_is_gone_afterwards(server: Server) -> None:
    server.behave(ABSENT + SEES)
    result = pull(server)
    assert result.status == 0, result
    assert f"pulled {IMAGE} with the account" in result.output
    assert (server.stubs / "seen").read_text() == LOGIN
    assert (server.stubs / "mode").read_text() == "600\n"
    assert left(server) == []


def test_the_client_works_on_the_engine_that_the_user_works_on(server: Server) -> None:
    server.behave(ABSENT)
    server.answer("engine", "unix:///run/user/1000/docker.sock\n")
    assert pull(server).status == 0
    (call,) = [call for call in server.docker_calls("--config") if "pull" in call]
    assert call[2:] == ["--host", "unix:///run/user/1000/docker.sock", "pull", IMAGE]


def test_the_account_is_in_no_argument_and_in_no_message(server: Server) -> None:
    server.behave(ABSENT)
    result = pull(server)
    for text in (str(server.calls()), result.output, result.errors):
        assert "s3cret" not in text
        assert ACCOUNT not in text


def test_the_account_is_gone_when_the_pull_fails_and_the_message_names_its_keys(server: Server) -> None:
    server.behave(ABSENT + 'case "$*" in --config*pull*) echo "unauthorized" >&2; exit 1 ;; esac')
    result = pull(server)
    assert result.status == 1
    assert "unauthorized" in result.errors
    assert "registry.username and the secret registry.password" in result.errors
    assert left(server) == []


def test_without_an_account_a_failed_pull_names_both_ways_to_give_one(server: Server) -> None:
    server.behave(ABSENT + 'case "$*" in pull*) echo "unauthorized" >&2; exit 1 ;; esac')
    result = server.run("pull")
    assert result.status == 1
    assert "set registry.username" in result.errors
    assert "docker login registry.example:5000" in result.errors


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_the_account_is_gone_after_a_killed_pull_and_the_step_that_follows(server: Server, how: signal.Signals) -> None:
    server.behave(ABSENT + 'case "$*" in --config*pull*) touch "$STUBS/began"; exec sleep 2 ;; esac')
    step = server.start("pull", registry_login=LOGIN)
    deadline = time.monotonic() + 20
    while not (server.stubs / "began").exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert left(server) != []
    step.send_signal(how)
    step.wait(30)
    if how is signal.SIGTERM:
        assert left(server) == []
    server.behave("")
    assert server.run("pull").status == 0
    assert left(server) == []


def test_an_image_that_is_there_needs_no_account(server: Server) -> None:
    assert pull(server).status == 0
    assert server.docker_calls("--config") == []
    assert left(server) == []
