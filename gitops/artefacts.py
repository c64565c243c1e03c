"""What a preview leaves for people and for other jobs: files in .releve/gitops/<stack>/."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from errors import ReleaseError
from operations.stack import PROJECT

_COUNT = re.compile(r"^\s+\D+?(\d+) to (create|update|delete|replace)", re.MULTILINE)
_UNRELEASED = re.compile(r"\S+ is not in the registry, and this stack has no image\.source to build it from")


@dataclass(frozen=True)
class Artefacts:
    """The files of a stack's last preview.

    plan:   the plan as JSON, written by the program itself (release/plan.py); absent where it was refused before
    log:    what the preview printed
    widget: how many resources it would create, update and delete, as GitLab's artifacts:reports:terraform reads it
    """

    directory: Path

    @classmethod
    def of(cls, stack: str, project: Path = PROJECT) -> Artefacts:
        """Of this stack."""
        return cls(project / ".releve/gitops" / stack)

    @property
    def plan(self) -> Path:
        """The plan as JSON."""
        return self.directory / "plan.json"

    @property
    def log(self) -> Path:
        """What the preview printed."""
        return self.directory / "preview.log"

    @property
    def widget(self) -> Path:
        """For GitLab's plan widget."""
        return self.directory / "tfplan.json"

    @property
    def drift(self) -> Path:
        """What the last `make drift` found, as JSON."""
        return self.directory / "drift.json"

    def write_drift(self, status: int, found: str) -> None:
        """Keeps what `./releve drift` ended with and printed: make itself ends with 2, whatever has failed."""
        self.directory.mkdir(parents=True, exist_ok=True)
        self.drift.write_text(json.dumps({"status": status, "found": found}), encoding="utf-8")

    def read_drift(self) -> str:
        """What differs, in words; "" for nothing. Raises ReleaseError where that is not known."""
        stored = json.loads(self.drift.read_text(encoding="utf-8")) if self.drift.exists() else {"status": "not run"}
        if stored["status"] not in (0, 2):
            raise ReleaseError(f"what differs is not known: ./releve drift ended with {stored['status']}")
        return str(stored["found"]) if stored["status"] else ""

    def clear(self) -> None:
        """Removes what another preview has left: it must not pass for this one's."""
        self.directory.mkdir(parents=True, exist_ok=True)
        for file in (self.plan, self.log, self.widget):
            file.unlink(missing_ok=True)

    def write_widget(self) -> None:
        """Counts what the log sums up. A replacement runs a step again: it is an update for who looks at it."""
        found = {word: int(count) for count, word in _COUNT.findall(self.log.read_text(encoding="utf-8"))}
        counts = {
            "create": found.get("create", 0),
            "update": found.get("update", 0) + found.get("replace", 0),
            "delete": found.get("delete", 0),
        }
        self.widget.write_text(json.dumps(counts), encoding="utf-8")


@dataclass(frozen=True)
class Preview:
    """What a preview came to.

    fingerprint: of the plan, "" where there is none
    text:        the plan for people, "" where there is none
    is_empty:    whether nothing is to be done
    waits:       whether it only waits for another stack to release the tag
    log:         all that was printed
    """

    stack: str
    succeeded: bool
    fingerprint: str
    text: str
    is_empty: bool
    waits: bool
    log: str

    @property
    def approvable(self) -> str:
        """The fingerprint of a plan that can be approved: what failed, or does nothing, is nothing to approve."""
        return self.fingerprint if self.succeeded and not self.is_empty else ""

    @classmethod
    def read(cls, stack: str, artefacts: Artefacts) -> Preview:
        """From the files of a preview. Raises ReleaseError where there was none."""
        try:
            log = artefacts.log.read_text(encoding="utf-8")
            counted = artefacts.widget.exists()
        except FileNotFoundError:
            raise ReleaseError(
                f"there is no preview of {stack} in {artefacts.directory}: run make preview STACK={stack}"
            ) from None
        plan: dict[str, Any] = json.loads(artefacts.plan.read_text(encoding="utf-8")) if artefacts.plan.exists() else {}
        return cls(
            stack=stack,
            succeeded=counted,
            fingerprint=str(plan.get("fingerprint", "")),
            text=str(plan.get("text", "")),
            is_empty=bool(plan.get("empty", False)),
            waits=not counted and _UNRELEASED.search(log) is not None,
            log=log,
        )
