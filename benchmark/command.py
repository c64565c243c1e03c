"""Runs the commands that are measured."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent


def run(*command: str, cwd: Path = PROJECT) -> str:
    """What a command prints; ends the benchmark, with all of it, when it fails."""
    done = subprocess.run(command, cwd=cwd, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"benchmark: {' '.join(command)} fails:\n{done.stdout}{done.stderr}")
    return done.stdout
