"""What people are told of."""

from __future__ import annotations

from enum import StrEnum


class Event(StrEnum):
    """The words of `notify.on`."""

    RELEASED = "released"
    FAILED = "failed"
    RESTORED = "restored"
    DRIFT = "drift"
