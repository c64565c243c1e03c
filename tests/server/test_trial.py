"""The strategy rolling: a release that has not served here is tried first, in a container that no proxy finds."""

from __future__ import annotations

import pytest

from tests.server.http_server import Asked, Pieces, response
from tests.server.server import MakeServer, Server
from tests.server.test_rolling import ADDRESS, ADDRESSES, CONTAINERS, NEW, OLD, events, prepare, run


@pytest.fixture
def prepared(new_server: MakeServer) -> Server:
    server = new_server(addresses=ADDRESSES)
    server.answer("running", "sha256:old")
    return prepare(server)


def only_the_old_one_answers(asked: Asked) -> Pieces:
    return response() if asked.address == ADDRESS[OLD] else response(500, "no", reason="Internal Server Error")


def test_a_trial_that_fails_changes_nothing_and_leaves_no_container(prepared: Server) -> None:
    prepared.application.answer = only_the_old_one_answers
    left = 'case "$*" in *"name=releve-"*-trial) echo deadbeef; exit ;; esac\n'
    prepared.behave(left + CONTAINERS)
    result = run(prepared, "up", limits={"gate": 2})
    assert result.status == 1, result
    assert "answers 500, not 200" in result.errors
    assert "was put back; it runs and answers on its own address" in result.errors
    assert f"start {NEW}" not in events(prepared)
    assert f"stop {OLD}" not in events(prepared)
    # Its label is how it is found, and that of all one-off containers is the same.
    assert any("label=releve.project=" in word for call in prepared.docker_calls("ps", "-aq") for word in call)


def test_what_the_application_said_in_a_trial_that_fails_is_in_the_error(prepared: Server) -> None:
    prepared.application.answer = only_the_old_one_answers
    said = 'case "$*" in "logs "*-trial) echo "puma: the database has no table" >&2; exit ;; esac\n'
    prepared.behave(said + CONTAINERS)
    result = run(prepared, "up", limits={"gate": 2})
    assert result.status == 1, result
    # `docker compose logs` shows no one-off container.
    assert "puma: the database has no table" in result.errors


def test_the_log_file_of_a_trial_that_fails_is_in_the_error(prepared: Server) -> None:
    prepared.application.answer = only_the_old_one_answers
    (prepared.stubs / "log").mkdir()
    (prepared.stubs / "log/puma.log").write_text("puma: boom\n")
    said = 'case "$*" in "cp -L "*-trial:/app/log/puma.log" -") exec tar -c -C "$STUBS/log" puma.log ;; esac\n'
    prepared.behave(said + CONTAINERS)
    health = prepared.health(log_files=("/app/log/puma.log",))
    result = run(prepared, "up", limits={"gate": 2}, health=health)
    assert result.status == 1, result
    assert "puma: boom" in result.errors
