"""Programs for containers, in POSIX sh: images have nothing else. Each is a file beside this one."""

from itertools import dropwhile
from pathlib import Path


def in_container(name: str) -> str:
    """The program of this name, as an argument of `sh -c`."""
    lines = Path(__file__).with_name(f"{name}.sh").read_text().splitlines()
    return "\n".join(dropwhile(lambda line: line.startswith("#"), lines))
