"""What visitors meet during a rollout: requests of every kind, each way to roll out under the same load.

Run by `make bench`, on the sandbox, as `sandbox/run python -m benchmark.load docs/benchmark.md`: replaces the section
of that file which it wrote the last time, and draws all requests of one rollout of each way into the picture beside it.
"""

from __future__ import annotations

import re
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path

import httpx
from matplotlib.figure import Figure

from benchmark import report
from benchmark.command import run
from benchmark.visitors import INTERVAL, Kind, Request, visitors
from benchmark.ways import SERVER, VERSIONS, Way, every_way

TITLE = "## Under load"
PICTURE = "benchmark.png"
"""Beside the file that the section is written to."""
ROUNDS = {"guide": 4, "in-place": 4, "staged": 4, "rolling": 10}
"""Rollouts of each way, back and forth: enough of `rolling` for 5,000 requests."""
AROUND = 3.0
"""Seconds of load before and after each rollout: what the rollout is compared with."""


@dataclass
class Rollout:
    """One rollout under load. took: seconds, from the command to its end; logins: at the server, by SSH."""

    requests: list[Request] = field(default_factory=list)
    took: float = 0.0
    logins: int = 0

    def failed(self, *kinds: Kind) -> int:
        """How many requests of these kinds got no answer."""
        return sum(1 for request in self.requests if request.kind in kinds and not request.answered)

    def longest_gap(self) -> float:
        """Seconds between the starts of two requests for the page that were answered, and none between them."""
        answered = sorted(r.began for r in self.requests if r.kind is Kind.PAGE and r.answered)
        return max(later - earlier for earlier, later in pairwise(answered))

    def latencies(self, *, during: bool) -> list[float]:
        """Seconds of the answered requests, slow ones left out, begun while the rollout ran, or before and after it."""
        return [
            request.seconds
            for request in self.requests
            if request.answered and request.kind is not Kind.SLOW and (0 <= request.began < self.took) == during
        ]


def main(file: Path) -> None:
    """Measures, prints, writes the section of `file`, and draws the picture."""
    rollouts: dict[str, list[Rollout]] = {}
    with every_way() as ways:
        assets = {name: _assets(way) for name, way in ways.items()}
        for number in range(max(ROUNDS.values())):
            for name, way in ways.items():
                if number >= ROUNDS[name]:
                    continue
                new, old = VERSIONS[number % 2], VERSIONS[(number + 1) % 2]
                rollouts.setdefault(name, []).append(_under_load(way, assets[name], old, new))
                print(f"{name}: {len(rollouts[name][-1].requests)} requests, {rollouts[name][-1].failed(*Kind)} failed")
    report.write(file, TITLE, _text(rollouts))
    _draw({name: of_way[0] for name, of_way in rollouts.items()}, file.with_name(PICTURE))


def _assets(way: Way) -> dict[str, str]:
    """The path of a stylesheet of each version, the first one having been rolled out last but one."""
    found = {}
    for version in VERSIONS:
        way.roll_out(version)
        page = httpx.get(way.url, trust_env=False).text
        [found[version], *_] = re.findall(r'href="([^"]+\.css)"', page)
    if len(set(found.values())) != len(VERSIONS):
        sys.exit(f"benchmark: the versions {VERSIONS} have the same stylesheet")
    return found


def _under_load(way: Way, assets: Mapping[str, str], old: str, new: str) -> Rollout:
    rollout = Rollout()
    paths = {Kind.PAGE: "/", Kind.OLD_ASSET: assets[old], Kind.NEW_ASSET: assets[new], Kind.HEALTH: "/health"}
    with visitors(way.url, paths) as requests:
        time.sleep(AROUND)
        logins = _logins()
        started = time.monotonic()
        rollout.took = way.roll_out(new).seconds
        rollout.logins = _logins() - logins
        time.sleep(AROUND)
    # Nobody has asked for an asset of the new release before there was one.
    first = min((r.began for r in requests if r.kind is Kind.NEW_ASSET and r.answered), default=0.0)
    rollout.requests = [
        replace(r, began=r.began - started) for r in requests if r.kind is not Kind.NEW_ASSET or r.began >= first
    ]
    return rollout


def _logins() -> int:
    return int(run("sandbox/connections", SERVER))


def _text(rollouts: Mapping[str, Sequence[Rollout]]) -> str:
    columns = (
        "way",
        "rollouts",
        "requests",
        *(f"failed: {kind}" for kind in Kind),
        "longest gap",
        "p50",
        "p99",
        "took",
        "logins",
    )
    return "\n".join(
        [
            f"Rollouts back and forth, with {1 / INTERVAL:.0f} requests a second in turn and a slow one every second.",
            "Failed requests are sums; the gap is the longest time without an answered request",
            "for the page, in seconds; p50 and p99 are of the answered requests during the rollout / before and after,",
            "in milliseconds; a rollout took the median of seconds given, and at most so many SSH logins.",
            "A request for an asset of the new release counts from the first one that was answered.",
            "",
            f"| {' | '.join(columns)} |",
            f"|{'---|' * len(columns)}",
            *(_row(name, of_way) for name, of_way in rollouts.items()),
            "",
            f"![Each request of one rollout, by way: seconds since the command, and for how long it took]({PICTURE})",
        ]
    )


def _row(name: str, rollouts: Sequence[Rollout]) -> str:
    def percentile(percent: int) -> str:
        both = (
            statistics.quantiles([s for r in rollouts for s in r.latencies(during=during)], n=100)[percent - 1]
            for during in (True, False)
        )
        return " / ".join(f"{1000 * seconds:.0f}" for seconds in both)

    cells = (
        name,
        len(rollouts),
        sum(len(rollout.requests) for rollout in rollouts),
        *(sum(rollout.failed(kind) for rollout in rollouts) for kind in Kind),
        f"{max(rollout.longest_gap() for rollout in rollouts):.1f}",
        percentile(50),
        percentile(99),
        f"{statistics.median(rollout.took for rollout in rollouts):.1f}",
        max(rollout.logins for rollout in rollouts),
    )
    return f"| {' | '.join(map(str, cells))} |"


def _draw(rollouts: Mapping[str, Rollout], picture: Path) -> None:
    """A row for each way: requests over time, those without an answer in red."""
    figure = Figure(figsize=(10, 2.2 * len(rollouts)), layout="constrained")
    rows = figure.subplots(len(rollouts), sharex=True, sharey=True, squeeze=False)[:, 0]
    for row, (name, rollout) in zip(rows, rollouts.items(), strict=True):
        for answered, colour, size in ((True, "tab:gray", 3), (False, "tab:red", 9)):
            chosen = [r for r in rollout.requests if r.answered is answered]
            label = "answered" if answered else "failed"
            row.scatter([r.began for r in chosen], [r.seconds for r in chosen], s=size, color=colour, label=label)
        row.axvspan(0, rollout.took, color="tab:blue", alpha=0.08, label="rollout")
        row.set_yscale("log")
        row.set_title(f"{name}: {rollout.failed(*Kind)} of {len(rollout.requests)} requests failed", loc="left")
        row.set_ylabel("took, s")
    rows[0].legend(loc="upper right")
    rows[-1].set_xlabel("request begun, seconds since the command")
    figure.savefig(picture, dpi=100)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
