"""A stack: its configuration, and what its last `pulumi up` has left in the state."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from configuration.effective import without_secrets
from configuration.load import PREFIX, ConfigurationError, delivered
from configuration.load import load as validated
from configuration.tree import ServerSettings, Settings
from errors import ReleaseError
from language import _
from release.reference import ImageReference
from server.request import Image

PROJECT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Stack:
    """One of Pulumi.<name>.yaml.

    released: what the last finished `pulumi up` has rolled out, or None
    """

    name: str
    settings: Settings
    released: ImageReference | None

    @property
    def file(self) -> Path:
        """Its configuration."""
        return file_of(self.name)

    def server(self, name: str | None = None) -> ServerSettings:
        """The server of this name, or the only one. Raises ReleaseError."""
        servers = self.settings.servers
        if name is None and len(servers) == 1:
            return servers[0]
        for server in servers:
            if server.name == name:
                return server
        known = ", ".join(server.name for server in servers)
        raise ReleaseError(
            _("the stack {stack} has no server '{name}'. It has: {known}", stack=self.name, name=name, known=known)
            if name
            else _(
                "the stack {stack} has several servers: name one with --server. They are: {known}",
                stack=self.name,
                known=known,
            )
        )


def load(name: str | None) -> Stack:
    """The stack of this name, or the selected one, secrets included, as pulumi gives it out.

    Raises ReleaseError when there is no such stack, or when its configuration cannot be used.
    """
    name = name or selected()
    settings = validated(delivered(_decrypted(name)), file_of(name))
    outputs = _asked(
        "stack", "output", "--stack", name, "--json", failing=_("the state of {stack} cannot be read", stack=name)
    )
    released = Image.parse(str(outputs.get("release") or ""))
    return Stack(
        name, settings, ImageReference(released.repository, released.tag, released.digest) if released else None
    )


def configuration(name: str) -> tuple[Settings, dict[str, Any]]:
    """The configuration of a stack, and what of it the stack sets itself, without prefix: read from its file.

    For what shows no secret: these are replaced by others. Raises ReleaseError where the file cannot be used; where it
    does not hold all of it, or where only the true values tell, pulumi is asked, which needs the passphrase.
    """
    try:
        document = yaml.safe_load(file_of(name).read_text(encoding="utf-8")) or {}
    except (OSError, yaml.YAMLError) as error:
        raise ReleaseError(f"{file_of(name)} cannot be read: {error}") from None
    written = {key if ":" in key else f"{PREFIX}{key}": value for key, value in (document.get("config") or {}).items()}
    is_whole = "environment" not in document
    try:
        if is_whole:
            return validated(delivered(without_secrets(written)), file_of(name)), _own(written)
    except ConfigurationError:
        if without_secrets(written) == written:
            raise
    decrypted = _decrypted(name)
    # What is encrypted stays so for whoever shows it.
    return validated(delivered(decrypted), file_of(name)), _own({**decrypted, **written})


def file_of(name: str) -> Path:
    """The file of the stack of this name."""
    return PROJECT / f"Pulumi.{name}.yaml"


def _own(config: Mapping[str, Any]) -> dict[str, Any]:
    return {key.removeprefix(PREFIX): value for key, value in config.items() if key.startswith(PREFIX)}


def _decrypted(name: str) -> dict[str, Any]:
    """All values by full key, secrets included, as pulumi gives them out. Raises ReleaseError."""
    entries = _asked(
        "config", "--stack", name, "--json", "--show-secrets", failing=_("the stack {stack} cannot be read", stack=name)
    )
    return {key: entry.get("objectValue", entry.get("value")) for key, entry in entries.items()}


def selected() -> str:
    """The name of the stack that `pulumi stack select` has chosen. Raises ReleaseError."""
    done = pulumi("stack", "--show-name")
    if done.returncode != 0:
        raise ReleaseError(
            _("no stack is selected: name one with --stack, or run pulumi stack select\n{reason}", reason=_reason(done))
        )
    return done.stdout.strip()


def pulumi(*words: str, environment: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Runs pulumi in the project; what it prints is kept. Raises ReleaseError where there is no pulumi.

    environment: its own, where it is not this program's
    """
    command = ("pulumi", *words)
    try:
        return subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise ReleaseError(
            _(
                "there is no command `pulumi`: put it on PATH (tools/engine gets it). "
                "On the sandbox:  sandbox/run ./releve"
            )
        ) from None


def run_pulumi(*words: str) -> int:
    """Runs pulumi in the project, on this terminal. Returns its exit status."""
    return subprocess.run(("pulumi", *words), cwd=PROJECT, check=False).returncode


def _asked(*words: str, failing: str) -> dict[str, Any]:
    done = pulumi(*words)
    if done.returncode != 0:
        raise ReleaseError(f"{failing}: {_reason(done)}")
    answer: dict[str, Any] = json.loads(done.stdout or "{}")
    return answer


def _reason(done: subprocess.CompletedProcess[str]) -> str:
    return done.stderr.strip().removeprefix("error: ")
