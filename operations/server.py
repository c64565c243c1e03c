"""A server of a stack, reached as its rollouts reach it: same user, same keys, same checks."""

from __future__ import annotations

import os
import shlex
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from configuration.tree import JumpSettings, ServerSettings, Settings
from errors import ReleaseError
from language import Message, _, for_servers, said
from operations.stack import PROJECT
from release import steps
from release.program import Program
from release.reference import ImageReference
from server import facts, request, survey
from server.facts import Facts
from server.request import Request, StepName
from server.survey import Survey

CONNECT_TIMEOUT = 10
"""Seconds."""
SURVEY_LIMIT = 120
"""Seconds for looking at an installation: many small questions."""
NOT_REACHED = 255
"""ssh's own status: the server was not reached, or is not the one whose hostKey is configured."""

IF_THERE = 'test -d "$1" || { echo "$3" >&2; exit 1; }; exec python3 -I "$1" "$2"'
"""A script of the server's shell; its arguments are the program's directory, the step, and what is said without it."""
NOT_THERE = Message(
    "error: the program of this checkout is not on the server. To bring it there: pulumi up\n"
    "Where that has nothing to do: pulumi up --replace '**-install'"
)


class NotReached(ReleaseError):
    """The server was not reached. is_another: what answered has another host key."""

    def __init__(self, message: str, *, is_another: bool) -> None:
        super().__init__(message)
        self.is_another = is_another


def ask(settings: Settings, server: ServerSettings, image: ImageReference | None) -> Facts:
    """What the server says of the project; nothing is changed there, and Relève need not have been there before.

    image: that was released last, or None
    Raises NotReached; ReleaseError where the server cannot say it.
    """
    return facts.load(_told(server, steps.request_of(StepName.FACTS, settings, server, image=image)))


def survey_of(server: ServerSettings, directory: str) -> Survey:
    """What a server says of an installation that nothing is configured for; nothing is changed there.

    directory: of its Compose file, or survey.NOWHERE
    Raises as `ask` does.
    """
    limits = {str(StepName.FACTS): SURVEY_LIMIT}
    return survey.load(_told(server, Request(directory=directory, services=(), limits=limits)))


def _told(server: ServerSettings, asked: Request) -> str:
    """What the step `facts` prints, by a program that is there for as long as it takes."""
    program = Program.read(PROJECT / "server")
    text = program.install_input(asked, StepName.FACTS)
    done = _logged_in(server, program.install_command(), input=text, capture_output=True)
    if done.returncode == NOT_REACHED:
        is_another = "Host key verification failed" in done.stderr or "IDENTIFICATION HAS CHANGED" in done.stderr
        why = _("it has another host key than servers[].hostKey") if is_another else done.stderr.strip()
        message = _(
            "the server {server} ({host}) cannot be reached: {reason}", server=server.name, host=server.host, reason=why
        )
        raise NotReached(message, is_another=is_another)
    if done.returncode != 0:
        reason = done.stderr.strip()
        raise ReleaseError(
            _("the server {server} cannot say what there is: {reason}", server=server.name, reason=reason)
        )
    return done.stdout


def run_step(server: ServerSettings, step: StepName, asked: Request) -> int:
    """Runs a step with the program that this checkout has installed there. Returns its exit status, as `run` does.

    Where the connection ends before the step, or whoever waits for it gives up, what is known then is said.
    """
    program = Program.read(PROJECT / "server")
    command = ("sh", "-c", IF_THERE, "sh", program.path(asked.directory), step, said(NOT_THERE))
    try:
        status = run(server, command, request.dump(replace(asked, messages=for_servers())))
    except KeyboardInterrupt:
        status = NOT_REACHED
    if status == NOT_REACHED:
        message = _(
            "error: the connection to {server} has ended, and {step} had not. If it has begun there, it goes on to its "
            "end, unless\nsomebody kills it. What is so now, and what to do:  ./releve status",
            server=server.name,
            step=step,
        )
        click.echo(message, err=True)
    return status


def run(server: ServerSettings, command: Sequence[str], stdin: str | None = "", *, terminal: bool = False) -> int:
    """Runs a command on the server, its words as they are; its output is this program's. Returns its exit status.

    stdin:    what it reads; None: this program's own
    terminal: it gets one
    The status is NOT_REACHED where the server was not reached.
    """
    return _logged_in(server, shlex.join(command), input=stdin, options=["-t"] if terminal else []).returncode


def in_directory(directory: str, *command: str) -> tuple[str, ...]:
    """The command, run in a directory of the server."""
    return ("sh", "-c", 'cd "$1" && shift && exec "$@"', "sh", directory, *command)


def _logged_in(
    server: ServerSettings, line: str, *, options: Sequence[str] = (), **how: Any
) -> subprocess.CompletedProcess[str]:
    """A command line of the server's shell that has ended. options: of ssh; how: as subprocess.run has it."""
    with tempfile.TemporaryDirectory(prefix="releve-") as directory:
        words = (*ssh_command(server, Path(directory)), *options, line)
        return subprocess.run(words, encoding="utf-8", errors="replace", check=False, **how)


def ssh_command(server: ServerSettings, directory: Path) -> tuple[str, ...]:
    """The command that logs in, as far as the host; what it needs besides is written into `directory`."""
    known_hosts = directory / "known_hosts"
    hosts: list[ServerSettings | JumpSettings] = [server, server.jump] if server.jump else [server]
    known_hosts.write_text("".join(f"[{h.host}]:{h.port} {h.host_key}\n{h.host} {h.host_key}\n" for h in hosts))
    options = [
        *("BatchMode=yes", "LogLevel=ERROR", f"ConnectTimeout={CONNECT_TIMEOUT}"),
        # A connection that is cut without a word is noticed in a minute.
        *("ServerAliveInterval=15", "ServerAliveCountMax=4"),
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
