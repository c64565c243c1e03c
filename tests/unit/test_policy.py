"""Rules of the policy pack, where the engine shows less than they know."""

import pytest

from policy.rules import LOCAL, REMOTE, Resource, no_latest, no_secret_in_text, remote_commands

pytestmark = pytest.mark.unit

STEP = {"connection": {"host": "fab.example.org", "hostKey": "ssh-ed25519 AAAA"}, "triggers": ["1.0"]}
UNKNOWN = "04da6b54-80e4-46f7-96ec-b56ff0331ba9"
SECRET = {"4dabf18193072939515e22adb298388d": "1b47061264138c4ac30d75fd1eb44270", "value": "x"}


def test_an_environment_is_refused_which_a_plugin_may_do_before() -> None:
    (what,) = remote_commands(Resource(REMOTE, "step", {**STEP, "environment": {"NAME": "value"}}))
    assert what.startswith("it has `environment`")


def test_what_is_not_known_before_the_update_is_no_violation() -> None:
    unknown = {"create": UNKNOWN, "stdin": UNKNOWN, "triggers": UNKNOWN, "connection": STEP["connection"]}
    for check in (no_latest, remote_commands, no_secret_in_text):
        assert list(check(Resource(REMOTE, "step", unknown))) == []


def test_a_connection_that_is_a_secret_as_a_whole_is_looked_into() -> None:
    secret = {**SECRET, "value": {"host": "fab.example.org"}}
    (what,) = remote_commands(Resource(REMOTE, "step", {**STEP, "connection": secret}))
    assert what.startswith("the host key of fab.example.org is not given")


def test_a_tag_that_only_begins_like_latest_is_another_one() -> None:
    assert list(no_latest(Resource(LOCAL, "step", {"create": "docker run app:latest-2026"}))) == []


def test_a_secret_in_the_command_of_an_update_or_removal_is_found_as_well() -> None:
    found = list(no_secret_in_text(Resource(LOCAL, "step", {"create": "x", "update": SECRET, "delete": SECRET})))
    assert [what.split("`")[1] for what in found] == ["update", "delete"]
