"""Questions to web servers that are asked again and again: no more of them than a server bears."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass

from server.answers import Answer

AGAIN = 1.0
"""Seconds between two questions to somebody whose answer is not the wanted one."""
LONGEST_WAIT = 10.0
"""Seconds for which somebody is left alone at most who asks for more: visitors may be waiting."""
TOO_MANY, UNAVAILABLE = 429, 503
OF_PROXY = (502, 504)
"""Statuses that say that the question did not reach the application."""


@dataclass(frozen=True)
class Said:
    """What somebody has said.

    answer: the last one that was none of somebody who wants to be left alone, if there was one
    asked:  the moment of the last question, of the monotonic clock
    wait:   seconds from then on for which they want to be left alone, 0 for none
    """

    answer: Answer
    asked: float
    wait: float = 0.0


class Questions:
    """Those of one step, of whichever part of it: what somebody has answered just now is not asked again."""

    def __init__(self) -> None:
        self._said: dict[Hashable, Said] = {}
        self._locks: dict[Hashable, threading.Lock] = {}

    def ask(self, whom: Hashable, interval: float, question: Callable[[], Answer]) -> Said:
        """What somebody says: asked anew only where they have been left alone for `interval` seconds.

        Whoever does not answer may be asked again at once: that costs nobody anything. Raises NoAnswer as the question
        does.
        """
        with self._locks.setdefault(whom, threading.Lock()):
            before = self._said.get(whom)
            asked = time.monotonic()
            if before and asked < before.asked + max(interval, before.wait):
                return before
            self._said.pop(whom, None)
            answer = question()
            said = Said(answer, asked)
            if answer.status in OF_PROXY:
                return said
            if wait := wait_of(answer):
                said = Said(before.answer if before else answer, asked, wait)
            self._said[whom] = said
            return said

    def forget(self, *whom: Hashable) -> None:
        """Something has changed for these, or for all where none is named: they may be asked anew."""
        for one in whom or tuple(self._said):
            self._said.pop(one, None)


def wait_of(answer: Answer) -> float:
    """Seconds for which somebody wants to be left alone; 0: they do not."""
    if answer.status == TOO_MANY:
        return min(max(answer.retry_after or 0.0, AGAIN), LONGEST_WAIT)
    if answer.status == UNAVAILABLE and answer.retry_after is not None:
        return min(max(answer.retry_after, AGAIN), LONGEST_WAIT)
    return 0.0
