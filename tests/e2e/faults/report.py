"""What the rows of the fault matrix measured, and docs/faults.md, which is written from that alone.

python -m tests.e2e.faults.report     writes the sections of docs/faults.md from the last results of each row
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from benchmark import report
from tests.e2e.faults.rows import Fault, Row, SubStep
from tests.e2e.harness import CHECKOUT

RESULTS = CHECKOUT / ".releve" / "faults"
"""A file for each kind of row. Outside the sandbox, which goes when the tests end."""
PAGE = CHECKOUT / "docs" / "faults.md"
HEADING = "# The fault matrix"


@dataclass
class Line:
    """One row's measurements. Everything is what was seen, not what was expected.

    status:        exit status of the rollout that met the fault; below 0: the signal that ended it
    serves:        the release that served afterwards, or None: none did, as a whole
    results:       what the server's history says of both rollouts
    serves_after:  the release that served after the next rollout
    seconds:       of the first rollout; seconds_after: of the next one
    passed:        every assertion held
    """

    sub_step: str
    fault: str
    back: bool
    pulumi: bool
    status: int | None = None
    serves: str | None = None
    results: list[str] = field(default_factory=list)
    serves_after: str | None = None
    seconds: float = 0
    seconds_after: float = 0
    passed: bool = False


@dataclass
class Kill:
    """What was measured of one rollout of `rolling` that was killed, and of the next one.

    proxy:      how nginx finds the application
    place:      what the rollout was about to do; killed: what was killed there; back: the tag was set back afterwards
    status:     exit status of the rollout that was killed
    containers: how many the web service had then
    requests:   of visitors, from before the first rollout until after the next one; failed: those without an answer
    """

    proxy: str
    place: str
    killed: str
    back: bool
    status: int | None = None
    containers: int = 0
    requests: int = 0
    failed: int = 0
    passed: bool = False

    def __str__(self) -> str:
        """A sentence."""
        proxy = self.proxy.replace("-", " ")
        return f"{self.killed}, when {self.place}, nginx {proxy}, then {'back' if self.back else 'forward'}"


Measured = TypeVar("Measured", Line, Kill)


@contextmanager
def kept(line: Measured) -> Iterator[Measured]:
    """Keeps a row's line in every outcome, at the end of a file, so that an interrupted run loses none."""
    try:
        yield line
        line.passed = True
    finally:
        RESULTS.mkdir(parents=True, exist_ok=True)
        with _results(type(line)).open("a", encoding="utf-8") as file:
            file.write(json.dumps(dataclasses.asdict(line)) + "\n")


def line_of(row: Row) -> Line:
    """The line that a row begins with."""
    return Line(str(row.sub_step), str(row.fault), row.back, row.pulumi)


def _results(kind: type[Line | Kill]) -> Path:
    return RESULTS / f"{kind.__name__.lower()}.jsonl"


def _read(kind: type[Measured]) -> list[Measured]:
    file = _results(kind)
    return [kind(**json.loads(text)) for text in file.read_text(encoding="utf-8").splitlines()] if file.exists() else []


def staged(measured: list[Line]) -> str:
    """The section on the strategy `staged`: the last line of each row, in the matrix's order."""
    found = {(line.sub_step, line.fault): line for line in measured}
    rows = [found[key] for sub_step in SubStep for fault in Fault if (key := (str(sub_step), str(fault))) in found]
    held = sum(line.passed for line in rows)
    table = "\n".join(_described(line) for line in rows)
    return f"""\
Release 1.0.0 serves; 1.1.0, which brings a migration, is rolled out with the strategy `staged` on the sandbox's server,
and one thing goes wrong at one command. Then the same release is rolled out again, or the tag is set back.
**{held} of {len(rows)} rows hold.** A row holds when, besides what the table shows,

- the rollout that met the fault ended with another status than 0, and no lock was held after it;
- one release served right after it, through an nginx that looks the application's name up once, with its page, all of
  its assets and its health: not asked where the program itself is killed while the application may be stopped, or nginx
  not told where it is, because nobody is left to put it back;
- the next rollout ended with 0; Compose file, assets and containers are of the release that was asked for,
  `docker compose up` would do nothing, and no lock, staging directory, temporary file or one-off container is left;
- the database and the proxy are the same containers, the rows of the database are the same, and the migration was run
  wholly or not at all; going back to a release that served all the time did not touch its containers.

"status" is that of the first rollout (below 0: ended by that signal). "by pulumi": `pulumi up` ran both; where it says
"ssh", the same command lines were run in the same order over SSH, with the same standard input: the engine adds nothing
to what the server does. "killed" is by -9; "told to end" is by a SIGTERM.

| at | what went wrong | by | status | s | then serves | next | s | then serves | history | holds |
|---|---|---|---|---|---|---|---|---|---|---|
{table}
"""


def rolling(measured: list[Kill]) -> str:
    """The section on the strategy `rolling`: the last line of each row."""
    found = {(line.proxy, line.place, line.killed, line.back): line for line in measured}
    rows = [found[key] for key in sorted(found)]
    held = sum(line.passed for line in rows)
    table = "\n".join(
        f"| {line.proxy.replace('-', ' ')} | {line.place} | {line.killed} | {line.status} | {line.containers} "
        f"| {'back' if line.back else 'forward'} | {line.failed} of {line.requests} | {_yes(line.passed)} |"
        for line in rows
    )
    return f"""\
One release serves, with ten requests a second, a POST and one that takes 3 s among them; another one is rolled out
with the strategy `rolling`, and is killed with -9 where it is about to do what the table says: the program on the
server, or `pulumi` on this side. Then the same release is rolled out again, or the tag is set back, by `pulumi up`.
**{held} of {len(rows)} rows hold.** A row holds when the rollout that was killed ended with another status than 0 and
left at most two containers of the web service, no request has failed from before it until after the next one, and then
there is one container, of the release that was asked for, whose page, assets and health visitors get, and
`docker compose up` would do nothing.

| nginx | killed when | what | status | containers | next | requests failed | holds |
|---|---|---|---|---|---|---|---|
{table}
"""


def _yes(passed: bool) -> str:
    return "yes" if passed else "**no**"


def _described(line: Line) -> str:
    cells = (
        line.sub_step,
        line.fault,
        "pulumi" if line.pulumi else "ssh",
        line.status,
        f"{line.seconds:.0f}",
        line.serves or "nothing",
        "back" if line.back else "forward",
        f"{line.seconds_after:.0f}",
        line.serves_after or "nothing",
        ", ".join(line.results),
        _yes(line.passed),
    )
    return "| " + " | ".join(str(cell) for cell in cells) + " |"


def main() -> None:
    """Writes the sections of which there are results."""
    if lines := _read(Line):
        report.write(PAGE, "## The strategy `staged`, and everything that can go wrong", staged(lines), heading=HEADING)
    if kills := _read(Kill):
        report.write(PAGE, "## The strategy `rolling`, killed", rolling(kills), heading=HEADING)


if __name__ == "__main__":
    main()
