"""A rollout as ordered steps: what is run on the server, with which arguments, and for how long at most.

This is where words become a shell command line: quoting happens here, once. What a step does is in server/rollout.sh.
"""

from __future__ import annotations

import base64
import hashlib
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from release.reference import ImageReference
from settings import AppSettings, HealthSettings, ServerSettings, StepName, Strategy

SCRIPT_DIRECTORY = ".releve/bin"
"""Where the server keeps the script, relative to the application's directory."""

DEFAULT_TIMEOUTS: Mapping[StepName, int] = {
    StepName.INSTALL: 60,
    StepName.PULL: 900,
    StepName.STOP: 120,
    StepName.PURGE_ASSETS: 120,
    StepName.PRECOMPILE: 1800,
    StepName.UP: 300,
}
"""Seconds. Generous for a small server on a slow line: Fab-manager's image is over 1 GB, its assets take minutes."""


@dataclass(frozen=True)
class Step:
    """One step on the server.

    seconds:            how long it may take
    options:            those of server/rollout.sh that do not depend on the release
    command:            what the step runs in a one-off container, or empty
    takes_compose_file: the step reads the Compose file from standard input, where the repository keeps it
    """

    name: StepName
    seconds: int
    options: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    takes_compose_file: bool = False


def plan(app: AppSettings, health: HealthSettings, server: ServerSettings) -> tuple[Step, ...]:
    """The steps of a rollout in order, after `install`."""
    match app.strategy:
        case Strategy.IN_PLACE:
            return _in_place(app, health, server)


def _in_place(app: AppSettings, health: HealthSettings, server: ServerSettings) -> tuple[Step, ...]:
    # Without assets on volumes there is nothing to purge, and what a precompile wrote would be lost with its container.
    compiles = bool(app.assets and app.precompile)
    command = app.precompile if compiles else ()
    assets = _repeated("--asset", app.assets)
    pull = Step(StepName.PULL, _limit(StepName.PULL, app), assets, command, takes_compose_file=True)
    stop = Step(StepName.STOP, _limit(StepName.STOP, app), takes_compose_file=True)
    purge = Step(StepName.PURGE_ASSETS, _limit(StepName.PURGE_ASSETS, app), assets)
    precompile = Step(StepName.PRECOMPILE, _limit(StepName.PRECOMPILE, app), command=command)
    up = Step(StepName.UP, _limit(StepName.UP, app))
    verify = Step(StepName.VERIFY, health.timeout, _gate(app, health, server))
    return (pull, stop, *((purge, precompile) if compiles else ()), up, verify)


def _gate(app: AppSettings, health: HealthSettings, server: ServerSettings) -> tuple[str, ...]:
    return (
        *("--port", str(app.port), "--path", health.path, "--status", str(health.status)),
        *_repeated("--contains", health.contains),
        *_repeated("--header", (f"{name}: {value}" for name, value in health.headers.items())),
        *(("--url", server.url) if server.url else ()),
    )


@dataclass(frozen=True)
class Script:
    """server/rollout.sh, installed on the server under a name that changes with its content."""

    text: str

    @property
    def sha256(self) -> str:
        """64 hexadecimal digits."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    @property
    def name(self) -> str:
        """The file's name on the server."""
        return f"rollout-{self.sha256[:12]}.sh"


def install_command(script: Script, app: AppSettings) -> str:
    """The command line that checks the server and installs the script, which it takes on standard input."""
    options = (
        *("--directory", app.directory, "--script-name", script.name),
        *_repeated("--service", app.services),
        *("--timeout", str(_limit(StepName.INSTALL, app))),
        # The repository keeps the Compose file: the server needs none yet.
        *(("--compose-file-follows",) if app.compose_file else ()),
    )
    # The script runs from a variable, not from a file: when a check fails, nothing has been written.
    return f'script=$(cat) && RELEVE_SCRIPT="$script" sh -c "$script" {shlex.join(["rollout.sh", "install", *options])}'


def step_command(step: Step, script: Script, app: AppSettings, image: ImageReference) -> str:
    """The command line of a step for `image`, which has a tag and a digest."""
    arguments = (
        *("sh", f"{app.directory}/{SCRIPT_DIRECTORY}/{script.name}", step.name),
        *("--directory", app.directory, "--release", str(image.tag), "--image", str(image)),
        *_repeated("--service", app.services),
        *("--timeout", str(step.seconds)),
        *step.options,
        *(("--input-follows",) if app.compose_file and step.takes_compose_file else ()),
        *(("--", *step.command) if step.command else ()),
    )
    return shlex.join(arguments)


def input_of(parts: Mapping[str, str]) -> str:
    """What a step with `--input-follows` reads on standard input: a line for each named part, in base64."""
    lines = [f"{name} {base64.b64encode(text.encode()).decode()}" for name, text in parts.items()]
    return "\n".join([*lines, "end", ""])


def _limit(step: StepName, app: AppSettings) -> int:
    return app.step_timeouts.get(step, DEFAULT_TIMEOUTS[step])


def _repeated(option: str, values: Iterable[str]) -> tuple[str, ...]:
    return tuple(word for value in values for word in (option, value))
