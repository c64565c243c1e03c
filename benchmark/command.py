"""Runs the commands that are measured."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import IO, NoReturn, cast

PROJECT = Path(__file__).resolve().parent.parent


def run(*command: str, cwd: Path = PROJECT) -> str:
    """What a command prints; ends the benchmark, with all of it, when it fails."""
    done = subprocess.run(command, cwd=cwd, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        _end(command, done.stdout + done.stderr)
    return done.stdout


def timed(*command: str, cwd: Path = PROJECT) -> list[tuple[float, str]]:
    """The lines that a command prints, each with the seconds after which it came; the last one, empty, is its end."""
    started = time.monotonic()
    lines = []
    with subprocess.Popen(
        command, cwd=cwd, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        output = cast(IO[str], process.stdout)
        lines += [(time.monotonic() - started, line.rstrip("\n")) for line in output]
    if process.returncode != 0:
        _end(command, "\n".join(line for _, line in lines))
    return [*lines, (time.monotonic() - started, "")]


def _end(command: tuple[str, ...], output: str) -> NoReturn:
    sys.exit(f"benchmark: {' '.join(command)} fails:\n{output}")
