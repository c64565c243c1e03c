"""Visitors of a site: requests of every kind, at a steady pace, and which of them were answered."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum

import httpx

INTERVAL = 0.02
"""Seconds between the starts of two requests, where nothing else is said."""
SLOW = 3
"""Seconds that a slow request takes."""
PATIENCE = 5.0
"""Seconds after which a request counts as failed, besides those that a slow one takes, where nothing else is said."""


class Kind(StrEnum):
    """The requests, in turn."""

    PAGE = "/"
    OLD_ASSET = "asset of the old release"
    NEW_ASSET = "asset of the new release"
    HEALTH = "/health"
    POST = "POST /visits"
    SLOW = f"a request of {SLOW} s"


STEADY = (Kind.PAGE, Kind.OLD_ASSET, Kind.NEW_ASSET, Kind.HEALTH, Kind.POST)


@dataclass(frozen=True)
class Request:
    """One request: when it began, the seconds it took, and what came of it, a status or the name of an error."""

    kind: Kind
    began: float
    seconds: float
    outcome: str

    @property
    def answered(self) -> bool:
        """Status 400 and above is no answer: a page without its stylesheet is not what the visitor came for."""
        return self.outcome < "400"


@contextmanager
def visitors(
    url: str, paths: Mapping[Kind, str], *, interval: float = INTERVAL, patience: float = PATIENCE, slow: int = 1
) -> Iterator[list[Request]]:
    """Requests of another thread, until the context ends; the list is complete then.

    url:      the site's address
    paths:    what is asked for the kinds that need a path
    interval: seconds between the starts of two requests
    patience: seconds after which a request counts as failed, besides those that a slow one takes
    slow:     how many slow requests are begun each second
    Returns what was asked, which began at a time of time.monotonic(), in seconds.
    """
    requests: list[Request] = []
    over = threading.Event()
    asking = _Visitors(url, paths, interval, patience, slow)
    thread = threading.Thread(target=lambda: asyncio.run(asking.ask_until(over, requests)), daemon=True)
    thread.start()
    try:
        yield requests
    finally:
        over.set()
        thread.join()


@dataclass(frozen=True)
class _Visitors:
    url: str
    paths: Mapping[Kind, str]
    interval: float
    patience: float
    slow: int

    async def ask_until(self, over: threading.Event, requests: list[Request]) -> None:
        # A connection for each request, as each visitor has one of his own.
        limits = httpx.Limits(max_keepalive_connections=0)
        async with (
            httpx.AsyncClient(base_url=self.url, timeout=self.patience, limits=limits, trust_env=False) as client,
            asyncio.TaskGroup() as tasks,
        ):
            began, number = time.monotonic(), 0
            while not over.is_set():
                kinds = [STEADY[number % len(STEADY)]]
                if number % round(1 / self.interval) == 0:
                    kinds += [Kind.SLOW] * self.slow
                for kind in kinds:
                    tasks.create_task(self._ask(client, kind, requests))
                number += 1
                await asyncio.sleep(max(0.0, began + number * self.interval - time.monotonic()))

    async def _ask(self, client: httpx.AsyncClient, kind: Kind, requests: list[Request]) -> None:
        began = time.monotonic()
        try:
            match kind:
                case Kind.POST:
                    answer = await client.post("/visits", data={"visit[name]": "of the benchmark"})
                case Kind.SLOW:
                    answer = await client.get("/slow", params={"seconds": SLOW}, timeout=SLOW + self.patience)
                case _:
                    answer = await client.get(self.paths[kind])
            outcome = str(answer.status_code)
        except httpx.HTTPError as error:
            outcome = type(error).__name__
        requests.append(Request(kind, began, time.monotonic() - began, outcome))
