"""The way from one version of the application to another: what must not be skipped, and what each release asks for.

The client plans it by the version that it knows to run, a server by the one that does. By facts alone: nothing is run
here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from server.request import Changes, Item, ItemKind, Migrations, Strategy, Version

ACKNOWLEDGE = "pulumi config set --path 'upgrade.acknowledged[{}]' {}"


@dataclass(frozen=True)
class Task:
    """A command, and the item that asks for it."""

    command: str
    item: Item


@dataclass(frozen=True)
class Leg:
    """A release on the way.

    before, after: commands to run before and after its migrations, each once, at its last place
    variables:     that must be set
    to_read:       what a person must have read: scripts, conditions, and words of which a program can make nothing
    """

    start: Version
    end: Version
    items: tuple[Item, ...]
    before: tuple[Task, ...]
    after: tuple[Task, ...]
    variables: tuple[tuple[str, Item], ...]
    to_read: tuple[Item, ...]


@dataclass(frozen=True)
class Path:
    """Of one leg, or of several where versions must not be skipped."""

    legs: tuple[Leg, ...]

    @property
    def stops(self) -> tuple[Version, ...]:
        """The versions between that must be released on the way."""
        return tuple(leg.end for leg in self.legs[:-1])

    def unread(self, acknowledged: Collection[str]) -> list[Item]:
        """What nobody has acknowledged yet, by its place."""
        return [item for leg in self.legs for item in leg.to_read if item.place not in acknowledged]


def version_of(text: str) -> Version:
    """From "6.5.10" or "v6.5.10-lab": the numbers at its beginning. Raises ValueError where there are none."""
    found = re.match(r"v?(\d+(?:\.\d+)*)", text)
    if not found:
        raise ValueError(f"'{text[:40]}' is no version: expected numbers, for example 6.5.10")
    return tuple(int(number) for number in found[1].split("."))


def version_in(file: str, text: str) -> Version:
    """What a file says: "version" in JSON, as package.json has it, else its first line. Raises ValueError."""
    if not file.endswith(".json"):
        return version_of(text.strip().partition("\n")[0])
    document = json.loads(text)
    return version_of(str(document.get("version") if isinstance(document, dict) else None))


def written(version: Version) -> str:
    """As people write it."""
    return ".".join(map(str, version))


def path(
    asked: Iterable[Item], start: Version, end: Version, stops: Iterable[str] = (), by_hand: Collection[str] = ()
) -> Path:
    """The way from `start` to `end`.

    asked:   all that the changelog asks for
    stops:   versions that must not be skipped, besides those that the changelog itself names
    by_hand: places of items whose commands are no tasks: a person has run them, or will
    Raises ValueError where `end` is not after `start`.
    """
    if end <= start:
        raise ValueError(f"{written(end)} is not newer than {written(start)}: that is no upgrade")
    found = [item for item in asked if start < item.version <= end]
    gates = {version_of(name) for item in found if item.kind is ItemKind.GATE for name in item.names}
    between = sorted({stop for stop in (*gates, *map(version_of, stops)) if start < stop < end})
    ends = [*between, end]
    return Path(tuple(_leg(found, by_hand, first, last) for first, last in zip([start, *between], ends)))


def _leg(found: Sequence[Item], by_hand: Collection[str], start: Version, end: Version) -> Leg:
    # Ascending; within a version in the file's order.
    of_leg = sorted((item for item in found if start < item.version <= end), key=lambda item: item.version)
    left = [item for item in of_leg if item.place not in by_hand]
    return Leg(
        start=start,
        end=end,
        items=tuple(of_leg),
        before=_once(left, ItemKind.PRE),
        after=_once(left, ItemKind.POST),
        variables=tuple((name, item) for item in of_leg if item.kind is ItemKind.ENVIRONMENT for name in item.names),
        to_read=tuple(filter(_is_to_be_read, of_leg)),
    )


def _is_to_be_read(item: Item) -> bool:
    """Nothing is skipped silently: neither a variable nor a command that was not found in an item that asks for one."""
    if item.kind is ItemKind.ENVIRONMENT:
        return not item.names
    if item.kind is ItemKind.PRE:
        return not item.commands
    return item.kind in (ItemKind.SCRIPT, ItemKind.UNKNOWN)


def _once(of_leg: Sequence[Item], kind: ItemKind) -> tuple[Task, ...]:
    """Each command once, at its last place: what comes after it may need what it makes."""
    last: dict[str, Task] = {}
    for item in of_leg:
        for command in item.commands if item.kind is kind else ():
            last.pop(command, None)
            last[command] = Task(command, item)
    return tuple(last.values())


# ------------------------------------------------------------------------------------------------- the way to a release


def way_to(changes: Changes, start: Version, acknowledged: Collection[str]) -> Path | None:
    """The way to a release from what runs, without the tasks that a person has taken care of.

    None where it is no upgrade: the same version, or an older one.
    """
    if changes.version <= start:
        return None
    return path(changes.items, start, changes.version, changes.stops, acknowledged)


def obstacles(
    changes: Changes, way: Path, acknowledged: Sequence[str], strategy: Strategy, migrations: Migrations
) -> list[str]:
    """Why this release must not be made from what runs, one thing each, with what to do; none: it may."""
    if way.stops:
        return [_skipped(changes, way, stop) for stop in way.stops]
    leg = way.legs[0]
    found = []
    for number, item in enumerate(way.unread(acknowledged), len(acknowledged)):
        found.append(
            f"{_line(changes, item)} asks for something that a person must do or decide:\n  {_short(item.text)}\n"
            f"  When it is done, or does not concern you:  {ACKNOWLEDGE.format(number, item.place)}"
        )
    if strategy is Strategy.IN_PLACE and (leg.before or leg.after):
        first = (*leg.before, *leg.after)[0]
        found.append(
            f"{_line(changes, first.item)} asks for the task `{first.command}`, and the strategy in-place runs none. "
            f"Set app.strategy: staged."
        )
    if strategy is Strategy.ROLLING and leg.before and migrations is Migrations.STOPPED:
        first = leg.before[0]
        found.append(
            f"{_line(changes, first.item)} asks for the task `{first.command}` before the migrations, and with the "
            f"strategy rolling the old release works on with the database meanwhile. If it can: set "
            f"app.migrations: compatible. If not: set app.strategy: staged for this release."
        )
    return found


def _skipped(changes: Changes, way: Path, stop: Version) -> str:
    items = (item for leg in way.legs for item in leg.items if item.kind is ItemKind.GATE)
    gate = next((item for item in items if stop in map(version_of, item.names)), None)
    where = f"{_line(changes, gate)}: {_short(gate.text)}" if gate else "upgrade.stops"
    then = written(changes.version)
    return f"{written(stop)} must not be skipped ({where}). Release it first, with its tasks, then {then}."


def missing_variables(
    changes: Changes, way: Path, acknowledged: Sequence[str], *, there: Collection[str], web: str, file: str
) -> list[str]:
    """The variables that the way needs and that the web service does not get, one sentence each.

    there: the names of those that it gets
    file:  where they are to be added
    """
    needed = [it for leg in way.legs for it in leg.variables if it[1].place not in acknowledged]
    return [
        f"{_line(changes, item)} asks for the variable {name}, which '{web}' does not get.\n"
        f"  Add it to {file}; or, if it is not needed here:  {ACKNOWLEDGE.format(len(acknowledged), item.place)}"
        for name, item in needed
        if name not in there
    ]


def _line(changes: Changes, item: Item) -> str:
    return f"{changes.file} line {item.line} ({written(item.version)})"


def _short(text: str) -> str:
    return text if len(text) <= 200 else f"{text[:197]}…"  # noqa: PLR2004 - two lines of a terminal
