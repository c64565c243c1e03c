"""./releve upgrade plan."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from configuration.tree import UpgradeSettings
from errors import ReleaseError
from operations import stack as stacks
from operations.command import console, failing_in_words, json_option, print_json, stack_option
from operations.stack import PROJECT
from release.upgrade.changelog import items
from server.request import Item, Version
from server.upgrade import Leg, Task, path, version_of, written
from server.upgrade import Path as Way


@click.group()
def upgrade() -> None:
    """What an upgrade asks for besides its migrations."""


@upgrade.command()
@click.option("--from", "start", metavar="VERSION", required=True, help="What runs.")
@click.option("--to", "end", metavar="VERSION", required=True, help="What is to be released.")
@click.option("--changelog", metavar="FILE", help="By default upgrade.changelog of the stack, or CHANGELOG.md there.")
@click.option("--stop", "stops", metavar="VERSION", multiple=True, help="A version that must not be skipped.")
@stack_option
@json_option
@failing_in_words
def plan(
    *, start: str, end: str, changelog: str | None, stops: tuple[str, ...], stack: str | None, as_json: bool
) -> None:
    """Print what the application's changelog asks for on the way: stops, variables, tasks, and what to read.

    No server is asked.
    """
    read = _configured(stack) if changelog is None else _read(Path(changelog), UpgradeSettings())
    try:
        way = path(
            items(read.text, read.settings.marker), version_of(start), version_of(end), (*read.settings.stops, *stops)
        )
    except ValueError as error:
        raise ReleaseError(str(error)) from None
    if as_json:
        return print_json([_document(leg) for leg in way.legs])
    return console().print("\n".join(_lines(way)), markup=False)


@dataclass(frozen=True)
class _Changelog:
    text: str
    settings: UpgradeSettings


def _configured(stack: str | None) -> _Changelog:
    settings = stacks.load(stack).settings
    if settings.image.source is None:
        raise ReleaseError("this stack builds nothing, so it has no source with a changelog: give --changelog FILE")
    name = settings.upgrade.changelog or "CHANGELOG.md"
    return _read(PROJECT / settings.image.source.path / name, settings.upgrade)


def _read(file: Path, settings: UpgradeSettings) -> _Changelog:
    try:
        return _Changelog(file.read_text(encoding="utf-8", errors="replace"), settings)
    except OSError as error:
        raise ReleaseError(f"the changelog {file} cannot be read: {error.strerror}") from None


def _lines(way: Way) -> Iterator[str]:
    for leg in way.legs:
        yield f"{written(leg.start)} → {written(leg.end)}"
        if not leg.items:
            yield "  nothing besides the migrations"
        for name, item in leg.variables:
            yield f"  set      {name}   ({item.place})"
        yield from (f"  before   {_task(task)}" for task in leg.before)
        yield from (f"  after    {_task(task)}" for task in leg.after)
        yield from (f"  read     {item.text}   ({item.place})" for item in leg.to_read)
    if way.stops:
        stops = ", ".join(map(written, way.stops))
        yield f"Not to be skipped: {stops}. Release each, with its tasks, before the next."


def _task(task: Task) -> str:
    return f"{task.command}   ({task.item.place})"


def _document(leg: Leg) -> dict[str, Any]:
    def told(item: Item) -> dict[str, Any]:
        return {"version": written(item.version), "line": item.line}

    def tasks(of: tuple[Task, ...]) -> list[dict[str, Any]]:
        return [{"command": task.command, **told(task.item)} for task in of]

    ends: dict[str, Version] = {"from": leg.start, "to": leg.end}
    return {
        **{name: written(version) for name, version in ends.items()},
        "variables": [{"name": name, **told(item)} for name, item in leg.variables],
        "before": tasks(leg.before),
        "after": tasks(leg.after),
        "read": [{"kind": str(item.kind), "text": item.text, **told(item)} for item in leg.to_read],
    }
