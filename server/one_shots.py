"""Services that run to their end: which they are, by what a Compose file says, as written or as resolved."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

COMPLETED = "service_completed_successfully"
_ONCE = re.compile(r"no|on-failure(:\d+)?")


def restarts_at_most_on_failure(restart: object) -> bool:
    """Whether `restart:` says so. Without it Docker does the same, but who leaves it out says nothing by that."""
    # YAML 1.1 reads `no` as false.
    return restart is False or (isinstance(restart, str) and _ONCE.fullmatch(restart) is not None)


def conditions(services: Mapping[str, Any], name: str, among: Iterable[str] | None = None) -> list[str]:
    """How services (among these) wait for this one: the conditions, "" in the short form."""
    found = []
    for other in services if among is None else among:
        needs = (services[other] or {}).get("depends_on") or ()
        if name in needs:
            found.append(str((needs[name] or {}).get("condition", "")) if isinstance(needs, dict) else "")
    return found


def ends(services: Mapping[str, Any], name: str) -> bool:
    """Whether a service besides app.services runs to its end."""
    return restarts_at_most_on_failure(services[name].get("restart")) or COMPLETED in conditions(services, name)


def awaited(services: Mapping[str, Any], ours: Sequence[str]) -> list[str]:
    """The services on the image of `ours` that run to their end, and that others wait for.

    That none waits for may be anything that was forgotten in app.services: its image is not touched.
    """
    repository = _repository(services[ours[0]])
    return [
        name
        for name, service in services.items()
        if name not in ours
        and repository
        and _repository(service or {}) == repository
        and (COMPLETED in conditions(services, name) or (ends(services, name) and conditions(services, name, ours)))
    ]


def _repository(service: Mapping[str, Any]) -> str:
    """Of its image, as far as that is written; "" where there is none."""
    path, slash, last = str(service.get("image") or "").rpartition("/")
    return path + slash + re.split("[:@]", last)[0]
