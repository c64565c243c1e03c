"""A small web server made of raw sockets: it answers what a test wants, also what no web server should."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

Pieces = bytes | Sequence[bytes | float]
"""An answer: what is sent, in one piece or in several; a number is seconds of silence. Then the connection ends."""

NEVER: Pieces = (60.0,)
"""The connection is accepted, and nothing comes."""
NOTHING: Pieces = b""
"""The connection is accepted, and ends."""


@dataclass(frozen=True)
class Asked:
    """A request that arrived. Names of headers are in small letters; address: the one that was asked."""

    method: str
    target: str
    headers: dict[str, str]
    address: str


Answer = Pieces | Callable[[Asked], Pieces]


def response(status: int = 200, body: str | bytes = b"", *headers: str, reason: str = "OK") -> bytes:
    """An answer as web servers give it, with its length."""
    content = body.encode() if isinstance(body, str) else body
    lines = [f"HTTP/1.1 {status} {reason}", "Server: puma", f"Content-Length: {len(content)}", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + content


WELL = response(200, '{"status":"ok"}')


@dataclass
class WebServer:
    """Listens on a port of its own until it is closed, on each of the addresses of this machine that are given.

    record: the file of the stubs' calls, which gets a line for each request, or None
    answer: to whatever is asked
    asked:  all requests, in order
    """

    name: str
    record: Path | None = None
    addresses: Sequence[str] = ("127.0.0.1",)
    answer: Answer = WELL
    asked: list[Asked] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._closed = threading.Event()
        first, *others = self.addresses
        self._listeners = [socket.create_server((first, 0))]
        self.port: int = self._listeners[0].getsockname()[1]
        self._listeners += [socket.create_server((address, self.port)) for address in others]
        for listener in self._listeners:
            threading.Thread(target=self._listen, args=(listener,), daemon=True).start()

    @property
    def url(self) -> str:
        """Its address, without a slash at the end."""
        return f"http://{self.addresses[0]}:{self.port}"

    def close(self) -> None:
        """Nobody listens any more, and no answer is waited for."""
        self._closed.set()
        for listener in self._listeners:
            # close() alone does not wake the thread that accepts.
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()

    def _listen(self, listener: socket.socket) -> None:
        while not self._closed.is_set():
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            try:
                head = _read_head(connection)
                if head is None:  # somebody looked whether the port is open
                    return
                asked = _parse(head, connection.getsockname()[0])
                self._note(asked)
                answer = self.answer(asked) if callable(self.answer) else self.answer
                for piece in [answer] if isinstance(answer, bytes) else answer:
                    if isinstance(piece, bytes):
                        connection.sendall(piece)
                    else:
                        self._closed.wait(piece)
            except OSError:
                pass  # who asked does not listen any more

    def _note(self, asked: Asked) -> None:
        self.asked.append(asked)
        if self.record:
            words = ("http", self.name, asked.method, asked.target, asked.address)
            with self.record.open("a") as file:
                file.write("".join(f"{word}\x1f" for word in words) + "\x1e")


def _read_head(connection: socket.socket) -> str | None:
    received = b""
    while b"\r\n\r\n" not in received:
        more = connection.recv(65536)
        if not more:
            return None
        received += more
    return received.partition(b"\r\n\r\n")[0].decode("latin-1")


def _parse(head: str, address: str) -> Asked:
    first, *lines = head.split("\r\n")
    method, target, _ = first.split(" ")
    headers = (line.partition(":") for line in lines)
    return Asked(method, target, {name.lower(): value.strip() for name, _, value in headers}, address)
