"""What Compose makes of a project: its services, and what follows from them. Read once, kept with the release."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from server.request import Image

COMPLETED = "service_completed_successfully"


@dataclass(frozen=True)
class Service:
    """One service.

    image:        as Compose resolves it; "" where it is built
    dependencies: the services that must be there before it starts → the condition
    """

    image: str
    dependencies: dict[str, str]
    post_start: bool


@dataclass(frozen=True)
class Project:
    """The project's name, and its services by name."""

    name: str
    services: dict[str, Service]

    @classmethod
    def of(cls, resolved: Mapping[str, Any]) -> Project:
        """From `docker compose config --format json`."""
        services = {name: _service(service) for name, service in (resolved.get("services") or {}).items()}
        return cls(str(resolved.get("name", "")), services)

    def runs(self, services: Sequence[str], image: str) -> bool:
        """Whether each of the services has this image."""
        return all(name in self.services and self.services[name].image == image for name in services)

    def left_behind(self, services: Sequence[str], image: Image) -> list[tuple[str, str]]:
        """The other services, with their images, that stay on another image of the same repository."""
        return [
            (name, service.image)
            for name, service in self.services.items()
            if name not in services
            and repository_of(service.image) == repository_of(image.repository)
            and service.image not in (str(image), image.tagged, image.pinned)
        ]

    def needed_by(self, service: str, ours: Sequence[str]) -> list[str]:
        """The services outside `ours` that must be running before `service` starts."""
        dependencies = self.services[service].dependencies if service in self.services else {}
        return [name for name, how in dependencies.items() if name not in ours and how != COMPLETED]

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
            or any(name in services or how == COMPLETED for name, how in service.dependencies.items())
            for service in (self.services[name] for name in services if name in self.services)
        )


def _service(service: Mapping[str, Any]) -> Service:
    dependencies = service.get("depends_on") or {}
    return Service(
        image=str(service.get("image") or ""),
        dependencies={name: str((how or {}).get("condition", "service_started")) for name, how in dependencies.items()},
        post_start=bool(service.get("post_start")),
    )


def repository_of(image: str) -> str:
    """Without tag and digest, and as short as people write it."""
    name = image.partition("@")[0]
    name = name[: name.rindex(":")] if ":" in name.rpartition("/")[2] else name
    for prefix in ("docker.io/", "index.docker.io/", "library/"):
        name = name.removeprefix(prefix)
    return name


def settings_hash(resolved: Mapping[str, Any], services: Sequence[str], *more: object) -> str:
    """12 hexadecimal digits that change with all that the project says of these services, but for their images."""
    said = {
        name: {key: value for key, value in service.items() if key != "image"}
        for name, service in (resolved.get("services") or {}).items()
        if name in services
    }
    text = json.dumps([said, *more], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]
