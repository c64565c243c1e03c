"""The plan as the component tells it: to people, to ./releve plan, and to whoever has approved another one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pulumi
import pulumi.runtime
import pytest
from pydantic import SecretStr

from components.plan import Announcement
from configuration.tree import Settings
from errors import ReleaseError
from release.plan import APPROVED, FILE
from tests.unit.test_plan import NEW, configured, state, target

pytestmark = pytest.mark.unit

SECRET = "correct-horse-battery"
KEY = {"urn:pulumi:prod::releve::pulumi:index:Stash::s1-env-key": {"outputs": {"output": "of the state"}}}


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is said in an `up`."""
    said: list[str] = []
    monkeypatch.setattr(pulumi, "get_stack", lambda: "prod")
    monkeypatch.setattr(pulumi.log, "info", said.append)
    monkeypatch.setattr(pulumi.runtime, "is_dry_run", lambda: False)
    return said


def settings(tag: str = "1.1", **app: Any) -> Settings:
    return configured(tag, **app).model_copy(update={"env": {"PASSWORD": SecretStr(SECRET)}})


def announce(wanted: Settings, before: dict[str, Any] | None = None, digest: str = NEW) -> None:
    Announcement(wanted, None, {**(before or state(target())), **KEY}).make(digest, None)


def approved(told: list[str]) -> str:
    announce(settings())
    fingerprint = told[-1].rpartition(f"{APPROVED}=")[2].split()[0]
    assert len(fingerprint) == 12
    return fingerprint


def on(wanted: Settings, **changes: Any) -> Settings:
    return wanted.model_copy(update={"servers": (wanted.servers[0].model_copy(update=changes),)})


OTHERS: dict[str, tuple[Settings, dict[str, Any] | None, str]] = {
    "another tag": (settings("1.2"), None, NEW),
    "another digest": (settings(), None, "sha256:" + "3" * 64),
    "another step": (settings(afterUp=[["rails", "task"]]), None, NEW),
    "another server": (on(settings(), host="192.0.2.9"), None, NEW),
    "another state": (settings(), state(target(configured("0.9"), digest="sha256:" + "9" * 64)), NEW),
}


@pytest.mark.parametrize("other", OTHERS)
def test_what_is_not_what_was_approved_is_refused_and_no_secret_is_told(
    other: str, told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    fingerprint = approved(told)
    monkeypatch.setenv(APPROVED, fingerprint)
    announce(settings())
    wanted, before, digest = OTHERS[other]
    with pytest.raises(ReleaseError, match=f"not what was approved: {APPROVED} is {fingerprint}") as refused:
        announce(wanted, before, digest)
    assert "Nothing was built or changed" in str(refused.value)
    assert SECRET not in "\n".join([*told, str(refused.value)])
    assert "env changed: " in told[-1]


def test_a_preview_refuses_nothing(told: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pulumi.runtime, "is_dry_run", lambda: True)
    monkeypatch.setenv(APPROVED, "0" * 12)
    announce(settings())
    assert "fingerprint" in told[-1]


def test_the_plan_is_written_for_programs_where_one_asks_for_it(
    told: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(FILE, str(tmp_path / "plan.json"))
    fingerprint = approved(told)
    written = (tmp_path / "plan.json").read_text()
    document = json.loads(written)
    assert document["fingerprint"] == fingerprint
    assert document["servers"][0]["steps"][-4:] == ["pull", "precompile", "up", "purge"]
    assert f"plan\n{document['text']}" == told[-1]
    assert SECRET not in written
