"""What Compose makes of a project: its services, and what follows from them. Read once, kept with the release."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from server.one_shots import COMPLETED, ends, restarts_at_most_on_failure
from server.request import Image


@dataclass(frozen=True)
class Service:
    """One service.

    image:        as Compose resolves it; "" where it is built
    dependencies: the services that must be there before it starts → the condition
    optional:     those of them without which it starts as well
    once:         it says that Docker starts it again at most when it fails
    asks:         it wants a registry to be asked, or the image to be built, whenever a container is made
    """

    image: str
    dependencies: dict[str, str]
    post_start: bool = False
    optional: tuple[str, ...] = ()
    once: bool = False
    asks: bool = False


@dataclass(frozen=True)
class Project:
    """The project's name, and its services by name: those whose profiles are active.

    along:     the services besides app.services that have the same image
    one_shots: those of them that run to their end, each after the ones that it needs
    """

    name: str
    services: dict[str, Service]
    along: tuple[str, ...] = ()
    one_shots: tuple[str, ...] = ()

    @classmethod
    def of(cls, resolved: Mapping[str, Any], ours: Sequence[str], named: Sequence[str]) -> Project:
        """From `docker compose config --format json`. ours, named: app.services and app.oneShots."""
        found = resolved.get("services") or {}
        services = {name: _service(service) for name, service in found.items()}
        image = services[ours[0]].image if ours[0] in services else ""
        along = [name for name, service in services.items() if image and service.image == image and name not in ours]
        ending = [name for name in along if name in named or ends(found, name)]
        return cls(str(resolved.get("name", "")), services, tuple(along), tuple(_in_order(ending, services)))

    def runs(self, services: Sequence[str], image: str) -> bool:
        """Whether each of the services has this image."""
        return all(name in self.services and self.services[name].image == image for name in services)

    @property
    def asking(self) -> list[str]:
        """The services that want a registry to be asked whenever a container is made."""
        return [name for name, service in self.services.items() if service.asks]

    @property
    def without_asking(self) -> tuple[str, ...]:
        """Options of `up` and `create` with which only images are pulled that are not there: a release brings its own.

        Between `pull` and the new release the registry need not answer.
        """
        return ("--pull", "missing") if self.asking else ()

    def left_behind(self, services: Sequence[str], image: Image) -> list[tuple[str, str]]:
        """The other services, with their images, that stay on another image of the same repository."""
        return [
            (name, service.image)
            for name, service in self.services.items()
            if name not in services
            and repository_of(service.image) == repository_of(image.repository)
            and service.image not in (str(image), image.tagged, image.pinned)
        ]

    def needed_by(self, services: Iterable[str], ours: Sequence[str]) -> list[str]:
        """The services on other images that must be running before these start."""
        return list(
            dict.fromkeys(
                name
                for service in (self.services[name] for name in services if name in self.services)
                for name, how in service.dependencies.items()
                if name not in (*ours, *self.along, *service.optional) and how != COMPLETED
            )
        )

    def early(self, ours: Sequence[str]) -> list[str]:
        """The one-shots that can run before `ours` start."""
        return [name for name in self.one_shots if not self.needs(name, ours)]

    def needs(self, name: str, others: Sequence[str]) -> bool:
        """Whether a service depends on one of the others, directly or not."""
        needed = self.services[name].dependencies if name in self.services else {}
        return any(other in others or self.needs(other, others) for other in needed)

    def independent_of(self, others: Sequence[str]) -> list[str]:
        """The services besides the others that do not depend on them."""
        return [name for name in self.services if name not in others and not self.needs(name, others)]

    def may_have_ended(self, name: str) -> bool:
        """Whether a service need not run for others that need it to have started."""
        return name in self.services and self.services[name].once

    def is_optional(self, name: str) -> bool:
        """Whether others can do without a service that they depend on, all of them."""
        dependants = [service for service in self.services.values() if name in service.dependencies]
        return bool(dependants) and all(name in service.optional for service in dependants)

    def needed_workers(self, services: Sequence[str]) -> list[str]:
        """Those of the services, without the first, that others depend on."""
        # Compose adds to depends_on what links, volumes_from and network_mode need.
        needed = [
            name
            for other, service in self.services.items()
            if other not in services[1:]
            for name in service.dependencies
        ]
        return [name for name in services[1:] if name in needed]

    def starts_at_once(self, services: Sequence[str]) -> bool:
        """Whether these services need nothing before their start that does not run already."""
        return not any(
            service.post_start
            or any(
                name in services or (how == COMPLETED and name not in self.one_shots)
                for name, how in service.dependencies.items()
            )
            for service in (self.services[name] for name in services if name in self.services)
        )


def _service(service: Mapping[str, Any]) -> Service:
    dependencies = service.get("depends_on") or {}
    return Service(
        image=str(service.get("image") or ""),
        dependencies={name: str((how or {}).get("condition", "service_started")) for name, how in dependencies.items()},
        post_start=bool(service.get("post_start")),
        optional=tuple(name for name, how in dependencies.items() if (how or {}).get("required") is False),
        once=restarts_at_most_on_failure(service.get("restart")),
        asks=service.get("pull_policy", "missing") not in ("missing", "if_not_present", "never"),
    )


def repository_of(image: str) -> str:
    """Without tag and digest, and as short as people write it."""
    name = image.partition("@")[0]
    name = name[: name.rindex(":")] if ":" in name.rpartition("/")[2] else name
    for prefix in ("docker.io/", "index.docker.io/", "library/"):
        name = name.removeprefix(prefix)
    return name


def _in_order(names: Sequence[str], services: Mapping[str, Service]) -> list[str]:
    """Each after those that it needs; Compose accepts no circles."""
    ordered: list[str] = []

    def add(name: str) -> None:
        for needed in services[name].dependencies:
            if needed in names:
                add(needed)
        if name not in ordered:
            ordered.append(name)

    for name in names:
        add(name)
    return ordered


def settings_hash(resolved: Mapping[str, Any], services: Sequence[str], *more: object) -> str:
    """12 hexadecimal digits that change with all that the project says of these services, but for their images."""
    said = {
        name: {key: value for key, value in service.items() if key != "image"}
        for name, service in (resolved.get("services") or {}).items()
        if name in services
    }
    text = json.dumps([said, *more], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]
