"""What the commands of ./releve have in common: their options, and how they say things."""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

import click
from rich.console import Console
from rich.table import Table

from errors import ReleaseError
from language import _, decimal

Function = TypeVar("Function", bound=Callable[..., Any])

COMPLETE = "_RELEVE_COMPLETE"
"""The environment variable by which a shell asks for completions."""


def _stacks(_context: click.Context, _option: click.Parameter, begun: str) -> list[str]:
    """Those whose names begin so, for completion."""
    from operations.stack import PROJECT  # noqa: PLC0415 - it loads what most completions need not wait for

    names = (path.name.removeprefix("Pulumi.").removesuffix(".yaml") for path in PROJECT.glob("Pulumi.*.yaml"))
    return sorted(name for name in names if name.startswith(begun))


stack_option = click.option(
    "--stack", "-s", metavar="NAME", shell_complete=_stacks, help="The stack; by default the selected one."
)
server_option = click.option("--server", metavar="NAME", help="The server; by default the only one.")
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def console() -> Console:
    """The terminal, or what stands for it; without one, lines are not cut to its width."""
    shown = Console(highlight=False, soft_wrap=True)
    return shown if shown.is_terminal else Console(highlight=False, soft_wrap=True, width=10_000)


def failing_in_words(function: Function) -> Function:
    """A ReleaseError ends the command with its words and status 1."""

    @functools.wraps(function)
    def wrapped(*arguments: Any, **options: Any) -> Any:
        try:
            return function(*arguments, **options)
        except ReleaseError as error:
            raise click.ClickException(str(error)) from None

    return wrapped  # type: ignore[return-value] # the same signature


def print_json(value: Any) -> None:
    """A dataclass, or what JSON knows, for other programs."""
    click.echo(json.dumps(value, default=_plain, indent=2, ensure_ascii=False))


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    return str(value)


def pairs(rows: Sequence[tuple[str, str]]) -> Table:
    """Names and what is so, in two columns."""
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 3, 0, 0))
    for name, value in rows:
        table.add_row(f"[dim]{name}[/dim]", value)
    return table


def ago(timestamp: str, now: datetime | None = None) -> str:
    """How long ago a moment, in ISO 8601, was: "5 min", "3 h", "2 days"."""
    try:
        then = datetime.fromisoformat(timestamp)
    except ValueError:
        return ""
    seconds = ((now or datetime.now(UTC)) - then).total_seconds()
    for unit, size, least in ((_("days"), 86_400, 172_800), ("h", 3600, 7200), ("min", 60, 120)):
        if seconds >= least:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"


def size(count: int) -> str:
    """A number of bytes for people."""
    value = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:  # noqa: PLR2004
            return f"{value:.0f} {unit}"
        value /= 1024
    return f"{decimal(value)} TiB"


def confirm(question: str, *, default: bool = False) -> bool:
    """Asks a yes-or-no question, as click.confirm does, but takes the words of the reader's language, too."""
    yes, no = _("y yes").split(), _("n no").split()
    shown = _("Y/n") if default else _("y/N")

    def read(text: str) -> bool:
        answer = text.strip().lower()
        if not answer:
            return default
        if answer not in (*yes, *no, "y", "yes", "no"):
            raise click.UsageError(_("invalid input"))
        return answer in (*yes, "y", "yes")

    asked: bool = click.prompt(f"{question} [{shown}]", default="", show_default=False, value_proc=read)
    return asked
