"""A request over HTTP, and whether its answer is the one that is wanted."""

from __future__ import annotations

import io
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from http.client import HTTPException, HTTPResponse
from typing import Any
from urllib.parse import quote, urljoin, urlsplit

LARGEST = 1 << 20
"""Bytes of an answer's body that are looked at, by default."""
_AS_THEY_ARE = "/?&=%:@+,;!$'()*~[]-._"
"""Characters of a path and its query that are sent as they are; others are escaped (RFC 3986)."""


class NoAnswer(Exception):
    """Nobody answered, not in time, or not over HTTP."""


@dataclass(frozen=True)
class Answer:
    """What was answered.

    url:      what was asked last, after redirections that were followed
    location: where a redirection leads
    text:     the body, cut at the largest size that is looked at
    retry_after: seconds for which it asks to be left alone, None where it does not ask
    """

    url: str
    status: int
    location: str
    is_html: bool
    text: str
    retry_after: float | None = None


class _Within(io.RawIOBase):
    """A connection that is read until a moment of the monotonic clock, however slowly the answer comes."""

    def __init__(self, connection: socket.socket, end: float) -> None:
        self._connection = connection
        self._end = end
        self._file = io.BufferedReader(self)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override] # the stubs' Buffer is of Python 3.12
        left = self._end - time.monotonic()
        if left <= 0:
            raise TimeoutError("the answer does not end")
        self._connection.settimeout(left)
        return self._connection.recv_into(buffer)

    def makefile(self, _mode: str) -> Any:
        """What http.client asks a socket for; the same each time, for an answer may follow another (103)."""
        return self._file


def get(
    url: str, headers: Mapping[str, str], timeout: float, *, largest: int = LARGEST, redirections: int = 0
) -> Answer:
    """Asks for a URL, without any proxy, and reads the answer.

    headers: of the request; Host is that of the URL unless they say otherwise
    timeout: seconds for all of it
    largest: bytes of the body that are read
    redirections: that are followed
    Raises NoAnswer.
    """
    end = time.monotonic() + timeout
    while True:
        answer = _get(url, headers, end, largest)
        target = urljoin(answer.url, answer.location)
        if not redirections or answer.status not in (301, 302, 303, 307, 308) or not answer.location:
            return answer
        if urlsplit(target).scheme not in ("http", "https"):
            return answer
        url, redirections = target, redirections - 1


def _get(url: str, headers: Mapping[str, str], end: float, largest: int) -> Answer:
    parts = urlsplit(url)
    path = quote(parts.path or "/", safe=_AS_THEY_ARE) + (
        f"?{quote(parts.query, safe=_AS_THEY_ARE)}" if parts.query else ""
    )
    given = {name.lower() for name in headers}
    lines = [f"GET {path} HTTP/1.1"]
    defaults = {"Host": parts.netloc.rpartition("@")[2], "User-Agent": "releve", "Accept": "*/*"}
    lines += [f"{name}: {value}" for name, value in defaults.items() if name.lower() not in given]
    lines += [f"{name}: {value}" for name, value in {**headers, "Connection": "close"}.items()]
    try:
        with _connected(parts.scheme, parts.hostname or "", parts.port, end) as connection:
            connection.sendall("".join(f"{line}\r\n" for line in [*lines, ""]).encode())
            within = _Within(connection, end)
            responses = [_response(within)]
            while 100 <= responses[-1].status < 200:  # noqa: PLR2004 - informational: the answer follows
                responses.append(_response(within))  # beside the others: one that is gone closes the connection
            return _read(responses[-1], url, largest)
    except (OSError, HTTPException, ValueError) as error:
        raise NoAnswer(str(error) or type(error).__name__) from None


def _connected(scheme: str, host: str, port: int | None, end: float) -> socket.socket:
    left = max(end - time.monotonic(), 0.001)
    if scheme != "https":
        return socket.create_connection((host, port or 80), timeout=left)
    import ssl  # noqa: PLC0415 - it takes a while, and containers are asked without

    connection = socket.create_connection((host, port or 443), timeout=left)
    return ssl.create_default_context().wrap_socket(connection, server_hostname=host)


def _response(within: _Within) -> HTTPResponse:
    response = HTTPResponse(within, method="GET")  # type: ignore[arg-type] # it only needs its makefile
    response.begin()
    return response


def _read(response: HTTPResponse, url: str, largest: int) -> Answer:
    try:
        body = response.read(largest)
    except HTTPException:
        body = b""  # it ended too early; what was read of it is not certain
    try:
        text = body.decode(response.headers.get_content_charset() or "utf-8", errors="replace")
    except LookupError:  # a character set that nobody knows
        text = body.decode(errors="replace")
    return Answer(
        url=url,
        status=response.status,
        location=response.headers.get("Location") or "",
        is_html="html" in (response.headers.get("Content-Type") or ""),
        text=text,
        retry_after=_seconds_until(response.headers.get("Retry-After") or ""),
    )


def _seconds_until(retry_after: str) -> float | None:
    """From seconds, or a date (RFC 9110)."""
    if retry_after.strip().isdigit():
        return float(retry_after)
    try:
        return max(parsedate_to_datetime(retry_after).timestamp() - time.time(), 0.0)
    except (TypeError, ValueError, OverflowError):
        return None


def problem_of(answer: Answer, status: int, contains: Sequence[str]) -> str | None:
    """What is wrong with an answer that should have this status and these texts in its body, or None."""
    if answer.status != status:
        redirect = f", with a redirect to {answer.location[:200]}" if answer.location else ""
        return f"answers {answer.status}{redirect}, not {status}"
    for text in contains:
        if text not in answer.text:
            return f"answers {answer.status}, but without '{text}'"
    return None
