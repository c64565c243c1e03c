"""How fast a release takes another's place without a failed request, and where the seconds go.

Run by `make bench`, on the sandbox, as `sandbox/run python -m benchmark.speed docs/benchmark.md`: replaces the section
of that file which it wrote the last time. The image is on the server already and holds the assets, nothing asks for
migrations, and the release is not watched. With 50 ms to the server and back, a proxy on this machine holds back what
passes.
"""

from __future__ import annotations

import random
import re
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import cast

from benchmark import report
from benchmark.command import run
from benchmark.delay import delayed
from benchmark.ways import SERVER, VERSIONS, Outcome, WithPulumi, every_way, repository

TITLE = "## Speed"
ROUNDS = 9
ROUND_TRIP = 0.05
"""Seconds, with the proxy."""


def main(file: Path) -> None:
    """Measures, prints, and writes the section of `file`."""
    measured: dict[str, list[list[Outcome]]] = {"release": [], "rollback": []}
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
        alone = _alone(way)
    report.write(file, TITLE, _text(measured, pulled, alone))


def _measure(way: WithPulumi, measured: dict[str, list[list[Outcome]]]) -> None:
    """Releases the new version and goes back, again and again. The old one serves before and after."""
    old, new = VERSIONS
    way.roll_out(old)
    for outcomes in measured.values():
        outcomes.append([])
    for _ in range(ROUNDS):
        _forget(way, new)
        for kind, version in (("release", new), ("rollback", old)):
            # The example's worker looks once a second whether it is to stop. One rollout right after the other would
            # find it at the same point of that second each time, because it starts at the end of each.
            time.sleep(random.random())  # noqa: S311
            measured[kind][-1].append(way.roll_out(version))
        last = [f"{kind} {outcomes[-1][-1].seconds:.1f} s" for kind, outcomes in measured.items()]
        print(*last, sep=", ", flush=True)


def _forget(way: WithPulumi, version: str) -> None:
    """As if the version had never been here, except for its image."""
    run("sandbox/ssh", SERVER, "sh", "-c", f"rm -rf {way.directory}/.releve/releases/{version}-*")


def _first_release(way: WithPulumi) -> tuple[Outcome, int]:
    """A release whose image the server does not have, and the bytes that the registry has sent for it."""
    # Not the newer one, which the sandbox's own project runs.
    old, new = VERSIONS
    way.roll_out(new)
    _forget(way, old)
    script = 'docker image ls --quiet "$1" | sort -u | xargs docker image rm --force'
    run("sandbox/ssh", SERVER, "sh", "-c", script, "sh", f"{repository()}:{old}")
    before = _sent_by_the_registry()
    done = way.roll_out(old)
    return done, _sent_by_the_registry() - before


def _sent_by_the_registry() -> int:
    """Bytes, since it was started."""
    port = repository().partition("/")[0].rpartition(":")[2]
    name = run("docker", "ps", "--filter", f"publish={port}", "--format", "{{.Names}}").strip()
    interfaces = run("docker", "exec", name, "cat", "/proc/net/dev")
    return sum(int(line.split()[9]) for line in interfaces.splitlines() if re.match(r"\s*eth", line))


def _alone(way: WithPulumi) -> list[float]:
    """Seconds from `docker compose run` of the application, with nothing else going on, to its first good answer."""
    script = f"""cd {way.directory}
        begin=$(date +%s%N)
        docker compose run --detach --no-deps --name bench-alone fabmanager >/dev/null 2>&1
        format='{{{{range .NetworkSettings.Networks}}}}{{{{.IPAddress}}}}{{{{end}}}}'
        address=$(docker inspect --format "$format" bench-alone)
        until curl -sf -o /dev/null "http://$address:3000/health"; do sleep 0.02; done
        echo $((($(date +%s%N) - begin) / 1000000))
        docker rm --force bench-alone >/dev/null"""
    return [int(run("sandbox/ssh", SERVER, "sh", "-c", script)) / 1000 for _ in range(ROUNDS)]


def _where(outcome: Outcome) -> dict[str, float]:
    """Where the seconds of a rollout went, in order."""
    steps = [seconds for seconds, line in outcome.lines if re.search(rf"{SERVER}-\S+ creat", line)]
    output = "\n".join(line for _, line in outcome.lines)
    said = re.findall(r"(?m)(?:^|\s)((?:pull|precompile|up|purge): [^\n]+) \(([0-9.]+) s\)$", output)
    on_server = {re.sub(r"@?sha256:[0-9a-f]{64}", "", text): float(seconds) for text, seconds in dict(said).items()}
    before, after = steps[0], outcome.seconds - steps[-1]
    return {
        "engine and program, before the first step": before,
        **on_server,
        "logins, and what the steps do before they say something": steps[-1] - before - sum(on_server.values()),
        "engine, after the last step": after,
    }


def _spread(values: Sequence[float]) -> str:
    return f"{min(values):.1f} / {statistics.median(values):.1f} / {max(values):.1f}"


def _text(measured: dict[str, list[list[Outcome]]], pulled: tuple[Outcome, int], alone: Sequence[float]) -> str:
    def spread(outcomes: Sequence[Outcome]) -> str:
        return _spread([outcome.seconds for outcome in outcomes])

    done, sent = pulled
    median = sorted(measured["rollback"][0], key=lambda outcome: outcome.seconds)[ROUNDS // 2]
    return "\n".join(
        [
            "`rolling`, `app.assetsFrom: image`, image on the server, `app.migrate: []`, `health.settle: 0`,",
            f"`pulumi up --yes --skip-preview`: minimum, median and maximum of {ROUNDS}; seconds.",
            "Of each figure up to 1 s is the worker's, which looks once a second whether it is to stop.",
            "For scale: the application alone, from `docker compose run` to its first good answer, took",
            f"{_spread(alone)}.",
            "",
            "| | server beside it | round trip of 50 ms |",
            "|---|---|---|",
            *(f"| {kind} | {spread(near)} | {spread(far)} |" for kind, (near, far) in measured.items()),
            "",
            f"A release whose image the server does not have: {done.seconds:.1f} s,",
            f"{sent / 1e3:.0f} kB from the registry: what the one that serves does not share with it.",
            "",
            "Where the seconds of one rollback go: on the server as the steps say it, which is since the line before.",
            "",
            "| | s |",
            "|---|---|",
            *(f"| {text} | {seconds:.1f} |" for text, seconds in _where(median).items() if seconds >= 0.1),  # noqa: PLR2004
        ]
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
