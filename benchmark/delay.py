"""A server that is farther away: a TCP proxy on this machine that holds back what passes."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager

HOST = "127.0.0.1"


@contextmanager
def delayed(port: int, round_trip: float) -> Iterator[int]:
    """A port that leads to `port` of this machine, with `round_trip` seconds there and back; closed afterwards."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # A handshake of its own takes a round trip before anything can be sent.
        await asyncio.sleep(round_trip)
        farther_reader, farther_writer = await asyncio.open_connection(HOST, port)
        await asyncio.gather(_pass_on(reader, farther_writer), _pass_on(farther_reader, writer))

    async def _pass_on(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        def write(data: bytes) -> None:
            if data:
                target.write(data)
            else:
                target.close()

        data = b"-"
        while data:
            try:
                data = await source.read(65536)
            except ConnectionError:
                data = b""
            # What comes later is read meanwhile: this is a long line, not a slow one.
            loop.call_later(round_trip / 2, write, data)

    server = asyncio.run_coroutine_threadsafe(asyncio.start_server(accept, HOST, 0), loop).result()
    try:
        yield int(server.sockets[0].getsockname()[1])
    finally:
        loop.call_soon_threadsafe(server.close)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
