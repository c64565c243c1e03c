"""./releve console."""

from __future__ import annotations

import sys

import click

from configuration.tree import ServerSettings
from errors import ReleaseError
from operations import server as connection
from operations import stack as stacks
from operations.command import failing_in_words, server_option, stack_option
from operations.stack import Stack
from server.containers import OneOffs
from server.in_container import in_container


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
    host, app = loaded.server(server), loaded.settings.app
    terminal = sys.stdin.isatty() and sys.stdout.isatty()
    if db:
        words = _psql(loaded, host, terminal=terminal)
    else:
        # Without --no-deps, `run` may recreate the database.
        words = ("run", "--rm", "--no-deps", *(() if terminal else ("-T",)), *_inside(loaded, command, rails=rails))
    line = connection.in_directory(app.directory, "docker", "compose", *words)
    raise SystemExit(connection.run(host, line, None, terminal=terminal))


def _inside(stack: Stack, command: tuple[str, ...], *, rails: bool) -> tuple[str, ...]:
    """The service, and what runs in its container: entrypoints may do more than one asks a shell for."""
    app = stack.settings.app
    inside = command or (("bundle", "exec", "rails", "console") if rails else ("sh",))
    entrypoint = app.entrypoint if command or rails else ()
    return OneOffs(app.directory, stack.settings.tag, entrypoint).command(app.services[0], inside)


def _psql(stack: Stack, server: ServerSettings, *, terminal: bool) -> tuple[str, ...]:
    """For docker compose: psql in the database's container, reached as a dump reaches it. Raises ReleaseError."""
    facts, backup = connection.ask(stack.settings, server, stack.released), stack.settings.backup
    if not facts.database:
        raise ReleaseError(f"which service of {server.name} is the database is not known: set backup.service")
    name = backup.database or next(iter(facts.databases), "")
    program = f"{in_container('postgres')}\nunset -f psql; exec psql"
    options = () if terminal else ("-T",)
    return ("exec", *options, facts.database, "sh", "-c", program, "sh", backup.user or "", name)
