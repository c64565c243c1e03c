"""One step of a rollout, on a server that runs its application with Docker Compose: all that Relève runs there.

  python3 -I .releve/bin/<hash12> STEP      with the request (request.py) on standard input

Exit status: 0 done; 1 failed or refused, the reason on stderr; 2 the request is not understood. A step may be entered
again half way. In the project's directory it changes the Compose file alone, and .env where it is given. Its own files,
all in .releve (mode 0700):
  bin/      the newest programs                     lock      who works here
  log/      one log a run; latest.log: the newest   children  held by the docker commands of whoever works here
  compose/  Compose files as they were              tmp/      of the running step
  releases/ current previous prepared               what the server keeps: releases.py
  kept      the images that it keeps: kept_images.py
  backups/  dumps of the database                   history.jsonl  a line a rollout
  databases the application's, as it named them last
  restoring the backup whose restore has not come to its end
  left-*/   a tmp/ whose files another user owns    env-written  names what the configuration put into .env
  purged, compiled   what became of the assets last: assets.py, in_place.py
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from server import releases
from server.commands import Docker, Phase, keep_newest
from server.containers import OneOffs
from server.errors import Failure, Refusal, StepError, Terminated, Told
from server.hidden import hide_values
from server.output import Output, fit
from server.preparation import CANDIDATE
from server.project_files import user
from server.request import Request, RequestError, StepName, Strategy, load
from server.run import LEFT, Run, file_timestamp, read_line, timestamp

LOCK_WAIT = 60
"""Seconds to wait for another step to end, if the step's own time is not shorter."""
KEPT_LOGS = 50
NICENESS = 15
"""Where the processor is short, visitors and the new container come first. Not 19: a rollout must come to its end."""


def main(arguments: list[str], text: str | None = None, program: Path | None = None) -> int:
    """Runs a step; returns the exit status.

    arguments: the step's name
    text:      the request; by default it is on standard input
    program:   the directory in which this program was unpacked, where it was brought for this one step
    """
    _prepare_process()
    try:
        step = StepName(arguments[0] if arguments else "")
        request = load(_standard_input() if text is None else text)
    except RequestError as error:
        print(*fit(f"This server's program does not understand the request: {error}. Try again."), file=sys.stderr)
        return 2
    except ValueError:
        print(*fit(f"'{' '.join(arguments)}' is not a step"), file=sys.stderr)
        return 2
    output = Output(str(step), Path(os.devnull), keeps_log=False)
    try:
        return _begin(step, request, output, program)
    except StepError as error:
        output.report(error)
    except Terminated as error:
        output.complain(f"{step}: somebody ended this.")
        return 128 + error.number
    except Exception as error:  # noqa: BLE001 - nothing may end without a word
        output.complain(
            f"{step}: ended unexpectedly. {type(error).__name__}: {error}", *traceback.format_exc().splitlines()
        )
    return 1


def _standard_input() -> str:
    with open(0, encoding="utf-8", errors="replace") as file:
        return file.read()


def _prepare_process() -> None:
    # What is opened here must not become one of the standard streams, should the caller have closed one.
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    # When the connection is cut, the step runs on to its end: half a rollout is worse than one nobody watches.
    for number in (signal.SIGHUP, signal.SIGPIPE):
        signal.signal(number, signal.SIG_IGN)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _terminate)
    os.umask(0o077)
    os.environ["LC_ALL"] = "C"
    with suppress(OSError):
        os.nice(NICENESS)


def _terminate(number: int, _frame: Any) -> None:
    # Once: what follows is the cleaning up.
    for ending in (signal.SIGINT, signal.SIGTERM):
        signal.signal(ending, signal.SIG_IGN)
    raise Terminated(number)


def _begin(step: StepName, request: Request, output: Output, program: Path | None) -> int:
    variables = _enter(request)
    if step is StepName.INSTALL:
        return _install(request, output, program, variables)
    if step is StepName.FACTS:
        return _tell_facts(request, output, variables)
    return _run(step, request, output, variables)


def _enter(request: Request) -> dict[str, str]:
    """Into the project's directory, without the variables that would make Compose take it for another project.

    Returns these.
    """
    try:
        os.chdir(request.directory)
    except OSError:
        raise Refusal(
            f"There is no directory {request.directory} for {user()} (app.directory).",
            f"Correct app.directory; or make the directory, and let {user()} own it.",
        ) from None
    # The name by which one goes there is part of the project's, where it is a symbolic link.
    os.environ["PWD"] = request.directory
    removed = [name for name in os.environ if name.startswith("COMPOSE_") or name == "DOCKER_DEFAULT_PLATFORM"]
    variables = {name: os.environ.pop(name) for name in removed}
    host = os.environ.get("DOCKER_HOST", "")
    if host and not host.startswith("unix://"):
        raise Refusal(f"DOCKER_HOST is {host}: the containers would not be on this server.", "Unset it at login.")
    return variables


def _install(request: Request, output: Output, program: Path | None, variables: dict[str, str]) -> int:
    """Writes nothing in the directory until every check has passed."""
    from server.install import install  # noqa: PLC0415 - each step loads what it needs: that is most of its start

    with _beside(output) as scratch:
        phase = Phase.begin(str(StepName.INSTALL), request.limits[StepName.INSTALL])
        run = Run(StepName.INSTALL, request, output, Docker(output, phase), variables=variables)
        install(run, scratch, program or Path())
    return 0


@contextmanager
def _beside(output: Output) -> Iterator[Path]:
    """A directory elsewhere, for as long as a step lasts that must not write in the project's: the log is there."""
    with tempfile.TemporaryDirectory(prefix="releve-") as directory:
        output.log = Path(directory) / "log"
        output.log.touch()
        try:
            yield Path(directory)
        except StepError as error:
            # As long as there is a log, whose end is a part of it.
            output.report(error)
            raise Told from error


def _tell_facts(request: Request, output: Output, variables: dict[str, str]) -> int:
    """Without the lock, and without a trace: nothing is written in the project's directory."""
    from server import facts, survey  # noqa: PLC0415 - as above

    with _beside(output):
        phase = Phase.begin(str(StepName.FACTS), request.limits[StepName.FACTS])
        run = Run(StepName.FACTS, request, output, Docker(output, phase), variables=variables)
        print(facts.tell(run) if request.services else survey.tell(run))
    return 0


# ----------------------------------------------------------------------------------------------- a step, under the lock


def _run(step: StepName, request: Request, output: Output, variables: dict[str, str]) -> int:
    phase = Phase.begin(str(step), request.limits[step])
    state = Path(request.directory) / ".releve"
    with _locked(state, step, request, phase), (state / "children").open("a") as marker:
        run = Run(step, request, output, Docker(output, phase, marker.fileno()), variables=variables)
        hide_values(run)
        _note_interrupted_run(run)
        _remove_scratch(run)
        run.scratch.mkdir()
        try:
            (run.scratch / "step").write_text(f"{step}\n")
            _start_log(run)
            _clear_leftovers(run, marker.fileno())
            _step(run)
        except BaseException as error:
            if not isinstance(error, Told):
                with suppress(OSError):
                    name = getattr(getattr(error, "phase", None), "name", "")
                    releases.record(run, "failed", phase=name, previous=releases.linked(state, "current"))
            raise
        finally:
            _remove_scratch(run)
            (run.directory / CANDIDATE).unlink(missing_ok=True)
    return 0


def _step(run: Run) -> None:
    # Each step loads what it needs: that is most of its start.
    if run.step is StepName.PULL:
        from server.pull import pull  # noqa: PLC0415

        return pull(run)
    if run.step is StepName.DUMP:
        return _dump(run)
    if run.step in (StepName.RESTORE, StepName.REHEARSE):
        return _recover(run)
    if run.request.strategy is Strategy.IN_PLACE:
        from server import in_place  # noqa: PLC0415

        steps = {
            StepName.STOP: in_place.stop, StepName.PURGE_ASSETS: in_place.purge_assets,
            StepName.PRECOMPILE: in_place.precompile, StepName.UP: in_place.up, StepName.VERIFY: in_place.verify,
        }  # fmt: skip
    else:
        from server import staged  # noqa: PLC0415

        steps = {
            StepName.PRECOMPILE: staged.precompile, StepName.UP: _up,
            StepName.AFTER_UP: staged.after_up, StepName.PURGE: staged.purge,
        }  # fmt: skip
    if run.step not in steps:
        raise Refusal(f"The strategy {run.request.strategy} has no step {run.step}.")
    return steps[run.step](run)


def _up(run: Run) -> None:
    from server import staged  # noqa: PLC0415

    if run.request.strategy is Strategy.ROLLING:
        from server.rolling import Rolling  # noqa: PLC0415

        staged.up(run, Rolling())
    else:
        staged.up(run, staged.Switch())


def _recover(run: Run) -> None:
    if run.step is StepName.RESTORE:
        from server.restore import restore  # noqa: PLC0415

        return restore(run)
    from server.rehearse import rehearse  # noqa: PLC0415

    return rehearse(run)


def _dump(run: Run) -> None:
    """On demand."""
    from server.database import Database  # noqa: PLC0415
    from server.migrations import named  # noqa: PLC0415
    from server.placement import own_compose, read_project  # noqa: PLC0415

    project = read_project(run, run.docker)
    docker = run.begin(StepName.DUMP)
    database = Database.find(run, docker, project, named(run, docker, project))
    database.dump(docker, own_compose(run, project), "on-demand")


@contextmanager
def _locked(state: Path, step: StepName, request: Request, phase: Phase) -> Iterator[None]:
    """While this lasts, nobody else works on the directory. The kernel frees the lock when the process dies."""
    release = request.image.tag if request.image else "on-demand"
    limit = time.monotonic() + LOCK_WAIT
    with (state / "lock").open("a+") as lock:
        while not _try_lock(lock.fileno()):
            if time.monotonic() >= limit or phase.is_over:
                raise Failure(
                    f"Another step works on {request.directory}: {read_line(state / 'lock')}",
                    "Wait for its end, then try again.", phase,
                )  # fmt: skip
            time.sleep(0.2)
        lock.truncate(0)
        lock.write(f"process {os.getpid()}, step {step}, release {release}, since {timestamp(time.time())}\n")
        lock.flush()
        yield


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _note_interrupted_run(run: Run) -> None:
    """Of one that was killed, which had no chance to."""
    if run.scratch.is_dir():
        killed_in = read_line(run.scratch / "step")
        known = killed_in in [str(step) for step in StepName]
        releases.record(replace(run, step=StepName(killed_in)) if known else run, "interrupted")


def _remove_scratch(run: Run) -> None:
    shutil.rmtree(run.scratch, ignore_errors=True)
    if run.scratch.exists():
        # Files of a container's user, which this login cannot remove; `purge` can.
        run.scratch.rename(run.state / f"{LEFT}{file_timestamp()}-{os.getpid()}")


def _start_log(run: Run) -> None:
    """One a run: pull begins it, the steps after it and its retries go on."""
    directory, latest = run.state / "log", run.state / "latest.log"
    directory.mkdir(exist_ok=True)
    release = run.request.image.tag if run.request.image else "on-demand"
    log = directory / latest.readlink().name if latest.is_symlink() else directory / "none"
    if run.step is StepName.PULL or not log.name.endswith(f"-{release}.log") or not log.exists():
        log = directory / f"{file_timestamp()}-{release}.log"
        log.write_bytes(b"")
        new = run.state / "latest.new"
        new.unlink(missing_ok=True)
        new.symlink_to(f"log/{log.name}")
        new.replace(latest)
        keep_newest(directory, KEPT_LOGS)
    run.output.begin_log(log)


def _clear_leftovers(run: Run, marker: int) -> None:
    """Of a killed run: its one-off containers, and its docker commands, which hold `children` until they end."""
    OneOffs.of(run.request).remove(run.docker)
    if _try_lock(marker):
        return
    run.say("waiting for a docker command of a killed run")
    while not _try_lock(marker):
        if run.docker.phase.is_over:
            raise run.docker.failure(
                "A docker command of a killed run is still running.", "Wait for its end, or end it."
            )
        time.sleep(0.2)
