"""Commands that run once a release, each in a one-off container of it: the configuration's, and those of an upgrade.

releases/<r>/tasks/<hash>    this one is done
releases/<r>/upgrade.json    what the upgrade to this release asks for, as `pull` has decided it
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from server import releases
from server.containers import Compose, OneOffs
from server.request import RequestError, StepName, read
from server.run import Run, replace_file
from server.upgrade import ACKNOWLEDGE

_BUNDLER = ("bundle", "exec")


class When(Enum):
    """In which part of a rollout."""

    BEFORE = "before the migrations"
    AFTER = "when the release is in place"


@dataclass(frozen=True)
class UpgradeTask:
    """A command of the application's, as its changelog writes it, and the item that asks for it, as VERSION:LINE."""

    command: str
    place: str

    @property
    def words(self) -> tuple[str, ...]:
        """As it is run."""
        return (*_BUNDLER, *shlex.split(self.command))


@dataclass(frozen=True)
class UpgradeTasks:
    """Those that an upgrade asks for, in their order."""

    before: tuple[UpgradeTask, ...] = ()
    after: tuple[UpgradeTask, ...] = ()


def run_all(run: Run, compose: Compose, commands: Sequence[Sequence[str]]) -> None:
    """Runs each command once a release. Raises Failure at the first that fails."""
    for command in commands:
        _run(run, compose, command, "")


def run_upgrade(run: Run, compose: Compose, when: When) -> None:
    """Runs what the upgrade asks for at this moment, each once a release.

    Raises Failure at the first that fails; a retry goes on with that one.
    """
    acknowledged = run.request.acknowledged
    if acknowledged is None:
        return
    kept = tasks_of(run, run.image.release)
    for task in kept.before if when is When.BEFORE else kept.after:
        if task.place in acknowledged:
            run.say(f"acknowledged ({task.place}), so not run: {task.command}")
            continue
        hint = ACKNOWLEDGE.format(len(acknowledged), task.place)
        by_hand = f"`pulumi up` goes on with it. If you have run it by hand, or it is not needed:\n{hint}"
        serves = "The release serves; fix the cause, and" if when is When.AFTER else "Fix the cause, and"
        _run(run, compose, task.words, task.place, f"{serves} {by_hand}")


def _run(run: Run, compose: Compose, command: Sequence[str], where: str, remedy: str = "") -> None:
    done = _mark(releases.directory_of(run), command, where)
    told = " ".join(command) + (f" ({where})" if where else "")
    if done.exists():
        run.say(f"done before: {told}")
        return
    docker = run.begin(StepName.TASK)
    oneoffs = OneOffs.of(run.request)
    if oneoffs.run(docker, compose, "task", *oneoffs.command(run.request.web, command)) != 0:
        raise docker.failure(f"The task failed: {told}", remedy)
    done.touch()
    run.say(f"done: {told}")


def _mark(release: Path, command: Sequence[str], where: str) -> Path:
    # Without `where`, as earlier versions named it; with it, two items may ask for the same.
    text = "".join(f"{word}\n" for word in command) + where
    return release / "tasks" / hashlib.sha256(text.encode()).hexdigest()[:12]


def tasks_of(run: Run, release: str) -> UpgradeTasks:
    """What the upgrade to a release asks for; nothing where none was planned."""
    try:
        text = (releases.directory_of(run, release) / "upgrade.json").read_text()
    except OSError:
        return UpgradeTasks()
    try:
        return read(UpgradeTasks, json.loads(text), "")
    except (ValueError, RequestError):
        return UpgradeTasks()  # of another version of this program


def keep(run: Run, tasks: UpgradeTasks) -> None:
    """Notes what the upgrade to the request's release asks for."""
    replace_file(releases.directory_of(run) / "upgrade.json", json.dumps(dataclasses.asdict(tasks)))


def before_migrating(run: Run) -> tuple[UpgradeTask, ...]:
    """The tasks that are to be run before the migrations, and have not been."""
    acknowledged = run.request.acknowledged
    if acknowledged is None:
        return ()
    wanted = [task for task in tasks_of(run, run.image.release).before if task.place not in acknowledged]
    return _not_done(run, run.image.release, wanted)


def left_of(run: Run, release: str) -> tuple[UpgradeTask, ...]:
    """The tasks of a release that serves which have not been run."""
    return _not_done(run, release, tasks_of(run, release).after)


def _not_done(run: Run, release: str, wanted: Sequence[UpgradeTask]) -> tuple[UpgradeTask, ...]:
    directory = releases.directory_of(run, release)
    return tuple(task for task in wanted if not _mark(directory, task.words, task.place).exists())


def forget_since(state: Path, moment: int) -> None:
    """What was done since then is undone: the database is what it was. moment: nanoseconds since 1970."""
    for mark in (state / "releases").glob("*/tasks/*"):
        if mark.stat().st_mtime_ns >= moment:
            mark.unlink()
