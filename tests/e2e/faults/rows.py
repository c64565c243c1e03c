"""The fault matrix: every sub-step of a rollout × every fault."""

from __future__ import annotations

import os
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from server.request import StepName
from tests.e2e.faults.injection import Place


class SubStep(StrEnum):
    """What a rollout with pending migrations does on a server, in this order."""

    PULL = "pull"
    COMPILE = "compile"
    PENDING = "pending"
    STOP = "stop"
    DUMP = "dump"
    MIGRATE = "migrate"
    TASK = "task"
    PUBLISH = "publish"
    UP = "up"
    GATE = "gate"
    VERIFY = "verify"
    PURGE = "purge"


class Fault(StrEnum):
    FAILS = "the command fails"
    HANGS = "the command hangs"
    PROGRAM_KILLED = "the program is killed"
    PROGRAM_ENDED = "the program is told to end"
    CUT = "the connection is cut"
    PULUMI_KILLED = "pulumi is killed"
    ENGINE_RESTARTED = "the Engine restarts"
    DISK_FULL = "the disk is full"


@dataclass(frozen=True)
class Where:
    """Where a sub-step is met.

    place:   the command or the connection that it begins with
    step:    the step that it is part of, where the engine resumes
    limits:  the configuration that gives the command little time, where it is to hang
    """

    place: Place
    step: StepName
    limits: dict[str, Any]


def _oneoff(name: str) -> Place:
    return Place(f"docker *--name releve-*-{name} *")


def _limit(part: str, seconds: int = 10) -> dict[str, Any]:
    return {"app.stepTimeouts": {part: seconds}}


WHERE = {
    SubStep.PULL: Where(Place("docker pull *"), StepName.PULL, _limit("pull", 25)),
    SubStep.COMPILE: Where(_oneoff("compile"), StepName.PRECOMPILE, _limit("precompile", 20)),
    SubStep.PENDING: Where(_oneoff("pending"), StepName.UP, _limit("pending")),
    SubStep.STOP: Where(Place("docker compose stop *"), StepName.UP, _limit("stop")),
    SubStep.DUMP: Where(Place("docker compose exec *pg_dump --format*"), StepName.UP, _limit("dump")),
    SubStep.MIGRATE: Where(_oneoff("migrate"), StepName.UP, _limit("migrate")),
    SubStep.TASK: Where(_oneoff("task"), StepName.UP, _limit("task")),
    SubStep.PUBLISH: Where(_oneoff("publish"), StepName.UP, _limit("publish")),
    # The old release is brought back within the same limit.
    SubStep.UP: Where(Place("docker compose create fabmanager*"), StepName.UP, _limit("up", 30)),
    SubStep.GATE: Where(Place("connect * 3000", after_switch=True), StepName.UP, {"health.timeout": 30}),
    # The containers are asked at addresses of their own, the public one is this machine's.
    SubStep.VERIFY: Where(Place("connect 127.0.0.1 *", after_switch=True), StepName.UP, {"health.timeout": 30}),
    SubStep.PURGE: Where(_oneoff("purge"), StepName.PURGE, _limit("purge")),
}

POLLED = frozenset({SubStep.GATE, SubStep.VERIFY})
"""What is asked again when it fails or gives no answer: the fault lasts."""

AWAY = frozenset({SubStep.STOP, SubStep.DUMP, SubStep.MIGRATE, SubStep.TASK, SubStep.PUBLISH, SubStep.UP, SubStep.GATE})
"""Where the application may be stopped, or nginx not told where it is now.

A program that is killed there leaves it so, until the next run.
"""


@dataclass(frozen=True)
class Row:
    """One fault, and what follows.

    back:   the tag is set back afterwards; otherwise the same release is rolled out again
    pulumi: pulumi runs the steps; otherwise they are run over SSH, the same command lines in the same order
    """

    sub_step: SubStep
    fault: Fault
    back: bool
    pulumi: bool

    def __str__(self) -> str:
        """A sentence."""
        return f"{self.fault} at {self.sub_step}, then {'back' if self.back else 'forward'}"


def _through_pulumi(sub_step: SubStep, fault: Fault) -> bool:
    return fault is Fault.PULUMI_KILLED or (sub_step, fault) in SELECTED_PULUMI


SELECTED_PULUMI = {
    (SubStep.MIGRATE, Fault.CUT),
    (SubStep.GATE, Fault.FAILS),
}

SELECTED = {
    (SubStep.COMPILE, Fault.ENGINE_RESTARTED),
    (SubStep.DUMP, Fault.DISK_FULL),
    (SubStep.MIGRATE, Fault.CUT),
    (SubStep.TASK, Fault.HANGS),
    (SubStep.PUBLISH, Fault.PROGRAM_KILLED),
    (SubStep.UP, Fault.PULUMI_KILLED),
    (SubStep.GATE, Fault.FAILS),
    (SubStep.VERIFY, Fault.PROGRAM_ENDED),
}
"""What `make test` runs: each fault once, each at another sub-step. `make faults` runs all."""

ROWS = [
    # A chessboard: each sub-step and each fault is followed by both.
    Row(sub_step, fault, back=(across + down) % 2 == 1, pulumi=_through_pulumi(sub_step, fault))
    for down, sub_step in enumerate(SubStep)
    for across, fault in enumerate(Fault)
    if os.environ.get("RELEVE_FAULTS") == "all" or (sub_step, fault) in SELECTED
]
