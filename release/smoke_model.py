"""The Compose model of a smoke test: the application's image and what it needs, generated or from a file.

It differs from what a server runs in three ways: nothing is started again, nothing has a fixed name or port, and the
application's port is published on this machine's loopback interface alone, under a number that is free.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from configuration.tree import APPLICATION, SmokeTestSettings
from errors import ReleaseError
from release.throwaway import Throwaway
from server import compose_file
from server.compose_file import ComposeFileError

THROWAWAY_PASSWORD = "throwaway"  # noqa: S105 - of databases that live for seconds, in a network of their own
NEED_ENVIRONMENT = dict.fromkeys(
    ("POSTGRES_PASSWORD", "MYSQL_ROOT_PASSWORD", "MARIADB_ROOT_PASSWORD"), THROWAWAY_PASSWORD
)
"""What the databases' official images want to know at their first start."""
READY = {
    "postgres": ("pg_isready", "--host", "127.0.0.1"),
    "postgis": ("pg_isready", "--host", "127.0.0.1"),
    "redis": ("redis-cli", "ping"),
    "valkey": ("valkey-cli", "ping"),
    "mysql": ("mysqladmin", "ping", "--host", "127.0.0.1"),
    "mariadb": ("healthcheck.sh", "--connect", "--innodb_initialized"),
}
"""How the official images say that they are ready, by the last part of their name. The application starts then, as it
would find them in production; any other image counts as ready once it runs."""


@dataclass(frozen=True)
class SmokeModel:
    """A Compose model, in Compose's own terms, and the name of the service in it that is asked."""

    application: str
    content: dict[str, Any]

    def published(self, port: int, platform: str) -> dict[str, Any]:
        """The model to run: the application for `platform`, with its `port` published."""
        services = {}
        for name, service in self.content["services"].items():
            # An application that dies must not be started again: its first end tells why. A container's fixed name and
            # fixed ports belong to what may run here already. What is in the model is wanted, of whatever profile.
            kept = {key: value for key, value in service.items() if key not in ("container_name", "ports", "profiles")}
            services[name] = {**kept, "restart": "no"}
        services[self.application] |= {"platform": platform, "ports": [f"127.0.0.1::{port}"]}
        return {**self.content, "services": services}


def generated(image: str, settings: SmokeTestSettings) -> SmokeModel:
    """A model of the application and what smokeTest.needs names.

    image: repository:tag@digest of the candidate
    """
    application: dict[str, Any] = {
        "image": image,
        "environment": {name: _literal(value.get_secret_value()) for name, value in settings.env.items()},
        "depends_on": {
            name: {"condition": "service_healthy" if _ready(need) else "service_started"}
            for name, need in settings.needs.items()
        },
    }
    if settings.memory:
        # Without the second line, as much again could be swapped out.
        application |= {"mem_limit": settings.memory, "memswap_limit": settings.memory}
    needs: dict[str, Any] = {}
    for name, need in settings.needs.items():
        needs[name] = {"image": need, "environment": NEED_ENVIRONMENT}
        if command := _ready(need):
            # Engine 25 and newer looks every start_interval until it is healthy for the first time.
            needs[name]["healthcheck"] = {
                "test": ["CMD", *command],
                "interval": "1s",
                "timeout": "5s",
                "retries": settings.timeout,
                "start_period": f"{settings.timeout}s",
                "start_interval": "250ms",
            }
    return SmokeModel(APPLICATION, {"services": {APPLICATION: application, **needs}})


def from_file(project: Throwaway, image: str, path: Path) -> SmokeModel:
    """The model of a Compose file, resolved by Compose, with the candidate as ${IMAGE} and its profiles active.

    Raises ReleaseError when it has no service for the candidate, or uses something that is not its own; DockerError
    when Compose refuses it.
    """
    application, service = _application_in(path)
    profiles = [option for profile in service.get("profiles") or () for option in ("--profile", str(profile))]
    command = ("--file", str(path), *profiles, "config", "--format", "json")
    model: dict[str, Any] = json.loads(project.compose(*command, environment={"IMAGE": image}, timeout=60))
    for kind in ("networks", "volumes"):
        for name, thing in (model.get(kind) or {}).items():
            if (thing or {}).get("external"):
                raise ReleaseError(
                    f"image.smokeTest.composeFile: {path} uses the {kind[:-1]} {name} of somebody else (external), "
                    f"but a smoke test must neither find nor leave anything. Let the file define its own."
                )
            # A name written in the file would be shared with whoever uses it, too.
            (thing or {}).pop("name", None)
    return SmokeModel(application, model)


def application_in(path: Path) -> str:
    """The first service of a Compose file whose image is ${IMAGE}: the one that is asked. Raises ReleaseError."""
    return _application_in(path)[0]


def _application_in(path: Path) -> tuple[str, dict[str, Any]]:
    try:
        services = compose_file.parse(path.read_bytes().decode())["services"]
        for name, service in services.items():
            if re.fullmatch(r"\$(IMAGE|\{IMAGE\b.*\})", str((service or {}).get("image", ""))):
                return str(name), service
    except (OSError, UnicodeDecodeError, ComposeFileError, AttributeError) as error:
        raise ReleaseError(f"image.smokeTest.composeFile: cannot read {path} as a Compose file: {error}") from None
    raise ReleaseError(
        f"image.smokeTest.composeFile: no service in {path} runs the candidate. "
        f"Give the one that is to be asked the line: image: ${{IMAGE}}"
    )


def _ready(image: str) -> tuple[str, ...] | None:
    name = image.partition("@")[0].rpartition("/")[2].partition(":")[0]
    return READY.get(name)


def _literal(value: str) -> str:
    """A value that Compose takes as it is, dollar signs included."""
    return value.replace("$", "$$")
