"""./releve backup."""

from __future__ import annotations

import click

from operations import server as connection
from operations import stack as stacks
from operations.command import failing_in_words, server_option, stack_option
from release import steps
from server.request import StepName


@click.command()
@stack_option
@server_option
@failing_in_words
def backup(stack: str | None, server: str | None) -> None:
    """Dump the database now, as before migrations.

    The dump is checked, stays on the server, and is one of the backup.keep newest there.
    """
    loaded = stacks.load(stack)
    host = loaded.server(server)
    asked = steps.request_of(StepName.DUMP, loaded.settings, host)
    raise SystemExit(connection.run_step(host, StepName.DUMP, asked))
