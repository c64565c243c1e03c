"""The files of the Compose project in the directory: which Compose would choose, and whether they can be changed."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from server import environment
from server.errors import Refusal
from server.request import Request

FILE_NAMES = ("compose.yaml", "compose.yml", "docker-compose.yml", "docker-compose.yaml")
"""In the order in which Compose looks for them."""
OVERRIDE_NAMES = (
    "compose.override.yml", "compose.override.yaml", "docker-compose.override.yml", "docker-compose.override.yaml",
)  # fmt: skip


@dataclass(frozen=True)
class Files:
    """The project's Compose file, which need not exist where the repository keeps it, and the override file, if any."""

    compose: Path
    override: Path | None


def find_files(asked: Request) -> Files:
    """The files that Compose itself would choose. Raises Refusal where it is not certain, or would not do."""
    directory = Path(asked.directory)
    text = environment.content(directory) or ""
    if "COMPOSE_FILE" in environment.names_in(text):
        raise Refusal(
            f"{directory}/.env sets COMPOSE_FILE: which file holds the image lines is then not certain.",
            "Name the file docker-compose.yml, a second one docker-compose.override.yml, and remove COMPOSE_FILE.",
        )
    compose, override = (_first_of(directory, names) for names in (FILE_NAMES, OVERRIDE_NAMES))
    if compose is None:
        if not asked.keeps_compose_file:
            raise Refusal(
                f"There is no Compose file in {directory}.", "Put docker-compose.yml there, or set app.composeFile."
            )
        return Files(directory / "docker-compose.yml", override)
    if compose.is_symlink():
        raise Refusal(
            f"{compose} is a symbolic link; setting the image would replace it.",
            "Put the file itself there, or set app.directory to the directory that holds it.",
        )
    if not compose.is_file() or not os.access(compose, os.R_OK):
        raise Refusal(f"{compose} is not a file that {user()} can read.")
    return Files(compose, override)


def _first_of(directory: Path, names: Iterable[str]) -> Path | None:
    return next((directory / name for name in names if os.path.lexists(directory / name)), None)


def user() -> str:
    """The login, for messages."""
    import getpass  # noqa: PLC0415 - for a message only, and it takes a while

    try:
        return getpass.getuser()
    except (KeyError, OSError):  # the latter since Python 3.13
        return f"the user {os.getuid()}"


def text_of(file: Path) -> str:
    """Of a Compose file. By bytes: line endings are part of the file and stay as they are."""
    try:
        return file.read_bytes().decode()
    except UnicodeDecodeError as error:
        raise Refusal(f"{file} is not in UTF-8, as Compose reads it: {error}.", "Save it in that encoding.") from None


def refuse_unwritable(directory: Path) -> None:
    """Raises Refusal where the files of the project cannot be changed."""
    if not os.access(directory, os.W_OK):
        raise Refusal(f"{user()} cannot write in {directory}.", "Let the user of servers[].user own the directory.")
