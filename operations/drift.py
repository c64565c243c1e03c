"""./releve drift."""

from __future__ import annotations

import click

from configuration.tree import ServerSettings
from operations import server as connection
from operations import stack as stacks
from operations.command import console, failing_in_words, json_option, print_json, stack_option
from operations.server import NotReached
from operations.stack import Stack
from release import notification
from server.drift import Difference

FOUND = 2
"""The exit status where something differs; 1 is an error."""


@click.command()
@stack_option
@json_option
@click.option("--notify", is_flag=True, help="Tell those of notify.urls what differs.")
@failing_in_words
def drift(stack: str | None, *, as_json: bool, notify: bool) -> None:
    """Say what is no longer as it was released.

    Status 0: nothing; 2: something, which is named. What it finds is changed by a rollout of the same release, where it
    is Relève's to change:  pulumi up --replace '**-pull'
    """
    loaded = stacks.load(stack)
    found = {server.name: differences(loaded, server) for server in loaded.settings.servers}
    if as_json:
        print_json(found)
    for name, items in found.items() if not as_json else ():
        shown = console()
        shown.print(f"[bold]{name}[/bold]  " + ("" if items else "as it was released"))
        for item in items:
            shown.print(f"  [yellow]{item.item}[/yellow]: {item.what}")
    if notify and any(found.values()):
        told = {name: [f"{it.item}: {it.what}" for it in items] for name, items in found.items()}
        for problem in notification.send(loaded.settings.notify, notification.drifted(loaded.name, told)):
            click.echo(f"warning: nobody was told there: {problem}", err=True)
    if any(found.values()):
        raise SystemExit(FOUND)


def differences(stack: Stack, server: ServerSettings) -> tuple[Difference, ...]:
    """What differs on a server. Raises ReleaseError where that cannot be said."""
    try:
        facts = connection.ask(stack.settings, server, stack.released)
    except NotReached as error:
        if not error.is_another:
            raise
        return (Difference("host key", f"what answers at {server.host} has another one than servers[].hostKey"),)
    found = list(facts.differences or ())
    if stack.released and facts.image != str(stack.released):
        runs = facts.image or facts.release or "no release of Relève's"
        found.insert(0, Difference("release", f"{runs} is live; released last was {stack.released}"))
    if facts.restoring and not facts.busy:
        found.insert(0, Difference("restore", f"that of {facts.restoring} was interrupted"))
    if facts.interrupted and not facts.busy:
        found.insert(0, Difference("rollout", "one was interrupted, and is neither finished nor undone"))
    if facts.problem:
        found.append(Difference("health", facts.problem))
    return tuple(found)
