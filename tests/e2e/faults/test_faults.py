"""Whatever happens during a rollout, the site serves one release, and the next rollout puts everything in order."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from tempfile import TemporaryFile

import pytest

from tests.e2e.conftest import PORTS
from tests.e2e.faults import report
from tests.e2e.faults.injection import Action, Injection, small_disk
from tests.e2e.faults.rows import AWAY, POLLED, ROWS, WHERE, Fault, Row, SubStep
from tests.e2e.faults.stage import NEW, OLD, Run, Stage, log_of, setting
from tests.e2e.harness import Result, Sandbox, placed, project_of, steps_run

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def stage(sandbox: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with ExitStack() as stack:
        stack.enter_context(small_disk(sandbox, "/apps/faults"))
        application = stack.enter_context(
            placed(sandbox, "faults", tmp_path_factory.mktemp("faults"), port=next(PORTS))
        )
        stage = Stage(application, stack.enter_context(project_of(application, tmp_path_factory.mktemp("project"))))
        stage.prepare()
        yield stage


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_a_release_serves_and_the_next_rollout_puts_everything_in_order(row: Row, stage: Stage) -> None:
    stage.bring_to_old()
    others = stage.others()
    stage.application.sql(
        f"INSERT INTO visits (name, created_at, updated_at) VALUES ('{row.sub_step}', now(), now())"  # noqa: S608
    )
    visits = stage.visits()
    history = len(stage.results())
    containers = stage.application.containers()

    with report.kept(report.line_of(row)) as line, ExitStack() as changes:
        if row.back:
            # A database that has been migrated is otherwise put back by hand, before the old release may return.
            changes.enter_context(setting(stage.project, {"backup": {"restoreOnFailure": True}}))
        started = time.monotonic()
        failed = run_into(row, stage)
        line.seconds = time.monotonic() - started
        line.status = failed.status
        # An Engine that is back before the command asks for it is a fault that nobody has met.
        survived = failed.status == 0 and row.fault is Fault.ENGINE_RESTARTED
        assert failed.status != 0 or survived, failed.output

        Injection(stage.application).wait_for_the_engine()
        line.serves = served = stage.what_serves(patience=60)
        if not may_be_down(row):
            assert served is not None, f"no release serves:\n{failed.output}\n{log_of(stage.application)}"
        if survived:
            assert served == NEW
        assert stage.lock_is_free()
        line.results = [entry["result"] for entry in stage.results()[history:]]

        # The next one.
        undisturbed = served == OLD and stage.application.containers() == containers
        wanted = OLD if row.back else NEW
        if row.back:
            changes.enter_context(setting(stage.project, {"app.migrations": "compatible"}))
        started = time.monotonic()
        at = WHERE[SubStep.PULL if row.back else row.sub_step].step
        after = stage.roll_out(wanted, pulumi=row.pulumi, at=at)
        line.seconds_after = time.monotonic() - started
        assert after.succeeded, f"{after.output}\n{log_of(stage.application)}"
        assert stage.what_serves() == wanted
        line.serves_after = wanted
        assert stage.contradictions(wanted) == []
        if row.back and undisturbed:
            assert stage.application.containers() == containers, "going back to what serves interrupts nobody"
        if row.pulumi:
            assert stage.project.is_unchanged()
        assert stage.others() == others
        assert stage.visits() == visits
        assert stage.database_is_whole()
        line.results = [entry["result"] for entry in stage.results()[history:]]
        # Going back from a step that changes nothing, and that pulumi has not seen the end of, is going nowhere.
        assert line.results or (row.pulumi and not steps_run(after)), "the history says nothing of it"


def may_be_down(row: Row) -> bool:
    """Whether nothing may serve until the next rollout: nobody is left to put the old release back, or tell nginx."""
    return row.fault is Fault.PROGRAM_KILLED and row.sub_step in AWAY


def run_into(row: Row, stage: Stage) -> Result:
    """Rolls the new release out, into the fault. Returns when the server is at rest again, and the fault is over."""
    where = WHERE[row.sub_step]
    injection = Injection(stage.application)
    match row.fault:
        case Fault.FAILS:
            action, lasts = Action.FAIL, row.sub_step in POLLED
        case Fault.HANGS:
            action, lasts = Action.HANG, row.sub_step in POLLED
        case _:
            action, lasts = Action.MEET, False
    limits = where.limits if row.fault is Fault.HANGS else {"health.timeout": 30} if lasts else {}
    with (
        setting(stage.project, limits),
        injection.armed(where.place, action, release=NEW, lasts=lasts),
        TemporaryFile() as output,
    ):
        run = stage.start(NEW, output, pulumi=row.pulumi)
        try:
            if not injection.wait_until_reached(run.process):
                run.process.kill()
                raise AssertionError(f"the rollout never came to {row.sub_step}:\n{run.wait().output}")
            with ExitStack() as lasting:
                intervene(row, injection, run, lasting)
                injection.release()
                result = run.wait()
                injection.wait_for_the_end()
        finally:
            run.process.kill()
    if row.fault is Fault.PULUMI_KILLED:
        stage.project.cancel()
    return result


def intervene(row: Row, injection: Injection, run: Run, lasting: ExitStack) -> None:
    """What is done while the command waits. lasting: takes what ends with the run."""
    match row.fault:
        case Fault.PROGRAM_KILLED:
            injection.kill_program()
        case Fault.PROGRAM_ENDED:
            injection.end_program()
        case Fault.CUT:
            injection.cut_connection()
        case Fault.PULUMI_KILLED:
            run.process.kill()
        case Fault.ENGINE_RESTARTED:
            injection.restart_engine()
        case Fault.DISK_FULL if row.sub_step is SubStep.PULL:
            lasting.enter_context(injection.full_engine_disk())
        case Fault.DISK_FULL:
            lasting.enter_context(injection.full_disk())
