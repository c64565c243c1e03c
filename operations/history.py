"""./releve history."""

from __future__ import annotations

import json
from typing import Any

import click
from rich.table import Table

from operations import server as connection
from operations import stack as stacks
from operations.command import console, failing_in_words, json_option, print_json, server_option, stack_option

COLOURS = {"released": "green", "restored": "yellow", "failed": "red", "interrupted": "red"}


@click.command()
@stack_option
@server_option
@click.option("--last", "-n", default=20, show_default=True, help="How many.")
@json_option
@failing_in_words
def history(stack: str | None, server: str | None, last: int, *, as_json: bool) -> None:
    """List the rollouts of a server: when, what, by whom, with what result."""
    loaded = stacks.load(stack)
    facts = connection.ask(loaded.settings, loaded.server(server), loaded.released)
    entries: list[dict[str, Any]] = [json.loads(line) for line in facts.history[-last:]]
    if as_json:
        return print_json(entries)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column in ("when", "release", "result", "took", "downtime", "step", "by"):
        table.add_column(column, justify="right" if column in ("took", "downtime") else "left")
    for entry in entries:
        colour = COLOURS.get(entry["result"], "default")
        downtime = entry.get("downtime")
        step = "" if entry["result"] == "released" else str(entry.get("phase") or entry.get("step"))
        table.add_row(
            str(entry["end"]).replace("T", " ").rstrip("Z"), str(entry["release"]),
            f"[{colour}]{entry['result']}[/{colour}]", f"{entry['seconds']} s",
            "" if downtime is None else f"{downtime:.1f} s", step, str(entry.get("actor", "")),
        )  # fmt: skip
    return console().print(table if entries else "No rollout yet.")
