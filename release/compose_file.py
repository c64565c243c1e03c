"""A Compose file that the repository keeps, looked at as the server looks at its own: by server/compose_file.py."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from errors import ReleaseError
from server import compose_file
from server.compose_file import ComposeFileError

KEY = "app.composeFile"


@dataclass(frozen=True)
class ComposeFile:
    """A Compose file as text.

    path: where it was read from, as the operator wrote it; only for messages
    text: its content
    """

    path: str
    text: str

    def with_image(self, services: Iterable[str], image: str, one_shots: Iterable[str] = ()) -> str:
        """The text with the image of each of `services`, and of one-shots, set to `image`, every other byte unchanged.

        Raises ReleaseError when that cannot be done, or would change anything else.
        """
        with self._refused():
            compose_file.refuse_parts(self.text)
            return compose_file.with_image(self.text, services, image, one_shots)

    def dependants(self, services: Iterable[str]) -> list[str]:
        """The other services that Compose recreates or restarts with one of `services`, each in a sentence."""
        with self._refused():
            return compose_file.dependants(compose_file.parse(self.text)["services"], services)

    def check_rolling(self, services: Sequence[str]) -> None:
        """Raises ReleaseError where two containers of the first of `services` cannot run side by side."""
        with self._refused():
            obstacle = next(compose_file.rolling_obstacles(compose_file.parse(self.text)["services"], services), None)
        if obstacle:
            reason, remedy = obstacle
            raise ReleaseError(
                f"app.strategy: the service '{services[0]}' in {self.path} cannot be rolled: {reason} "
                f"Nothing was changed. {remedy} Or set app.strategy to staged."
            )

    @contextmanager
    def _refused(self) -> Iterator[None]:
        try:
            yield
        except ComposeFileError as error:
            raise ReleaseError(f"{KEY}: {self.path} cannot be used. {error}") from None


def read(project: Path, path: str) -> ComposeFile:
    """Reads the Compose file at `path`, relative to the directory `project`.

    Raises ReleaseError when it cannot be read.
    """
    try:
        # newline="": line endings are part of the file and stay as they are.
        with (project / path).open(encoding="utf-8", newline="") as file:
            return ComposeFile(path, file.read())
    except (OSError, UnicodeDecodeError) as error:
        raise ReleaseError(f"{KEY}: cannot read {path}: {error}") from None
