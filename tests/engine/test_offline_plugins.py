"""What is asked of the offline plugins beyond the vendor's: they end when they should, and say what they do not do."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from tests.engine.harness import WAIT_SECONDS, Engine, Stack, kill, wait_until
from tests.engine.plugin import Plugin, running
from tests.engine.sshd import Server
from tools.offline_plugins.docker_login import docker_login

pytestmark = pytest.mark.engine

URN = "urn:pulumi:dev::contract::command:local:Command::step"


@pytest.fixture
def command(offline: Engine, tmp_path: Path) -> Iterator[Plugin]:
    executable = next(offline.home.glob("plugins/*/pulumi-resource-command"))
    with running(executable, tmp_path, dict(offline.environment)) as plugin:
        yield plugin


def test_a_long_line_does_not_hang_a_step_that_is_logged(offline: Engine, server: Server, tmp_path: Path) -> None:
    stack = Stack(offline, tmp_path, {"CONTRACT_SERVER": json.dumps(server.with_key)})
    program = "command.remote.Command('step', connection=SERVER, create='head -c 300000 /dev/zero | tr \\\\\\\\0 x')"
    assert stack.up(program).succeeded
    assert stack.resource("step").outputs["stdout"] == "x" * 300_000


def test_cancelling_ends_a_running_command_and_whatever_it_started(command: Plugin, tmp_path: Path) -> None:
    errors: list[grpc.RpcError] = []

    def create() -> None:
        try:
            properties = {"create": f"sleep 60 & echo $! >{tmp_path}/pid; wait"}
            command.call("Create", {"urn": URN, "name": "step", "properties": properties})
        except grpc.RpcError as error:
            errors.append(error)

    operation = threading.Thread(target=create)
    operation.start()
    pid = tmp_path / "pid"
    wait_until(lambda: pid.exists() and bool(pid.read_text()), "the command runs")
    command.call("Cancel", {})
    operation.join(timeout=WAIT_SECONDS)
    assert len(errors) == 1
    wait_until(lambda: not _runs(int(pid.read_text())), "the command is gone")


def test_a_killed_engine_leaves_no_plugin_behind(offline: Engine, tmp_path: Path) -> None:
    command = "echo $$ $PPID >pids; exec sleep 60"
    stack = Stack(offline, tmp_path)
    pids = tmp_path / "pids"
    with stack.running_up(f"command.local.Command('step', create={command!r})") as update:
        wait_until(lambda: pids.exists() and bool(pids.read_text()), "the step runs")
        update.send_signal(signal.SIGKILL)
        update.communicate(timeout=WAIT_SECONDS)
    try:
        wait_until(lambda: not any(map(_runs, map(int, pids.read_text().split()))), "plugin and command are gone")
    finally:
        kill(int(pids.read_text().split()[0]))


def test_what_is_not_implemented_names_the_vendors_plugin(command: Plugin) -> None:
    with pytest.raises(grpc.RpcError) as raised:
        command.call("Check", {"urn": URN, "type": "command:remote:CopyToRemote", "news": {}})
    assert "pulumi plugin install resource command v1.2.1" in str(raised.value)
    with pytest.raises(grpc.RpcError) as raised:
        command.call("Check", {"urn": URN, "type": "command:local:Command", "news": {"assetPaths": ["x"]}})
    assert "assetPaths" in str(raised.value)


def test_progress_is_shown_line_by_line_unless_it_is_not_wanted(command: Plugin) -> None:
    properties = {"create": "echo one; echo two >&2; echo three", "logging": "stdout"}
    command.call("Create", {"urn": URN, "name": "step", "properties": properties})
    assert command.messages == ["one", "three"]
    properties["logging"] = "none"
    command.call("Create", {"urn": URN, "name": "step", "properties": properties})
    assert command.messages == ["one", "three"]


def test_credentials_of_the_program_are_added_to_the_users_and_gone_afterwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = {"auths": {"other.example": {"auth": "b3du"}}, "credsStore": "desktop"}
    (tmp_path / "config.json").write_text(json.dumps(own))
    (tmp_path / "contexts").mkdir()
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    registry = {"server": "https://registry.example/v2", "username": "name", "password": "word"}
    with docker_login("registry.example/app:1", registry) as environment:
        directory = Path(environment["DOCKER_CONFIG"])
        merged = json.loads((directory / "config.json").read_text())
        assert (directory / "contexts").is_dir()
    assert merged["auths"] == {"other.example": {"auth": "b3du"}, "registry.example": {"auth": "bmFtZTp3b3Jk"}}
    assert merged["credHelpers"] == {"registry.example": ""}
    assert not directory.exists()
    assert json.loads((tmp_path / "config.json").read_text()) == own


def _runs(pid: int) -> bool:
    """Whether a process is there and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
