"""How a step ends that cannot go on."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from server.commands import Phase


class StepError(Exception):
    """What is wrong, and what to do about it, in words for the operator."""

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy


class Refusal(StepError):
    """What is asked for cannot or must not be done here; nothing was changed."""


class Failure(StepError):
    """Something that was tried has failed; the end of the log says why.

    phase: in which part of the step, whose time may be over
    """

    def __init__(self, message: str, remedy: str = "", phase: Phase | None = None) -> None:
        super().__init__(message, remedy)
        self.phase = phase


class Told(StepError):
    """The step has failed, has said why, and is in the history: nothing is left to say."""

    def __init__(self) -> None:
        super().__init__("")


class Terminated(BaseException):
    """Somebody ends the program by a signal. No Exception: nothing but the cleaning up on the way may catch it."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number
