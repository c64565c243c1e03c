"""./releve: its commands. Each is loaded when it is called: that is most of its start."""

from __future__ import annotations

import importlib
from typing import Any

import click

from operations.command import COMPLETE

COMMANDS = (
    "plan", "status", "drift", "history", "logs", "console", "backup", "backups", "restore", "rehearse", "rollback",
    "upgrade", "gitops", "lock", "unlock", "config", "adopt", "doctor", "completion",
)  # fmt: skip
"""In the order in which --help lists them."""


class Commands(click.Group):
    """The commands, each the function of its name in the file of its name."""

    def list_commands(self, _context: click.Context) -> list[str]:
        """Their names."""
        return list(COMMANDS)

    def get_command(self, _context: click.Context, name: str) -> Any:
        """The command, or None."""
        return getattr(importlib.import_module(f"operations.{name}"), name) if name in COMMANDS else None


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
def releve() -> None:
    """Looks after what `pulumi up` has released.

    Run it with pulumi's environment, as for a rollout. On the sandbox: sandbox/run ./releve status
    """


if __name__ == "__main__":
    releve(prog_name="./releve", complete_var=COMPLETE)
