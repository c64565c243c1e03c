"""How the commands of operations/ reach a server: with the rollouts' user, keys and checks."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import SecretStr

from configuration.tree import JumpSettings, ServerSettings
from operations import server

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
