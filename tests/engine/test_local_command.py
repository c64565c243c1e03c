"""command:local:Command, as far as the publishing of an image relies on it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.engine.harness import Stack

pytestmark = pytest.mark.engine


def step(**inputs: object) -> str:
    """A program with one local command."""
    written = ", ".join(f"{key}={value!r}" for key, value in inputs.items())
    return f"step = command.local.Command('step', {written})\n"


def test_create_runs_in_the_project_with_stdin_and_environment(stack: Stack, tmp_path: Path) -> None:
    outcome = stack.up(step(create="cat; pwd; echo $NAME >&2", stdin="hello\n", environment={"NAME": "value"}))
    assert outcome.steps == ["create step"]
    outputs = stack.resource("step").outputs
    assert (outputs["stdout"], outputs["stderr"]) == (f"hello\n{tmp_path}", "value")


def test_a_changed_trigger_replaces_and_an_unchanged_one_does_nothing(stack: Stack, tmp_path: Path) -> None:
    command = f"echo ran >>{tmp_path}/runs"
    stack.up(step(create=command, triggers=["1"]))
    assert stack.up(step(create=command, triggers=["1"])).steps == []
    outcome = stack.up(step(create=command, triggers=["2"]))
    assert outcome.steps == ["create-replacement step", "replace step", "delete-replaced step"]
    assert (tmp_path / "runs").read_text() == "ran\nran\n"


def test_a_failed_create_saves_nothing_and_says_what_was_run_and_printed(stack: Stack) -> None:
    outcome = stack.up(step(create="echo out; echo err >&2; exit 3"))
    assert not outcome.succeeded
    assert 'exit status 3: running "echo out; echo err >&2; exit 3"' in outcome.messages
    assert "out\n" in outcome.messages
    assert "err\n" in outcome.messages
    assert not stack.holds("step")


def test_a_command_that_does_not_read_its_input_succeeds(stack: Stack) -> None:
    assert stack.up(step(create="true", stdin="x" * 1_000_000)).succeeded


def test_secret_stdin_is_not_in_clear_in_the_state(stack: Stack) -> None:
    program = "command.local.Command('step', create='cat >/dev/null', stdin=pulumi.Output.secret('hush-hush'))"
    assert stack.up(program).succeeded
    assert "hush-hush" not in stack.stored()


def test_delete_is_run_when_the_resource_leaves_the_program(stack: Stack, tmp_path: Path) -> None:
    stack.up(step(create="true", delete=f"touch {tmp_path}/deleted"))
    assert stack.up("").steps == ["delete step"]
    assert (tmp_path / "deleted").exists()
