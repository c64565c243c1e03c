"""The table of Compose files in compose/, a case a folder; adding a case is adding a folder.

compose/<case>/before.yml    the file on the server
              /after.yml     the same after `stop`, WANTED_IMAGE standing for the image; or
              /refusal.txt   a part of the message with which the file is left as it is
              /services.txt  app.services, one a line; without it, web
              /one-shots.txt app.oneShots, one a line; without it, none
              /profiles.txt  COMPOSE_PROFILES of the server; without it, none is active
              /override.yml  the server's docker-compose.override.yml
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tests.server.server import IMAGE, Result, Server

CASES = sorted(Path(__file__).with_name("compose").iterdir())


def services_of(case: Path) -> list[str]:
    """app.services."""
    file = case / "services.txt"
    return file.read_text().split() if file.exists() else ["web"]


def one_shots_of(case: Path) -> list[str]:
    """app.oneShots."""
    file = case / "one-shots.txt"
    return file.read_text().split() if file.exists() else []


def expected_of(case: Path) -> bytes:
    """The file as it must be in the end."""
    if (case / "after.yml").exists():
        return (case / "after.yml").read_bytes().replace(b"WANTED_IMAGE", IMAGE.encode())
    return (case / "before.yml").read_bytes()


@dataclass(frozen=True)
class Outcome:
    """What `stop` did to the Compose file of a case."""

    result: Result
    file: bytes
    stopped: bool


def run_case(server: Server, case: Path) -> Outcome:
    """Run `stop`."""
    server.compose_file.write_bytes((case / "before.yml").read_bytes())
    server.services = services_of(case)
    if (case / "override.yml").exists():
        (server.directory / "docker-compose.override.yml").write_bytes((case / "override.yml").read_bytes())
    if (case / "profiles.txt").exists():
        (server.directory / ".env").write_text(f"COMPOSE_PROFILES={(case / 'profiles.txt').read_text()}")
    result = server.run("stop", one_shots=tuple(one_shots_of(case)))
    return Outcome(result, server.compose_file.read_bytes(), bool(server.docker_calls("compose", "stop")))


def check_outcome(case: Path, outcome: Outcome) -> None:
    """Exactly the wanted change and nothing stopped without it; or the expected refusal and no change."""
    assert outcome.file == expected_of(case), outcome.result
    if (case / "refusal.txt").exists():
        assert outcome.result.status == 1
        assert (case / "refusal.txt").read_text().strip() in outcome.result.errors
        assert not outcome.stopped
    else:
        assert outcome.result.status == 0, outcome.result
        assert outcome.stopped
