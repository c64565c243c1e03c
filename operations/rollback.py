"""./releve rollback."""

from __future__ import annotations

import click

from errors import ReleaseError
from operations import server as connection
from operations import stack as stacks
from operations.command import console, failing_in_words, server_option, stack_option
from operations.stack import Stack
from server.facts import Facts
from server.request import tag_of


@click.command()
@click.argument("tag", required=False)
@stack_option
@server_option
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@failing_in_words
def rollback(tag: str | None, stack: str | None, server: str | None, *, yes: bool) -> None:
    """Go back to the release before, or to TAG: sets the tag in the stack file, previews, and asks.

    Commit the changed stack file afterwards, as for a release.
    """
    loaded, shown = stacks.load(stack), console()
    facts = connection.ask(loaded.settings, loaded.server(server), loaded.released)
    target, now = tag or before(loaded, facts), loaded.settings.tag
    if target == now:
        raise ReleaseError(f"the stack {loaded.name} says {now} already: to apply it, run pulumi up")
    kept = target in tags(facts)
    shown.print(
        f"{loaded.name}: from [bold]{now}[/bold] back to [bold]{target}[/bold], which the server "
        + ("has kept: nothing is pulled or compiled" if kept else "has not kept: it is pulled, and compiled again")
    )
    if not (yes or click.confirm(f"Set the tag in {loaded.file.name}, and preview", default=True)):
        raise SystemExit(1)
    _set(loaded, target)
    if stacks.run_pulumi("preview", "--stack", loaded.name, "--non-interactive") != 0:
        _set(loaded, now)
        raise ReleaseError(f"the preview fails; {loaded.file.name} says {now} again")
    if not (yes or click.confirm("Do it")):
        _set(loaded, now)
        shown.print(f"{loaded.file.name} says {now} again.")
        raise SystemExit(1)
    # What was previewed a moment ago.
    raise SystemExit(stacks.run_pulumi("up", "--stack", loaded.name, "--yes", "--skip-preview", "--non-interactive"))


def tags(facts: Facts) -> list[str]:
    """Of the releases that a server has kept, the last first."""
    return [tag for tag in map(tag_of, facts.kept) if tag]


def before(stack: Stack, facts: Facts) -> str:
    """The tag that was live before the present one. Raises ReleaseError where there is none."""
    others = [tag_of(facts.previous), *tags(facts)]
    target = next((tag for tag in others if tag and tag != stack.settings.tag), None)
    if target is None:
        raise ReleaseError("the server has kept no other release: name its tag, ./releve rollback TAG")
    return target


def _set(stack: Stack, tag: str) -> None:
    done = stacks.pulumi("config", "set", "tag", tag, "--stack", stack.name)
    if done.returncode != 0:
        raise ReleaseError(f"the tag cannot be set: {done.stderr.strip()}")
