"""./releve unlock."""

from __future__ import annotations

import click

from errors import ReleaseError
from operations import server as connection
from operations import stack as stacks
from operations.command import console, failing_in_words, stack_option
from operations.locks import holders
from operations.server import NotReached


@click.command()
@stack_option
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@failing_in_words
def unlock(stack: str | None, *, yes: bool) -> None:
    """Remove the lock that a killed `pulumi up` has left on the state.

    Not while a step works on a server. The servers' own locks end with the process that holds them: nobody need remove
    those.
    """
    loaded, shown = stacks.load(stack), console()
    for server in loaded.settings.servers:
        try:
            facts = connection.ask(loaded.settings, server, loaded.released)
        except NotReached as error:
            shown.print(f"[yellow]{error}[/yellow]: whether a step works there is not known")
            continue
        if facts.busy:
            raise ReleaseError(
                f"a step works on {server.name}: {facts.busy}. It ends by itself, or puts the old release back. "
                "Wait for its end: ./releve status"
            )
        shown.print(f"{server.name}: nobody works there")
        if facts.interrupted:
            shown.print("  a rollout was interrupted; the next `pulumi up` goes on with it, or undoes it")
    for holder in holders(loaded.name):
        shown.print(f"the state is locked by {holder.described()}")
    shown.print(f"Whoever runs `pulumi up` for the stack {loaded.name} now would lose the lock of the state.")
    if yes or click.confirm("Does nobody? Remove the lock"):
        raise SystemExit(stacks.run_pulumi("cancel", "--yes", "--stack", loaded.name))
    raise SystemExit(1)
