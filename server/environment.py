"""The file .env, where the configuration holds it.

Checked, tried before it is in place, replaced and put back whole.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

from server.errors import Refusal

FILE = ".env"
WRITTEN = "env-written"
"""In .releve: a hash of what the configuration held of it last."""
_NAME = re.compile(r"\s*(?:export\s+)?([A-Za-z_][A-Za-z0-9_.]*)\s*[=:]")


def names_in(text: str) -> Iterator[str]:
    """The variables that an environment file sets."""
    for line in text.splitlines():
        found = _NAME.match(line)
        if found:
            yield found[1]


def is_in_place(directory: Path, wanted: str) -> bool:
    """Whether .env has this content."""
    return content(directory) == wanted


def content(directory: Path) -> str | None:
    """Of .env; None where there is none."""
    try:
        return (directory / FILE).read_text(errors="surrogateescape")
    except FileNotFoundError:
        return None


def refuse_lost_names(directory: Path, state: Path, wanted: str) -> None:
    """Raises Refusal where a file made by hand holds what nobody has written into the configuration."""
    there = content(directory)
    if there is None or _is_ours(state, there):
        return
    lost = [name for name in dict.fromkeys(names_in(there)) if name not in set(names_in(wanted))]
    if lost:
        raise Refusal(
            f"{directory}/{FILE} has names that the configuration lacks: {' '.join(lost)}",
            "Add them to `env` in Pulumi.<stack>.yaml; or remove them from the file, if they are not needed.",
        )


def _is_ours(state: Path, text: str) -> bool:
    """Whether the configuration has held this, so that its names are missed by nobody."""
    written, live = state / WRITTEN, state / "current" / "env"
    return (written.is_file() and written.read_text() == _hash(text)) or (
        live.is_file() and live.read_text(errors="surrogateescape") == text
    )


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()


def put_in_place(directory: Path, state: Path, wanted: str) -> None:
    """Gives .env what the configuration holds."""
    write(state / WRITTEN, _hash(wanted))
    replace(directory, state, wanted)


def replace(directory: Path, state: Path, wanted: str) -> None:
    """Gives .env this content."""
    new = state / "env.new"
    write(new, wanted)
    new.replace(directory / FILE)


def write(path: Path, text: str) -> None:
    """For its owner only."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", errors="surrogateescape") as file:
        file.write(text)
