"""How long the site is away while a release takes another's place: the guide's sequence by hand, and the strategies.

Run by `make bench`, on the sandbox, as `sandbox/run python -m benchmark.rollouts docs/benchmark.md`: replaces the
section of that file which it wrote the last time. The ways take turns, on the same server and with the same two
versions of the example application, each way in a directory of its own; a prober asks for the page from outside, fifty
times a second.
"""

from __future__ import annotations

import json
import os
import shlex
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from benchmark import report
from benchmark.command import PROJECT, run
from sandbox.probe import probing

TITLE = "## Rollouts"
VERSIONS = ("1.0.0", "1.1.0")
ROUNDS = 5
INTERVAL = 0.02
"""Seconds between the prober's requests."""
SLOW = 20
"""Seconds by which the slow compilation is made slower."""
PRECOMPILE = ("bundle", "exec", "rails", "assets:precompile")
SERVER = "server1"


@dataclass
class Figures:
    """What was measured of one way to roll out; seconds.

    took:  from the command to its end
    down:  for how long the prober got no answer
    own:   what the rollout itself measured of that, where it does
    """

    took: list[float] = field(default_factory=list)
    down: list[float] = field(default_factory=list)
    own: list[float] = field(default_factory=list)


class ByHand:
    """The guide's section 6, typed by somebody who makes no pause and no mistake."""

    def __init__(self, directory: str, port: int, repository: str) -> None:
        self.directory, self.repository = directory, repository
        self.url = _output("sandbox/url", SERVER, str(port))
        self.precompile: tuple[str, ...] = PRECOMPILE

    def roll_out(self, version: str) -> float | None:
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
        run("sandbox/ssh", SERVER, "sh", "-c", script)
        return None


class WithPulumi:
    """Relève, as a person runs it, but for the time for which a release is watched."""

    def __init__(self, directory: str, port: int, project: Path, strategy: str) -> None:
        self.project, self.stack = project, f"bench-{strategy}"
        self.url = _output("sandbox/url", SERVER, str(port))
        self._file = project / f"Pulumi.{self.stack}.yaml"
        config: dict[str, Any] = yaml.safe_load((PROJECT / "Pulumi.local.yaml").read_text())["config"]
        config["releve:image"].pop("source")
        config["releve:app"] |= {"directory": directory, "strategy": strategy}
        config["releve:health"]["settle"] = 0
        config["releve:servers"][0]["url"] = self.url
        self.config = config
        self.precompile: tuple[str, ...] = PRECOMPILE
        run("pulumi", "stack", "init", self.stack, cwd=project)

    def roll_out(self, version: str) -> float | None:
        """Rolls out a version that is in the registry; the seconds that the rollout says the site was away."""
        self.config["releve:tag"] = version
        self.config["releve:app"]["precompile"] = list(self.precompile)
        document = yaml.safe_load(self._file.read_text()) if self._file.exists() else {}
        self._file.write_text(yaml.safe_dump((document or {}) | {"config": self.config}))
        run("pulumi", "up", "--yes", "--skip-preview", "--stack", self.stack, cwd=self.project)
        outputs = json.loads(run("pulumi", "stack", "output", "--json", "--stack", self.stack, cwd=self.project))
        own = outputs.get("downtimeSeconds")
        return None if own is None else float(own)

    def remove(self) -> None:
        """Forgets the stack."""
        run("pulumi", "stack", "rm", "--yes", "--force", self.stack, cwd=self.project)
        self._file.unlink(missing_ok=True)  # pulumi removes it, too


Way = ByHand | WithPulumi


def main(file: Path) -> None:
    """Measures, prints, and writes the section of `file`."""
    with ExitStack() as stack:
        ways = stack.enter_context(_ways())
        for way in ways.values():
            for version in VERSIONS:
                way.roll_out(version)
        usual = _measured(ways, ROUNDS, lambda _: None)
        slow = ("sh", "-c", f"sleep {SLOW}; {shlex.join(PRECOMPILE)}")

        def slow_down(way: Way) -> None:
            way.precompile = slow

        # The first time compiles under the new command; from the second on, staged goes back to a kept release.
        slowed = {name: way for name, way in ways.items() if name != "in-place"}
        for way in slowed.values():
            slow_down(way)
            for version in VERSIONS:
                way.roll_out(version)
        slower = _measured(slowed, 2, slow_down)
    report.write(file, TITLE, _tables(usual, slower))


@contextmanager
def _ways() -> Iterator[dict[str, Way]]:
    """Each way with a project on the server; all is removed afterwards."""
    local = yaml.safe_load((PROJECT / "Pulumi.local.yaml").read_text())["config"]
    repository = str(local["releve:image"]["repository"])
    _release_both()
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        project = directory / "project"
        run("git", "clone", "--quiet", os.fspath(PROJECT), os.fspath(project))
        (project / ".venv").symlink_to((PROJECT / ".venv").resolve())
        ways: dict[str, Way] = {}
        for port, name in ((8081, "guide"), (8082, "in-place"), (8083, "staged")):
            place = f"/apps/bench-{name}"
            stack.callback(run, "sandbox/remove", SERVER, place)
            run("sandbox/place", SERVER, place, "--port", str(port))
            if name == "guide":
                ways[name] = ByHand(place, port, repository)
            else:
                way = WithPulumi(place, port, project, name)
                stack.callback(way.remove)
                ways[name] = way
        yield ways


def _release_both() -> None:
    """Makes sure that the registry has both versions."""
    if _output("git", "-C", ".sandbox/app", "show", "HEAD:VERSION") == VERSIONS[0]:
        run("pulumi", "up", "--yes", "--skip-preview", "--stack", "local")
        run("sandbox/new-version", VERSIONS[1])
    run("pulumi", "config", "set", "tag", VERSIONS[1], "--stack", "local")
    run("pulumi", "up", "--yes", "--skip-preview", "--stack", "local")


def _measured(ways: dict[str, Way], rounds: int, before: Callable[[Way], None]) -> dict[str, Figures]:
    """Rolls out and back with each way in turn."""
    figures = {name: Figures() for name in ways}
    for number in range(rounds):
        for name, way in ways.items():
            before(way)
            started = time.monotonic()
            with probing(way.url, INTERVAL) as downtime:
                own = way.roll_out(VERSIONS[number % 2])
            figures[name].took.append(time.monotonic() - started)
            figures[name].down.append(downtime.seconds)
            if own is not None:
                figures[name].own.append(own)
            print(f"{name}: {figures[name].took[-1]:.1f} s, {downtime.seconds:.2f} s down, own {own}", flush=True)
    return figures


def _tables(usual: dict[str, Figures], slower: dict[str, Figures]) -> str:
    ratio = statistics.median(usual["staged"].down) / statistics.median(usual["guide"].down)
    lines = [
        f"Minimum, median and maximum of {ROUNDS} rollouts, back and forth between two versions that the registry and",
        "the server have; seconds. `staged` keeps their assets as well; `health.settle` is 0.",
        "",
        "| | took | site down, from outside | as the rollout measured it |",
        "|---|---|---|---|",
        *(f"| {name} | {_spread(f.took)} | {_spread(f.down)} | {_spread(f.own)} |" for name, f in usual.items()),
        "",
        f"Downtime of `staged` / that of the guide's sequence, medians: {ratio:.2f}",
        "",
        f"The same with a compilation made {SLOW} s slower; `staged` goes back to a release that it keeps.",
        "",
        "| | took | site down, from outside | as the rollout measured it |",
        "|---|---|---|---|",
        *(f"| {name} | {_spread(f.took)} | {_spread(f.down)} | {_spread(f.own)} |" for name, f in slower.items()),
    ]
    return "\n".join(lines)


def _spread(values: list[float]) -> str:
    return f"{min(values):.1f} / {statistics.median(values):.1f} / {max(values):.1f}" if values else "–"


def _output(*command: str) -> str:
    return run(*command).strip()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
