"""What the rows of the fault matrix measured, and docs/faults.md, which is written from that alone.

python -m tests.e2e.faults.report     writes docs/faults.md from the last results of each row
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.e2e.faults.rows import Fault, Row, SubStep
from tests.e2e.harness import CHECKOUT

RESULTS = CHECKOUT / ".releve" / "faults.jsonl"
"""Outside the sandbox, which goes when the tests end."""
PAGE = CHECKOUT / "docs" / "faults.md"


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


class Report:
    """Collects lines in a file, a line each, so that an interrupted run loses none."""

    @contextmanager
    def line(self, row: Row) -> Iterator[Line]:
        """A row's line, which is kept in every outcome."""
        line = Line(str(row.sub_step), str(row.fault), row.back, row.pulumi)
        try:
            yield line
            line.passed = True
        finally:
            RESULTS.parent.mkdir(exist_ok=True)
            with RESULTS.open("a", encoding="utf-8") as file:
                file.write(json.dumps(dataclasses.asdict(line)) + "\n")


def lines(results: Path) -> list[Line]:
    """The last line of each row, in the matrix's order."""
    found: dict[tuple[str, str], Line] = {}
    for text in results.read_text(encoding="utf-8").splitlines():
        line = Line(**json.loads(text))
        found[line.sub_step, line.fault] = line
    return [found[key] for sub_step in SubStep for fault in Fault if (key := (str(sub_step), str(fault))) in found]


def page(measured: list[Line]) -> str:
    """docs/faults.md."""
    held = sum(line.passed for line in measured)
    table = "\n".join(_described(line) for line in measured)
    return f"""# The fault matrix

Written by `make faults` from what it measured; not edited by hand. Release 1.0.0 serves; 1.1.0, which brings a
migration, is rolled out with the strategy `staged` on the sandbox's server, and one thing goes wrong at one command.
Then the same release is rolled out again, or the tag is set back. **{held} of {len(measured)} rows hold.** A row holds
when, besides what the table shows,

- the rollout that met the fault ended with another status than 0, and no lock was held after it;
- one release served right after it, with its page, all of its assets and its health: not asked where the script itself
  is killed while the application may be stopped, because nobody is left to put it back;
- the next rollout ended with 0; Compose file, assets and containers are of the release that was asked for,
  `docker compose up` would do nothing, and no lock, staging directory, temporary file or one-off container is left;
- the database and the proxy are the same containers, the rows of the database are the same, and the migration was run
  wholly or not at all; going back to a release that served all the time did not touch its containers.

"status" is that of the first rollout (below 0: ended by that signal). "by pulumi": `pulumi up` ran both; where it says
"ssh", the same command lines were run in the same order over SSH: the engine adds nothing to what the server does.

| at | what went wrong | by | status | s | then serves | next | s | then serves | history | holds |
|---|---|---|---|---|---|---|---|---|---|---|
{table}
"""


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
        "yes" if line.passed else "**no**",
    )
    return "| " + " | ".join(str(cell) for cell in cells) + " |"


if __name__ == "__main__":
    PAGE.write_text(page(lines(RESULTS)), encoding="utf-8")
