"""Previews a stack, and deploys exactly what was approved: what `make preview` and `make deploy` do."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from errors import ReleaseError
from gitops.artefacts import Artefacts, Preview
from operations.locks import Holder, holders
from operations.stack import PROJECT
from release import plan

PACK = PROJECT / "policy/pack"
LOOKS_AT_LOCK = 5
"""Seconds between looks whether the lock of the state is free."""


def preview(stack: str) -> Preview:
    """Previews a stack on this terminal and leaves the artefacts. Raises ReleaseError where there is no pulumi."""
    artefacts = Artefacts.of(stack, PROJECT)
    artefacts.clear()
    words = ["preview", "--stack", stack, "--diff", "--non-interactive", "--color", "never"]
    if _tee(words, artefacts.log, {plan.FILE: str(artefacts.plan)}) == 0:
        artefacts.write_widget()
    return Preview.read(stack, artefacts)


def deploy(stack: str, approved: str, wait: float) -> int:
    """Previews again, and rolls out when that is what was approved. Returns pulumi's exit status.

    approved: the fingerprint of the plan
    wait:     seconds that another rollout may take to end
    Raises ReleaseError where it is something else, or the lock of the state does not become free.
    """
    await_lock(stack, wait)
    found = preview(stack)
    if not found.succeeded:
        raise ReleaseError(f"the preview of {stack} fails, so nothing was deployed")
    if found.is_empty:
        return 0
    if approved != found.fingerprint:
        given = f"what was approved is {approved}" if approved else f"nothing was approved ({plan.APPROVED} is not set)"
        raise ReleaseError(
            f"nothing was deployed: {given}, and the plan is {found.fingerprint}. Something has changed in between: "
            f"the configuration, the image of the tag, a secret, the program, or what {stack} runs. Look at the plan "
            f"above; if it is what you want:  make deploy STACK={stack} {plan.APPROVED}={found.fingerprint}"
        )
    words = ["up", "--stack", stack, "--yes", "--skip-preview", "--non-interactive", "--color", "never"]
    # The program compares once more, with the state as it is by then.
    return _tee(words, Artefacts.of(stack, PROJECT).directory / "deploy.log", {plan.APPROVED: approved})


def await_lock(
    stack: str,
    seconds: float,
    ask: Callable[[str], tuple[Holder, ...]] = holders,
    pause: Callable[[float], None] = time.sleep,
) -> None:
    """Returns when nobody holds the lock of the state. Raises ReleaseError when that does not come to be."""
    deadline = time.monotonic() + seconds
    told = False
    while held := ask(stack):
        names = "; ".join(holder.described() for holder in held)
        gone = [holder for holder in held if holder.is_gone()]
        if gone or time.monotonic() >= deadline:
            why = "that process is gone, so it will not end" if gone else f"it still was after {seconds:.0f} s"
            raise ReleaseError(
                f"the state of {stack} is locked by {names}; {why}. Nothing was done. When nobody works there any "
                f"more:  make unlock STACK={stack}"
            )
        if not told:
            print(f"the state of {stack} is locked by {names}; waiting until that has ended", flush=True)
            told = True
        pause(LOOKS_AT_LOCK)


def _tee(words: list[str], log: Path, more: dict[str, str]) -> int:
    """Runs pulumi; what it prints goes to this terminal and to a file, line by line."""
    command = ["pulumi", *words, "--policy-pack", str(PACK)]
    # Approved is only what `deploy` compares.
    environment = {**{name: value for name, value in os.environ.items() if name != plan.APPROVED}, **more}
    try:
        process = subprocess.Popen(
            command,
            cwd=PROJECT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
    except FileNotFoundError:
        raise ReleaseError("there is no command `pulumi`: make preview and make deploy bring it along") from None
    with log.open("w", encoding="utf-8") as kept, process:
        for line in process.stdout or ():
            sys.stdout.write(line)
            sys.stdout.flush()
            kept.write(line)
    return process.returncode
