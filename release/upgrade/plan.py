"""What a plan says of an upgrade, and why one is refused before anything is built or a server connected to."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from configuration.tree import Settings
from language import Message
from server.request import Changes, Upgrade, Version
from server.upgrade import Path, Task, obstacles, way_to, written


@dataclass(frozen=True)
class Planned:
    """What is known of an upgrade before a server is asked.

    changes: what the release's changelog asks for; None: its image was built without one
    start:   the version that runs; None: the server will say
    """

    changes: Changes | None
    start: Version | None

    def request(self, settings: Settings) -> Upgrade | None:
        """What the server is told."""
        if self.changes is None:
            return None
        return Upgrade(_with_stops(self.changes, settings), self.start, settings.upgrade.version)

    def lines(self, settings: Settings) -> tuple[str, ...]:
        """For people: a few lines."""
        if self.changes is None:
            return (Message("the image was built without upgrade.changelog: nothing is planned"),)
        to = written(self.changes.version)
        if self.start is None:
            return (
                Message("to {version}; from which version, and so what it asks for, the server will say", version=to),
            )
        way = self._way(settings)
        if way is None:
            return (
                Message("{start} → {end} asks for nothing: it is no newer version", start=written(self.start), end=to),
            )
        legs = " → ".join(map(written, (self.start, *(leg.end for leg in way.legs))))
        told = tuple(_told(way, settings.upgrade.acknowledged))
        return (legs if told else Message("{way} asks for nothing besides migrations", way=legs), *told)

    def obstacles(self, settings: Settings) -> tuple[str, ...]:
        """Why the release must not be made, one thing each, with what to do."""
        way = self._way(settings)
        if self.changes is None or way is None:
            return ()
        app, changes = settings.app, _with_stops(self.changes, settings)
        return tuple(obstacles(changes, way, settings.upgrade.acknowledged, app.strategy, app.migrations))

    def _way(self, settings: Settings) -> Path | None:
        if self.changes is None or self.start is None:
            return None
        return way_to(_with_stops(self.changes, settings), self.start, settings.upgrade.acknowledged)


def _with_stops(changes: Changes, settings: Settings) -> Changes:
    """With those of the stack that releases, besides those of the one that built."""
    stops = tuple(dict.fromkeys((*changes.stops, *settings.upgrade.stops)))
    return Changes(changes.version, changes.file, stops, changes.items)


def _told(way: Path, acknowledged: tuple[str, ...]) -> Iterator[str]:
    for leg in way.legs:
        needed = [(name, item) for name, item in leg.variables if item.place not in acknowledged]
        yield from (Message("variable {name} ({place})", name=name, place=item.place) for name, item in needed)
        yield from (Message("before the migrations: {task}", task=_task(task)) for task in leg.before)
        yield from (Message("after the switch: {task}", task=_task(task)) for task in leg.after)
        unread = [item.place for item in leg.to_read if item.place not in acknowledged]
        yield from (Message("not acknowledged: {place}", place=place) for place in unread)
        yield from (Message("acknowledged: {place}", place=it.place) for it in leg.items if it.place in acknowledged)


def _task(task: Task) -> str:
    return f"{task.command} ({task.item.place})"
