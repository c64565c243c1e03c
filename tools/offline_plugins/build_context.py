"""The digest of a build context, computed as the vendor's plugin does it: with either the same content has the same.

It covers the Dockerfile, and name, mode and content of every file that the ignore file leaves in the context.
"""

import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from .ignore_file import IgnoreFile, Matches
from .provider import StepError

_DOCKERFILE = "Dockerfile"
_SPECIAL_BITS = {stat.S_ISUID: "u", stat.S_ISGID: "g", stat.S_ISVTX: "t"}


def digest(context: str, dockerfile: str) -> str:
    """SHA-256 of a build context, in hexadecimal.

    Args:
        context: the directory, absolute or relative to the working directory
        dockerfile: the Dockerfile's path, likewise

    Raises:
        StepError: a file cannot be read, or a symbolic link leads nowhere.
    """
    total = hashlib.sha256()
    try:
        ignore_file = IgnoreFile.of(Path(context), dockerfile)
        # The Dockerfile counts under one name and no mode, wherever it lies, and once more if it is in the context.
        total.update(_entry(_DOCKERFILE, "-" * 10, Path(dockerfile).read_bytes()))
        for name, path in _files(Path(context), "", ignore_file, ()):
            total.update(_entry(name, *_mode_and_content(path)))
    except OSError as error:
        raise StepError(f"unable to hash build context: {error.filename}: {error.strerror}") from error
    return total.hexdigest()


def _entry(name: str, mode: str, content: bytes) -> bytes:
    return os.fsencode(name) + mode.encode() + hashlib.sha256(content).digest() + b"\0"


def _files(directory: Path, prefix: str, ignore_file: IgnoreFile, above: Matches) -> Iterator[tuple[str, Path]]:
    """Name within the context and path of all but directories and what is ignored, in the order Go walks a tree."""
    with os.scandir(directory) as scan:
        entries = sorted(scan, key=lambda entry: os.fsencode(entry.name))
    for entry in entries:
        name, path = prefix + entry.name, directory / entry.name
        ignored, matches = ignore_file.judge(name, above)
        if entry.is_dir(follow_symlinks=False):
            yield from _files(path, name + "/", ignore_file, matches)
        elif not ignored:
            yield name, path


def _mode_and_content(path: Path) -> tuple[str, bytes]:
    """A file's mode as Go prints it, and its content; of a symbolic link, the path that it leads to."""
    mode = path.lstat().st_mode
    kind = "".join(letter for bit, letter in _SPECIAL_BITS.items() if mode & bit)
    permissions = "".join(letter if mode >> (8 - place) & 1 else "-" for place, letter in enumerate("rwxrwxrwx"))
    if stat.S_ISLNK(mode):
        return "L" + kind + permissions, os.fsencode(_resolve(path))
    return (kind or "-") + permissions, path.read_bytes()


def _resolve(link: Path) -> str:
    """Where a link leads: relative to the working directory, as the context is, unless one of the two is absolute."""
    target = link.resolve(strict=True)
    return str(target) if link.is_absolute() or link.readlink().is_absolute() else os.path.relpath(target)
