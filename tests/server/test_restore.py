"""restore: a backup takes the place of the database, and what becomes of one that is killed in the middle."""

from __future__ import annotations

import itertools
import json
import signal
import subprocess
import time
from typing import Any

import pytest

from server.request import Database, StepName, Strategy
from tests.server.server import Result, Server
from tests.server.test_staged import POSTGRES, phases

BACKUP = "20260101T000000Z-on-demand.dump"
LISTS = 'case "$*" in *"pg_restore --list"*) echo ";     dbname: shop"; exit ;; esac\n'

# Where it may be killed: while it dumps what there is, while it restores, and before it starts the services.
PLACES = {"dumping": "exec pg_dump --format", "restoring": "pg_restore --exit", "starting": "compose create"}


@pytest.fixture
def stocked(server: Server) -> Server:
    """A server with a backup."""
    backups = server.state / "backups"
    backups.mkdir()
    (backups / BACKUP).write_text("dump")
    server.behave(LISTS + POSTGRES)
    return server


def fields(server: Server, **more: Any) -> dict[str, Any]:
    return {"strategy": Strategy.STAGED, "backup": BACKUP, "database": Database(service="db"), **more}


def restore(server: Server, **more: Any) -> Result:
    return server.run("restore", **fields(server, **more))


def dumps(server: Server) -> list[str]:
    return [path.name.partition("Z-")[2] for path in sorted((server.state / "backups").iterdir())]


def facts(server: Server) -> Any:
    return json.loads(server.run("facts", **fields(server, backup=None)).output)


def kill(server: Server, place: str, how: str) -> subprocess.Popen[bytes]:
    """A restore that has been killed there; "cut": nobody hears it any more."""
    began = server.stubs / "began"
    waits = 'touch "$STUBS/began"; while [ -e "$STUBS/began" ]; do sleep 0.05; done'
    server.behave(f'case "$*" in *"{PLACES[place]}"*) {waits} ;; esac\n{LISTS}{POSTGRES}')
    step = server.start("restore", stream=subprocess.PIPE, **fields(server))
    deadline = time.monotonic() + 30
    while not began.exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    if how == "cut":
        for stream in (step.stdout, step.stderr):
            assert stream
            stream.close()
        step.send_signal(signal.SIGHUP)
    else:
        step.send_signal(getattr(signal, how))
    server.behave(LISTS + POSTGRES)
    began.unlink()
    step.wait(30)
    return step


def test_the_services_are_stopped_what_there_is_is_dumped_and_the_backup_takes_its_place(stocked: Server) -> None:
    stocked.forget_calls()
    result = restore(stocked)
    assert result.status == 0, result
    done = phases(stocked)
    assert done.index("stop") < done.index("create") < done.index("start")
    assert dumps(stocked) == ["on-demand.dump", "before-restore.dump"]
    assert "serves on what was restored; what was there before:" in result.output
    assert not (stocked.state / "restoring").exists()


@pytest.mark.parametrize(("how", "place"), [*itertools.product(["SIGKILL", "SIGTERM"], PLACES), ("cut", "restoring")])
def test_a_restore_that_is_killed_anywhere_is_explained_and_is_repeated_by_the_same_command(
    stocked: Server, how: str, place: str
) -> None:
    step = kill(stocked, place, how)
    said = facts(stocked)["restoring"]
    if how == "SIGKILL":
        assert said == BACKUP
    elif how == "cut":
        assert (step.returncode, said) == (0, "")  # it has gone on to its end
    else:
        assert step.returncode == 128 + signal.SIGTERM
        # Where the services could not be started any more, it is to be repeated.
        assert said == ("" if place != "starting" else BACKUP)
    result = restore(stocked)
    assert result.status == 0, result
    assert facts(stocked)["restoring"] == ""
    if how == "SIGKILL":
        assert json.loads((stocked.state / "history.jsonl").read_text().splitlines()[-1])["result"] == "interrupted"


def test_a_repeated_restore_removes_no_dump_that_the_killed_one_has_made(stocked: Server) -> None:
    kill(stocked, "restoring", "SIGKILL")
    assert restore(stocked, database=Database(service="db", keep=1)).status == 0
    assert dumps(stocked) == ["on-demand.dump", "before-restore.dump", "before-restore.dump"]


@pytest.mark.parametrize("place", ["dumping", "restoring"])
def test_what_fails_is_told_and_the_services_run_again_on_the_database_as_it_was(stocked: Server, place: str) -> None:
    stocked.behave(f'case "$*" in *"{PLACES[place]}"*) exit 1 ;; esac\n{LISTS}{POSTGRES}')
    result = restore(stocked)
    assert result.status == 1
    assert "the services run again; the database is as it was" in result.output
    assert facts(stocked)["restoring"] == ""


def test_a_release_that_serves_ends_what_a_killed_restore_has_left(stocked: Server) -> None:
    kill(stocked, "restoring", "SIGKILL")
    for step in (StepName.PULL, StepName.PRECOMPILE, StepName.UP):
        result = stocked.run(step, strategy=Strategy.STAGED)
        assert result.status == 0, result
    assert facts(stocked)["restoring"] == ""
