"""Listening sockets of a container, as this server's kernel shows them (proc_pid_net(5))."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

LISTEN = "0A"
"""The state, in hexadecimal."""


def listening(process: int) -> set[int]:
    """The ports on which somebody listens in the network of a process, for others; none where that is not shown."""
    ports = set()
    for name in ("tcp", "tcp6"):
        for address, port, _ in _listeners(process, name):
            # The kernel writes 127.0.0.1 as 0100007F.
            if not (name == "tcp" and address.endswith("7F")):
                ports.add(port)
    return ports


def _listeners(process: int, name: str) -> Iterator[tuple[str, int, str]]:
    """Address and port of each socket that listens, and its queues."""
    try:
        lines = Path(f"/proc/{process}/net/{name}").read_text().splitlines()[1:]
    except OSError:
        return
    for line in lines:
        fields = line.split()
        if fields[3] == LISTEN:
            address, _, port = fields[1].rpartition(":")
            yield address, int(port, 16), fields[4]


def queues(process: int, port: int) -> Iterator[int]:
    """For each socket that listens on `port` in the network of a process, the connections that wait there."""
    for name in ("tcp", "tcp6"):
        for _, listened, queued in _listeners(process, name):
            if listened == port:
                # tx_queue:rx_queue; of a socket that listens the second is their number.
                yield int(queued.partition(":")[2], 16)


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
