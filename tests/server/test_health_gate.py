"""verify: the right image, running, and answering as wanted; the application's own words where it is not."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
import time
from typing import Any

import pytest

from tests.server.http_server import NEVER, NOTHING, WELL, Answer, Asked, Pieces, response
from tests.server.server import IMAGE, MakeServer, Result, Server, container_state, side_by_side


@pytest.fixture
def released(server: Server) -> Server:
    assert server.run("stop").status == 0
    return server


def verify(server: Server, *, timeout: int = 1, **health: Any) -> Result:
    return server.run("verify", timeout=timeout, health=server.health(**health))


def test_the_container_is_asked_as_the_proxy_would_ask_it(released: Server) -> None:
    # Nor does a proxy of the login's come between.
    released.environment |= {"http_proxy": "http://127.0.0.1:1", "HTTP_PROXY": "http://127.0.0.1:1"}
    result = verify(released, url="https://shop.example:8443/x", headers={"X-Probe": "a b"}, timeout=9)
    assert result.status == 0, result
    (asked,) = released.application.asked
    assert (asked.method, asked.target) == ("GET", "/health")
    expected = {"host": "shop.example:8443", "x-forwarded-proto": "https", "x-probe": "a b"}
    assert {name: asked.headers[name] for name in expected} == expected


def test_a_configured_header_wins_over_the_one_taken_from_the_url(released: Server) -> None:
    verify(released, url="https://shop.example", headers={"host": "other.example"}, timeout=9)
    (asked,) = released.application.asked
    assert asked.headers["host"] == "other.example"


def chunked(*chunks: str) -> list[bytes]:
    """A body in chunks, each of which is sent alone."""
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    return [head, *(f"{len(chunk.encode()):x}\r\n{chunk}\r\n".encode() for chunk in chunks), b"0\r\n\r\n"]


def pausing(pieces: list[bytes], seconds: float = 0.1) -> list[bytes | float]:
    return [part for piece in pieces for part in (piece, seconds)]


MIB = 1 << 20
HELD = 30.0
"""Seconds for which a connection stays open after the answer: nobody may wait for its end."""

WRONG_ANSWERS: dict[str, tuple[Answer, dict[str, Any], str]] = {
    "nothing": (NOTHING, {}, "no answer from {url}/health"),
    "not http": (b"garbage", {}, "no answer from {url}/health"),
    "garbage without an end": ((b"\0\xff" * 70_000, HELD), {}, "no answer from {url}/health"),
    "the connection is accepted, and that is all": (NEVER, {}, "no answer from {url}/health"),
    "headers without an end": ((b"HTTP/1.1 200 OK\r\nX: y\r\n", HELD), {}, "no answer from {url}/health"),
    "another status": (b"HTTP/1.1 500 Oops\r\n\r\nsorry", {}, "answers 500, not 200"),
    "a redirect": (
        b"HTTP/1.1 301 Moved\r\nLocation: https://shop.example/health\r\n\r\n",
        {},
        "answers 301, with a redirect to https://shop.example/health, not 200",
    ),
    "a string missing": (
        b"HTTP/1.1 200 OK\r\n\r\n{}",
        {"contains": ('"redis":true',)},
        "answers 200, but without '\"redis\":true'",
    ),
    "in the headers only": (b"HTTP/1.1 200 OK\r\nX: a.c\r\n\r\nabc", {"contains": ("a.c",)}, "but without 'a.c'"),
    "no pattern": (b"HTTP/1.1 200 OK\r\n\r\nab", {"contains": ("*",)}, "but without '*'"),
    "one of two": (b"HTTP/1.1 200 OK\r\n\r\nab", {"contains": ("ab", "[a]")}, "but without '[a]'"),
    "a header that looks like an informational answer": (
        (response(503, b"", "Retry-After: 120", reason="Service Unavailable"), HELD),
        {},
        "answers 503, not 200",
    ),
    "no content": ((b"HTTP/1.1 204 No Content\r\n\r\n", HELD), {}, "answers 204, not 200"),
    "beyond the first MiB of the body": (
        response(200, "x" * MIB + "late"),
        {"contains": ("xlate",)},
        "but without 'xlate'",
    ),
    "between two chunks": (chunked("on", "e"), {"contains": ("on\r\ne",)}, "but without 'on"),
}


@pytest.fixture(scope="module")
def results(table_server: MakeServer) -> dict[str, tuple[str, Result]]:
    """The address and the results of all wrong answers: each lasts until its time is over."""
    servers = {case: table_server() for case in WRONG_ANSWERS}

    def run(case: str) -> tuple[str, Result]:
        server = servers[case]
        assert server.run("stop").status == 0
        server.application.answer, changes, _ = WRONG_ANSWERS[case]
        return server.application.url, verify(server, timeout=4, **changes)

    return side_by_side(run, WRONG_ANSWERS, at_once=len(WRONG_ANSWERS))


@pytest.mark.parametrize("case", WRONG_ANSWERS)
def test_another_answer_fails_when_the_time_is_over(results: dict[str, tuple[str, Result]], case: str) -> None:
    url, result = results[case]
    message = WRONG_ANSWERS[case][2].format(url=url) if "{url}" in WRONG_ANSWERS[case][2] else WRONG_ANSWERS[case][2]
    assert result.status == 1
    assert message in result.errors
    assert "The time allowed for this, 4 s, is over" in result.errors


BODY = '{"status": "ok [*]"}'
EARLY_HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"

GOOD_ANSWERS: dict[str, tuple[Pieces, dict[str, Any]]] = {
    "in one piece": (f"HTTP/1.1 200 OK\r\nServer: puma\r\n\r\n{BODY}\r\n\r\nmore".encode(), {}),
    "after early hints": (EARLY_HINTS + f"HTTP/1.1 200 OK\r\n\r\n{BODY}more".encode(), {}),
    "after early hints, twice, each alone": (
        pausing([EARLY_HINTS, EARLY_HINTS, response(200, BODY + "more")]),
        {},
    ),
    "over the HTTP of old": (f"HTTP/1.0 200 OK\r\n\r\n{BODY}more".encode(), {}),
    "a length that looks like an informational status": ((response(200, f"{BODY}more{'.' * 109}"), HELD), {}),
    "on a connection that stays open": ((response(200, BODY + "more"), HELD), {}),
    "in chunks": (b"".join(chunked(BODY, "more")), {}),
    "in chunks, one after the other": (pausing(chunked(BODY, "mo", "re")), {}),
    "in chunks, on a connection that stays open": ((*chunked(BODY + "more"), HELD), {}),
    "byte by byte": (pausing([bytes([byte]) for byte in response(200, BODY + "more")], 0.005), {}),
    "with a body of 3 MiB": (response(200, BODY + "more" + "x" * 3 * MIB), {}),
    "with a body that is shorter than it says": (
        b"HTTP/1.1 200 OK\r\nContent-Length: 999999999999\r\n\r\n" + f"{BODY}more".encode(),
        {},
    ),
    "without content": ((b"HTTP/1.1 204 No Content\r\n\r\n", HELD), {"status": 204, "contains": ()}),
    "not modified": (
        (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\n\r\n", HELD),
        {"status": 304, "contains": ()},
    ),
    "an error, where one is wanted": (
        (response(503, BODY + "more", "Retry-After: 120", reason="Service Unavailable"), HELD),
        {"status": 503},
    ),
    "letters beyond ASCII": (response(200, BODY + "more café"), {"contains": ("café", "more")}),
}  # fmt: skip


@pytest.fixture(scope="module")
def good_results(table_server: MakeServer) -> dict[str, Result]:
    """The results of all good answers."""
    servers = {case: table_server() for case in GOOD_ANSWERS}

    def run(case: str) -> Result:
        server = servers[case]
        assert server.run("stop").status == 0
        server.application.answer, changes = GOOD_ANSWERS[case]
        return verify(server, timeout=9, **{"contains": ('"ok [*]"', "more"), **changes})

    return side_by_side(run, GOOD_ANSWERS)


@pytest.mark.parametrize("case", GOOD_ANSWERS)
def test_strings_are_searched_in_the_body_as_they_are_however_it_arrives(
    good_results: dict[str, Result], case: str
) -> None:
    assert good_results[case].status == 0, good_results[case]


def test_the_address_is_polled_until_it_answers(released: Server) -> None:
    released.application.answer = lambda _: NOTHING if len(released.application.asked) <= 3 else WELL
    assert verify(released, timeout=9).status == 0
    assert len(released.application.asked) == 4


@pytest.mark.parametrize("status", ["exited", "restarting", "created"])
def test_a_container_that_does_not_run_fails_at_once(released: Server, status: str) -> None:
    released.answer("state", container_state(status))
    began = time.monotonic()
    result = verify(released, timeout=30)
    assert time.monotonic() - began < 10
    assert result.status == 1
    assert f"Not running: /shop-web-1 {status}" in result.errors


def test_a_container_that_restarts_while_it_is_asked_fails_at_once(released: Server) -> None:
    released.application.answer = NOTHING
    released.behave(
        'state_of() { date +%N >>"$STUBS/asked"; echo "running $(wc -l <"$STUBS/asked") today sha256:wanted 0"; }'
    )
    began = time.monotonic()
    result = verify(released, timeout=30)
    assert time.monotonic() - began < 10
    assert result.status == 1
    assert "A container stopped or was started again" in result.errors


def test_that_docker_had_no_time_left_to_answer_is_not_taken_for_a_container_that_is_gone(released: Server) -> None:
    released.application.answer = response(500, "sorry")
    # Once the application has answered.
    released.behave('case "$*" in "inspect "*) ! grep -q application "$STUBS/record" || { sleep 30; exit 1; } ;; esac')
    result = verify(released, timeout=3)
    assert result.status == 1
    assert "answers 500, not 200" in result.errors


def test_a_question_that_the_deadline_cuts_short_does_not_hide_the_answer_before_it(released: Server) -> None:
    released.application.answer = lambda _: response(500, "sorry") if len(released.application.asked) == 1 else NEVER
    result = verify(released, timeout=3)
    assert result.status == 1
    assert "answers 500, not 200" in result.errors


def let_server_know_process(server: Server, process: int) -> None:
    """The container's process is recognised by its id in the name of the control group; a colon is in all of these."""
    server.answer("project", "web running :\n")
    server.behave("name_of() { echo shop-web-1; }")
    server.answer("state", container_state(process=process))


def test_docker_is_asked_about_a_container_again_only_when_its_process_is_gone(released: Server) -> None:
    process = subprocess.Popen(["sleep", "60"])

    def answer(_: Asked) -> Pieces:
        if len(released.application.asked) == 5:
            released.answer("state", container_state("exited"))
            process.kill()
        return NOTHING

    try:
        let_server_know_process(released, process.pid)
        released.application.answer = answer
        threading.Thread(target=process.wait, daemon=True).start()  # a process that nobody waits for is still there
        result = verify(released, timeout=30)
    finally:
        process.kill()
    assert result.status == 1
    assert "A container stopped or was started again: /shop-web-1 exited" in result.errors
    # How it is, where it is, and how it is after its end.
    assert len(released.docker_calls("inspect")) <= 3


@pytest.mark.skipif(
    subprocess.run(["unshare", "-rn", "true"], check=False, capture_output=True).returncode != 0
    if shutil.which("unshare")
    else True,
    reason="no network of its own can be made here",
)
def test_while_nobody_listens_in_the_container_it_is_asked_once_a_second(released: Server) -> None:
    released.application.answer = NOTHING
    let_server_know_process(released, os.getpid())
    assert verify(released, timeout=2).status == 1
    while_listening = len(released.application.asked)
    released.application.asked.clear()
    # What answers is not in the network of this process, as with gVisor.
    process = subprocess.Popen(["unshare", "-rn", "sleep", "60"])
    try:
        let_server_know_process(released, process.pid)
        result = verify(released, timeout=2)
    finally:
        process.kill()
        process.wait()
    assert f"no answer from {released.application.url}/health" in result.errors
    assert 2 <= len(released.application.asked) <= 3
    assert while_listening > 4


def test_a_container_of_another_image_fails_although_it_answers(released: Server) -> None:
    released.answer("state", container_state(image="sha256:old"))
    result = verify(released, timeout=9)
    assert result.status == 1
    assert f"Another image than {IMAGE} runs in: shop-web-1" in result.errors


def test_a_service_without_a_container_fails(released: Server) -> None:
    released.answer("project", "nginx running 1234\n")
    result = verify(released, timeout=9)
    assert result.status == 1
    assert "The service 'web' has no container" in result.errors


def test_the_last_log_lines_of_every_service_are_in_the_error(server: Server) -> None:
    server.services = ("web", "worker")
    server.compose_file.write_text(server.compose_file.read_text() + "  worker:\n    image: shop/app:1.0\n")
    assert server.run("stop").status == 0
    server.answer("state", container_state("exited"))
    server.behave('case "$*" in *logs*web) echo "puma: boom" ;; *logs*worker) echo "sidekiq: boom" ;; esac')
    result = verify(server, timeout=9)
    assert result.status == 1
    assert "puma: boom" in result.errors
    assert "sidekiq: boom" in result.errors


def test_the_end_of_a_log_file_in_the_container_is_in_the_error(released: Server) -> None:
    released.answer("state", container_state("exited"))
    (released.stubs / "log").mkdir()
    (released.stubs / "log/puma.log").write_text("".join(f"line {number} of puma\n" for number in range(60)))
    released.behave('case "$*" in "cp -L web:/app/log/puma.log -") exec tar -c -C "$STUBS/log" puma.log ;; esac')
    result = verify(released, timeout=9, log_files=("/app/log/puma.log",))
    assert result.status == 1
    assert "line 59 of puma" in result.errors
    assert "line 9 of puma" not in result.errors


def test_a_log_file_that_is_not_there_hides_nothing(released: Server) -> None:
    released.answer("state", container_state("exited"))
    released.behave('case "$*" in "cp "*) echo "no such file" >&2; exit 1 ;; esac')
    result = verify(released, timeout=9, log_files=("/app/log/puma.log",))
    assert result.status == 1
    assert "The log file /app/log/puma.log cannot be read" in result.errors
    assert "Not running: /shop-web-1 exited" in result.errors


def test_an_engine_that_ends_meanwhile_does_not_hide_what_was_wrong_before(released: Server) -> None:
    released.answer("state", container_state("exited"))
    released.behave(
        'case "$*" in "compose logs"*) touch "$STUBS/gone" ;; esac\n'
        'if [ -e "$STUBS/gone" ]; then echo "Cannot connect to the Docker daemon" >&2; exit 1; fi'
    )
    result = verify(released, timeout=9, log_files=("/app/log/puma.log",))
    assert result.status == 1
    assert "Not running: /shop-web-1 exited" in result.errors


def test_an_address_of_the_host_network_is_the_server_itself(released: Server) -> None:
    released.answer("network", "host\n")
    released.answer("address", "127.0.0.9\n")  # where nobody listens
    assert verify(released, timeout=9).status == 0
    assert released.application.asked[-1].address == "127.0.0.1"


def test_a_container_in_the_network_of_another_one_has_its_address(released: Server) -> None:
    released.behave(
        "mode_of() { case $1 in web) echo container:other ;; *) echo shop_default ;; esac; }\n"
        'networks_of() { [ "$1" = web ] || echo shop_default 127.0.0.1; }'
    )
    assert verify(released, timeout=9).status == 0
