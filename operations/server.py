"""The server of a stack, reached as its rollouts reach it: same user, same keys, same checks."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from configuration.load import load as validated
from configuration.tree import JumpSettings, ServerSettings, Settings
from errors import ReleaseError
from release.program import Program
from server import request
from server.request import Request, StepName

PROJECT = Path(__file__).resolve().parent.parent
CONNECT_TIMEOUT = 10
"""Seconds."""

IF_THERE = 'test -d "$1" || { echo "$3" >&2; exit 1; }; exec python3 -I "$1" "$2"'
"""A script of the server's shell; its arguments are the program's directory, the step, and what is said without it."""
NOT_THERE = """\
error: the program of this checkout is not on the server. To bring it there: pulumi up
Where that has nothing to do: pulumi up --replace '**-install'"""


def load(stack: str) -> Settings:
    """The configuration of a stack, secrets included, as pulumi gives it out.

    Raises ReleaseError when there is no such stack, or when its configuration cannot be used.
    """
    command = ("pulumi", "config", "--stack", stack, "--json", "--show-secrets")
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise ReleaseError(f"the configuration of the stack {stack} cannot be read: {done.stderr.strip()}")
    entries = json.loads(done.stdout)
    values = {
        key: json.dumps(entry["objectValue"]) if "objectValue" in entry else str(entry["value"])
        for key, entry in entries.items()
    }
    return validated(values, PROJECT / f"Pulumi.{stack}.yaml")


def run_step(server: ServerSettings, step: StepName, asked: Request) -> int:
    """Runs a step with the program that this checkout has installed there. Returns its exit status, as `run` does."""
    program = Program.read(PROJECT / "server")
    command = ("sh", "-c", IF_THERE, "sh", program.path(asked.directory), step, NOT_THERE)
    return run(server, command, request.dump(asked))


def run(server: ServerSettings, command: Sequence[str], stdin: str = "") -> int:
    """Runs a command on the server, its words as they are; its output is this program's. Returns its exit status.

    255 is ssh's own: the server was not reached, or is not the one whose hostKey is configured.
    """
    with tempfile.TemporaryDirectory(prefix="releve-") as directory:
        words = ssh_command(server, Path(directory))
        return subprocess.run((*words, shlex.join(command)), input=stdin.encode(), check=False).returncode


def ssh_command(server: ServerSettings, directory: Path) -> tuple[str, ...]:
    """The command that logs in, as far as the host; what it needs besides is written into `directory`."""
    known_hosts = directory / "known_hosts"
    hosts: list[ServerSettings | JumpSettings] = [server, server.jump] if server.jump else [server]
    known_hosts.write_text("".join(f"[{h.host}]:{h.port} {h.host_key}\n{h.host} {h.host_key}\n" for h in hosts))
    options = [
        *("BatchMode=yes", "LogLevel=ERROR", f"ConnectTimeout={CONNECT_TIMEOUT}"),
        *("StrictHostKeyChecking=yes", f"UserKnownHostsFile={known_hosts}", "GlobalKnownHostsFile=none"),
    ]
    if server.private_key:
        key = directory / "key"
        key.touch(mode=0o600)
        key.write_text(server.private_key.get_secret_value().rstrip("\n") + "\n")
        options += [f"IdentityFile={key}", "IdentitiesOnly=yes", "IdentityAgent=none"]
    common = ["-F", os.devnull, *(word for option in options for word in ("-o", option))]
    if jump := server.jump:
        proxy = ["ssh", *common, "-p", str(jump.port), "-W", "%h:%p", f"{jump.user}@{jump.host}"]
        common += ["-o", f"ProxyCommand={shlex.join(proxy)}"]
    return ("ssh", *common, "-p", str(server.port), f"{server.user}@{server.host}")
