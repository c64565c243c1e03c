"""Prints the first port of a block of free ones: python3 free_ports.py SEED COUNT.

The search starts at a place that depends on the seed, so that two sandboxes rarely look at the same ports, and stays
below 32768, where Linux begins to hand out ports of its own accord: a recorded port is still free after a restart.
"""

import socket
import sys
import zlib

FIRST, LAST = 20000, 32000


def is_free(port: int) -> bool:
    """Whether a server could listen on 127.0.0.1:port now."""
    with socket.socket() as candidate:
        candidate.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            candidate.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def free_block(seed: str, count: int) -> int:
    """First port of `count` consecutive free ones.

    Raises:
        RuntimeError: no block of that size is free.
    """
    blocks = (LAST - FIRST) // count
    start = zlib.crc32(seed.encode()) % blocks
    for step in range(blocks):
        first = FIRST + (start + step) % blocks * count
        if all(is_free(port) for port in range(first, first + count)):
            return first
    message = f"no {count} consecutive ports are free between {FIRST} and {LAST}"
    raise RuntimeError(message)


if __name__ == "__main__":
    print(free_block(sys.argv[1], int(sys.argv[2])))
