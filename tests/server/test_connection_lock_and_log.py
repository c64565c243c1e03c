"""A step runs alone and to its end, whoever listens, and says little where it is heard and all where it is kept."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from pathlib import Path

import pytest

from server.request import Delivery, dump
from tests.server.server import IMAGE, Server, compiling


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 20
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} did not appear"
        time.sleep(0.02)


def hang_at(server: Server, words: str, seconds: int) -> Path:
    """Docker takes its time at a call; returns the file that says it has begun."""
    began = server.stubs / "began"
    server.behave(f'case "$*" in *"{words}"*) touch "$STUBS/began"; exec sleep {seconds} ;; esac')
    return began


def test_progress_is_short_lines_with_seconds(server: Server) -> None:
    # On a busy machine there may be lines of waiting between.
    lines = [line for line in server.run("stop").output.splitlines() if " s so far" not in line]
    assert [line.split(" (")[0] for line in lines] == [f"stop: docker-compose.yml names {IMAGE}", "stop: stopped web"]
    assert all(line.endswith(" s)") for line in lines)


def test_what_takes_long_says_every_few_seconds_for_how_long_and_how_it_stands(server: Server) -> None:
    server.behave('case "$*" in "compose stop"*) echo "almost there" >&2; exec sleep 6 ;; esac')
    assert re.search(r"^stop: stop, \d+ s so far: almost there$", server.run("stop").output, re.MULTILINE)


def test_a_step_runs_to_its_end_when_nobody_reads_what_it_says(server: Server) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    step = server.start("stop", stream=writer)
    os.close(writer)
    assert step.wait(30) == 0
    assert IMAGE in server.compose_file.read_text()
    assert ["compose", "stop", "web"] in server.docker_calls("compose", "stop")


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-"])
def test_a_step_runs_to_its_end_with_its_streams_closed(server: Server, closed: str) -> None:
    script = f'exec "$@" {closed}'
    result = server.run_exactly(["sh", "-c", script, "sh", *server.command("stop")], stdin=dump(server.request("stop")))
    assert result.status == 0
    assert IMAGE in server.compose_file.read_text()
    # What it opens must not take their place.
    assert "+ docker compose stop web" in server.logs()[0].read_text()


def test_a_step_without_standard_input_is_told_nothing_and_does_nothing(server: Server) -> None:
    result = server.run_exactly(["sh", "-c", 'exec "$@" <&- >&-', "sh", *server.command("stop")])
    assert result.status == 2
    assert server.calls() == []


def test_a_failure_is_still_a_failure_when_nobody_reads_it(server: Server) -> None:
    server.behave('case "$*" in "compose stop"*) exit 1 ;; esac')
    result = server.run_exactly(
        ["sh", "-c", 'exec "$@" >&- 2>&-', "sh", *server.command("stop")], stdin=dump(server.request("stop"))
    )
    assert result.status == 1


def test_a_hangup_does_not_end_a_step(server: Server) -> None:
    began = hang_at(server, "compose stop", 1)
    step = server.start("stop")
    wait_for(began)
    os.killpg(step.pid, signal.SIGHUP)
    assert step.wait(30) == 0


def test_a_second_step_waits_and_then_names_who_holds_the_lock(server: Server) -> None:
    began = hang_at(server, "compose stop", 15)
    first = server.start("stop")
    try:
        wait_for(began)
        result = server.run("stop", timeout=1)
        assert result.status == 1
        assert f"process {first.pid}, step stop, release 2.0, since " in result.errors
    finally:
        first.kill()
        first.wait()


def test_a_killed_step_leaves_no_lock_and_the_next_waits_for_what_docker_still_does(server: Server) -> None:
    began = hang_at(server, "compose stop", 4)
    step = server.start("stop")
    wait_for(began)
    step.kill()
    step.wait()
    server.behave(":")
    result = server.run("stop", timeout=1)
    assert "A docker command of a killed run is still running" in result.errors
    assert server.run("stop", timeout=20).status == 0


def test_what_a_killed_run_left_is_removed_before_anything_else(server: Server) -> None:
    server.answer("leftover", "deadbeef\ncafebabe\n")
    assert server.run("stop").status == 0
    first = [call for call in server.docker_calls() if call[0] != "ps"][:2]
    assert first == [["rm", "-f", "-v", "deadbeef"], ["rm", "-f", "-v", "cafebabe"]]
    assert f"label=releve.project={server.directory}" in server.docker_calls("ps")[0]


def test_files_of_a_killed_step_are_gone_after_the_next(server: Server) -> None:
    began = hang_at(server, "config --no-interpolate", 1)
    step = server.start("stop")
    wait_for(began)
    step.kill()
    step.wait()
    assert (server.state / "tmp").exists()
    server.behave(":")
    assert server.run("stop").status == 0
    assert sorted(path.name for path in server.directory.iterdir()) == [".releve", "docker-compose.yml"]
    assert not (server.state / "tmp").exists()


def test_a_step_that_is_told_to_end_takes_its_files_and_what_it_started_with_it(server: Server) -> None:
    began = hang_at(server, "compose stop", 60)
    step = server.start("stop")
    wait_for(began)
    step.send_signal(signal.SIGTERM)
    assert step.wait(30) == 143
    assert not (server.state / "tmp").exists()
    server.behave(":")
    assert server.run("stop", timeout=3).status == 0  # nothing of it is still running


def test_a_command_that_hangs_is_ended_when_the_time_is_over(server: Server) -> None:
    hang_at(server, "compose stop", 60)
    began = time.monotonic()
    result = server.run("stop", timeout=1)
    assert time.monotonic() - began < 10
    assert result.status == 1
    assert "The time allowed for this, 1 s, is over" in result.errors


def test_a_one_off_container_is_removed_when_its_time_is_over(server: Server) -> None:
    server.settings["assets"] = compiling("/app/public", command=("rails",))
    for step in ("pull", "stop"):
        assert server.run(step).status == 0
    server.behave(
        'case "$*" in *" run "*) touch "$STUBS/began"; exec sleep 60 ;;'
        ' "ps "*label=releve.project=*) [ ! -e "$STUBS/began" ] || echo deadbeef; exit ;; esac'
    )
    result = server.run("precompile", timeout=3)
    assert result.status == 1
    assert server.docker_calls()[-1] == ["rm", "-f", "-v", "deadbeef"]


def test_one_log_tells_a_whole_run_and_only_its_owner_can_read_it(server: Server) -> None:
    server.run("pull")
    server.run("stop")
    server.run("up")
    (log,) = server.logs()
    text = log.read_text()
    assert log.name.endswith("-2.0.log")
    assert "+ docker compose stop web\n" in text
    assert "+ docker compose up -d --remove-orphans\n" in text
    assert log.stat().st_mode & 0o777 == 0o600
    assert (server.state / "latest.log").resolve() == log


def test_what_docker_says_is_in_the_log_and_not_on_the_connection(server: Server) -> None:
    server.behave('case "$*" in "compose stop"*) echo "Container shop-web-1 Stopped" >&2 ;; esac')
    result = server.run("stop")
    assert "Container" not in result.output + result.errors
    assert "Container shop-web-1 Stopped" in server.logs()[0].read_text()


def test_an_error_carries_the_last_60_lines_each_cut_at_500_bytes(server: Server) -> None:
    flood = "for n in $(seq 100); do printf 'line %s %070000d\\n' \"$n\" 0; done"
    server.behave(f'case "$*" in "compose stop"*) {flood}; exit 1 ;; esac')
    result = server.run("stop")
    lines = [line for line in result.errors.splitlines() if line.startswith("line ")]
    assert [int(line.split()[1]) for line in lines] == list(range(41, 101))
    assert max(len(line) for line in result.errors.splitlines()) <= 500
    assert len(result.errors) < 35000


def test_an_error_is_valid_utf_8_without_control_characters(server: Server) -> None:
    # The cut goes through the last letter. A terminal takes a C1 control, two bytes, for the start of a command.
    line = r"printf 'caf\303\251 \377\376 \033[31mred \302\233\302\205%0486d\303\251\n' 0"
    server.behave(f'case "$*" in "compose stop"*) {line}; exit 1 ;; esac')
    errors = server.run("stop").errors  # decoding it is the test
    assert "café  red" in errors
    assert not [letter for letter in errors if (letter < " " and letter != "\n") or "\x7f" <= letter <= "\x9f"]


@pytest.mark.parametrize("step", ["pull", "stop"])
def test_no_message_shows_a_value_of_env_whoever_quotes_it(server: Server, step: str) -> None:
    server.settings["delivery"] = Delivery(
        environment="A='first-secret\\'\nB='second-secret'\nRAILS_ENV='production'\n"
    )
    if step == "stop":
        assert server.run("pull").status == 0
    line = "B='second-secret'\nRAILS_ENV='production'\n"
    (server.stubs / "quoted").write_text(f'line 2: unexpected character in variable name "{json.dumps(line)[4:]}\n')
    server.behave('case "$*" in "compose stop"* | *config*) cat "$STUBS/quoted" >&2; exit 1 ;; esac')
    result = server.run(step)
    assert result.status == 1
    assert r"""variable name "[env.B]'\nRAILS_ENV='production'\n""" in result.errors
    assert "secret" not in result.output + result.errors


def test_an_error_shows_lines_of_its_own_step_only(server: Server) -> None:
    server.behave('echo "from before" >&2')
    server.run("stop")
    server.behave('case "$*" in *--remove-orphans) echo "from now" >&2; exit 1 ;; esac')
    errors = server.run("up").errors
    assert "from now" in errors
    assert "from before" not in errors


def test_the_newest_logs_are_kept(server: Server) -> None:
    logs = server.state / "log"
    logs.mkdir()
    for number in range(60):
        old = logs / f"20200101T0000{number:02}Z-1.0.log"
        old.touch()
        os.utime(old, (number, number))
    server.run("pull")
    assert len(server.logs()) == 50
    assert server.logs()[-1].name.endswith("-2.0.log")
