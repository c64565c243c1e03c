"""Listening sockets of a container, as this server's kernel shows them (proc_pid_net(5))."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

LISTEN = "0A"
"""The state, in hexadecimal."""


def queues(process: int, port: int) -> Iterator[int]:
    """For each socket that listens on `port` in the network of a process, the connections that wait there."""
    for name in ("tcp", "tcp6"):
        try:
            lines = Path(f"/proc/{process}/net/{name}").read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            if fields[3] == LISTEN and int(fields[1].rpartition(":")[2], 16) == port:
                # tx_queue:rx_queue; of a socket that listens the second is their number.
                yield int(fields[4].partition(":")[2], 16)


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
