"""The server's memory, as its kernel tells of it (proc_meminfo(5))."""

from __future__ import annotations

from pathlib import Path


def memory_of_server() -> dict[str, int]:
    """The kernel's names, for example "MemAvailable" → bytes; empty where it does not say."""
    try:
        lines = [line.split() for line in Path("/proc/meminfo").read_text().splitlines()]
    except OSError:
        return {}
    return {words[0].rstrip(":"): int(words[1]) << 10 for words in lines if len(words) > 1 and words[1].isdigit()}
