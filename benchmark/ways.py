"""The ways to roll out that the benchmarks compare: the guide's sequence by hand, and the strategies.

Each has a directory of its own on the sandbox's server, and all roll out the same two versions of the example
application, which the registry holds.
"""

from __future__ import annotations

import json
import os
import shlex
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from benchmark.command import PROJECT, run, timed

VERSIONS = ("1.0.0", "1.1.0")
PRECOMPILE = ("bundle", "exec", "rails", "assets:precompile")
SERVER = "server1"


@dataclass(frozen=True)
class Outcome:
    """One rollout.

    seconds: from the command to its end
    own:     the seconds for which the site did not answer, as the rollout itself has measured it, where it does
    lines:   what it printed, where that is of interest, with the seconds after which each line came
    """

    seconds: float
    own: float | None = None
    lines: Sequence[tuple[float, str]] = ()


class ByHand:
    """The guide's section 6, typed by somebody who makes no pause and no mistake."""

    def __init__(self, directory: str, port: int, repository: str) -> None:
        self.directory, self.repository = directory, repository
        self.url = _output("sandbox/url", SERVER, str(port))
        self.precompile: tuple[str, ...] = PRECOMPILE

    def roll_out(self, version: str) -> Outcome:
        """Rolls out a version that is in the registry."""
        image = f"{self.repository}:{version}"
        script = f"""set -e
            cd {self.directory}
            sed -i -E 's|^( +image: ){self.repository}:[^ ]+|\\1{image}|' docker-compose.yml
            docker compose pull -q fabmanager worker
            docker compose stop fabmanager worker
            docker compose run -T --rm fabmanager sh -c 'rm -Rf public/packs/* public/assets/*'
            docker compose run -T --rm fabmanager {shlex.join(self.precompile)}
            docker compose up -d --remove-orphans
            # The guide ends here; the site does not answer yet.
            until curl -sf -o /dev/null {self.url}; do sleep 0.1; done
        """
        started = time.monotonic()
        run("sandbox/ssh", SERVER, "sh", "-c", script)
        return Outcome(time.monotonic() - started)


class WithPulumi:
    """Relève, as a person runs it, but for the time for which a release is watched."""

    def __init__(self, directory: str, port: int, project: Path, strategy: str) -> None:
        self.directory, self.project, self.stack = directory, project, f"bench-{strategy}"
        self.url = _output("sandbox/url", SERVER, str(port))
        self._file = project / f"Pulumi.{self.stack}.yaml"
        config = _local_config()
        config["releve:image"].pop("source")
        config["releve:app"] |= {"directory": directory, "strategy": strategy}
        config["releve:health"]["settle"] = 0
        config["releve:servers"][0]["url"] = self.url
        self.config = config
        self.precompile: tuple[str, ...] = PRECOMPILE
        run("pulumi", "stack", "init", self.stack, cwd=project)

    def roll_out(self, version: str) -> Outcome:
        """Rolls out a version that is in the registry."""
        self.config["releve:tag"] = version
        self.config["releve:app"]["precompile"] = list(self.precompile)
        document = yaml.safe_load(self._file.read_text()) if self._file.exists() else {}
        self._file.write_text(yaml.safe_dump((document or {}) | {"config": self.config}))
        lines = timed("pulumi", "up", "--yes", "--skip-preview", "--stack", self.stack, cwd=self.project)
        outputs = json.loads(run("pulumi", "stack", "output", "--json", "--stack", self.stack, cwd=self.project))
        own = outputs.get("downtimeSeconds")
        return Outcome(lines[-1][0], None if own is None else float(own), lines)

    def remove(self) -> None:
        """Forgets the stack."""
        run("pulumi", "stack", "rm", "--yes", "--force", self.stack, cwd=self.project)
        self._file.unlink(missing_ok=True)  # pulumi removes it, too


Way = ByHand | WithPulumi


WAYS = ("guide", "in-place", "staged", "rolling")


@contextmanager
def every_way(names: Sequence[str] = WAYS) -> Iterator[dict[str, Way]]:
    """Each way of these names with a project on the server; all is removed afterwards."""
    _release_both()
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        project = directory / "project"
        run("git", "clone", "--quiet", os.fspath(PROJECT), os.fspath(project))
        (project / ".venv").symlink_to((PROJECT / ".venv").resolve())
        found: dict[str, Way] = {}
        for port, name in enumerate(names, start=8081):
            place = f"/apps/bench-{name}"
            stack.callback(run, "sandbox/remove", SERVER, place)
            run("sandbox/place", SERVER, place, "--port", str(port))
            if name == "guide":
                found[name] = ByHand(place, port, repository())
            else:
                way = WithPulumi(place, port, project, name)
                stack.callback(way.remove)
                found[name] = way
        yield found


def repository() -> str:
    """Where the sandbox's registry has the example application."""
    return str(_local_config()["releve:image"]["repository"])


def _local_config() -> dict[str, Any]:
    config: dict[str, Any] = yaml.safe_load((PROJECT / "Pulumi.local.yaml").read_text())["config"]
    return config


def _release_both() -> None:
    """Makes sure that the registry has both versions."""
    if _output("git", "-C", ".sandbox/app", "show", "HEAD:VERSION") == VERSIONS[0]:
        run("pulumi", "up", "--yes", "--skip-preview", "--stack", "local")
        run("sandbox/new-version", VERSIONS[1])
    run("pulumi", "config", "set", "tag", VERSIONS[1], "--stack", "local")
    run("pulumi", "up", "--yes", "--skip-preview", "--stack", "local")


def _output(*command: str) -> str:
    return run(*command).strip()
