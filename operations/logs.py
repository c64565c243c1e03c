"""./releve logs."""

from __future__ import annotations

import click

from operations import server as connection
from operations import stack as stacks
from operations.command import failing_in_words, server_option, stack_option


@click.command()
@click.argument("services", nargs=-1)
@stack_option
@server_option
@click.option("--follow", "-f", is_flag=True, help="Go on with what is said from now on.")
@click.option("--tail", "-n", default=100, show_default=True, help="Lines of each service.")
@click.option("--rollout", is_flag=True, help="Of Relève's last rollout there, instead of the application's.")
@failing_in_words
def logs(
    services: tuple[str, ...], stack: str | None, server: str | None, *, follow: bool, tail: int, rollout: bool
) -> None:
    """Show what the application says: all of app.services, or the SERVICES named."""
    loaded = stacks.load(stack)
    app = loaded.settings.app
    if rollout:
        # By name: the next rollout's log is another file.
        words = ("tail", f"--lines={tail}", *(["--follow=name", "--retry"] if follow else []), ".releve/latest.log")
    else:
        options = (f"--tail={tail}", *(["--follow"] if follow else []))
        words = ("docker", "compose", "logs", *options, *(services or app.services))
    raise SystemExit(connection.run(loaded.server(server), connection.in_directory(app.directory, *words)))
