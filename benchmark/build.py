"""How long an image takes to build, cold and warm, and how long a preview takes that finds nothing to do.

Run by `make bench`, on the sandbox, as `sandbox/run python -m benchmark.build docs/benchmark.md`: replaces the section
of that file which it wrote the last time. What is compared runs in turns, so that a busy machine slows down both.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from benchmark import report
from benchmark.command import PROJECT, run
from configuration.load import load
from configuration.tree import SourceSettings
from release import source

TITLE = "## Builds and previews"
RUNS = 5
LIMIT = 2.0
"""A preview that finds nothing to do may take this many times what an empty program takes."""

Command = Callable[[], object]


def main(file: Path) -> None:
    """Measures, prints, and writes the section of `file`."""
    report.write(file, TITLE, f"Medians of {RUNS} runs.\n\n{_builds()}\n\n{_previews()}")


def _builds() -> str:
    """The example application's image, built as a release builds it: from what is committed, exported."""
    with tempfile.TemporaryDirectory() as directory:
        checkout, context = Path(directory, "app"), Path(directory, "context")
        run("git", "clone", "--quiet", os.fspath(PROJECT / ".sandbox/app"), os.fspath(checkout))
        cold = _timed(lambda: _build(checkout, context, "--no-cache"))
        _build(checkout, context)
        warm = []
        for _ in range(RUNS):
            with (checkout / "app/models/visit.rb").open("a") as file:
                # Never seen before: the cache keeps what earlier benchmarks built.
                file.write(f"# {time.time_ns()}\n")
            run("git", "-C", os.fspath(checkout), "-c", "user.name=b", "-c", "user.email=b@localhost",
                 "commit", "--quiet", "--all", "--message", "benchmark")  # fmt: skip
            warm.append(_timed(lambda: _build(checkout, context)))
    median = statistics.median(warm)
    return (
        "| build of the example application | s |\n|---|---|\n"
        f"| cold: no layer is reused (one run) | {cold:.1f} |\n"
        f"| warm: one file of the application changed | {median:.1f} |\n"
        f"| warm / cold | {median / cold:.2f} |"
    )


def _build(checkout: Path, context: Path, *options: str) -> None:
    stack = load(_configuration(), PROJECT / "Pulumi.local.yaml")
    how = SourceSettings(path=os.fspath(checkout), args=stack.image.source.args if stack.image.source else {})
    read = source.read(how, stack.image.platform, "0.0.0-benchmark", PROJECT)
    read.export(context)
    arguments = [word for name, value in read.args.items() for word in ("--build-arg", f"{name}={value}")]
    run("docker", "build", "--quiet", "--platform", stack.image.platform, *options, *arguments, os.fspath(context))


def _configuration() -> dict[str, str]:
    listed = json.loads(run("pulumi", "config", "--stack", "local", "--json", "--show-secrets", cwd=PROJECT))
    return {
        key: json.dumps(entry["objectValue"]) if "objectValue" in entry else entry["value"]
        for key, entry in listed.items()
    }


def _previews() -> str:
    """Of the stack `local`, released before, side by side with a program that declares nothing."""
    run("pulumi", "up", "--yes", "--skip-preview", "--stack", "local", cwd=PROJECT)
    with tempfile.TemporaryDirectory() as directory:
        empty = Path(directory)
        (empty / "Pulumi.yaml").write_text(
            f"name: empty\nruntime:\n  name: python\n  options: {{virtualenv: {sys.prefix}}}\n"
        )
        (empty / "__main__.py").write_text("import pulumi\n")
        run("pulumi", "stack", "init", "benchmark", cwd=empty)
        try:
            run("pulumi", "up", "--yes", "--skip-preview", "--stack", "benchmark", cwd=empty)
            took: dict[str, list[float]] = {"local": [], "benchmark": []}
            for _ in range(RUNS):
                for stack, project in (("local", PROJECT), ("benchmark", empty)):
                    preview = ("pulumi", "preview", "--expect-no-changes", "--stack", stack)
                    took[stack].append(_timed(partial(run, *preview, cwd=project)))
        finally:
            run("pulumi", "stack", "rm", "--yes", "--force", "benchmark", cwd=empty)
    ours, theirs = (statistics.median(took[stack]) for stack in ("local", "benchmark"))
    return (
        "| `pulumi preview` with nothing changed | s |\n|---|---|\n"
        f"| Relève, one server | {ours:.2f} |\n"
        f"| an empty program, same SDK, engine and environment | {theirs:.2f} |\n"
        f"| ratio (at most {LIMIT:g}) | {ours / theirs:.2f} |"
    )


def _timed(command: Command) -> float:
    """Seconds."""
    started = time.monotonic()
    command()
    return time.monotonic() - started


if __name__ == "__main__":
    main(Path(sys.argv[1]))
