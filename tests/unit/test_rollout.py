"""What the component of one server's rollout decides by itself."""

from __future__ import annotations

import pwd

import pytest

from components.rollout import actor

pytestmark = pytest.mark.unit


def test_whoever_rolls_out_has_a_name_even_without_an_account(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container of CI that runs under a number."""
    for name in ("GITHUB_ACTOR", "GITLAB_USER_LOGIN", "LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)

    def unknown(_: int) -> None:
        raise KeyError("getpwuid(): uid not found")

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    monkeypatch.setattr("os.getuid", lambda: 54321)
    assert actor().startswith("uid54321@")
