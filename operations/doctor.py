"""./releve doctor."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import textwrap
import time
from collections.abc import Iterator
from dataclasses import dataclass

import click

from configuration.tree import ServerSettings
from errors import ReleaseError
from operations import server as connection
from operations import stack as stacks
from operations.command import console, failing_in_words, json_option, print_json, size, stack_option
from operations.server import NotReached
from operations.stack import PROJECT, Stack
from release import registry
from release.reference import ImageReference
from release.registry import Absent, Unreachable
from server.facts import Facts, Machine
from server.request import Strategy

LEAST_DISK = 2 << 30
"""Bytes: an image of Fab-manager's is over 1 GiB, and two are there at once."""
LEAST_MEMORY = 256 << 20
"""Bytes, for the container that compiles or starts beside the running one."""
LARGEST_SKEW = 30
"""Seconds between two clocks. Cookies, certificates and logs go by them."""
OLDEST_PULUMI = (3, 259)


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at. fault: what is wrong, "" for nothing; remedy: what to do about it."""

    where: str
    what: str
    fault: str = ""
    remedy: str = ""


@click.command()
@stack_option
@json_option
@failing_in_words
def doctor(stack: str | None, *, as_json: bool) -> None:
    """Look at this machine, the registry and each server, for what a rollout would stumble over.

    Changes nothing. Status 1: something is wrong.
    """
    loaded = stacks.load(stack)
    findings = [*this_machine(loaded), *the_registry(loaded)]
    for server in loaded.settings.servers:
        findings += the_server(loaded, server)
    if as_json:
        print_json(findings)
    for finding in findings if not as_json else ():
        mark = "[red]fault[/red]" if finding.fault else "[green]ok[/green]   "
        said = f": [red]{finding.fault}[/red]" if finding.fault else ""
        console().print(f"{mark}  {finding.where}: {finding.what}{said}")
        if finding.remedy:
            console().print(textwrap.indent(finding.remedy, " " * 7))
    if any(finding.fault for finding in findings):
        raise SystemExit(1)


def this_machine(stack: Stack) -> Iterator[Finding]:
    """Tools, and the key for the servers."""
    here = "this machine"
    version = stacks.pulumi("version").stdout.strip().lstrip("v")
    numbers = tuple(map(int, re.findall(r"\d+", version)[:2]))
    old = f"Relève needs {'.'.join(map(str, OLDEST_PULUMI))} or newer" if numbers < OLDEST_PULUMI else ""
    yield Finding(here, f"pulumi {version}", old, "tools/engine gets it." if old else "")
    if stack.settings.image.source:
        yield _docker_here()
        if shutil.which("git") is None:
            yield Finding(here, "git", "it is not installed", "Install git: the image is built from a commit.")
    if shutil.which("ssh") is None:
        yield Finding(here, "ssh", "it is not installed", "Install the OpenSSH client.")
    elif any(server.private_key is None for server in stack.settings.servers):
        yield _agent()


def _docker_here() -> Finding:
    try:
        command = ("docker", "version", "--format", "{{.Server.Version}}")
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return Finding("this machine", "docker", "it is not installed", "This stack builds images: install Docker.")
    if done.returncode != 0:
        reason = done.stderr.strip().splitlines()[-1:] or ["no answer"]
        return Finding(
            "this machine", "docker", reason[0], "This stack builds images: start Docker, and let you use it."
        )
    return Finding("this machine", f"Docker Engine {done.stdout.strip()}")


def _agent() -> Finding:
    if not os.environ.get("SSH_AUTH_SOCK"):
        remedy = "Start one:  eval $(ssh-agent) && ssh-add   (or set servers[].privateKey)"
        return Finding("this machine", "SSH agent", "there is none", remedy)
    done = subprocess.run(("ssh-add", "-l"), capture_output=True, text=True, check=False)
    if done.returncode != 0:
        return Finding("this machine", "SSH agent", "it holds no key", "Run:  ssh-add   (or set servers[].privateKey)")
    keys = len(done.stdout.splitlines())
    return Finding("this machine", f"SSH agent with {keys} key{'s' if keys != 1 else ''}")


def the_registry(stack: Stack) -> Iterator[Finding]:
    """Whether it answers, with this account, and knows the tag."""
    settings = stack.settings
    image = ImageReference(settings.image.repository, settings.tag)
    try:
        state = registry.probe(image, registry.connect(image.registry, settings.registry, PROJECT))
    except ReleaseError as error:
        yield Finding("the registry", image.registry, str(error), "Check registry.* and the files that it names.")
        return
    if isinstance(state, Unreachable):
        yield Finding("the registry", image.registry, state.reason, "Check registry.* and the network.")
    elif isinstance(state, Absent):
        builds = settings.image.source is not None
        yield Finding(
            "the registry", f"{image.registry} answers; {image} is not there yet",
            "" if builds else "this stack cannot build it",
            "" if builds else "Release it from the stack that builds, or set the tag of a release.",
        )  # fmt: skip
    else:
        yield Finding("the registry", f"{image.registry} answers; {image} is {state.digest[:19]}…")


def the_server(stack: Stack, server: ServerSettings) -> Iterator[Finding]:
    """Whether a rollout could begin there."""
    try:
        before = time.time()
        facts = connection.ask(stack.settings, server, stack.released)
    except ReleaseError as error:
        first, _, rest = str(error).partition("\n")
        yield Finding(server.name, server.host, first, _of_connection(error) or rest)
        return
    yield from _of_machine(server.name, facts.machine, (before + time.time()) / 2)
    yield from _of_project(stack, server.name, facts)


def _of_connection(error: ReleaseError) -> str:
    """What to do where the server was not reached."""
    if not isinstance(error, NotReached):
        return ""
    if error.is_another:
        return "Compare its key at the server itself, then set servers[].hostKey: docs/runbook.md, Another key."
    return "Check servers[].host, port and user, whether it runs, and that `ssh-add -l` lists a key that it knows."


def _of_machine(where: str, machine: Machine, now: float) -> Iterator[Finding]:
    yield Finding(where, f"Python {machine.python}, Docker Engine {machine.engine}, Docker Compose {machine.compose}")
    low = machine.disk_free < LEAST_DISK
    yield Finding(
        where, f"{size(machine.disk_free)} of {size(machine.disk)} free on the disk",
        f"an image and a dump may need {size(LEAST_DISK)}" if low else "",
        "Make room:  docker image prune -a   removes images that no container uses, kept ones too." if low else "",
    )  # fmt: skip
    low = machine.memory_free < LEAST_MEMORY
    yield Finding(
        where, f"{size(machine.memory_free)} of {size(machine.memory)} of memory available",
        "compiling and starting beside the running release may fail" if low else "",
        "Add memory or swap; or set app.strategy: in-place." if low else "",
    )  # fmt: skip
    skew = abs(machine.clock - now)
    if skew > LARGEST_SKEW:
        yield Finding(where, "clock", f"it is {skew:.0f} s off this machine's", "Let it be set by NTP.")


def _of_project(stack: Stack, where: str, facts: Facts) -> Iterator[Finding]:
    strategy = stack.settings.app.strategy
    fault, _, remedy = facts.refused.partition("\n")
    yield Finding(where, f"{facts.directory}, project '{facts.project}'", fault, remedy)
    for obstacle in facts.unrollable:
        wanted = strategy is Strategy.ROLLING
        yield Finding(
            where, f"fit for staged and in-place, not for rolling: {obstacle}",
            "app.strategy is rolling" if wanted else "",
            "Set app.strategy: staged, or change the Compose file: docs/zero-downtime.md." if wanted else "",
        )  # fmt: skip
    if not facts.unrollable:
        yield Finding(where, f"fit for every strategy; app.strategy is {strategy}")
    for advice in facts.advice:
        yield Finding(where, f"for rolling, better not like this: {advice}")
    if facts.busy:
        yield Finding(where, f"at work: {facts.busy}")
    elif facts.interrupted:
        yield Finding(where, "rollout", "one was interrupted", "Run pulumi up: it goes on with it, or undoes it.")
    elif facts.restoring:
        yield Finding(
            where, f"restore of {facts.restoring}", "it was interrupted", f"Run ./releve restore {facts.restoring}"
        )
