"""A server for the script to run on: a directory with a Compose project, and stubs for docker and curl that record."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from release.steps import Script

Case = TypeVar("Case")
Outcome = TypeVar("Outcome")

SCRIPT = Path(__file__).parents[2] / "server" / "rollout.sh"
TEXT = Script.read(SCRIPT).text
"""The script as servers get it: one file."""
DIGEST = "sha256:" + "7" * 64
IMAGE = f"registry.example:5000/shop/app:2.0@{DIGEST}"

DOCKER = Path(__file__).with_name("docker_stub.sh")
CURL = Path(__file__).with_name("curl_stub.sh")

COMPOSE_FILE = """\
name: shop
services:
  nginx:
    image: nginx:1
  web:
    image: registry.example:5000/shop/app:1.0
"""
"""In Compose's own normal form, so that the stub can answer `docker compose config` with the file itself."""


def side_by_side(run: Callable[[Case], Outcome], cases: Iterable[Case], at_once: int = 4) -> dict[Case, Outcome]:
    """The outcome of each case: most of a run is waiting for processes, so tables are run before they are looked at.

    Directories of pytest's are made before: its factory is not made for threads.
    """
    listed = list(cases)
    with ThreadPoolExecutor(at_once) as pool:
        return dict(zip(listed, pool.map(run, listed), strict=True))


@dataclass(frozen=True)
class Result:
    """What a step did, seen from the other end of the connection."""

    status: int
    output: str
    errors: str


@dataclass
class Server:
    """The directory is where the project lives; beside it are the stubs and what they answer."""

    home: Path
    name: str = "shop"
    services: Sequence[str] = ("web",)
    environment: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.directory.mkdir(parents=True)
        (self.directory / ".releve").mkdir()
        self.compose_file.write_text(COMPOSE_FILE)
        self.stubs.mkdir()
        self.place_command("docker", DOCKER)
        self.place_command("curl", CURL)

    @property
    def directory(self) -> Path:
        return self.home / self.name

    @property
    def compose_file(self) -> Path:
        return self.directory / "docker-compose.yml"

    @property
    def stubs(self) -> Path:
        return self.home / "stubs"

    def add_worker(self) -> None:
        """A second service of the application, beside the web service."""
        self.services = ("web", "worker")
        image = "registry.example:5000/shop/app:1.0"
        self.compose_file.write_text(
            f"name: shop\nservices:\n  web:\n    image: {image}\n  worker:\n    image: {image}\n"
        )

    def place_command(self, name: str, target: Path) -> None:
        (self.stubs / name).symlink_to(target)

    def write_command(self, name: str, script: str) -> None:
        """A stub of this test's own, in place of the usual one where there is one."""
        file = self.stubs / name
        file.unlink(missing_ok=True)  # a link to what all tests share
        file.write_text(script)
        file.chmod(0o755)

    def answer(self, name: str, text: str) -> None:
        """What a stub prints: see the stub for the names."""
        (self.stubs / f"{name}.answer").write_text(text, newline="")

    def behave(self, shell: str) -> None:
        """What the docker stub does first; `$*` is its command line."""
        (self.stubs / "behaviour").write_text(shell + "\n")

    def calls(self) -> list[list[str]]:
        """The stubs' command lines, in order."""
        record = self.stubs / "record"
        if not record.exists():
            return []
        return [call.split("\x1f")[:-1] for call in record.read_text().split("\x1e")[:-1]]

    def docker_calls(self, *first: str) -> list[list[str]]:
        """The calls of docker that begin with these words, without `docker`."""
        calls = [call[1:] for call in self.calls() if call[0] == "docker"]
        return [call for call in calls if tuple(call[: len(first)]) == first]

    def logs(self) -> list[Path]:
        return sorted((self.directory / ".releve" / "log").glob("*"))

    def command(self, step: str, *options: str, command: Sequence[str] = (), timeout: int = 20) -> list[str]:
        """A step's command line, with the options that every step takes."""
        services = [word for name in self.services for word in ("--service", name)]
        release = [] if step == "install" else ["--release", "2.0", "--image", IMAGE]
        common = ["--directory", str(self.directory), *release, *services, "--timeout", str(timeout)]
        return ["sh", str(SCRIPT), step, *common, *options, *(("--", *command) if command else ())]

    def run(self, step: str, *options: str, command: Sequence[str] = (), timeout: int = 20, stdin: str = "") -> Result:
        return self.run_exactly(self.command(step, *options, command=command, timeout=timeout), stdin=stdin)

    def run_exactly(
        self, arguments: Sequence[str], *, stdin: str = "", more: Mapping[str, str] | None = None
    ) -> Result:
        done = subprocess.run(
            arguments,
            input=stdin.encode(),
            capture_output=True,
            env={**self.variables(), **(more or {})},
            cwd=self.home,
            timeout=60,
            check=False,
        )
        return Result(done.returncode, done.stdout.decode(), done.stderr.decode())

    def install(self, *options: str, text: str | None = None, script_name: str | None = None) -> Result:
        """Installs the script as release/steps.py does it: from a file that is elsewhere."""
        text = TEXT if text is None else text
        digest = hashlib.sha256(text.encode()).hexdigest()
        arguments = self.command("install", "--script-name", script_name or f"rollout-{digest[:12]}.sh", *options)
        sent = self.home / "sent.sh"
        sent.write_text(text)
        return self.run_exactly(["sh", str(sent), *arguments[2:]])

    def variables(self) -> dict[str, str]:
        return {
            "PATH": f"{self.stubs}:{os.environ['PATH']}",
            "STUBS": str(self.stubs),
            "PYTHON": sys.executable,
            **self.environment,
        }
