"""How a step runs docker.

Within its time, with what it says in the log, and noticed by the next run if it is killed.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

from server.errors import Failure
from server.output import Output

TIME_IS_OVER = 124
"""The status of a command that did not end in its time, as of timeout(1)."""
GRACE = 10
"""Seconds between asking such a command to end and killing it."""
CLEANING = 30
"""Seconds for cleaning up, or for saying what happened, after a phase's own time."""


@dataclass(frozen=True)
class Phase:
    """A part of a step, and the time that it may take.

    name:    as in app.stepTimeouts; `gate` and `verify` are health.timeout
    seconds: that it may take
    end:     of the monotonic clock
    """

    name: str
    seconds: int
    end: float

    @classmethod
    def begin(cls, name: str, seconds: int) -> Phase:
        """A phase that begins now."""
        return cls(name, seconds, time.monotonic() + seconds)

    @property
    def left(self) -> float:
        """Seconds."""
        return self.end - time.monotonic()

    @property
    def is_over(self) -> bool:
        """Whether nothing of it is left."""
        return self.left <= 0

    @property
    def setting(self) -> str:
        """The key that gives its time."""
        return "health.timeout" if self.name in ("gate", "verify") else f"app.stepTimeouts.{self.name}"

    def lasting(self, seconds: float) -> Phase:
        """The same phase with this much time from now on."""
        return replace(self, end=time.monotonic() + seconds)


@dataclass(frozen=True)
class Answer:
    """How a command ended, and what it printed on stdout."""

    status: int
    text: str = ""

    @property
    def succeeded(self) -> bool:
        """Whether it ended well."""
        return self.status == 0


@dataclass(frozen=True)
class Docker:
    """The docker command, as part of a phase.

    phase:   whose time it has
    output:  whose log gets its words
    marker:  a file descriptor that every command holds as long as it runs, so that the next run can wait for those of a
             killed one; or None
    """

    output: Output
    phase: Phase
    marker: int | None = None

    def during(self, phase: Phase) -> Docker:
        """The same for another phase."""
        return replace(self, phase=phase)

    def cleaning_up(self) -> Docker:
        """The same with time to clean up, whatever of the phase's is left."""
        return self.during(self.phase.lasting(CLEANING))

    def run(
        self,
        *words: str,
        stdin: bytes | IO[bytes] = b"",
        stdout: IO[bytes] | None = None,
        state: Callable[[], str] | None = None,
    ) -> int:
        """Runs a command; what it prints goes into the log, or its stdout into a file. Returns its status.

        state: how far it is; by default the last line of the log
        """
        self.output.note(["docker", *words])
        with self.output.opened() as log, self.output.waiting(self.phase.name, state or self.output.last_line):
            return self._run(words, stdin, stdout or log, log).status

    def ask(self, *words: str, stdin: bytes = b"") -> Answer:
        """Runs a command whose stdout is the answer; its errors go into the log."""
        with self.output.opened() as log:
            return self._run(words, stdin, subprocess.PIPE, log)

    def everything(self, *words: str) -> Answer:
        """Runs a command whose answer is all that it prints, errors too; the log gets the command alone."""
        self.output.note(["docker", *words])
        return self._run(words, b"", subprocess.PIPE, subprocess.STDOUT)

    def must(self, *words: str, failing: str, remedy: str = "", stdin: bytes = b"") -> None:
        """Runs a command that must succeed. Raises Failure with the message `failing`."""
        if self.run(*words, stdin=stdin) != 0:
            raise self.failure(failing, remedy)

    def answer(self, *words: str, failing: str, remedy: str = "", stdin: bytes = b"") -> str:
        """What a command that must succeed prints on stdout. Raises Failure with the message `failing`."""
        answer = self.ask(*words, stdin=stdin)
        if not answer.succeeded:
            raise self.failure(failing, remedy)
        return answer.text

    def failure(self, message: str, remedy: str = "") -> Failure:
        """The error of this phase."""
        return Failure(message, remedy, self.phase)

    def spawn(self, *words: str) -> subprocess.Popen[bytes]:
        """Starts a command that is spoken to through its standard streams. Whoever starts it closes its input."""
        self.output.note(["docker", *words])
        with self.output.opened() as log:
            return self._started(words, subprocess.PIPE, subprocess.PIPE, log)

    def _run(
        self, words: Sequence[str], stdin: bytes | IO[bytes], stdout: IO[bytes] | int, log: IO[bytes] | int
    ) -> Answer:
        if self.phase.is_over:
            return Answer(TIME_IS_OVER)
        text = stdin if isinstance(stdin, bytes) else b""
        given = stdin if not isinstance(stdin, bytes) else subprocess.PIPE if text else subprocess.DEVNULL
        with self._started(words, given, stdout, log) as process:
            try:
                said, _ = process.communicate(text or None, timeout=max(self.phase.left, 0.01))
            except subprocess.TimeoutExpired:
                end_group(process)
                return Answer(TIME_IS_OVER)
            except BaseException:
                end_group(process)
                raise
        return Answer(process.returncode, (said or b"").decode(errors="replace"))

    def _started(
        self, words: Sequence[str], stdin: IO[bytes] | int, stdout: IO[bytes] | int, log: IO[bytes] | int
    ) -> subprocess.Popen[bytes]:
        # A process group of its own: `docker compose` is two processes, and both must end when the time is over.
        return subprocess.Popen(
            ["docker", *words],
            stdin=stdin, stdout=stdout, stderr=log, start_new_session=True,
            pass_fds=() if self.marker is None else (self.marker,),
        )  # fmt: skip


def end_group(process: subprocess.Popen[Any]) -> None:
    """Ends a command and what it has started; kills what does not end."""
    _signal(process, signal.SIGTERM)
    try:
        process.wait(GRACE)
    except subprocess.TimeoutExpired:
        _signal(process, signal.SIGKILL)
        process.wait()


def _signal(process: subprocess.Popen[Any], number: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, number)


def keep_newest(directory: Path, count: int) -> None:
    """Removes all but the newest files of a directory of ours."""
    files = sorted((path for path in directory.iterdir()), key=lambda path: path.stat().st_mtime_ns, reverse=True)
    for path in files[count:]:
        path.unlink()
