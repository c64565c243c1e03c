"""What a step says: progress on stdout, reasons on stderr, everything else in the log."""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from server.errors import Failure, StepError, Told
from server.log_end import end_of

LONGEST = 500
"""Bytes of a line of an error: the SSH plugin hangs at a line over 64 KiB, and nobody reads so much."""
TAIL = 60
"""Lines of the log that an error shows."""
EVERY = 5.0
"""Seconds between two lines about something that takes long."""
_LONGEST_STATE = 120
"""Characters of what such a line says besides."""
_LARGEST_TAIL = 8 << 20
"""Bytes at the end of the log in which these are looked for."""
COLOURS = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
"""A terminal's, in what programs print."""
_COMMAND = "+ "
"""What the line of a command begins with in the log."""
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


class Output:
    """One run's words. Saying something never fails: without a listener the work goes on.

    step: named at the beginning of each line of progress
    log:  the file that gets all that commands print
    keeps_log: it stays, for people to read
    """

    def __init__(self, step: str, log: Path, *, keeps_log: bool = True) -> None:
        self.step = step
        self.log = log
        self.keeps_log = keeps_log
        self.log_start = 0
        self._since = time.monotonic()
        self._shown: Callable[[str], str] = str

    def hide(self, shown: Callable[[str], str]) -> None:
        """From now on a text is shown as `shown` gives it back: without what is secret in it."""
        self._shown = shown

    def begin_log(self, log: Path) -> None:
        """From now on this is the log; what was there before is of other steps."""
        self.log, self.keeps_log, self.log_start = log, True, log.stat().st_size

    def say(self, message: str) -> None:
        """A line of progress, with the seconds since the one before."""
        now = time.monotonic()
        took, self._since = now - self._since, now
        _write(1, f"{self.step}: {self._shown(message)} ({took:.1f} s)\n")

    @contextmanager
    def waiting(self, what: str, state: Callable[[], str]) -> Iterator[None]:
        """While this lasts, a line every few seconds tells whoever waits how long it has been, and how it stands."""
        over, began = threading.Event(), time.monotonic()

        def tell() -> None:
            while not over.wait(EVERY):
                told = "".join(fit(self._shown(state()).strip()))[:_LONGEST_STATE]
                _write(1, f"{self.step}: {what}, {time.monotonic() - began:.0f} s so far{told and ': '}{told}\n")

        threading.Thread(target=tell, daemon=True).start()
        try:
            yield
        finally:
            over.set()

    def last_line(self) -> str:
        """Of the log: what the command at work said last, "" as long as it has said nothing."""
        try:
            with self.log.open("rb") as file:
                file.seek(max(self.log_start, file.seek(0, os.SEEK_END) - (LONGEST << 3)))
                last = (file.read().decode(errors="ignore").rstrip().splitlines() or [""])[-1]
                return "" if last.startswith(_COMMAND) else last
        except OSError:
            return ""

    def forget_time(self) -> None:
        """What has passed so far is not counted for the next line."""
        self._since = time.monotonic()

    def complain(self, *lines: str) -> None:
        """Lines of an error, each fit for a terminal and for the connection."""
        _write(2, "".join(f"{line}\n" for line in fit(self._shown("\n".join(lines)))))

    def note(self, words: Sequence[str]) -> None:
        """A command, into the log. A log that cannot be written, on a full disk, is no reason to stop half way."""
        # Of a program its first line tells.
        line = " ".join(words).partition("\n")[0]
        self.append(f"{_COMMAND}{line}\n".encode(errors="surrogateescape"))

    def append(self, text: bytes) -> None:
        """Into the log, if there is room for it."""
        try:
            with self.opened() as file:
                file.write(text)
        except OSError:
            pass

    def opened(self) -> BinaryIO:
        """The log, for a command to write to."""
        return self.log.open("ab", buffering=0)

    def logged(self, since: int | None = None) -> str:
        """What this step, or what came after byte `since`, has put into the log; of much only the end."""
        start = self.log_start if since is None else since
        try:
            with self.log.open("rb") as file:
                file.seek(max(start, file.seek(0, os.SEEK_END) - _LARGEST_TAIL))
                return file.read().decode(errors="ignore")
        except OSError:
            return ""

    def report(self, error: StepError) -> None:
        """Why a step fails: what is wrong, the end of the log where that says more, and what to do."""
        if isinstance(error, Told):
            return
        lines = [f"{self.step}: {error.message}"]
        if isinstance(error, Failure):
            phase = error.phase
            if phase and phase.is_over:
                lines.append(f"The time allowed for this, {phase.seconds} s, is over ({phase.setting}).")
            lines += end_of(self.logged(), TAIL).splitlines()
            if self.keeps_log:
                lines.append(f"The whole log, on the server: {self.log}")
        self.complain(*lines, *([error.remedy] if error.remedy else []))


def fit(text: str) -> Iterable[str]:
    """Lines of valid UTF-8 without control characters, each cut."""
    for line in text.split("\n"):
        cut = COLOURS.sub("", line).encode(errors="ignore")[:LONGEST].decode(errors="ignore")
        yield _CONTROLS.sub("", cut)


def _write(descriptor: int, text: str) -> None:
    data = text.encode(errors="replace")
    try:
        while data:
            data = data[os.write(descriptor, data) :]
    except OSError:
        pass
