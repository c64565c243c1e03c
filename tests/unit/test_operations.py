"""How the commands of operations/ reach a server: with the rollouts' user, keys and checks."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from pydantic import SecretStr

from configuration.tree import JumpSettings, ServerSettings
from operations import server
from operations.stack import PROJECT
from release.program import Program
from server.request import Request, StepName, load

pytestmark = pytest.mark.unit

HOST_KEY = "ssh-ed25519 AAAAserver"


def settings(private_key: SecretStr | None = None, jump: JumpSettings | None = None) -> ServerSettings:
    return ServerSettings.model_construct(
        name="s",
        host="fab.example.org",
        port=2222,
        user="deploy",
        host_key=HOST_KEY,
        private_key=private_key,
        jump=jump,
    )


def test_only_the_configured_host_key_is_trusted(tmp_path: Path) -> None:
    words = server.ssh_command(settings(), tmp_path)
    assert words[-1] == "deploy@fab.example.org"
    assert words[words.index("-p") + 1] == "2222"
    assert "StrictHostKeyChecking=yes" in words
    assert f"UserKnownHostsFile={tmp_path}/known_hosts" in words
    assert f"[fab.example.org]:2222 {HOST_KEY}" in (tmp_path / "known_hosts").read_text().splitlines()


def test_a_private_key_is_a_file_of_its_own_for_a_moment_and_for_nobody_else(tmp_path: Path) -> None:
    words = server.ssh_command(settings(private_key=SecretStr("KEY")), tmp_path)
    assert f"IdentityFile={tmp_path}/key" in words
    assert "IdentityAgent=none" in words
    assert (tmp_path / "key").read_text() == "KEY\n"
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600
    assert all("KEY" not in word for word in words)


def test_a_jump_host_is_checked_and_gone_through(tmp_path: Path) -> None:
    jump = JumpSettings.model_construct(host="gate.example.org", port=22, user="guest", host_key="ssh-ed25519 AAAAgate")
    words = server.ssh_command(settings(jump=jump), tmp_path)
    (proxy,) = [word for word in words if word.startswith("ProxyCommand=")]
    assert proxy.endswith("-p 22 -W %h:%p guest@gate.example.org")
    assert "StrictHostKeyChecking=yes" in proxy
    assert "gate.example.org ssh-ed25519 AAAAgate" in (tmp_path / "known_hosts").read_text().splitlines()


@pytest.fixture
def login(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An `ssh` that stays here: it hands its last argument to a shell, as sshd does."""
    ssh = tmp_path / "bin" / "ssh"
    ssh.parent.mkdir()
    ssh.write_text('#!/bin/sh\nfor last; do :; done\nexec sh -c "$last"\n')
    ssh.chmod(0o755)
    monkeypatch.setenv("PATH", f"{ssh.parent}:{Path(sys.executable).parent}:/usr/bin:/bin")


def test_a_step_is_run_by_the_program_of_this_checkout_with_its_request(login: None, tmp_path: Path) -> None:
    # A blank and a quote: the words arrive as they are.
    asked = Request(directory=f"{tmp_path}/the app's", services=("web",), limits={})
    program = Path(Program.read(PROJECT / "server").path(asked.directory))
    program.mkdir(parents=True)
    script = "import pathlib, sys; pathlib.Path(sys.argv[0], sys.argv[1]).write_text(sys.stdin.read()); sys.exit(7)"
    (program / "__main__.py").write_text(script)
    assert server.run_step(settings(), StepName.DUMP, asked) == 7
    assert load((program / "dump").read_text()) == asked


def test_what_is_missing_without_the_program_is_said_with_the_command_for_it(
    login: None, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    asked = Request(directory=str(tmp_path), services=("web",), limits={})
    assert server.run_step(settings(), StepName.DUMP, asked) == 1
    said = capfd.readouterr().err
    assert "is not on the server" in said
    assert "pulumi up --replace '**-install'" in said
