"""Sockets of a container at one port, as this server's kernel shows them (proc_pid_net(5))."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ESTABLISHED, LISTEN = "01", "0A"
"""States, in hexadecimal."""


@dataclass(frozen=True)
class _Socket:
    """waiting: what is to be read; of a socket that listens, the connections that it has not accepted yet."""

    address: str
    port: int
    state: str
    waiting: int


def _sockets(process: int) -> Iterator[_Socket]:
    """All of TCP in the network of a process; none where that is not shown."""
    for name in ("tcp", "tcp6"):
        try:
            lines = Path(f"/proc/{process}/net/{name}").read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            address, _, port = fields[1].rpartition(":")
            # The field is tx_queue:rx_queue.
            yield _Socket(address, int(port, 16), fields[3], int(fields[4].partition(":")[2], 16))


def listening(process: int) -> set[int]:
    """The ports on which somebody listens in the network of a process, for others; none where that is not shown."""
    return {it.port for it in _sockets(process) if it.state == LISTEN and not _is_local(it.address)}


def _is_local(address: str) -> bool:
    """Whether it is one of 127.0.0.0/8, which the kernel writes the other way round: 127.0.0.1 is 0100007F."""
    return len(address) == len("0100007F") and address.endswith("7F")


def queues(process: int, port: int) -> Iterator[int]:
    """For each socket that listens on `port` in the network of a process, the connections that wait there."""
    return (it.waiting for it in _sockets(process) if (it.port, it.state) == (port, LISTEN))


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
    return any((it.port, it.state) == (port, ESTABLISHED) for it in _sockets(process))
