"""What all of one step shares: the request, the directory, where things are, and how commands are run."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from server.commands import Docker, Phase
from server.output import Output
from server.questions import Questions
from server.request import Image, Request, StepName

LEFT = "left-"
"""What the names of directories in .releve begin with that were `tmp` of a step and could not be removed then."""
RESTORING = "restoring"
"""The file in .releve that names a backup, from before its restore changes anything until the site is back."""


@dataclass(frozen=True)
class Run:
    """One step.

    docker:    with the time of the whole step
    questions: to the application, whoever asks them
    variables: of the login, that Compose is not told
    """

    step: StepName
    request: Request
    output: Output
    docker: Docker
    questions: Questions = field(default_factory=Questions)
    variables: Mapping[str, str] = field(default_factory=dict)

    @property
    def directory(self) -> Path:
        """The project's."""
        return Path(self.request.directory)

    @property
    def state(self) -> Path:
        """What Relève keeps on this server for the project."""
        return self.directory / ".releve"

    @property
    def scratch(self) -> Path:
        """For files of this step alone."""
        return self.state / "tmp"

    @property
    def transaction(self) -> Path:
        """There from before the first change until the new release is live or the old one is back."""
        return self.state / "transaction"

    @property
    def image(self) -> Image:
        """Of the release."""
        image = self.request.image
        if image is None:
            raise ValueError(f"the step {self.step} is about no image")
        return image

    def begin(self, name: StepName) -> Docker:
        """A part of the step with the time of its own."""
        # For those who find a killed run; not worth failing for.
        with suppress(OSError):
            (self.scratch / "phase").write_text(f"{name}\n")
        return self.docker.during(Phase.begin(name, self.request.limits[name]))

    def say(self, message: str) -> None:
        """A line of progress."""
        self.output.say(message)

    def tell(self, message: str, **values: object) -> None:
        """A line of progress with values in its {fields}, in the language of whoever asks where they have sent it."""
        self.say(self.request.messages.get(message, message).format(**values))


def name_of_project(directory: str) -> str:
    """What the names of the one-off containers of a directory begin with."""
    return f"releve-{hashlib.sha256(directory.encode()).hexdigest()[:12]}"


def timestamp(seconds: float) -> str:
    """Seconds since 1970 as ISO 8601 has it."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def file_timestamp() -> str:
    """Now, as names of files have it: sorted by name they are sorted by time."""
    return time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())


def replace_file(path: Path, text: str) -> None:
    """Writes a file of ours whole, or not at all."""
    new = path.with_name(f"{path.name}.new")
    new.write_text(text)
    new.replace(path)


def read_line(path: Path) -> str:
    """The first line of a file of ours; "" where there is none."""
    try:
        return path.read_text().partition("\n")[0]
    except OSError:
        return ""
