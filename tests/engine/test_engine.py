"""The engine and the SDK, as far as the decision of a release relies on them."""

from __future__ import annotations

import signal

import pytest

from tests.engine.harness import WAIT_SECONDS, Stack, kill, wait_until

pytestmark = pytest.mark.engine

DECISION = """
decision = pulumi.Stash(
    "decision",
    input={{"state": {state!r}}},
    opts=ResourceOptions(ignore_changes=["input"], replacement_trigger=[{reference!r}, "fingerprint"]),
)
command.local.Command("known", create="true", triggers=[decision.output["state"]])
"""

REFUSAL = """
def refuse(args):
    raise pulumi.RunError("the registry does not answer")

pulumi.Stash("decision", input=1, opts=ResourceOptions(hooks=pulumi.ResourceHookBinding(before_create=[
    pulumi.ResourceHook("refuse", refuse, opts=pulumi.ResourceHookOptions(on_dry_run=True)),
])))
"""


def test_a_stash_keeps_its_first_input_until_its_trigger_changes(stack: Stack) -> None:
    stack.up(DECISION.format(state="absent", reference="one"))
    assert stack.up(DECISION.format(state="present", reference="one")).steps == []
    assert stack.resource("decision").outputs["output"] == {"state": "absent"}
    stack.up(DECISION.format(state="present", reference="two"))
    assert stack.resource("decision").outputs["output"] == {"state": "present"}


def test_the_value_of_a_stash_is_known_in_a_preview(stack: Stack) -> None:
    stack.up(DECISION.format(state="absent", reference="one"))
    outcome = stack.preview(DECISION.format(state="absent", reference="two"))
    assert [step for step in outcome.steps if step.endswith("known")] == []


def test_a_stash_is_stored_although_a_later_step_fails(stack: Stack) -> None:
    failing = 'command.local.Command("later", create="exit 1", triggers=[decision.output["state"]])'
    assert not stack.up(DECISION.format(state="absent", reference="one") + failing).succeeded
    assert stack.resource("decision").outputs["output"] == {"state": "absent"}


def test_a_hook_that_raises_stops_preview_and_update_and_nothing_is_stored(stack: Stack) -> None:
    for outcome in (stack.preview(REFUSAL), stack.up(REFUSAL)):
        assert not outcome.succeeded
        assert "the registry does not answer" in outcome.messages
    assert not stack.holds("decision")


def test_a_run_error_shows_its_message_without_a_traceback(stack: Stack) -> None:
    outcome = stack.preview("raise pulumi.RunError('tag: put it in quotes')")
    assert not outcome.succeeded
    assert "tag: put it in quotes" in outcome.messages
    assert "Traceback" not in outcome.messages


def test_a_killed_update_leaves_a_lock_that_cancel_removes_and_the_next_one_converges(stack: Stack) -> None:
    command = "echo $$ >pid; test -e quick || exec sleep 60"
    program = f"command.local.Command('step', create={command!r})"
    pid = stack.directory / "pid"
    with stack.running_up(program) as update:
        wait_until(lambda: pid.exists() and bool(pid.read_text()), "the step runs")
        update.send_signal(signal.SIGKILL)
        update.communicate(timeout=WAIT_SECONDS)
    kill(int(pid.read_text()))
    (stack.directory / "quick").touch()
    assert not stack.up(program).succeeded
    stack.cancel()
    assert stack.up(program).succeeded
    assert stack.holds("step")
