"""./releve console."""

from __future__ import annotations

import sys

import click

from operations import server as connection
from operations import stack as stacks
from operations.command import failing_in_words, server_option, stack_option

DATABASE = 'exec psql --username="${1:-${POSTGRES_USER:-postgres}}" ${2:+--dbname="$2"}'
"""A program for the database's container, as the official image has it; its arguments are user and database, or ''."""


@click.command()
@click.argument("command", nargs=-1)
@stack_option
@server_option
@click.option("--rails", is_flag=True, help="Rails' console.")
@click.option("--db", is_flag=True, help="psql, in the database's container (backup.service).")
@failing_in_words
def console(command: tuple[str, ...], stack: str | None, server: str | None, *, rails: bool, db: bool) -> None:
    """Open a shell, or run COMMAND, in a container of its own, made like the web service's.

    It is removed at the end. The release that serves does not notice it.
    """
    if rails + db + bool(command) > 1:
        raise click.UsageError("one of --rails, --db or a command")
    loaded = stacks.load(stack)
    app, backup = loaded.settings.app, loaded.settings.backup
    terminal = sys.stdin.isatty() and sys.stdout.isatty()
    if db:
        options = () if terminal else ("-T",)
        service = backup.service or "postgres"
        words = ("exec", *options, service, "sh", "-c", DATABASE, "sh", backup.user or "", backup.database or "")
    else:
        inside = command or (("bundle", "exec", "rails", "console") if rails else ("sh",))
        # Without --no-deps, `run` may recreate the database.
        words = ("run", "--rm", "--no-deps", *(() if terminal else ("-T",)), app.services[0], *inside)
    line = connection.in_directory(app.directory, "docker", "compose", *words)
    raise SystemExit(connection.run(loaded.server(server), line, None, terminal=terminal))
