"""Sockets of a container at one port, as this server's kernel shows them (proc_pid_net(5))."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

ESTABLISHED, LISTEN = "01", "0A"
"""States, in hexadecimal."""


def _sockets(process: int, port: int, state: str) -> Iterator[int]:
    """Those of the port `port` in the network of a process that are in this state: what waits in each to be read."""
    for name in ("tcp", "tcp6"):
        try:
            lines = Path(f"/proc/{process}/net/{name}").read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            if fields[3] == state and int(fields[1].rpartition(":")[2], 16) == port:
                # The field is tx_queue:rx_queue.
                yield int(fields[4].partition(":")[2], 16)


def queues(process: int, port: int) -> Iterator[int]:
    """For each socket that listens on `port` in the network of a process, the connections that wait there."""
    return _sockets(process, port, LISTEN)


def shows(process: int) -> bool:
    """Whether this server shows the sockets of a process."""
    try:
        return bool(Path(f"/proc/{process}/net/tcp").read_text())
    except OSError:
        return False


def someone_listens(process: int, port: int) -> bool:
    """Whether a socket listens on `port` in the network of a process."""
    return any(True for _ in queues(process, port))


def someone_waits(process: int, port: int) -> bool:
    """Whether connections to `port` wait to be accepted, in the network of a process."""
    return any(queues(process, port))


def someone_is_connected(process: int, port: int) -> bool:
    """Whether connections to `port` are open, in the network of a process: a proxy has one for each request."""
    return any(True for _ in _sockets(process, port, ESTABLISHED))
