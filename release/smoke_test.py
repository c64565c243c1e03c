"""Tries a candidate before it gets the release's tag: runs it under production conditions, and asks it for pages.

Run by the ReleaseImage component as `python -m release.smoke_test`, with a request on stdin, because its environment
may hold secrets. Whatever it makes is gone afterwards, see throwaway.py. It needs a Docker Engine on this machine, with
Compose 2.24 or newer.
"""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from configuration.tree import SmokeTestPath, SmokeTestSettings
from errors import ReleaseError
from release import smoke_model
from release.docker_command import PULL_TIMEOUT, DockerError, docker, have_image
from release.throwaway import Throwaway, remove_leftovers
from server import answers
from server.answers import Answer, NoAnswer
from server.output import Output
from server.page import asset_paths

LOCKS = Path(".releve/smoke-test")
SPARE = 60
"""Seconds between smokeTest.timeout and the moment at which the watchdog removes everything regardless."""
PATIENCE = 10
"""Seconds after its first wrong answer, or since it listens elsewhere, in which the application may still come round.
503 is no wrong answer but a request to wait (RFC 9110, 15.6.4)."""
SETTLE = 3
"""Seconds for which it must stay up after its last right answer."""
POLL = 0.25
ANSWER = 30
"""Seconds for one answer: a first request may load a lot."""
LARGEST = 8 << 20
"""Bytes of an answer that are looked at; a page that is larger is cut."""
OK, UNAVAILABLE = 200, 503
LOG_LINES, LINE_LENGTH = 40, 300

PLAIN = frozenset({"RAILS_ENV", "RACK_ENV", "NODE_ENV"})
"""Variables whose value is no secret, so that it can be read in a log."""
SHORTEST_SECRET = 6
"""Characters; shorter values, such as 1 and true, are everywhere in a log."""
_URL_PASSWORD = re.compile(r"://[^/@:]*:([^@]+)@")
_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|[\x00-\x08\x0b-\x1f\x7f]")


class SmokeTestError(ReleaseError):
    """The candidate does not do what it must; the message says what, and shows the end of its log."""


class _Late(NoAnswer):
    """It may have come later."""


@dataclass(frozen=True)
class Request:
    """What is tried.

    image:    repository:tag@digest of the candidate
    platform: os/architecture
    settings: how; None: nothing is tried
    configuration: the text of a Docker client's config.json with the account to pull it; None: the user's own is used
    """

    image: str
    platform: str
    settings: SmokeTestSettings | None
    configuration: str | None = field(default=None, repr=False)

    def dump(self) -> str:
        """As JSON, with its secrets."""
        settings = None
        if self.settings:
            settings = self.settings.model_dump(mode="json", by_alias=True)
            settings["env"] = {name: value.get_secret_value() for name, value in self.settings.env.items()}
        return json.dumps(
            {
                "image": self.image,
                "platform": self.platform,
                "smokeTest": settings,
                "configuration": self.configuration,
            }
        )

    @classmethod
    def load(cls, text: str) -> Request:
        """What `dump` has written."""
        given = json.loads(text)
        settings = given["smokeTest"]
        return cls(
            given["image"],
            given["platform"],
            None if settings is None else SmokeTestSettings.model_validate(settings),
            given["configuration"],
        )


def run(request: Request, locks: Path = LOCKS) -> str:
    """Tries a candidate; what was found, in a line.

    locks: a directory for the locks that tell running tests from dead ones
    Raises SmokeTestError when the candidate fails, DockerError when it cannot be tried.
    """
    settings = request.settings
    if settings is None:
        return "not tried: image.smokeTest is not set"
    remove_leftovers(locks)
    waiting = Output("smoke-test", Path(os.devnull), keeps_log=False).waiting
    with waiting("getting the image", str):
        have_image(request.image, request.platform, request.configuration)
    with Throwaway(locks, lifetime=PULL_TIMEOUT + settings.timeout + SPARE) as project:
        model = (
            smoke_model.from_file(project, request.image, Path(settings.compose_file))
            if settings.compose_file
            else smoke_model.generated(request.image, settings)
        )
        text = json.dumps(project.labelled(model.published(settings.port, request.platform)))
        try:
            with waiting("pulling what it needs", str):
                project.compose(
                    "--file", "-", "pull", "--quiet", "--policy", "missing", stdin=text, timeout=PULL_TIMEOUT
                )
        except DockerError as error:
            raise DockerError(f"what image.smokeTest needs cannot be pulled: {error}") from None
        candidate = _Candidate(project, model.application, settings, text, time.monotonic() + settings.timeout)
        with waiting("starting it, and what it needs", str):
            candidate.start()
        with waiting("waiting for its answers", lambda: candidate.problem):
            answers = candidate.answers()
            candidate.stays_up()
    return f"{request.image} starts, stays up and answers: {', '.join(answers)}"


class _Candidate:
    """The application's container, and what it does. problem: what is wrong with its answers as yet."""

    def __init__(self, project: Throwaway, service: str, settings: SmokeTestSettings, model: str, until: float) -> None:
        self._project = project
        self._service = service
        self._settings = settings
        self._until = until
        self._container = ""
        self._model = model
        self.problem = ""

    def start(self) -> None:
        """Starts everything; returns when the application's container has been started. Raises SmokeTestError."""
        try:
            self._compose("up", "--detach", "--pull", "never", timeout=self._left())
        except DockerError as error:
            # The application's own end is a better reason than what somebody waiting for it makes of that.
            with suppress(DockerError):
                self._container = self._find()
                if self._container and self._state()["Status"] in ("exited", "dead"):
                    self._check_alive()
            raise SmokeTestError(self._explained(f"it cannot be started: {self._hidden(str(error))}", all_logs=True)) \
                from None  # fmt: skip
        self._container = self._find()

    def answers(self) -> list[str]:
        """Asks for each path until it is answered as it must be. Raises SmokeTestError."""
        given = []
        for path in self._settings.paths:
            answer = self._ask(path)
            given.append(f"{path.path} {answer.status}")
            if self._settings.assets and answer.is_html:
                given += self._assets_of(path, answer)
        return given

    def stays_up(self) -> None:
        """Watches it for some seconds more. Raises SmokeTestError."""
        until = time.monotonic() + SETTLE
        while time.monotonic() < until:
            self._check_alive()
            time.sleep(POLL)
        self._check_log()
        if self._settings.needs and (gone := self._compose("ps", "--services", "--status", "exited").split()):
            raise SmokeTestError(
                self._explained(f"{' and '.join(gone)}, which it needs, ended by itself", all_logs=True)
            )

    def _ask(self, path: SmokeTestPath) -> Answer:
        """The answer to a request, once it is right."""
        self.problem = "it does not answer"
        wrong_since = 0.0
        # Seldom enough to leave the end of the log readable.
        pause = POLL
        while (now := time.monotonic()) < self._until:
            self._check_alive()
            try:
                answer = self._get(path.path, path.headers)
            except _Late:
                self.problem = (
                    f"it takes the request, and gives no answer within {min(ANSWER, self._settings.timeout)} s"
                )
                continue
            except NoAnswer as error:
                self.problem, is_elsewhere = self._why_silent(str(error))
                wrong_since = (wrong_since or now) if is_elsewhere else 0.0
            else:
                wrong = problem_of(answer, path)
                if not wrong:
                    self.problem = ""
                    return answer
                self.problem = f"GET {path.path} {self._hidden(wrong)}"
                pause = 1.0
                wrong_since = 0.0 if answer.status == UNAVAILABLE else wrong_since or now
            if wrong_since and now - wrong_since > PATIENCE:
                raise SmokeTestError(self._explained(self.problem))
            time.sleep(pause)
        raise SmokeTestError(
            self._explained(f"{self.problem}; that was after {self._settings.timeout} s (image.smokeTest.timeout)")
        )

    def _get(self, path: str, headers: Mapping[str, str]) -> Answer:
        others = {name: value for name, value in headers.items() if name.lower() != "host"}
        address, limit = self._address(), max(1.0, min(ANSWER, self._left()))
        asked = time.monotonic()
        try:
            return answers.get(f"http://{address}{path}", {"Host": host_of(headers), **others}, limit, largest=LARGEST)
        except NoAnswer as error:
            if time.monotonic() - asked >= limit:
                raise _Late(str(error)) from None
            raise

    def _assets_of(self, path: SmokeTestPath, page: Answer) -> list[str]:
        paths = asset_paths(page.text, page.url, host_of(path.headers))
        missing = []
        for asset in paths:
            try:
                status: object = self._get(asset, path.headers).status
            except NoAnswer:
                status = "no answer"
            if status != OK:
                missing.append(f"{asset} ({status})")
        if missing:
            raise SmokeTestError(
                self._explained(
                    f"GET {path.path} names files that the image does not serve: {', '.join(missing[:5])}"
                    f"{f' and {len(missing) - 5} more' if len(missing) > 5 else ''}. "  # noqa: PLR2004
                    f"Were the assets compiled in the image? Rails serves them only with RAILS_SERVE_STATIC_FILES in "
                    f"image.smokeTest.env. Where another server has them, set image.smokeTest.assets to false"
                )
            )
        return [f"{len(paths)} assets"] if paths else []

    def _address(self) -> str:
        bindings = self._inspect()["NetworkSettings"]["Ports"].get(f"{self._settings.port}/tcp")
        if not bindings:
            self._check_alive()
            raise NoAnswer("the port is not published yet")
        return f"127.0.0.1:{bindings[0]['HostPort']}"

    def _check_alive(self) -> None:
        state = self._state()
        memory = f" of {self._settings.memory}" if self._settings.memory else ""
        if state["OOMKilled"]:
            raise SmokeTestError(self._explained(f"it ran out of memory: it needs more than its limit{memory}"))
        if state["Status"] in ("exited", "dead"):
            error = f" ({state['Error']})" if state["Error"] else ""
            raise SmokeTestError(self._explained(f"it ended by itself, with exit status {state['ExitCode']}{error}"))

    def _check_log(self) -> None:
        for line in self._log():
            if any(re.search(pattern, line) for pattern in self._settings.fatal):
                raise SmokeTestError(
                    self._explained(f"its log has a fatal line (image.smokeTest.fatal): {self._shown(line)}")
                )

    def _why_silent(self, error: str) -> tuple[str, bool]:
        """Why there is no answer, and whether that is because the application listens elsewhere.

        Docker itself accepts connections to a published port, whether somebody listens behind it or not.
        """
        port = self._settings.port
        found = list(listening(self._tables()))
        others = sorted({other for other, _ in found} - {port})
        if (port, False) in found:
            return f"what it answers on port {port} is not HTTP: {error[:LINE_LENGTH]}", False
        if (port, True) in found:
            return f"it listens on port {port} of the loopback interface alone. Let it listen on 0.0.0.0", True
        nothing = f"nothing listens on port {port} of the container (image.smokeTest.port)"
        if others:
            return f"{nothing}, but something does on {' and '.join(map(str, others))}", True
        return nothing, False

    def _tables(self) -> str:
        """The container's /proc/net/tcp and tcp6, as far as they can be had."""
        # Not every image has `cat`, and not every machine shows the processes of its containers.
        tables = ""
        try:
            tables = docker("exec", self._container, "cat", "/proc/net/tcp", "/proc/net/tcp6", timeout=30)
        except DockerError:
            pid = self._state()["Pid"]
            for name in ("tcp", "tcp6") if pid else ():
                with suppress(OSError):
                    tables += Path(f"/proc/{pid}/net/{name}").read_text()
        return tables

    def _find(self) -> str:
        return self._compose("ps", "--all", "--quiet", self._service).strip()

    def _compose(self, *arguments: str, timeout: float = 30) -> str:
        return self._project.compose("--file", "-", *arguments, stdin=self._model, timeout=timeout)

    def _inspect(self) -> Any:
        return json.loads(docker("container", "inspect", self._container, timeout=30))[0]

    def _state(self) -> Any:
        return self._inspect()["State"]

    def _left(self) -> float:
        return max(1.0, self._until - time.monotonic())

    def _log(self) -> list[str]:
        """The log of the application, or what can be had of it."""
        with suppress(DockerError):
            return self._compose("logs", "--no-color", "--no-log-prefix", "--tail", "2000", self._service).splitlines()
        return []

    def _explained(self, problem: str, *, all_logs: bool = False) -> str:
        """A problem, with the end of the log."""
        lines = self._log()
        if all_logs:
            with suppress(DockerError):
                lines = self._compose("logs", "--no-color", "--tail", str(LOG_LINES)).splitlines()
        last = [self._shown(line) for line in lines[-LOG_LINES:]]
        end = "\n".join(["The end of its log:", *(f"  | {line}" for line in last)]) if last else "Its log is empty."
        return f"the image fails its smoke test, so it gets no tag: {problem}.\n{end}"

    def _shown(self, line: str) -> str:
        """A line of a log: a very long one would bring Pulumi's plugin to a stop."""
        return self._hidden(line)[:LINE_LENGTH]

    def _hidden(self, text: str) -> str:
        """Text without the values of image.smokeTest.env, as Pulumi keeps in clear what is printed here.

        Nor has it what a terminal would take for a command.
        """
        text = _CONTROL.sub("", text)
        for value, name in self._secrets():
            text = text.replace(value, f"[{name}]")
        return text

    def _secrets(self) -> list[tuple[str, str]]:
        """What must not be shown, with the name to be shown instead: values, and passwords that are part of a URL."""
        values = {name: secret.get_secret_value() for name, secret in self._settings.env.items() if name not in PLAIN}
        found = [(value, name) for name, value in values.items()]
        found += [(match[1], name) for name, value in values.items() if (match := _URL_PASSWORD.search(value))]
        hidden = [
            pair for pair in found if len(pair[0]) >= SHORTEST_SECRET and pair[0] != smoke_model.THROWAWAY_PASSWORD
        ]
        # The longest first: one may be a part of another.
        return sorted(hidden, key=lambda pair: -len(pair[0]))


def host_of(headers: Mapping[str, str]) -> str:
    """What the application is called in a request with these headers."""
    return next((value for name, value in headers.items() if name.lower() == "host"), "localhost")


def problem_of(answer: Answer, wanted: SmokeTestPath) -> str | None:
    """What is wrong with an answer, or None."""
    problem = answers.problem_of(answer, wanted.status, wanted.contains)
    if answer.status != wanted.status and answer.location.startswith("https:"):
        return f"{problem}; where the application insists on HTTPS, give the path headers: {{X-Forwarded-Proto: https}}"
    return problem


def listening(tables: str) -> Iterator[tuple[int, bool]]:
    """The TCP ports in Linux's /proc/net/tcp and tcp6 that are listened on, and whether on loopback alone (proc(5))."""
    for line in tables.splitlines():
        fields = line.split()
        if len(fields) > 3 and fields[3] == "0A":  # noqa: PLR2004 - the column `st`; TCP_LISTEN
            address, _, port = fields[1].rpartition(":")
            # 127.0.0.11 is Docker's own name server.
            if address != "0B00007F":
                yield int(port, 16), address in ("0100007F", "00000000000000000000000001000000")


def _interrupt(number: int, _: object) -> None:
    raise KeyboardInterrupt(signal.strsignal(number))


def main() -> int:
    """Entry point: a request on stdin; returns the exit status."""
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        print(run(Request.load(sys.stdin.read())))
    except ReleaseError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except (KeyError, ValidationError) as error:
        print(f"error: that is no request for a smoke test: {type(error).__name__}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("error: the smoke test was interrupted; what it had made is removed", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
