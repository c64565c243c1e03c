"""./releve backups."""

from __future__ import annotations

import click
from rich.table import Table

from language import _
from operations import server as connection
from operations import stack as stacks
from operations.command import (
    ago,
    console,
    failing_in_words,
    json_option,
    print_json,
    server_option,
    size,
    stack_option,
)


@click.command()
@stack_option
@server_option
@json_option
@failing_in_words
def backups(stack: str | None, server: str | None, *, as_json: bool) -> None:
    """List the dumps of the database that a server keeps, the newest last."""
    loaded = stacks.load(stack)
    facts = connection.ask(loaded.settings, loaded.server(server), loaded.released)
    if as_json:
        return print_json(facts.backups)
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    for backup in facts.backups:
        table.add_row(backup.name, size(backup.size), _("{time} ago", time=ago(backup.made)))
    return console().print(table if facts.backups else _("No dump is kept there."))
