"""Who holds the lock of a stack's state."""

from __future__ import annotations

import os
import re
import socket
from dataclasses import dataclass

from errors import ReleaseError
from operations import stack as stacks
from operations.command import ago

_HELD = re.compile(r"created by (\S+)@(\S+) \(pid (\d+)\) at (\S+)")


@dataclass(frozen=True)
class Holder:
    """A process that has taken the lock, as Pulumi has written it there. since: a moment in ISO 8601."""

    user: str
    host: str
    process: int
    since: str

    def is_gone(self) -> bool:
        """Whether it is known to have ended: it was of this machine, and there is no such process."""
        if self.host != socket.gethostname():
            return False
        try:
            os.kill(self.process, 0)
        except ProcessLookupError:
            return True
        except PermissionError:
            pass  # another user's
        return False

    def described(self) -> str:
        """In words."""
        gone = ", which is gone" if self.is_gone() else ""
        return f"{self.user}@{self.host} (process {self.process}{gone}) since {self.since}, {ago(self.since)} ago"


def holders(stack: str) -> tuple[Holder, ...]:
    """Those of a stack, where the state is in a bucket, a database or a directory. Raises ReleaseError: no such stack.

    With Pulumi's service always none: it has another way, and says itself who works. Pulumi has no command for it. To
    make a stack that is there is refused, and before that by the lock, which it names.
    """
    there = stacks.pulumi("stack", "--show-name", "--stack", stack)
    if there.returncode != 0:
        raise ReleaseError(f"the stack {stack} cannot be read: {there.stderr.strip().removeprefix('error: ')}")
    refused = stacks.pulumi("stack", "init", stack, "--no-select", "--non-interactive")
    return tuple(
        Holder(user, host, int(process), since) for user, host, process, since in _HELD.findall(refused.stderr)
    )
