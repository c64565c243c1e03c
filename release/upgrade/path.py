"""The way from one version to another: the releases that must not be skipped, and what each of them asks for."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from release.upgrade.changelog import Item, Kind, Version, items, version_of, written


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
    to_read:       what a person must have read: scripts, conditions and unknown words
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


def path(changelog: str, start: Version, end: Version, stops: Iterable[str] = ()) -> Path:
    """The way from `start` to `end`.

    stops: versions that must not be skipped, besides those that the changelog itself names
    Raises ValueError where `end` is not after `start`.
    """
    if end <= start:
        raise ValueError(f"{written(end)} is not newer than {written(start)}: that is no upgrade")
    found = [item for item in items(changelog) if start < item.version <= end]
    gates = {version_of(name) for item in found if item.kind is Kind.GATE for name in item.names}
    between = sorted({stop for stop in (*gates, *map(version_of, stops)) if start < stop < end})
    ends = [*between, end]
    return Path(tuple(_leg(found, first, last) for first, last in zip([start, *between], ends, strict=True)))


def _leg(found: Sequence[Item], start: Version, end: Version) -> Leg:
    # Ascending; within a version in the file's order.
    of_leg = sorted((item for item in found if start < item.version <= end), key=lambda item: item.version)
    return Leg(
        start=start,
        end=end,
        items=tuple(of_leg),
        before=_once(of_leg, Kind.PRE),
        after=_once(of_leg, Kind.POST),
        variables=tuple((name, item) for item in of_leg if item.kind is Kind.ENVIRONMENT for name in item.names),
        to_read=tuple(item for item in of_leg if item.kind in (Kind.SCRIPT, Kind.UNKNOWN)),
    )


def _once(of_leg: Sequence[Item], kind: Kind) -> tuple[Task, ...]:
    """Each command once, at its last place: what comes after it may need what it makes."""
    last: dict[str, Task] = {}
    for item in of_leg:
        for command in item.commands if item.kind is kind else ():
            last.pop(command, None)
            last[command] = Task(command, item)
    return tuple(last.values())
