"""What the contract tests act on: stacks of their own, with the real engine and whatever plugins are installed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).resolve().parents[2]
TOOLS = CHECKOUT / "tools"
WAIT_SECONDS = 120

PRELUDE = """
import json, os
import pulumi
from pulumi import ResourceOptions
import pulumi_command as command

SERVER = json.loads(os.environ.get("CONTRACT_SERVER", "{}"))
# What a step of a rollout ignores: everything but its triggers.
IGNORED = ["create", "connection", "stdin", "logging", "addPreviousOutputInEnv"]
"""


def tool(name: str, *arguments: str, **environment: str) -> str:
    """The last line that one of the commands in tools/ prints on its standard output."""
    command = [str(TOOLS / name), *arguments]
    done = subprocess.run(command, env={**os.environ, **environment}, stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout.strip().rpartition("\n")[2]


def wait_until(condition: Callable[[], bool], what: str) -> None:
    """Polls until the condition holds; fails the test when it does not in time."""
    deadline = time.monotonic() + WAIT_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"still not after {WAIT_SECONDS} s: {what}"
        time.sleep(0.05)


def kill(pid: int) -> None:
    """Kills a process that may be gone already."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def output_of(*command: str) -> str:
    """What a command prints; it must succeed."""
    return subprocess.check_output(command, text=True).strip()


@dataclass(frozen=True)
class Engine:
    """A Pulumi engine with its plugins.

    Attributes:
        kind: which plugins are installed in `home`: `vendor` or `offline`
        home: the PULUMI_HOME
        environment: what Pulumi commands run in
    """

    kind: str
    home: Path
    environment: Mapping[str, str]

    @classmethod
    def installed(cls, home: Path, state: Path, kind: str = "") -> Engine:
        """Installs plugins in a PULUMI_HOME of its own; of that kind, or whichever can be had."""
        found = tool("plugins", str(home), RELEVE_PLUGINS=kind)
        state.mkdir(exist_ok=True)
        environment = {
            # An SSH agent would offer its keys, and its socket may be stale: a test that wants one names it.
            **{name: value for name, value in os.environ.items() if name != "SSH_AUTH_SOCK"},
            "PATH": os.pathsep.join([str(CHECKOUT / ".venv/bin"), tool("engine"), os.environ["PATH"]]),
            "PULUMI_HOME": str(home),
            "PULUMI_BACKEND_URL": state.as_uri(),
            "PULUMI_CONFIG_PASSPHRASE": "contract",
            "PULUMI_SKIP_UPDATE_CHECK": "1",
            "PULUMI_ENABLE_STREAMING_JSON_PREVIEW": "true",
            "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION": "true",
        }
        if kind == "offline":
            environment["PULUMI_IGNORE_AMBIENT_PLUGINS"] = "true"
        return cls(found, home, environment)

    def plugin(self, name: str) -> Path:
        """The executable that the engine starts for a plugin: one on PATH wins over those in PULUMI_HOME."""
        executable = f"pulumi-resource-{name}"
        on_path = shutil.which(executable, path=self.environment["PATH"])
        return Path(on_path) if on_path else next(self.home.glob(f"plugins/resource-{name}-v*/{executable}"))


@dataclass(frozen=True)
class Outcome:
    """What a Pulumi command did.

    Attributes:
        succeeded: whether it ended with exit status 0
        events: the engine's events
    """

    succeeded: bool
    events: list[dict[str, Any]]

    @cached_property
    def steps(self) -> list[str]:
        """What was done, or would be, as `create step`, in order; resources that stay the same are left out."""
        planned = [event["resourcePreEvent"]["metadata"] for event in self.events if "resourcePreEvent" in event]
        return [
            f"{step['op']} {step['urn'].rpartition('::')[2]}"
            for step in planned
            if step["op"] not in {"same", "refresh"}
            if step["type"] != "pulumi:pulumi:Stack" and not step["type"].startswith("pulumi:providers:")
        ]

    @cached_property
    def diffs(self) -> dict[str, dict[str, str]]:
        """Kind of change by property path, by resource name."""
        planned = [event["resourcePreEvent"]["metadata"] for event in self.events if "resourcePreEvent" in event]
        return {
            step["urn"].rpartition("::")[2]: {path: diff["diffKind"] for path, diff in step["detailedDiff"].items()}
            for step in planned
            if step.get("detailedDiff")
        }

    @cached_property
    def messages(self) -> str:
        """Everything but debug messages that was shown."""
        shown = [event["diagnosticEvent"] for event in self.events if "diagnosticEvent" in event]
        return "".join(message["message"] for message in shown if message["severity"] != "debug")


@dataclass(frozen=True)
class Resource:
    """A resource in the state; of secrets only that they are."""

    id: str
    inputs: dict[str, Any]
    outputs: dict[str, Any]


@dataclass
class Stack:
    """One Pulumi stack of its own project.

    Attributes:
        engine: the engine it is used with
        directory: the project's directory
        environment: added to the engine's
    """

    engine: Engine
    directory: Path
    environment: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        (self.directory / "Pulumi.yaml").write_text("name: contract\nruntime: python\n")
        self._pulumi("stack", "init", self.name).check_returncode()

    @property
    def name(self) -> str:
        return self.directory.name

    def up(self, program: str, *options: str) -> Outcome:
        """Updates the stack to what a program says."""
        self._write(program)
        return _outcome(self._pulumi("up", "--json", "--yes", "--skip-preview", *options))

    def preview(self, program: str, *options: str) -> Outcome:
        """What updating the stack to a program would do."""
        self._write(program)
        return _outcome(self._pulumi("preview", "--json", *options))

    def refresh(self) -> Outcome:
        """Asks the plugins for the state of everything."""
        return _outcome(self._pulumi("refresh", "--json", "--yes", "--skip-preview"))

    def cancel(self) -> None:
        """Removes the lock that a killed command left."""
        self._pulumi("cancel", "--yes").check_returncode()

    @contextmanager
    def running_up(self, program: str) -> Iterator[subprocess.Popen[str]]:
        """An update that goes on while the test acts on it; it is killed if it is still there in the end."""
        self._write(program)
        command = [*self._command, "up", "--json", "--yes", "--skip-preview"]
        with subprocess.Popen(command, env=self._environment, stdout=subprocess.PIPE, text=True) as process:
            try:
                yield process
            finally:
                process.kill()

    def holds(self, name: str) -> bool:
        """Whether a resource of that name is stored."""
        return any(resource["urn"].endswith(f"::{name}") for resource in self._resources())

    def resource(self, name: str) -> Resource:
        """A resource as it is stored."""
        (stored,) = [resource for resource in self._resources() if resource["urn"].endswith(f"::{name}")]
        return Resource(stored["id"], _without_ciphertext(stored["inputs"]), _without_ciphertext(stored["outputs"]))

    def stored(self) -> str:
        """The whole state as it lies on the disk."""
        return self._checkpoint.read_text()

    @property
    def _checkpoint(self) -> Path:
        backend = self.engine.environment["PULUMI_BACKEND_URL"].removeprefix("file://")
        return Path(backend, ".pulumi/stacks/contract", f"{self.name}.json")

    def _resources(self) -> list[dict[str, Any]]:
        return list(json.loads(self.stored())["checkpoint"]["latest"].get("resources", []))

    def _write(self, program: str) -> None:
        (self.directory / "__main__.py").write_text(PRELUDE + textwrap.dedent(program))

    @property
    def _command(self) -> list[str]:
        return ["pulumi", "--cwd", str(self.directory), "--non-interactive"]

    @property
    def _environment(self) -> dict[str, str]:
        return {**self.engine.environment, **self.environment}

    def _pulumi(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [*self._command, *arguments]
        if arguments[0] != "stack":
            command += ["--stack", self.name]
        done = subprocess.run(command, env=self._environment, capture_output=True, text=True, check=False)
        sys.stderr.write(done.stderr)
        return done


def _outcome(done: subprocess.CompletedProcess[str]) -> Outcome:
    return Outcome(done.returncode == 0, events(done.stdout))


def _without_ciphertext(properties: dict[str, Any]) -> dict[str, Any]:
    """The same, comparable: every encryption of a secret looks different."""
    return {
        key: "secret" if isinstance(value, dict) and "ciphertext" in value else value
        for key, value in properties.items()
    }


def events(text: str) -> list[dict[str, Any]]:
    """The engine's events in what a Pulumi command printed."""
    return [json.loads(line) for line in text.splitlines() if line.startswith("{")]
