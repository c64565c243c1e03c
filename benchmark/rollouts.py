"""How long the site is away while a release takes another's place: the guide's sequence by hand, and the strategies.

Run by `make bench`, on the sandbox, as `sandbox/run python -m benchmark.rollouts docs/benchmark.md`: replaces the
section of that file which it wrote the last time. The ways take turns, on the same server and with the same two
versions of the example application, each way in a directory of its own; a prober asks for the page from outside, fifty
times a second.
"""

from __future__ import annotations

import shlex
import statistics
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from benchmark import report
from benchmark.ways import PRECOMPILE, VERSIONS, Way, every_way
from sandbox.probe import probing

TITLE = "## Rollouts"
ROUNDS = 5
INTERVAL = 0.02
"""Seconds between the prober's requests."""
SLOW = 20
"""Seconds by which the slow compilation is made slower."""


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


def main(file: Path) -> None:
    """Measures, prints, and writes the section of `file`."""
    with every_way() as ways:
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


def _measured(ways: dict[str, Way], rounds: int, before: Callable[[Way], None]) -> dict[str, Figures]:
    """Rolls out and back with each way in turn."""
    figures = {name: Figures() for name in ways}
    for number in range(rounds):
        for name, way in ways.items():
            before(way)
            with probing(way.url, INTERVAL) as downtime:
                done = way.roll_out(VERSIONS[number % 2])
            figures[name].took.append(done.seconds)
            figures[name].down.append(downtime.seconds)
            if done.own is not None:
                figures[name].own.append(done.own)
            print(f"{name}: {done.seconds:.1f} s, {downtime.seconds:.2f} s down, own {done.own}", flush=True)
    return figures


def _tables(usual: dict[str, Figures], slower: dict[str, Figures]) -> str:
    ratio = statistics.median(usual["staged"].down) / statistics.median(usual["guide"].down)
    lines = [
        f"Minimum, median and maximum of {ROUNDS} rollouts, back and forth between two versions that the registry and",
        "the server have; seconds. `staged` and `rolling` keep their assets as well; `health.settle` is 0.",
        "",
        "| | took | site down, from outside | as the rollout measured it |",
        "|---|---|---|---|",
        *(f"| {name} | {_spread(f.took)} | {_spread(f.down)} | {_spread(f.own)} |" for name, f in usual.items()),
        "",
        f"Downtime of `staged` / that of the guide's sequence, medians: {ratio:.2f}",
        "",
        f"The same with a compilation made {SLOW} s slower; `staged` and `rolling` go back to kept releases.",
        "",
        "| | took | site down, from outside | as the rollout measured it |",
        "|---|---|---|---|",
        *(f"| {name} | {_spread(f.took)} | {_spread(f.down)} | {_spread(f.own)} |" for name, f in slower.items()),
    ]
    return "\n".join(lines)


def _spread(values: list[float]) -> str:
    return f"{min(values):.1f} / {statistics.median(values):.1f} / {max(values):.1f}" if values else "–"


if __name__ == "__main__":
    main(Path(sys.argv[1]))
