"""./releve plan."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

import click

from errors import ReleaseError
from operations import stack as stacks
from operations.command import failing_in_words, json_option, print_json, stack_option
from release.plan import FILE


@click.command()
@stack_option
@json_option
@failing_in_words
def plan(stack: str | None, *, as_json: bool) -> None:
    """Say what `pulumi up` would do: on each server what runs and what will, the steps, why, and the interruption.

    It is the plan of `pulumi preview`, without the resources, and with its warnings. No server is asked.
    """
    name = stack or stacks.selected()
    with tempfile.TemporaryDirectory(prefix="releve-") as directory:
        file = Path(directory, "plan.json")
        command = ("preview", "--stack", name, "--json", "--non-interactive")
        done = stacks.pulumi(*command, environment={**os.environ, FILE: str(file)})
        said = diagnostics(done.stdout)
        if done.returncode != 0 or not file.exists():
            errors = "\n".join(text for kind, text in said if kind == "error") or done.stderr.strip() or done.stdout
            raise ReleaseError(f"the preview of {name} fails: {errors}")
        made = json.loads(file.read_text())
    warnings = [text for kind, text in said if kind == "warning"]
    text = made.pop("text")
    if as_json:
        return print_json({**made, "warnings": warnings})
    return click.echo("\n".join([text, *(f"warning: {warning}" for warning in warnings)]))


def diagnostics(printed: str) -> list[tuple[str, str]]:
    """Severity and text of what a preview had to say, from its JSON."""
    try:
        document: dict[str, Any] = json.loads(printed)
    except ValueError:
        return []
    said = [(str(it["severity"]), str(it["message"]).strip()) for it in document.get("diagnostics") or ()]
    return [(severity, text.removeprefix(f"{severity}: ")) for severity, text in said]
