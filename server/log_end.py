"""The end of an application's log, with what it says rather than how it came to it."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator

LINES = 500
"""Lines of a log that are looked at: a Rails application that fails to start prints over a hundred for one error."""
FRAMES = 3
"""Of a stack trace, those that are kept."""
_FRAME = re.compile(r"\s+(from|at) \S.*|\S+:\d+:in [`'][^']*'\s*|\s+\S+:\d+:in [`'].*")
"""Ruby's, after the error, and without it as loggers print them; Java's and JavaScript's."""


def end_of(text: str, count: int) -> str:
    """The last lines of a log, not more than `count`, of stack traces only the beginning: the error is before it."""
    return "".join(f"{line}\n" for line in list(_shortened(text.splitlines()[-LINES:]))[-count:])


def _shortened(lines: list[str]) -> Iterator[str]:
    for is_frame, group in itertools.groupby(lines, lambda line: _FRAME.fullmatch(line) is not None):
        run = list(group)
        yield from run[:FRAMES] if is_frame else run
        if is_frame and len(run) > FRAMES:
            yield f"\t… {len(run) - FRAMES} more"
