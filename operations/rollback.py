"""./releve rollback."""

from __future__ import annotations

import click

from errors import ReleaseError
from language import _
from operations import server as connection
from operations import stack as stacks
from operations.command import confirm, console, failing_in_words, server_option, stack_option
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
        raise ReleaseError(
            _("the stack {stack} says {tag} already: to apply it, run pulumi up", stack=loaded.name, tag=now)
        )
    kept = target in tags(facts)
    shown.print(
        _(
            "{stack}: from [bold]{now}[/bold] back to [bold]{tag}[/bold], which the server has kept: "
            "nothing is pulled or compiled"
            if kept
            else "{stack}: from [bold]{now}[/bold] back to [bold]{tag}[/bold], which the server has not kept: "
            "it is pulled, and compiled again",
            stack=loaded.name,
            now=now,
            tag=target,
        )
    )
    if not (yes or confirm(_("Set the tag in {file}, and preview", file=loaded.file.name), default=True)):
        raise SystemExit(1)
    _set(loaded, target)
    if stacks.run_pulumi("preview", "--stack", loaded.name, "--non-interactive") != 0:
        _set(loaded, now)
        raise ReleaseError(_("the preview fails; {file} says {tag} again", file=loaded.file.name, tag=now))
    if not (yes or confirm(_("Do it"))):
        _set(loaded, now)
        shown.print(_("{file} says {tag} again.", file=loaded.file.name, tag=now))
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
        raise ReleaseError(_("the server has kept no other release: name its tag, ./releve rollback TAG"))
    return target


def _set(stack: Stack, tag: str) -> None:
    done = stacks.pulumi("config", "set", "tag", tag, "--stack", stack.name)
    if done.returncode != 0:
        raise ReleaseError(_("the tag cannot be set: {reason}", reason=done.stderr.strip()))
