"""A rollout as ordered steps: what is run on the server, with which arguments, and for how long at most.

This is where words become a shell command line: quoting happens here, once. What a step does is in server/rollout.sh.
"""

from __future__ import annotations

import base64
import hashlib
import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from configuration.tree import DEFAULT_TIMEOUTS, AppSettings, BackupSettings, ServerSettings, Settings
from release.reference import ImageReference
from server.request import AssetsFrom, StepName, Strategy

SCRIPT_DIRECTORY = ".releve/bin"
"""Where the server keeps the script, relative to the application's directory."""

LIMITED_PARTS = (
    StepName.STOP,
    StepName.PENDING,
    StepName.DUMP,
    StepName.MIGRATE,
    StepName.TASK,
    StepName.PUBLISH,
    StepName.UP,
    StepName.PURGE,
)
"""Parts of the steps of `staged` and `rolling`, each with a time of its own."""


@dataclass(frozen=True)
class Step:
    """One step on the server.

    seconds:           how long it may take
    options:           those of server/rollout.sh that do not depend on the release
    command:           what the step runs in a one-off container, or needs to know of that; or empty
    reads_candidate:   the step reads the release's Compose file and environment on standard input, where the
                       repository and the configuration keep them
    """

    name: StepName
    seconds: int
    options: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    reads_candidate: bool = False


def plan(settings: Settings, server: ServerSettings) -> tuple[Step, ...]:
    """The steps of a rollout in order, after `install`."""
    match settings.app.strategy:
        case Strategy.STAGED | Strategy.ROLLING:
            return _staged(settings, server)
        case Strategy.IN_PLACE:
            return _in_place(settings, server)


def _in_place(settings: Settings, server: ServerSettings) -> tuple[Step, ...]:
    # Without assets on volumes there is nothing to purge, and what a precompile wrote would be lost with its container.
    app = settings.app
    compiles = bool(app.assets and app.precompile)
    command = app.precompile if compiles else ()
    assets = _repeated("--asset", app.assets)
    strategy = ("--strategy", app.strategy)
    pull = Step(StepName.PULL, _limit(StepName.PULL, app), (*strategy, *assets), command, reads_candidate=True)
    stop = Step(StepName.STOP, _limit(StepName.STOP, app), strategy, reads_candidate=True)
    purge = Step(StepName.PURGE_ASSETS, _limit(StepName.PURGE_ASSETS, app), (*strategy, *assets))
    precompile = Step(StepName.PRECOMPILE, _limit(StepName.PRECOMPILE, app), strategy, command)
    up = Step(StepName.UP, _limit(StepName.UP, app), strategy)
    verify = Step(StepName.VERIFY, settings.health.timeout, (*strategy, *_gate(settings, server)))
    return (pull, stop, *((purge, precompile) if compiles else ()), up, verify)


def _staged(settings: Settings, server: ServerSettings) -> tuple[Step, ...]:
    app = settings.app
    # Without a command that makes them there are no assets to stage.
    assets = app.assets if app.precompile or app.assets_from is AssetsFrom.IMAGE else ()
    common = (
        *("--strategy", app.strategy),
        *_repeated("--asset", assets),
        *("--assets-from", app.assets_from),
        *_repeated("--limit", (f"{part}={_limit(part, app)}" for part in LIMITED_PARTS)),
        *("--limit", f"gate={settings.health.timeout}", "--limit", f"verify={settings.health.timeout}"),
    )
    # The command names the assets: every step that makes or publishes them has it. Those that the image holds are taken
    # when it is pulled.
    compiles = bool(assets) and app.assets_from is AssetsFrom.COMPILE
    command = app.precompile if compiles else ()

    def step(name: StepName, *options: str) -> Step:
        return Step(name, _limit(name, app), (*common, *options), command, reads_candidate=True)

    memory = _optional("--precompile-memory", app.precompile_memory)
    after_up = Step(StepName.AFTER_UP, _limit(StepName.TASK, app), (*common, *_numbered("--after-up", app.after_up)))
    kept = ("--keep-releases", str(settings.keep_releases))
    return (
        step(StepName.PULL),
        *((step(StepName.PRECOMPILE, *memory),) if compiles else ()),
        step(StepName.UP, *_gate(settings, server), *_transaction(settings)),
        *((after_up,) if app.after_up else ()),
        Step(StepName.PURGE, _limit(StepName.PURGE, app), (*common, *kept)),
    )


def _gate(settings: Settings, server: ServerSettings) -> tuple[str, ...]:
    health = settings.health
    return (
        *("--port", str(settings.app.port), "--path", health.path, "--status", str(health.status)),
        *_repeated("--contains", health.contains),
        *_repeated("--header", (f"{name}: {value}" for name, value in health.headers.items())),
        *_optional("--url", server.url),
        *_repeated("--log-file", settings.app.log_files),
    )


def _transaction(settings: Settings) -> tuple[str, ...]:
    app, backup = settings.app, settings.backup
    return (
        *("--settle", str(settings.health.settle)),
        *_repeated("--migrate", app.migrate),
        *_repeated("--pending", app.pending),
        *("--migrations", app.migrations),
        *_repeated("--worker-quiet", app.worker_quiet),
        *_numbered("--before-up", app.before_up),
        *_optional("--maintenance-page", app.maintenance_page),
        *_optional("--downtime-budget", app.downtime_budget),
        *_backup(backup),
        *(("--restore-on-failure", "yes") if backup.restore_on_failure else ()),
    )


def _backup(backup: BackupSettings) -> tuple[str, ...]:
    return (
        *_optional("--backup-service", backup.service),
        *_optional("--backup-database", backup.database),
        *_optional("--backup-user", backup.user),
        *_repeated("--backup-command", backup.command),
        *("--backup-keep", str(backup.keep)),
    )


_SOURCE = re.compile(r"""(?m)^# shellcheck source=.*\n\. "\$\{0%/\*\}/([a-z_]+\.sh)"\n""")


@dataclass(frozen=True)
class Script:
    """The server's script, installed there under a name that changes with its content."""

    text: str

    @classmethod
    def read(cls, file: Path) -> Script:
        """Reads server/rollout.sh with the parts that it sources put in their places: a server gets one file."""
        text = file.read_text(encoding="utf-8")
        return cls(_SOURCE.sub(lambda part: file.with_name(part[1]).read_text(encoding="utf-8"), text))

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
    # From a file elsewhere: when a check fails, nothing has been written where the application is. An argument or a
    # variable would not do: Linux limits each to 128 KiB (MAX_ARG_STRLEN).
    install = f'sh "$file" {shlex.join(["install", *options])}'
    return f'file=$(mktemp) && cat >"$file" && {{ {install}; status=$?; rm -f -- "$file"; exit "$status"; }}'


def step_command(step: Step, script: Script, settings: Settings, image: ImageReference, actor: str) -> str:
    """The command line of a step for `image`, which has a tag and a digest. `actor`: who is rolling out."""
    app = settings.app
    has_candidate = step.reads_candidate and (app.compose_file or settings.env is not None)
    has_login = step.name is StepName.PULL and settings.registry.username is not None
    arguments = (
        *("sh", f"{app.directory}/{SCRIPT_DIRECTORY}/{script.name}", step.name),
        *("--directory", app.directory, "--release", str(image.tag), "--image", str(image)),
        *_repeated("--service", app.services),
        *("--timeout", str(step.seconds), "--actor", actor),
        *step.options,
        *(("--input-follows",) if has_candidate or has_login else ()),
        *(("--", *step.command) if step.command else ()),
    )
    return shlex.join(arguments)


def dump_command(settings: Settings) -> tuple[str, ...]:
    """The command that dumps the database now, with the script that the last rollout has put on the server."""
    app = settings.app
    newest = f"script=$(ls -t {shlex.quote(f'{app.directory}/{SCRIPT_DIRECTORY}')}/rollout-*.sh | head -n 1)"
    arguments = (
        *("dump", "--directory", app.directory, *_repeated("--service", app.services)),
        *("--timeout", str(_limit(StepName.DUMP, app)), "--limit", f"dump={_limit(StepName.DUMP, app)}"),
        *_backup(settings.backup),
    )
    return ("sh", "-c", f'{newest} && exec sh "$script" "$@"', "sh", *arguments)


def input_of(parts: Mapping[str, str]) -> str:
    """What a step with `--input-follows` reads on standard input: a line for each named part, in base64."""
    lines = [f"{name} {base64.b64encode(text.encode()).decode()}" for name, text in parts.items()]
    return "\n".join([*lines, "end", ""])


def downtime_of(output: str) -> float | None:
    """The seconds without an answer that the step `up` measured, from what it printed; None where it says nothing."""
    found = re.search(r"the site did not answer for ([0-9.]+) s", output or "")
    return float(found[1]) if found else None


def _limit(step: StepName, app: AppSettings) -> int:
    return app.step_timeouts.get(step, DEFAULT_TIMEOUTS[step])


def _optional(option: str, value: object) -> tuple[str, ...]:
    return () if value is None else (option, str(value))


def _numbered(option: str, commands: Iterable[Iterable[str]]) -> tuple[str, ...]:
    return _repeated(option, (f"{number}:{word}" for number, words in enumerate(commands, 1) for word in words))


def _repeated(option: str, values: Iterable[str]) -> tuple[str, ...]:
    return tuple(word for value in values for word in (option, value))
