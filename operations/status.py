"""./releve status."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import click

from configuration.tree import ServerSettings
from language import _, decimal
from operations import server as connection
from operations import stack as stacks
from operations.command import ago, console, failing_in_words, json_option, pairs, print_json, size, stack_option
from operations.server import NotReached
from operations.stack import Stack
from server.facts import Facts


@click.command()
@stack_option
@json_option
@failing_in_words
def status(stack: str | None, *, as_json: bool) -> None:
    """Say what is wanted and what runs, since when, and how it is.

    Status 0: every server answers and runs what was released last.
    """
    loaded = stacks.load(stack)
    found: dict[str, Facts | NotReached] = {}
    for server in loaded.settings.servers:
        try:
            found[server.name] = connection.ask(loaded.settings, server, loaded.released)
        except NotReached as error:
            found[server.name] = error
    if as_json:
        print_json(_document(loaded, found))
    else:
        for server in loaded.settings.servers:
            _show(loaded, server, found[server.name])
    if not all(isinstance(facts, Facts) and is_well(loaded, facts) for facts in found.values()):
        raise SystemExit(1)


def is_well(stack: Stack, facts: Facts) -> bool:
    """Whether the server runs what was released last, and answers."""
    return facts.image == str(stack.released or "") and not (facts.problem or facts.interrupted or facts.restoring)


def last_downtime(facts: Facts) -> tuple[float, str] | None:
    """Of the last finished rollout that measured it: seconds, and its release."""
    for line in reversed(facts.history):
        entry = json.loads(line)
        if entry.get("result") in ("released", "restored") and entry.get("downtime") is not None:
            return float(entry["downtime"]), str(entry.get("release"))
    return None


def _document(stack: Stack, found: dict[str, Facts | NotReached]) -> dict[str, Any]:
    return {
        "stack": stack.name,
        "wanted": {"tag": stack.settings.tag, "released": str(stack.released) if stack.released else None},
        "servers": {
            name: facts if isinstance(facts, Facts) else {"error": str(facts)} for name, facts in found.items()
        },
    }


def _show(stack: Stack, server: ServerSettings, facts: Facts | NotReached) -> None:
    shown = console()
    shown.print(f"[bold]{server.name}[/bold]  {server.url or server.host}")
    if isinstance(facts, NotReached):
        shown.print(f"  [red]{facts}[/red]\n")
        return
    shown.print(pairs([(f"  {name}", value) for name, value in _rows(stack, facts)]))
    shown.print()


def _rows(stack: Stack, facts: Facts) -> list[tuple[str, str]]:
    released = stack.released
    known = released and released.tag == stack.settings.tag and f"{str(released.digest)[:19]}…"
    running = (
        _("{release}, for {time}", release=facts.release, time=ago(facts.since))
        if facts.release
        else _("no release of Relève's")
    )
    if released and facts.image != str(released):
        running = _("{release}: not what was released last, {image}", release=running, image=released)
        running = f"[red]{running}[/red]"
    rows = [
        (_("wanted"), f"{stack.settings.tag}  {known or _('not released yet')}"),
        (_("running"), running),
        (_("health"), f"[red]{facts.problem}[/red]" if facts.problem else _("answers as it should")),
    ]
    if facts.public is not None:
        answers = _("answers {status}", status=facts.public) if facts.public else f"[red]{_('does not answer')}[/red]"
        rows.append((_("public"), answers))
    if (downtime := last_downtime(facts)) is not None:
        rows.append((_("last downtime"), f"{decimal(downtime[0])} s ({downtime[1]})"))
    free = _("{free} of {all} free", free=size(facts.machine.disk_free), all=size(facts.machine.disk))
    rows += [
        (_("can go back to"), ", ".join(name for name in facts.kept if name != facts.release) or _("nothing")),
        (_("disk"), free),
    ]
    if facts.backups:
        newest = facts.backups[-1]
        rows.append((_("last backup"), _("{name}, {time} ago", name=newest.name, time=ago(newest.made))))
    return [*rows, *_needs_attention(facts)]


def _needs_attention(facts: Facts) -> Iterator[tuple[str, str]]:
    if facts.busy:
        yield _("at work"), f"[yellow]{facts.busy}[/yellow]"
    elif facts.restoring:
        go_on = _("was interrupted; go on with  {command}", command=f"./releve restore {facts.restoring}")
        yield _("restore"), f"[red]{go_on}[/red]"
    elif facts.interrupted:
        yield _("rollout"), f"[red]{_('one was interrupted; `pulumi up` goes on with it or undoes it')}[/red]"
    if facts.differences:
        differ = _("{count} differences: ./releve drift", count=len(facts.differences))
        yield _("drift"), f"[yellow]{differ}[/yellow]"
