"""./releve restore."""

from __future__ import annotations

import click

from errors import ReleaseError
from language import _
from operations import server as connection
from operations import stack as stacks
from operations.command import console, failing_in_words, server_option, stack_option
from release import steps
from server.request import StepName


@click.command()
@click.argument("backup")
@stack_option
@server_option
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@failing_in_words
def restore(backup: str, stack: str | None, server: str | None, *, yes: bool) -> None:
    """Make the database what it was at BACKUP (./releve backups lists them). The site is away meanwhile.

    What was written since is in a dump that is made before. Stops the services, dumps, restores, starts them, and waits
    until they answer. If it is interrupted, run it again.
    """
    loaded = stacks.load(stack)
    host = loaded.server(server)
    facts = connection.ask(loaded.settings, host, loaded.released)
    if backup not in [known.name for known in facts.backups]:
        raise ReleaseError(
            _("{server} has no backup '{name}': ./releve backups lists them", server=host.name, name=backup)
        )
    tag = loaded.settings.tag
    what = _(
        "{stack}: the database of [bold]{tag}[/bold] on {server} becomes what it was at {name}.",
        stack=loaded.name,
        tag=tag,
        server=host.name,
        name=backup,
    )
    console().print(what)
    if not yes and click.prompt(_("What was written since is lost to the site. Type {tag} to go on", tag=tag)) != tag:
        raise SystemExit(1)
    asked = steps.request_of(StepName.RESTORE, loaded.settings, host, image=loaded.released, restored=backup)
    raise SystemExit(connection.run_step(host, StepName.RESTORE, asked))
