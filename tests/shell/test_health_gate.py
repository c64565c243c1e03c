"""verify: the right image, running, and answering as wanted; the application's own words where it is not."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
import time

import pytest

from tests.shell.server import IMAGE, Result, Server, side_by_side


@pytest.fixture
def released(server: Server) -> Server:
    assert server.run("stop").status == 0
    return server


def verify(server: Server, *options: str, timeout: int = 1) -> Result:
    return server.run("verify", *("--port", "3000", "--path", "/health", "--status", "200"), *options, timeout=timeout)


def test_the_container_is_asked_as_the_proxy_would_ask_it(released: Server) -> None:
    result = verify(released, "--url", "https://shop.example:8443/x", "--header", "X-Probe: a b", timeout=9)
    assert result.status == 0, result
    (curl,) = [call for call in released.calls() if call[0] == "curl"]
    headers = {curl[index + 1] for index, word in enumerate(curl) if word == "--header"}
    assert headers == {"Host: shop.example:8443", "X-Forwarded-Proto: https", "X-Probe: a b"}
    assert curl[-1] == "http://172.18.0.2:3000/health"
    assert curl[curl.index("--noproxy") + 1] == "*"


def test_a_configured_header_wins_over_the_one_taken_from_the_url(released: Server) -> None:
    verify(released, "--url", "https://shop.example", "--header", "host: other.example", timeout=9)
    (curl,) = [call for call in released.calls() if call[0] == "curl"]
    assert "host: other.example" in curl
    assert "Host: shop.example" not in curl


def state(status: str, image: str = "sha256:wanted", process: int = 0) -> str:
    """As `docker inspect` gives it."""
    return f"/shop-web-1 {status}, restarts: 0, started: x, image: {image}, process: {process}\n"


WRONG_ANSWERS = {
    "nothing": ("", (), "no answer from http://172.18.0.2:3000/health"),
    "not http": ("garbage", (), "no answer from http://172.18.0.2:3000/health"),
    "another status": ("HTTP/1.1 500 Oops\r\n\r\nsorry", (), "answers 500, not 200"),
    "a redirect": (
        "HTTP/1.1 301 Moved\r\nLocation: https://shop.example/health\r\n\r\n",
        (),
        "answers 301, with a redirect to https://shop.example/health, not 200",
    ),
    "a string missing": (
        "HTTP/1.1 200 OK\r\n\r\n{}",
        ("--contains", '"redis":true'),
        "answers 200, but without '\"redis\":true'",
    ),
    "in the headers only": ("HTTP/1.1 200 OK\r\nX: a.c\r\n\r\nabc", ("--contains", "a.c"), "but without 'a.c'"),
    "no pattern": ("HTTP/1.1 200 OK\r\n\r\nab", ("--contains", "*"), "but without '*'"),
    "one of two": ("HTTP/1.1 200 OK\r\n\r\nab", ("--contains", "ab", "--contains", "[a]"), "but without '[a]'"),
}


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Result]:
    """The results of all wrong answers: each lasts until its time is over."""
    servers = {case: Server(tmp_path_factory.mktemp("server")) for case in WRONG_ANSWERS}

    def run(case: str) -> Result:
        server = servers[case]
        assert server.run("stop").status == 0
        response, options, _ = WRONG_ANSWERS[case]
        server.answer("response", response)
        return verify(server, *options, timeout=4)

    return side_by_side(run, WRONG_ANSWERS, at_once=len(WRONG_ANSWERS))


@pytest.mark.parametrize("case", WRONG_ANSWERS)
def test_another_answer_fails_when_the_time_is_over(results: dict[str, Result], case: str) -> None:
    result = results[case]
    _, _, message = WRONG_ANSWERS[case]
    assert result.status == 1
    assert message in result.errors
    assert "The time allowed for this, 4 s, is over" in result.errors


@pytest.mark.parametrize(
    "response",
    [
        'HTTP/1.1 200 OK\r\nServer: puma\r\n\r\n{"status": "ok [*]"}\r\n\r\nmore',
        'HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\n\r\n{"status": "ok [*]"}more',
        'HTTP/2 200\r\n\r\n{"status": "ok [*]"}\nmore',
    ],
)
def test_strings_are_searched_in_the_body_as_they_are(released: Server, response: str) -> None:
    released.answer("response", response)
    assert verify(released, "--contains", '"ok [*]"', "--contains", "more", timeout=9).status == 0


def test_the_address_is_polled_until_it_answers(released: Server) -> None:
    released.answer("response", "")
    third = 'case "$(tr "\\036" "\\n" <"$STUBS/record" | grep -c ^curl)" in 3) rm -f "$STUBS/response.answer" ;; esac'
    released.behave(third)
    assert verify(released, timeout=9).status == 0
    assert len([call for call in released.calls() if call[0] == "curl"]) == 4


@pytest.mark.parametrize("status", ["exited", "restarting", "created"])
def test_a_container_that_does_not_run_fails_at_once(released: Server, status: str) -> None:
    released.answer("state", state(status))
    began = time.monotonic()
    result = verify(released, timeout=30)
    assert time.monotonic() - began < 10
    assert result.status == 1
    assert f"Not running: /shop-web-1 {status}" in result.errors


def test_a_container_that_restarts_while_it_is_asked_fails_at_once(released: Server) -> None:
    released.answer("response", "")
    restarted = state("running").replace("restarts: 0", 'restarts: $(wc -l <"$STUBS/asked")').strip()
    released.behave(f'case "$*" in *RestartCount*) date +%N >>"$STUBS/asked"; echo "{restarted}"; exit ;; esac')
    began = time.monotonic()
    result = verify(released, timeout=30)
    assert time.monotonic() - began < 10
    assert result.status == 1
    assert "A container stopped or was started again" in result.errors


def test_that_docker_had_no_time_left_to_answer_is_not_taken_for_a_container_that_is_gone(released: Server) -> None:
    released.answer("response", "HTTP/1.1 500 Oops\r\n\r\nsorry")
    released.behave(
        'case "$*" in *RestartCount*) if [ -e "$STUBS/noted" ]; then sleep 30; exit 1; fi; touch "$STUBS/noted" ;; esac'
    )
    result = verify(released, timeout=3)
    assert result.status == 1
    assert "answers 500, not 200" in result.errors


def test_a_question_that_the_deadline_cuts_short_does_not_hide_the_answer_before_it(released: Server) -> None:
    released.answer("response", "HTTP/1.1 500 Oops\r\n\r\nsorry")
    released.write_command(
        "curl",
        '#!/bin/sh\n[ ! -e "$STUBS/asked" ] || exec sleep 30\ntouch "$STUBS/asked"\ncat "$STUBS/response.answer"\n',
    )
    result = verify(released, timeout=3)
    assert result.status == 1
    assert "answers 500, not 200" in result.errors


def test_docker_is_asked_about_a_container_again_only_when_its_process_is_gone(released: Server) -> None:
    process = subprocess.Popen(["sleep", "60"])
    try:
        # Its process is recognised by the container's id in the name of its control group; a colon is in all of these.
        released.answer("project", "web running :\n")
        released.answer("state", state("running", process=process.pid))
        released.answer("response", "")
        released.write_command(
            "sleep",
            '#!/bin/sh\necho slept >>"$STUBS/sleeps"\nif [ "$(wc -l <"$STUBS/sleeps")" -eq 5 ]; then\n'
            f'    kill {process.pid}; echo "/shop-web-1 exited" >"$STUBS/state.answer"\nfi\nexec /bin/sleep "$@"\n',
        )
        threading.Thread(target=process.wait, daemon=True).start()  # a process that nobody waits for is still there
        result = verify(released, timeout=30)
    finally:
        process.kill()
    assert result.status == 1
    assert "A container stopped or was started again: /shop-web-1 exited" in result.errors
    assert len([call for call in released.docker_calls("inspect") if "RestartCount" in call[2]]) == 2


def test_while_nobody_listens_in_the_container_it_is_asked_once_a_second(released: Server) -> None:
    released.answer("project", "web running :\n")
    released.answer("state", state("running", process=os.getpid()))
    released.answer("response", "")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = str(listener.getsockname()[1])
        assert verify(released, "--port", port, timeout=2).status == 1
        while_listening = len([call for call in released.calls() if call[0] == "curl"])
    (released.stubs / "record").unlink()
    result = verify(released, "--port", port, timeout=2)
    assert f"no answer from http://172.18.0.2:{port}/health" in result.errors
    assert 2 <= len([call for call in released.calls() if call[0] == "curl"]) <= 3
    assert while_listening > 4


def test_a_container_of_another_image_fails_although_it_answers(released: Server) -> None:
    released.answer("state", state("running", image="sha256:old"))
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
    server.answer("state", state("exited"))
    server.behave('case "$*" in *logs*web) echo "puma: boom" ;; *logs*worker) echo "sidekiq: boom" ;; esac')
    result = verify(server, timeout=9)
    assert result.status == 1
    assert "puma: boom" in result.errors
    assert "sidekiq: boom" in result.errors


def test_an_address_of_the_host_network_is_the_server_itself(released: Server) -> None:
    released.answer("network", "host\n")
    assert verify(released, timeout=9).status == 0
    assert released.calls()[-1][-1] == "http://127.0.0.1:3000/health"
