"""command:remote:Command, as far as a rollout relies on it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.engine.harness import WAIT_SECONDS, Outcome, Stack, events, kill, wait_until
from tests.engine.sshd import Server, closed_port

pytestmark = pytest.mark.engine

IGNORING = "ResourceOptions(ignore_changes=IGNORED)"


def step(name: str = "step", *, options: str = "None", connection: str = "SERVER", **inputs: object) -> str:
    """The line of a program that declares a remote command."""
    written = ", ".join(f"{key}={value!r}" for key, value in inputs.items())
    return (
        f"{name} = command.remote.Command({name!r}, connection={connection}, logging='none', "
        f"add_previous_output_in_env=False, opts={options}, {written})\n"
    )


def chain(tag: str, *commands: str) -> str:
    """A program of steps, each triggered by the tag and by the id of the one before."""
    program = "previous = 'none'\n"
    for number, command in enumerate(commands, start=1):
        program += (
            f"previous = command.remote.Command('step{number}', connection=SERVER, create={command!r}, logging='none', "
            f"add_previous_output_in_env=False, triggers=[{tag!r}, previous], opts={IGNORING}).id\n"
        )
    return program


def test_create_runs_the_command_and_keeps_what_it_prints(server_stack: Stack) -> None:
    outcome = server_stack.up(step(create="cat; echo out; echo err >&2", stdin="hello\n"))
    assert outcome.steps == ["create step"]
    outputs = server_stack.resource("step").outputs
    assert (outputs["stdout"], outputs["stderr"]) == ("hello\nout", "err")


def test_a_changed_trigger_replaces_and_runs_create_again(server_stack: Stack, tmp_path: Path) -> None:
    command = f"echo ran >>{tmp_path}/runs"
    server_stack.up(step(create=command, triggers=["1"]))
    first = server_stack.resource("step")
    outcome = server_stack.up(step(create=command, triggers=["2"]))
    assert outcome.steps == ["create-replacement step", "replace step", "delete-replaced step"]
    assert outcome.diffs == {"step": {"triggers[0]": "update-replace"}}
    assert server_stack.resource("step").id != first.id
    assert (tmp_path / "runs").read_text() == "ran\nran\n"


def test_ignored_inputs_give_no_difference_and_the_next_replacement_uses_them(server_stack: Stack) -> None:
    server_stack.up(step(create="echo old", stdin="old", triggers=["1"], options=IGNORING))
    changed = step(create="cat; echo new", stdin="fresh ", triggers=["1"], options=IGNORING)
    assert server_stack.up(changed).steps == []
    assert server_stack.resource("step").outputs["stdout"] == "old"
    server_stack.up(step(create="cat; echo new", stdin="fresh ", triggers=["2"], options=IGNORING))
    assert server_stack.resource("step").outputs["stdout"] == "fresh new"


def test_any_other_changed_input_updates_in_place_and_runs_create_again(server_stack: Stack) -> None:
    server_stack.up(step(create="echo one"))
    before = server_stack.resource("step")
    outcome = server_stack.up(step(create="echo two"))
    assert outcome.steps == ["update step"]
    assert outcome.diffs == {"step": {"create": "update"}}
    after = server_stack.resource("step")
    assert (after.id, after.outputs["stdout"]) == (before.id, "two")


def test_an_update_runs_the_update_command_where_there_is_one(server_stack: Stack) -> None:
    server_stack.up(step(create="echo created", update="echo updated", stdin="1"))
    server_stack.up(step(create="echo created", update="echo updated", stdin="2"))
    assert server_stack.resource("step").outputs["stdout"] == "updated"


def test_a_failed_create_saves_nothing_and_is_tried_again(server_stack: Stack, tmp_path: Path) -> None:
    program = step(create=f"echo attempt; echo complaint >&2; test -e {tmp_path}/repaired")
    outcome = server_stack.up(program)
    assert not outcome.succeeded
    assert "Process exited with status 1: running" in outcome.messages
    assert "attempt" in outcome.messages
    assert "complaint" in outcome.messages
    assert not server_stack.holds("step")
    (tmp_path / "repaired").touch()
    assert server_stack.up(program).steps == ["create step"]


def test_a_failed_replacement_keeps_the_old_state(server_stack: Stack) -> None:
    server_stack.up(step(create="echo old", triggers=["1"]))
    before = server_stack.resource("step")
    assert not server_stack.up(step(create="exit 3", triggers=["2"])).succeeded
    assert server_stack.resource("step") == before


def test_a_retry_resumes_at_the_failed_step(server_stack: Stack, tmp_path: Path) -> None:
    commands = [f"echo {name} >>{tmp_path}/runs" for name in ("a", "b", "c")]
    commands[1] += f"; test -e {tmp_path}/repaired"
    assert not server_stack.up(chain("1", *commands)).succeeded
    (tmp_path / "repaired").touch()
    assert server_stack.up(chain("1", *commands)).succeeded
    assert (tmp_path / "runs").read_text().split() == ["a", "b", "b", "c"]


def test_going_back_after_a_half_done_chain_runs_every_step(server_stack: Stack, tmp_path: Path) -> None:
    good = [f"echo {name} >>{tmp_path}/runs" for name in ("a", "b", "c")]
    server_stack.up(chain("1", *good))
    assert not server_stack.up(chain("2", good[0], "exit 1", good[2])).succeeded
    (tmp_path / "runs").unlink()
    assert server_stack.up(chain("1", *good)).succeeded
    assert (tmp_path / "runs").read_text().split() == ["a", "b", "c"]


def test_a_wrong_host_key_is_refused_before_anything_runs(server_stack: Stack, server: Server, tmp_path: Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "other")], check=True)
    wrong = " ".join((tmp_path / "other.pub").read_text().split()[:2])
    logins, attempts = server.logins(), server.attempts()
    outcome = server_stack.up(step(create=f"touch {tmp_path}/ran", connection=f"{{**SERVER, 'host_key': {wrong!r}}}"))
    assert not outcome.succeeded
    assert "host key mismatch" in outcome.messages
    assert not (tmp_path / "ran").exists()
    assert server.logins() == logins
    # dial_error_limit is 1: the first attempt and one more.
    assert server.attempts() == attempts + 2


def test_secret_stdin_and_the_connection_are_not_in_clear_in_the_state(server_stack: Stack, server: Server) -> None:
    program = step(create="cat >/dev/null", triggers=["1"]).replace(
        "triggers=", "stdin=pulumi.Output.secret('hush-hush'), triggers="
    )
    assert server_stack.up(program).succeeded
    stored = server_stack.stored()
    assert "hush-hush" not in stored
    assert server.private_key.read_text().splitlines()[1] not in stored
    assert server.connection["host"] not in stored


def test_a_line_of_any_length_is_kept_whole_without_logging(server_stack: Stack) -> None:
    assert server_stack.up(step(create="head -c 300000 /dev/zero | tr '\\0' x; echo; echo end")).succeeded
    assert server_stack.resource("step").outputs["stdout"] == "x" * 300_000 + "\nend"


def test_a_preview_runs_nothing(server_stack: Stack, server: Server, tmp_path: Path) -> None:
    attempts = server.attempts()
    assert server_stack.preview(step(create=f"touch {tmp_path}/ran")).steps == ["create step"]
    assert not (tmp_path / "ran").exists()
    assert server.attempts() == attempts


def test_what_a_step_will_print_is_unknown_in_a_preview(server_stack: Stack) -> None:
    chained = step("later", create="true").replace("create='true'", "create='true', triggers=[step.stdout]")
    server_stack.up(step(create="echo same", triggers=["1"]) + chained)
    outcome = server_stack.preview(step(create="echo same", triggers=["2"]) + chained)
    assert "create-replacement later" in outcome.steps


def test_an_unchanged_update_opens_no_connection(server_stack: Stack, server: Server) -> None:
    program = step(create="true", triggers=["1"])
    server_stack.up(program)
    attempts = server.attempts()
    assert server_stack.up(program).steps == []
    assert server_stack.preview(program, "--expect-no-changes").succeeded
    assert server.attempts() == attempts


def test_a_refresh_repeats_the_state_and_opens_no_connection(server_stack: Stack, server: Server) -> None:
    server_stack.up(step(create="echo one", triggers=["1"]))
    before, attempts = server_stack.resource("step"), server.attempts()
    assert server_stack.refresh().succeeded
    assert server_stack.resource("step") == before
    assert server.attempts() == attempts


def test_an_environment_the_server_does_not_accept_fails_the_step(server_stack: Stack, tmp_path: Path) -> None:
    outcome = server_stack.up(step(create=f"touch {tmp_path}/ran", environment={"NAME": "value"}))
    assert not outcome.succeeded
    assert not (tmp_path / "ran").exists()


def test_a_broken_connection_fails_the_step(server_stack: Stack, tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    program = step(create=f"echo $PPID $$ >{pids}.new; mv {pids}.new {pids}; exec sleep 60")
    with server_stack.running_up(program) as update:
        wait_until(pids.exists, "the command runs")
        connection, command = map(int, pids.read_text().split())
        kill(connection)
        try:
            output, _ = update.communicate(timeout=WAIT_SECONDS)
        finally:
            kill(command)
    assert update.returncode != 0
    assert 'running "echo $PPID' in Outcome(succeeded=False, events=events(output)).messages
    assert not server_stack.holds("step")


def test_the_agent_logs_in_where_no_key_is_given(server_stack: Stack, server: Server) -> None:
    server_stack.environment["CONTRACT_SERVER"] = json.dumps(server.connection)
    variables = subprocess.check_output(["ssh-agent", "-s"], text=True)
    agent = dict(part.split("=", 1) for part in variables.replace("\n", "").split(";") if "=" in part)
    try:
        subprocess.run(["ssh-add", "-q", str(server.private_key)], env={**os.environ, **agent}, check=True)
        server_stack.environment["SSH_AUTH_SOCK"] = agent["SSH_AUTH_SOCK"]
        assert server_stack.up(step(create="true")).succeeded
    finally:
        os.kill(int(agent["SSH_AGENT_PID"]), signal.SIGTERM)


def test_a_stale_agent_fails_the_step_even_beside_a_key(server_stack: Stack, tmp_path: Path) -> None:
    server_stack.environment["SSH_AUTH_SOCK"] = str(tmp_path / "nobody")
    assert not server_stack.up(step(create="true")).succeeded


def test_a_command_killed_by_a_signal_fails_the_step(server_stack: Stack) -> None:
    outcome = server_stack.up(step(create="kill -KILL $$"))
    assert "Process exited with status 137 from signal KILL" in outcome.messages


def test_a_server_that_does_not_listen_fails_after_the_allowed_attempts(server_stack: Stack) -> None:
    with closed_port() as port:
        outcome = server_stack.up(step(create="true", connection=f"{{**SERVER, 'port': {port}}}"))
    assert not outcome.succeeded
    assert "connection refused" in outcome.messages.lower()


def test_a_jump_host_is_passed_through(server_stack: Stack, server: Server) -> None:
    logins = server.logins()
    connection = "{**SERVER, 'proxy': SERVER}"
    assert server_stack.up(step(create="echo through", connection=connection)).succeeded
    assert server.logins() == logins + 2
