"""Which stacks a change touches."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import yaml

from configuration.effective import without_secrets
from configuration.load import delivered
from errors import ReleaseError
from operations.stack import PROJECT

_STACK = re.compile(r"Pulumi\.([A-Za-z0-9._-]+)\.yaml")
_READING = re.compile(r"(docs|tests|example|benchmark|sandbox|templates)/|[A-Za-z]+\.md$|LICENSE$|\.git")
"""What no rollout is made of."""


def touched(since: str, project: Path = PROJECT) -> list[str]:
    """The stacks, in order, that what was changed between a commit's merge base and now concerns.

    A stack's own file concerns it alone, all that the program is made of concerns every one.
    Raises ReleaseError where git cannot say.
    """
    done = subprocess.run(
        ["git", "-C", project, "diff", "--name-only", "--no-renames", "-z", f"{since}...HEAD", "--"],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise ReleaseError(f"what has changed since {since} is not known: {done.stderr.strip()}")
    changed = [name for name in done.stdout.split("\0") if name]
    stacks = stacks_of(project)
    own = {found[1] for name in changed if (found := _STACK.fullmatch(name))}
    if any(not _STACK.fullmatch(name) and not _READING.match(name) for name in changed):
        return stacks
    return [stack for stack in stacks if stack in own]


def stacks_of(project: Path = PROJECT) -> list[str]:
    """Those that the repository has a file of."""
    return sorted(found[1] for file in project.glob("Pulumi.*.yaml") if (found := _STACK.fullmatch(file.name)))


def configuration_in(file: Path) -> dict[str, str]:
    """What a stack file holds, as Pulumi would deliver it; in place of each secret there is something of its form."""
    document = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
    return delivered(without_secrets(document.get("config") or {}))
