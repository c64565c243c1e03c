"""How far a `docker pull` is: docker tells sizes to a terminal alone, so it gets one."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import IO

from server.output import COLOURS, Output

_ENDS = re.compile(r"[\r\n]+")
"""Of a line: where it is about a layer, docker goes back to the line's beginning and to another one."""
_SIZE = r"(\d+(?:\.\d+)?) ?([kMGT]?)B"
_LAYER = re.compile(rf"([0-9a-f]{{12}}): (\w[a-zA-Z ]*?) *(?:{_SIZE}/{_SIZE})?(?: +\d+ ?s)?")
_UNITS = {"": 1, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}
_TO_COME = ("Pulling fs layer", "Waiting")
_HERE = "Already exists"
_DOWNLOADING = "Downloading"
_LARGEST_READ = 1 << 16
_LISTENING = 5
"""Seconds to hear the end of what docker has said once it has ended."""


@dataclass(frozen=True)
class _Layer:
    """What docker says of it. done, size: bytes, 0 as long as that is not known."""

    status: str
    done: float = 0
    size: float = 0


class Pull:
    """What one pull has said, and how far it is."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self._layers: dict[str, _Layer] = {}

    @contextmanager
    def terminal(self) -> Iterator[IO[bytes] | None]:
        """For docker's stdout. None where the server has none left: then only the end is told."""
        try:
            ours, theirs = os.openpty()
        except OSError:
            yield None
            return
        listening = threading.Thread(target=self._listen, args=(ours,), daemon=True)
        listening.start()
        try:
            with os.fdopen(theirs, "wb", buffering=0) as terminal:
                yield terminal
        finally:
            # It ends when nobody holds the other side any more.
            listening.join(_LISTENING)

    def far(self) -> str:
        """How far it is, in megabytes as docker counts them; "" as long as nothing is known."""
        layers = [layer for layer in self._layers.values() if layer.status != _HERE]
        done, size = (sum(getattr(layer, name) for layer in layers) / 1e6 for name in ("done", "size"))
        if not size:
            return ""
        if any(layer.status in _TO_COME for layer in layers):
            return f"{done:.0f} MB of at least {size:.0f} MB"
        if all(layer.status != _DOWNLOADING for layer in layers):
            return f"{size:.0f} MB are here, and unpacked"
        return f"{done:.0f} MB of {size:.0f} MB"

    def hear(self, line: str) -> None:
        """A line as docker writes it; what a layer says several times with other numbers is logged once."""
        text = COLOURS.sub("", line).strip()
        match = _LAYER.fullmatch(text)
        if not match:
            if text:
                self._log(text)
            return
        name, status, *numbers = match.groups()
        before = self._layers.get(name, _Layer(""))
        if status == _DOWNLOADING and numbers[0]:
            done, size = (float(numbers[at]) * _UNITS[numbers[at + 1]] for at in (0, 2))
            self._layers[name] = _Layer(status, done, size)
        else:
            # What follows the download counts other bytes.
            self._layers[name] = replace(before, status=status, done=before.size)
        if status != before.status:
            self._log(f"{name}: {status}")

    def _log(self, line: str) -> None:
        self._output.append(f"{line}\n".encode(errors="replace"))

    def _listen(self, terminal: int) -> None:
        rest = ""
        # The end of a terminal that nobody holds any more is an error.
        with suppress(OSError), os.fdopen(terminal, "rb", buffering=0) as file:
            while data := file.read(_LARGEST_READ):
                *lines, rest = _ENDS.split(rest + data.decode(errors="replace"))
                for line in lines:
                    self.hear(line)
        self.hear(rest)
