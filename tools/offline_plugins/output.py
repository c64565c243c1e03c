"""What a command prints: kept for the outputs and errors of its step, and shown line by line while it runs."""

from collections.abc import Awaitable, Callable
from enum import StrEnum

_LONGEST_LINE_SHOWN = 1000


class Stream(StrEnum):
    """A stream of a process."""

    STDOUT = "stdout"
    STDERR = "stderr"


_SHOWN = {
    None: frozenset(Stream),
    "stdoutAndStderr": frozenset(Stream),
    "stdout": frozenset({Stream.STDOUT}),
    "stderr": frozenset({Stream.STDERR}),
    "none": frozenset[Stream](),
}


class Output:
    """Collects both streams of one command.

    Args:
        logging: the input of this name: which streams are shown while the command runs; all of them unless given
        show: shows one line

    A line of any length is collected whole; of a long one only the beginning is shown.
    """

    def __init__(self, logging: str | None, show: Callable[[str], Awaitable[None]]) -> None:
        self._shown = _SHOWN[logging]
        self._show = show
        self._collected = {stream: bytearray() for stream in Stream}
        self._both = bytearray()
        self._unfinished = {stream: bytearray() for stream in Stream}

    async def feed(self, stream: Stream, chunk: bytes) -> None:
        """Takes what a stream brought; an empty chunk is its end."""
        self._collected[stream] += chunk
        self._both += chunk
        if stream in self._shown:
            *lines, rest = (self._unfinished[stream] + chunk).split(b"\n")
            for line in lines if chunk else [rest]:
                if line.strip():
                    await self._show(_text(line[:_LONGEST_LINE_SHOWN]))
            self._unfinished[stream] = rest[:_LONGEST_LINE_SHOWN]

    def text(self, stream: Stream) -> str:
        """All of a stream, without its last newline."""
        return _text(self._collected[stream]).removesuffix("\n")

    @property
    def both(self) -> str:
        """Both streams, in the order in which they arrived."""
        return _text(self._both)


def _text(data: bytes | bytearray) -> str:
    return data.decode(errors="replace")
