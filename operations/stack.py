"""A stack: its configuration, and what its last `pulumi up` has left in the state."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
        return PROJECT / f"Pulumi.{self.name}.yaml"

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
    entries = _asked(
        "config", "--stack", name, "--json", "--show-secrets", failing=_("the stack {stack} cannot be read", stack=name)
    )
    values = {
        key: json.dumps(entry["objectValue"]) if "objectValue" in entry else str(entry["value"])
        for key, entry in entries.items()
    }
    settings = validated(values, PROJECT / f"Pulumi.{name}.yaml")
    outputs = _asked(
        "stack", "output", "--stack", name, "--json", failing=_("the state of {stack} cannot be read", stack=name)
    )
    released = Image.parse(str(outputs.get("release") or ""))
    return Stack(
        name, settings, ImageReference(released.repository, released.tag, released.digest) if released else None
    )


def selected() -> str:
    """The name of the stack that `pulumi stack select` has chosen. Raises ReleaseError."""
    done = pulumi("stack", "--show-name")
    if done.returncode != 0:
        raise ReleaseError(
            _("no stack is selected: name one with --stack, or run pulumi stack select\n{reason}", reason=_reason(done))
        )
    return done.stdout.strip()


def pulumi(*words: str) -> subprocess.CompletedProcess[str]:
    """Runs pulumi in the project; what it prints is kept. Raises ReleaseError where there is no pulumi."""
    try:
        return subprocess.run(("pulumi", *words), cwd=PROJECT, capture_output=True, text=True, check=False)
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
