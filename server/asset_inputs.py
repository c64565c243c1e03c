"""What the compiled assets are made of besides the image and the service's settings: app.assetInputs.

Plugins, themes and the like, which an application compiles in, lie in the project's directory.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

from server.errors import Refusal

LEFT_OUT = frozenset({".git", ".releve"})
"""Directories that change without what is compiled."""


def content_hash(directory: Path, inputs: Sequence[str]) -> str:
    """64 hexadecimal digits that change with names, modes and content of these files and of all in these directories.

    inputs: paths relative to the project's directory
    Raises Refusal where one of them is not there, or cannot be read.
    """
    hashed = hashlib.sha256()
    for name in inputs:
        top = directory / name
        try:
            # Where it is a link itself, Docker mounts what it leads to.
            for path in (top.resolve(strict=True), *_below(top.resolve())):
                for part in _said(top.resolve(), path):
                    hashed.update(hashlib.sha256(part).digest())
        except FileNotFoundError:
            raise Refusal(
                f"There is no {top}, which app.assetInputs says is compiled into the assets.",
                "Nothing was stopped. Put it there, empty if need be, or remove it from app.assetInputs.",
            ) from None
        except OSError as error:
            raise Refusal(
                f"{error.filename or top}, which app.assetInputs says is compiled into the assets, cannot be read: "
                f"{error.strerror}.",
                "Nothing was stopped. Let the user of servers[].user read it.",
            ) from None
    return hashed.hexdigest()


def _below(top: Path) -> Iterator[Path]:
    """All in a directory and in those in it, in one order; nothing where it is none."""
    if not top.is_dir():
        return
    for path in sorted(top.iterdir()):
        if path.name in LEFT_OUT:
            continue
        yield path
        if not path.is_symlink():
            yield from _below(path)


def _said(top: Path, path: Path) -> Iterator[bytes]:
    """A file's name, kind, mode and size, and its content or where it leads."""
    info = path.lstat()
    yield os.fsencode(os.path.relpath(path, top))
    yield f"{info.st_mode:o} {info.st_size if stat.S_ISREG(info.st_mode) else ''}".encode()
    if stat.S_ISLNK(info.st_mode):
        yield os.fsencode(path.readlink())
    elif stat.S_ISREG(info.st_mode):
        with path.open("rb") as file:
            yield from iter(lambda: file.read(1 << 20), b"")
