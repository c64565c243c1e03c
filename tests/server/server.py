"""A server for the program to run on: a directory with a Compose project, a docker that records, and web servers."""

from __future__ import annotations

import dataclasses
import functools
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self, TypeVar

from server.request import (
    Assets,
    Delivery,
    Health,
    Image,
    Request,
    StepName,
    Strategy,
    dump,
)
from tests.server.http_server import WebServer

Case = TypeVar("Case")
Outcome = TypeVar("Outcome")

PROGRAM = Path(__file__).parents[2] / "server"
PYTHON = os.environ.get("RELEVE_SERVER_PYTHON", sys.executable)
"""What runs the program: another one, with PyYAML, shows that it runs there."""
DIGEST = "sha256:" + "7" * 64
RELEASE = Image("registry.example:5000/shop/app", "2.0", DIGEST)
IMAGE = str(RELEASE)

HERE = Path(__file__).parent

COMPOSE_FILE = """\
name: shop
services:
  nginx:
    image: nginx:1
  web:
    image: registry.example:5000/shop/app:1.0
"""


def side_by_side(run: Callable[[Case], Outcome], cases: Iterable[Case], at_once: int = 4) -> dict[Case, Outcome]:
    """The outcome of each case: most of a run is waiting for processes, so tables are run before they are looked at.

    Servers are made before: directories of pytest's are not made for threads.
    """
    listed = list(cases)
    with ThreadPoolExecutor(at_once) as pool:
        return dict(zip(listed, pool.map(run, listed), strict=True))


@functools.cache
def forms() -> Path:
    """Where the docker stubs of this session keep the normal forms of Compose files, by their hash."""
    return Path(tempfile.mkdtemp(prefix="releve-forms-"))


@dataclass(frozen=True)
class Result:
    """What a step did, seen from the other end of the connection."""

    status: int
    output: str
    errors: str


@dataclass
class Server:
    """The directory is where the project lives; beside it are the stubs, what they answer, and the program.

    settings:    fields of every request that differ from those in request()
    environment: variables of the login
    application: what listens on the port that the health gate asks: all containers have addresses of this machine
    public:      what listens at the public address, where a test gives one
    """

    home: Path
    name: str = "shop"
    services: Sequence[str] = ("web",)
    settings: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    addresses: Sequence[str] = ("127.0.0.1",)

    def __post_init__(self) -> None:
        self.directory.mkdir(parents=True)
        (self.directory / ".releve").mkdir()
        self.compose_file.write_text(COMPOSE_FILE)
        self.stubs.mkdir()
        self.place_command("docker", HERE / "docker_stub.sh")
        # As install unpacks it. One for each server: runs are found by it, and ended.
        self.program.mkdir()
        (self.program / "server").symlink_to(PROGRAM)
        (self.program / "__main__.py").symlink_to(PROGRAM / "__main__.py")
        self.application = WebServer("application", self.record, self.addresses)
        self.public = WebServer("public", self.record)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.application.close()
        self.public.close()

    @property
    def directory(self) -> Path:
        return self.home / self.name

    @property
    def state(self) -> Path:
        return self.directory / ".releve"

    @property
    def compose_file(self) -> Path:
        return self.directory / "docker-compose.yml"

    @property
    def stubs(self) -> Path:
        return self.home / "stubs"

    @property
    def program(self) -> Path:
        return self.home / "program"

    @property
    def record(self) -> Path:
        return self.stubs / "record"

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
        """What the docker stub prints: see there for the names."""
        (self.stubs / f"{name}.answer").write_text(text, newline="")

    def behave(self, shell: str) -> None:
        """What the docker stub does first; `$*` is its command line."""
        (self.stubs / "behaviour").write_text(shell + "\n")

    def calls(self) -> list[list[str]]:
        """What the program did, in order: command lines of docker, and questions to web servers.

        The latter as "http", the server's name, method, path, and the address that was asked.
        """
        if not self.record.exists():
            return []
        return [call.split("\x1f")[:-1] for call in self.record.read_text().split("\x1e")[:-1]]

    def docker_calls(self, *first: str) -> list[list[str]]:
        """The calls of docker that begin with these words, without `docker`."""
        calls = [call[1:] for call in self.calls() if call[0] == "docker"]
        return [call for call in calls if tuple(call[: len(first)]) == first]

    def forget_calls(self) -> None:
        self.record.unlink(missing_ok=True)

    def logs(self) -> list[Path]:
        return sorted((self.state / "log").glob("*"))

    def health(self, **changes: Any) -> Health:
        """The question that the application answers well, unless told otherwise."""
        return dataclasses.replace(Health(port=self.application.port, path="/health"), **changes)

    def request(self, step: str, *, timeout: int = 20, **fields: Any) -> Request:
        """What a step is told: as release/steps.py does it, what was delivered goes to `pull` alone.

        timeout: of the step and of each of its parts
        """
        common: dict[str, Any] = {
            "strategy": Strategy.IN_PLACE,
            "image": None if step in ("install", "dump") else RELEASE,
            "delivery": Delivery(),
            "health": self.health(),
            "limits": {str(name): timeout for name in StepName},
        }
        given = {**common, **self.settings, **fields}
        delivery = given.pop("delivery")
        return Request(
            directory=str(self.directory),
            services=tuple(self.services),
            delivery=delivery if step == "pull" else None,
            delivered=delivery.sha256,
            **given,
        )

    def command(self, step: str) -> list[str]:
        """A step's command line; the request is its standard input."""
        return [PYTHON, "-I", str(self.program), step]

    def run(self, step: str, *, timeout: int = 20, **fields: Any) -> Result:
        return self.run_exactly(self.command(step), stdin=dump(self.request(step, timeout=timeout, **fields)))

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

    def start(self, step: str, *, stream: int = subprocess.DEVNULL, **fields: Any) -> subprocess.Popen[bytes]:
        """A step that goes on meanwhile, in a session of its own."""
        request = self.home / "request.json"
        request.write_text(dump(self.request(step, **fields)))
        with request.open() as stdin:
            return subprocess.Popen(
                self.command(step),
                env=self.variables(),
                cwd=self.home,
                stdin=stdin,
                stdout=stream,
                stderr=stream,
                start_new_session=True,
            )

    def variables(self) -> dict[str, str]:
        return {
            "PATH": f"{self.stubs}:{os.environ['PATH']}",
            "STUBS": str(self.stubs),
            "PYTHON": sys.executable,
            "NORMAL_FORM": str(HERE / "normal_form.py"),
            "FORMS": str(forms()),
            **self.environment,
        }


MakeServer = Callable[..., Server]


@contextmanager
def making_servers(make_home: Callable[[], Path]) -> Iterator[MakeServer]:
    """A function that makes servers, each in a directory of its own, which are closed at the end."""
    with ExitStack() as stack:
        yield lambda **options: stack.enter_context(Server(make_home(), **options))


def compiling(*paths: str, command: Sequence[str] = ("rails", "assets:precompile"), **more: Any) -> Assets:
    """Assets on these paths, compiled by a command."""
    return Assets(paths=paths, precompile=tuple(command), **more)


def container_state(status: str = "running", image: str = "sha256:wanted", process: int = 0, restarts: int = 0) -> str:
    """The state of a container, as the docker stub takes it."""
    return f"{status} {restarts} today {image} {process}\n"
