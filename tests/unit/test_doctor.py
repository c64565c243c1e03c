"""./releve doctor: each broken set-up is named with what to do about it, and a sound one is not."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import Any

import pytest

from configuration.load import load
from configuration.tree import Settings
from errors import ReleaseError
from operations import doctor
from operations import server as connection
from operations.doctor import Finding
from operations.server import NotReached
from operations.stack import Stack
from server.facts import Facts, Machine

pytestmark = pytest.mark.unit

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHJycnJycnJycnJycnJycnJycnJycnJycnJycnJycnJy"
GIB = 1 << 30
SOUND = Machine("3.11.2", "26.1.5", "2.26.1", 0, 100 * GIB, 50 * GIB, 4 * GIB, 2 * GIB)
FACTS = Facts(
    directory="/apps/shop", project="shop", release="", image="", since="", previous="", kept=(), busy="",
    interrupted=False, problem="", public=None, containers=(), history=(), backups=(), machine=SOUND,
    differences=None, database="postgres", databases=(), restoring="", refused="", unrollable=(), advice=(),
)  # fmt: skip


def settings(**more: Any) -> Settings:
    values: dict[str, Any] = {
        "releve:tag": "1.0",
        "releve:image": '{"repository": "127.0.0.1:1/shop"}',
        "releve:app": '{"directory": "/apps/shop", "services": ["web"]}',
        "releve:servers": f'[{{"name": "s1", "host": "192.0.2.1", "user": "deploy", "hostKey": "{KEY}"}}]',
    }
    return load(values | more, Path("Pulumi.test.yaml"))


def looked_at(facts: Facts | ReleaseError, monkeypatch: pytest.MonkeyPatch, **more: Any) -> list[Finding]:
    """What is found of a server that says this."""

    def ask(*_: Any) -> Facts:
        if isinstance(facts, ReleaseError):
            raise facts
        clock = facts.machine.clock or int(time.time())
        return dataclasses.replace(facts, machine=dataclasses.replace(facts.machine, clock=clock))

    monkeypatch.setattr(connection, "ask", ask)
    stack = Stack("prod", settings(**more), None)
    return list(doctor.the_server(stack, stack.settings.servers[0]))


def faults(findings: list[Finding]) -> list[Finding]:
    return [finding for finding in findings if finding.fault]


def test_a_sound_server_has_no_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    findings = looked_at(FACTS, monkeypatch)
    assert faults(findings) == []
    assert any("fit for every strategy" in finding.what for finding in findings)


ROLLING = {"releve:app": '{"directory": "/apps/shop", "services": ["web"], "strategy": "rolling"}'}
BROKEN: dict[str, tuple[Any, dict[str, Any], str, str]] = {
    "the server is away": (
        NotReached("the server s1 (192.0.2.1) cannot be reached: Connection refused", is_another=False),
        {}, "cannot be reached", "servers[].host",
    ),
    "the server is another": (
        NotReached("the server s1 (192.0.2.1) cannot be reached: it has another host key", is_another=True),
        {}, "another host key", "Compare its key",
    ),
    "no python": (
        ReleaseError("the server s1 cannot say what there is: install: The server has no command python3.\n"
                     "As root:  apt-get install python3 python3-yaml"),
        {}, "no command python3", "apt-get install python3",
    ),
    "docker may not be used": (
        ReleaseError("the server s1 cannot say what there is: facts: deploy may not use Docker.\n"
                     "As root:  usermod -aG docker deploy"),
        {}, "may not use Docker", "usermod",
    ),
    "the disk is full": (
        dataclasses.replace(SOUND, disk_free=GIB), {}, "an image and a dump may need 2 GiB", "docker image prune",
    ),
    "memory is short": (dataclasses.replace(SOUND, memory_free=1 << 20), {}, "beside the running release", "swap"),
    "the clock is wrong": (dataclasses.replace(SOUND, clock=1_000_000), {}, "off this machine's", "NTP"),
    "the directory is another user's": (
        {"refused": "deploy cannot write in /apps/shop.\nLet the user of servers[].user own the directory."},
        {}, "cannot write in /apps/shop.", "own the directory",
    ),
    "the Compose file cannot roll": (
        {"unrollable": ("it publishes a port.",)}, ROLLING, "app.strategy is rolling", "app.strategy: staged",
    ),
    "a rollout was interrupted": ({"interrupted": True}, {}, "one was interrupted", "pulumi up"),
    "a restore was interrupted": ({"restoring": "x.dump"}, {}, "was interrupted", "./releve restore x.dump"),
}  # fmt: skip


@pytest.mark.parametrize("broken", BROKEN)
def test_what_is_broken_is_named_with_its_remedy(broken: str, monkeypatch: pytest.MonkeyPatch) -> None:
    said, more, fault, remedy = BROKEN[broken]
    if isinstance(said, Machine):
        said = {"machine": said}
    found = faults(
        looked_at(dataclasses.replace(FACTS, **said) if isinstance(said, dict) else said, monkeypatch, **more)
    )
    assert len(found) == 1, found
    assert fault in found[0].fault
    assert remedy in found[0].remedy
    assert remedy


def test_what_is_unfit_for_rolling_is_no_fault_where_nobody_rolls(monkeypatch: pytest.MonkeyPatch) -> None:
    findings = looked_at(
        dataclasses.replace(FACTS, unrollable=("it publishes a port.", "nginx will be recreated, too.")), monkeypatch
    )
    assert faults(findings) == []
    said = [finding.what for finding in findings if "not for rolling" in finding.what]
    assert [what.partition(": ")[2] for what in said] == ["it publishes a port.", "nginx will be recreated, too."]


def test_what_rolling_should_have_is_advice_and_no_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    findings = looked_at(
        dataclasses.replace(FACTS, advice=("'web' has no stop_grace_period.",)), monkeypatch, **ROLLING
    )
    assert faults(findings) == []
    assert any(finding.what.endswith("'web' has no stop_grace_period.") for finding in findings)


def test_a_registry_that_does_not_answer_is_a_fault() -> None:
    (found,) = doctor.the_registry(Stack("prod", settings(), None))
    assert "127.0.0.1:1" in found.fault
    assert found.remedy


@pytest.mark.parametrize(
    ("script", "fault"),
    [(None, "it is not installed"), ("echo 'Cannot connect to the Docker daemon' >&2; exit 1", "Cannot connect")],
)
def test_a_machine_that_builds_needs_docker(
    script: str | None, fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, text in (("docker", script), ("pulumi", "echo v3.259.0"), ("git", ":"), ("ssh", ":"), ("ssh-add", ":")):
        if text is not None:
            (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
            (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("SSH_AUTH_SOCK", "/a/socket")
    source = {"releve:image": '{"repository": "127.0.0.1:1/shop", "source": {"path": "../shop"}}'}
    (found,) = faults(list(doctor.this_machine(Stack("staging", settings(**source), None))))
    assert fault in found.fault
    assert "This stack builds images" in found.remedy


@pytest.mark.parametrize("socket", [None, "/a/socket"])
def test_without_a_key_in_an_agent_nobody_logs_in(
    socket: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, text in (("pulumi", "echo v3.259.0"), ("ssh", ":"), ("ssh-add", "exit 1")):
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    if socket:
        monkeypatch.setenv("SSH_AUTH_SOCK", socket)
    else:
        monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    (found,) = faults(list(doctor.this_machine(Stack("prod", settings(), None))))
    assert "ssh-add" in found.remedy
