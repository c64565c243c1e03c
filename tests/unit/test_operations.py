"""The commands of ./releve: how they reach a server, with the rollouts' user, keys and checks; and what they print."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from click.testing import Result as ClickResult
from pydantic import SecretStr

from configuration.tree import JumpSettings, ServerSettings
from operations import server
from operations import stack as stacks
from operations.__main__ import releve
from operations.stack import PROJECT, Stack
from release.program import Program
from server.facts import Backup
from server.request import Request, StepName, load
from tests.unit.test_doctor import FACTS
from tests.unit.test_plan import configured

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


def test_a_connection_that_ends_before_the_step_is_explained(
    login: None, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    asked = Request(directory=str(tmp_path), services=("web",), limits={})
    program = Path(Program.read(PROJECT / "server").path(asked.directory))
    program.mkdir(parents=True)
    (program / "__main__.py").write_text(f"raise SystemExit({server.NOT_REACHED})")
    assert server.run_step(settings(), StepName.RESTORE, asked) == server.NOT_REACHED
    assert "has ended, and restore had not" in capfd.readouterr().err


@pytest.mark.parametrize(("answer", "runs"), [("1.1\n", True), ("yes\n", False), ("", False)])
def test_a_restore_asks_for_the_releases_name(answer: str, *, runs: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    run: list[StepName] = []
    backup = Backup("20260101T000000Z-on-demand.dump", 1, "2026-01-01T00:00:00Z")
    stack = Stack("prod", configured("1.1"), None)
    monkeypatch.setattr(stacks, "load", lambda _: stack)
    monkeypatch.setattr(server, "ask", lambda *_: dataclasses.replace(FACTS, backups=(backup,)))

    def run_step(_server: ServerSettings, step: StepName, _asked: Request) -> int:
        run.append(step)
        return 0

    monkeypatch.setattr(server, "run_step", run_step)
    CliRunner().invoke(releve, ["restore", backup.name], input=answer)
    assert run == ([StepName.RESTORE] if runs else [])


def test_what_is_missing_without_the_program_is_said_with_the_command_for_it(
    login: None, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    asked = Request(directory=str(tmp_path), services=("web",), limits={})
    assert server.run_step(settings(), StepName.DUMP, asked) == 1
    said = capfd.readouterr().err
    assert "is not on the server" in said
    assert "pulumi up --replace '**-install'" in said


COMPLETES = """
eval "$(./releve completion bash)"
complete_words() {
    COMPREPLY=() COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
    _releve_completion ./releve
    echo "${COMPREPLY[*]}"
}
complete_words ./releve dr
complete_words ./releve history --s
complete_words ./releve status --stack sta
"""


def test_a_shell_completes_commands_options_and_stacks() -> None:
    done = subprocess.run(["bash", "-c", COMPLETES], cwd=PROJECT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["drift", "--stack --server", "staging"], done


def test_every_command_that_reports_does_so_in_json_too() -> None:
    reporting = {"plan", "status", "drift", "history", "backups", "doctor"}
    for name in reporting:
        command = releve.get_command(click.Context(releve), name)
        assert "--json" in [option for parameter in command.params for option in parameter.opts], name


def preview(script: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *options: str) -> ClickResult:
    """What ./releve plan makes of a `pulumi preview` that is this script."""
    (tmp_path / "pulumi").write_text(f"#!/bin/sh\n{script}\n")
    (tmp_path / "pulumi").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    return CliRunner().invoke(releve, ["plan", "--stack", "prod", *options])


PLANS = """printf '{"stack": "prod", "fingerprint": "abc", "text": "the plan"}' >"$RELEVE_PLAN_FILE"
echo '{"diagnostics": [{"severity": "warning", "message": "warning: look"}, {"severity": "info", "message": "x"}]}'
"""


def test_the_plan_of_a_preview_is_printed_with_its_warnings_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert preview(PLANS, tmp_path, monkeypatch).output == "the plan\nwarning: look\n"
    told = json.loads(preview(PLANS, tmp_path, monkeypatch, "--json").output)
    assert told == {"stack": "prod", "fingerprint": "abc", "warnings": ["look"]}


def test_a_preview_that_fails_gives_its_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = """echo '{"diagnostics": [{"severity": "error", "message": "error: no such tag"}]}'; exit 255"""
    done = preview(script, tmp_path, monkeypatch)
    assert done.exit_code == 1
    assert done.output == "Error: the preview of prod fails: no such tag\n"
