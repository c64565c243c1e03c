"""Something that goes on beside the rest of a step, and is waited for."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

Result = TypeVar("Result")


class Background(Generic[Result]):
    """A function at work.

    Whoever begins one waits for it, in every outcome: nothing goes on behind a restore's back.
    """

    def __init__(self, work: Callable[[], Result]) -> None:
        self._result: Result | None = None
        self._error: BaseException | None = None

        def do() -> None:
            try:
                self._result = work()
            except BaseException as error:  # noqa: BLE001 - raised where it is waited for
                self._error = error

        self._thread = threading.Thread(target=do, daemon=True)
        self._thread.start()

    def wait(self) -> None:
        """Until it has ended, however."""
        self._thread.join()

    def result(self) -> Result:
        """What the function returned, or raises what it raised, when it has ended."""
        self.wait()
        if self._error is not None:
            raise self._error
        return self._result  # type: ignore[return-value] # there is one where there is no error
