"""Whose turn it is with the build context: its path is the same for all stacks of a checkout, of which several may run.

From the export until the image is built nobody else may write there: the image of one release would be made of the
source of another.
"""

from __future__ import annotations

import fcntl
from pathlib import Path
from typing import IO


class ContextLock:
    """One process at a time has it; the kernel frees it when that ends, however it ends.

    directory: the context; the lock is a file beside it
    """

    def __init__(self, directory: Path) -> None:
        self._path = directory.with_name(f"{directory.name}.lock")
        self._held: IO[str] | None = None

    def take(self) -> bool:
        """Whether this process has it now; returns at once. Raises OSError where the disk fails."""
        if self._held is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            file = self._path.open("a")  # not inherited by what this process starts
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.close()
                return False
            self._held = file
        return True

    def free(self) -> None:
        """Lets the next one have it."""
        if self._held is not None:
            self._held.close()
            self._held = None
