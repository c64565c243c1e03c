"""How fast a release takes another's place without a failed request, and where the seconds go.

Run by `make bench`, on the sandbox, as `sandbox/run python -m benchmark.speed docs/benchmark.md`: replaces the section
of that file which it wrote the last time. What Kamal does is measured: the image is on the server already and holds the
assets, nothing asks for migrations, and the release is not watched. With 50 ms to the server and back, a proxy on this
machine holds back what passes.
"""

from __future__ import annotations

import re
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import cast

from benchmark import report
from benchmark.command import run
from benchmark.delay import delayed
from benchmark.ways import SERVER, VERSIONS, Outcome, WithPulumi, every_way, repository

TITLE = "## Speed"
ROUNDS = 5
ROUND_TRIP = 0.05
"""Seconds, with the proxy."""
KAMAL = {"release": (5.7, 8.4), "rollback": (4.6, 6.4)}
"""Seconds that Kamal 2.12 took for the same application on the same kind of machine and server: with the server beside
it, and with a round trip of 50 ms. Medians of three, measured once; Kamal is not run by this benchmark."""


def main(file: Path) -> None:
    """Measures, prints, and writes the section of `file`."""
    measured: dict[str, list[list[Outcome]]] = {kind: [] for kind in KAMAL}
    with every_way(["rolling"]) as ways:
        way = cast(WithPulumi, ways["rolling"])
        way.config["releve:app"] |= {"assetsFrom": "image", "migrate": []}
        for version in VERSIONS:
            way.roll_out(version)
        _measure(way, measured)
        server = way.config["releve:servers"][0]
        with delayed(int(server["port"]), ROUND_TRIP) as port:
            way.config["releve:servers"][0] = server | {"port": port}
            _measure(way, measured)
        way.config["releve:servers"][0] = server
        pulled = _first_release(way)
    report.write(file, TITLE, _text(measured, pulled))


def _measure(way: WithPulumi, measured: dict[str, list[list[Outcome]]]) -> None:
    """Releases the new version and goes back, again and again. The old one serves before and after."""
    old, new = VERSIONS
    way.roll_out(old)
    for outcomes in measured.values():
        outcomes.append([])
    for _ in range(ROUNDS):
        _forget(way, new)
        measured["release"][-1].append(way.roll_out(new))
        measured["rollback"][-1].append(way.roll_out(old))
        last = [f"{kind} {outcomes[-1][-1].seconds:.1f} s" for kind, outcomes in measured.items()]
        print(*last, sep=", ", flush=True)


def _forget(way: WithPulumi, version: str) -> None:
    """As if the version had never been here, except for its image."""
    run("sandbox/ssh", SERVER, "sh", "-c", f"rm -rf {way.directory}/.releve/releases/{version}-*")


def _first_release(way: WithPulumi) -> tuple[Outcome, int]:
    """A release whose image the server does not have, and the bytes that the registry has sent for it."""
    _, new = VERSIONS
    _forget(way, new)
    script = 'docker image ls --quiet "$1" | sort -u | xargs docker image rm --force >/dev/null 2>&1'
    run("sandbox/ssh", SERVER, "sh", "-c", f"{script} || true", "sh", f"{repository()}:{new}")
    before = _sent_by_the_registry()
    done = way.roll_out(new)
    return done, _sent_by_the_registry() - before


def _sent_by_the_registry() -> int:
    """Bytes, since it was started."""
    port = repository().partition("/")[0].rpartition(":")[2]
    name = run("docker", "ps", "--filter", f"publish={port}", "--format", "{{.Names}}").strip()
    interfaces = run("docker", "exec", name, "cat", "/proc/net/dev")
    return sum(int(line.split()[9]) for line in interfaces.splitlines() if re.match(r"\s*eth", line))


def _phases(output: str) -> dict[str, float]:
    """What the steps on the server say that they have done → the seconds that they say it took."""
    found = re.findall(r"(?m)(?:^|\s)((?:pull|precompile|up|purge): [^\n]+) \(([0-9.]+) s\)$", output)
    return {text: float(seconds) for text, seconds in dict(found).items()}


def _text(measured: dict[str, list[list[Outcome]]], pulled: tuple[Outcome, int]) -> str:
    def spread(outcomes: Sequence[Outcome]) -> str:
        seconds = [outcome.seconds for outcome in outcomes]
        return f"{min(seconds):.1f} / {statistics.median(seconds):.1f} / {max(seconds):.1f}"

    done, sent = pulled
    lines = [
        "`rolling`, `app.assetsFrom: image`, image on the server, `app.migrate: []`, `health.settle: 0`,",
        f"`pulumi up --yes --skip-preview`: minimum, median and maximum of {ROUNDS}; seconds. Kamal 2.12 was",
        "measured once, with the same application on the same kind of machine.",
        "",
        "| | server beside it | Kamal | round trip of 50 ms | Kamal |",
        "|---|---|---|---|---|",
        *(
            f"| {kind} | {spread(near)} | {KAMAL[kind][0]} | {spread(far)} | {KAMAL[kind][1]} |"
            for kind, (near, far) in measured.items()
        ),
        "",
        f"A release whose image the server does not have: {done.seconds:.1f} s, {sent / 1e6:.1f} MB from the registry.",
        "",
        "Where the seconds of one release go, as the steps say it; the rest is the engine, the program and the logins.",
        "",
        "| | s |",
        "|---|---|",
    ]
    median = sorted(measured["release"][0], key=lambda outcome: outcome.seconds)[ROUNDS // 2]
    said = _phases(median.output)
    lines += [f"| {text} | {seconds:.1f} |" for text, seconds in said.items() if seconds]
    lines += [f"| engine, program, logins | {median.seconds - sum(said.values()):.1f} |"]
    return "\n".join(lines)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
