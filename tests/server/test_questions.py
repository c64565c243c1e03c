"""How often the application is asked, and what becomes of one that asks to be left alone."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable

import pytest

from server.request import Check
from tests.server.http_server import WELL, Asked, Pieces, response
from tests.server.server import Server
from tests.server.test_health_gate import let_server_know_process
from tests.server.test_staged import history, prepare, run


@pytest.fixture
def prepared(server: Server) -> Server:
    return prepare(server)


TOO_MANY = response(429, "Slow down", "Retry-After: 1", reason="Too Many Requests")
UNAVAILABLE = response(503, "Starting", "Retry-After: 1", reason="Service Unavailable")


def asked(server: Server, path: str = "/health") -> list[Asked]:
    return [it for it in server.application.asked if it.target == path]


def answering_after(server: Server, times: int, before: Pieces) -> Callable[[Asked], Pieces]:
    """The application answers well, but for its first answers."""
    return lambda _: before if len(server.application.asked) <= times else WELL


@pytest.mark.parametrize("answer", [response(500, "no"), response(404, "no"), UNAVAILABLE, TOO_MANY])
def test_who_answers_is_asked_once_a_second_while_the_answer_is_not_the_wanted_one(
    server: Server, answer: bytes
) -> None:
    assert server.run("stop").status == 0
    server.application.answer = answer
    result = server.run("verify", timeout=3)
    assert result.status == 1
    assert f"answers {answer[9:12].decode()}, not 200" in result.errors
    assert 2 <= len(asked(server)) <= 4


@pytest.mark.parametrize("answer", [UNAVAILABLE, TOO_MANY])
def test_who_asks_to_be_left_alone_is_asked_again_later(server: Server, answer: bytes) -> None:
    assert server.run("stop").status == 0
    server.application.answer = answering_after(server, 2, answer)
    result = server.run("verify", timeout=9)
    assert result.status == 0, result
    assert len(asked(server)) == 3


def test_a_release_is_asked_once_a_second_while_it_is_watched_and_measured(prepared: Server) -> None:
    result = run(prepared, "up", health=prepared.health(settle=4))
    assert result.status == 0, result
    # Before, once again when it has taken over, and once a second of four: by whomever.
    assert 5 <= len(asked(prepared)) <= 9


def test_a_release_is_asked_less_often_where_that_is_wanted(prepared: Server) -> None:
    result = run(prepared, "up", health=prepared.health(settle=4, interval=30))
    assert result.status == 0, result
    assert len(asked(prepared)) <= 3


@pytest.mark.parametrize("answer", [UNAVAILABLE, TOO_MANY])
def test_a_release_that_asks_to_be_left_alone_while_it_is_watched_is_not_down(prepared: Server, answer: bytes) -> None:
    prepared.application.answer = lambda _: WELL if len(prepared.application.asked) <= 3 else answer
    result = run(prepared, "up", health=prepared.health(settle=6))
    assert result.status == 0, result
    assert "the site did not answer for 0.0 s" in result.output


def test_a_release_that_answers_with_an_error_while_it_is_watched_is_down(prepared: Server) -> None:
    prepared.application.answer = lambda _: WELL if len(prepared.application.asked) <= 3 else response(500, "no")
    result = run(prepared, "up", timeout=4, health=prepared.health(settle=8))
    assert result.status == 1
    assert "was healthy and no longer is" in result.errors
    assert "answers 500, not 200" in result.errors


CHECK = Check("/status?full=1", contains=('"redis":true',), headers={"X-Token": "abc"})


def test_further_pages_are_asked_for_when_the_first_one_answers_and_at_the_end(prepared: Server) -> None:
    prepared.application.answer = lambda it: response(200, '{"redis":true}') if "full" in it.target else WELL
    result = run(prepared, "up", health=prepared.health(settle=2, checks=(CHECK,), headers={"X-Probe": "b"}))
    assert result.status == 0, result
    first, second = asked(prepared, CHECK.path)
    assert first.headers["x-token"] == second.headers["x-token"] == "abc"
    assert first.headers["x-probe"] == "b"
    targets = [it.target for it in prepared.application.asked]
    assert targets[: targets.index(CHECK.path)].count("/health") >= 1
    assert targets[-1] == CHECK.path or targets[-2] == CHECK.path


@pytest.mark.parametrize("seconds", [2, 60])
def test_a_further_page_waits_for_a_moment_without_other_requests(server: Server, seconds: int) -> None:
    prepare(server)
    let_server_know_process(server, os.getpid())
    arrived: list[bool] = []

    def answer(it: Asked) -> Pieces:
        if it.target == CHECK.path:
            arrived.append(others.poll() is None)
        return response(200, '{"redis":true}')

    server.application.answer = answer
    program = (
        "import socket, sys, time; it = socket.create_connection(('127.0.0.1', int(sys.argv[1]))); "
        "time.sleep(int(sys.argv[2]))"
    )
    with subprocess.Popen([sys.executable, "-c", program, str(server.application.port), str(seconds)]) as others:
        try:
            result = run(server, "up", timeout=20, health=server.health(settle=1, checks=(CHECK,)))
        finally:
            others.kill()
    assert result.status == 0, result
    # One that lasts is not waited for at the end: then the release has been seen to be well once.
    assert arrived == ([False, False] if seconds == 2 else [True])
    assert ("did not ask for /status?full=1 again" in result.output) == (seconds == 60)


@pytest.mark.parametrize(("settle", "good"), [(0, 0), (1, 1)])
def test_a_release_whose_further_page_is_not_as_wanted_is_put_back(server: Server, settle: int, good: int) -> None:
    server.answer("running", "sha256:old")
    prepare(server)

    def answer(it: Asked) -> Pieces:
        is_good = "full" not in it.target or len(asked(server, CHECK.path)) <= good
        return response(200, '{"redis":true}') if is_good else response(200, '{"redis":false}')

    server.application.answer = answer
    result = run(server, "up", health=server.health(settle=settle, checks=(CHECK,)))
    assert result.status == 1, result
    assert "/status?full=1 answers 200, but without '\"redis\":true'" in result.errors
    assert history(server)[-1]["result"] == "restored"
    assert len(asked(server, CHECK.path)) == good + 1
