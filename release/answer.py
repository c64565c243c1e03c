"""A request to an application that is tried, and whether its answer is the one that is wanted."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

import httpx

from configuration.tree import SmokeTestPath

LARGEST = 8 << 20
"""Bytes of an answer that are looked at; a page that is larger is cut."""


@dataclass(frozen=True)
class Answer:
    """What was answered: `location` is where a redirection leads, `text` the body."""

    url: str
    status: int
    location: str
    is_html: bool
    text: str


def get(address: str, path: str, headers: Mapping[str, str], timeout: float) -> Answer:
    """Asks for a path and reads the answer.

    address: host:port
    headers: of the request; Host is localhost unless they say otherwise
    timeout: seconds for all of it
    Raises httpx.TimeoutException when that was not enough, httpx.HTTPError when there is no answer.
    """
    deadline = time.monotonic() + timeout
    body = bytearray()
    headers = {"Host": "localhost", **headers}
    with httpx.stream("GET", f"http://{address}{path}", headers=headers, timeout=timeout, trust_env=False) as response:
        for part in response.iter_bytes():
            body += part
            if len(body) > LARGEST:
                break
            # The library's own timeout is for each read, and an answer may come drop by drop.
            if time.monotonic() > deadline:
                raise httpx.ReadTimeout("the answer does not end")
        return Answer(
            url=str(response.url),
            status=response.status_code,
            location=response.headers.get("Location", ""),
            is_html="html" in response.headers.get("Content-Type", ""),
            text=bytes(body).decode(response.encoding or "utf-8", errors="replace"),
        )


def problem_of(answer: Answer, wanted: SmokeTestPath) -> str | None:
    """What is wrong with an answer, or None."""
    if answer.status != wanted.status:
        to = f" to {answer.location[:200]}" if answer.location else ""
        problem = f"answers {answer.status}{to} instead of {wanted.status}"
        if answer.location.startswith("https:"):
            problem += "; where the application insists on HTTPS, give the path headers: {X-Forwarded-Proto: https}"
        return problem
    missing = [text for text in wanted.contains if text not in answer.text]
    return f"answers {answer.status}, without {' and '.join(map(repr, missing))}" if missing else None
