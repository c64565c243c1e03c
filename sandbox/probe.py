"""Measures whether a site answers, while something is done to it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import httpx

INTERVAL = 0.05
"""Seconds between two requests, unless told otherwise."""
PATIENCE = 2.0
"""Seconds after which a request counts as failed: about what a visitor would call down."""


@dataclass
class Downtime:
    """How long the site did not answer, in seconds, and how many requests that was measured with."""

    seconds: float = 0.0
    requests: int = 0
    failed: int = 0


@contextmanager
def probing(url: str, interval: float = INTERVAL) -> Iterator[Downtime]:
    """Asks `url` over and over, every `interval` seconds; the result is complete when the context ends.

    A request fails when there is no answer, or one with status 500 and above. The time from the start of a failed
    request to the start of the next one counts as down.
    """
    downtime = Downtime()
    over = threading.Event()
    thread = threading.Thread(target=_ask, args=(url, interval, over, downtime), daemon=True)
    thread.start()
    try:
        yield downtime
    finally:
        over.set()
        thread.join()


def _ask(url: str, interval: float, over: threading.Event, downtime: Downtime) -> None:
    with httpx.Client(timeout=PATIENCE, trust_env=False) as client:
        while not over.is_set():
            started = time.monotonic()
            try:
                failed = client.get(url).is_server_error
            except httpx.HTTPError:
                failed = True
            over.wait(max(0.0, interval - (time.monotonic() - started)))
            downtime.requests += 1
            if failed:
                downtime.failed += 1
                downtime.seconds += time.monotonic() - started
