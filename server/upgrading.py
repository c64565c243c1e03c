"""What the changelog asks for on the way from the version that runs: `pull` decides it, before anything changes.

The version is what the running container says, not what a tag is called.
"""

from __future__ import annotations

import json
import os

from server import releases, tasks
from server.commands import Docker
from server.containers import listing, project_answer
from server.environment import FILE
from server.errors import Refusal
from server.preparation import Candidate
from server.request import Upgrade, Version
from server.run import Run, read_line, replace_file
from server.tasks import UpgradeTask, UpgradeTasks
from server.upgrade import Path as Way
from server.upgrade import missing_variables, obstacles, version_in, version_of, way_to, written

NOTHING_STOPPED = "Nothing was stopped."


def look_at_upgrade(run: Run, docker: Docker, candidate: Candidate) -> None:
    """Decides what is to be run with the release, and keeps it with that.

    Raises Refusal where the changelog speaks against the release, or what runs is not what the plan was made for.
    """
    directory, asked = releases.directory_of(run), run.request.upgrade
    # Pulled again, what its upgrade has left is still to be done.
    is_live = releases.linked(run.state, "current") == run.image.release and (directory / "upgrade.json").exists()
    if asked is None:
        if not is_live or run.request.acknowledged is None:
            (directory / "upgrade.json").unlink(missing_ok=True)
        return
    start, to = _version_that_runs(run, docker, candidate, asked), asked.changes.version
    if not (is_live and start == to):
        tasks.keep(run, _decide(run, docker, candidate, asked, start))
    replace_file(directory / "version", f"{written(to)}\n")


def _decide(run: Run, docker: Docker, candidate: Candidate, asked: Upgrade, start: Version | None) -> UpgradeTasks:
    changes, request, acknowledged = asked.changes, run.request, run.request.acknowledged or ()
    if start is None:
        _require_planned(asked, start)
        run.say("nothing runs here yet: there is nothing to upgrade from")
        return UpgradeTasks()
    if changes.version < start:
        return UpgradeTasks()
    left = _left(run)
    way = way_to(changes, start, acknowledged)
    if way is None:
        return UpgradeTasks(after=left)
    _require_planned(asked, start)
    against = obstacles(changes, way, acknowledged, request.strategy, request.database.migrations)
    against = against or _missing(run, docker, candidate, asked, way)
    if against:
        raise Refusal("\n".join(against), NOTHING_STOPPED)
    before, after = (
        tuple(UpgradeTask(task.command, task.item.place) for task in found)
        for found in (way.legs[0].before, way.legs[0].after)
    )
    counts = f"{len(before)} before the migrations, {len(after)} when the release is in place"
    run.say(f"the upgrade {written(start)} → {written(changes.version)} asks for tasks: {counts}")
    commands = [task.command for task in after]
    return UpgradeTasks(before, (*(task for task in left if task.command not in commands), *after))


def _left(run: Run) -> tuple[UpgradeTask, ...]:
    """What the upgrade to the live release has left, whose last step did not succeed: the next release does it."""
    current = releases.linked(run.state, "current")
    return tasks.left_of(run, current) if current and current != run.image.release else ()


def _require_planned(asked: Upgrade, start: Version | None) -> None:
    if asked.start is None or start == asked.start:
        return
    planned, now = written(asked.start), written(start) if start else ""
    remedy = f"Release {planned} first."
    if now:
        remedy = (
            f"Somebody has changed what runs, or upgrade.running says another version. To plan it from {now}:\n"
            f"pulumi config set --path upgrade.running {now}   and remove it when that is done."
        )
    raise Refusal(
        f"The upgrade was planned from {planned}, and on this server {now or 'nothing'} runs ({asked.version_file}).",
        f"{NOTHING_STOPPED} {remedy}",
    )


def _version_that_runs(run: Run, docker: Docker, candidate: Candidate, asked: Upgrade) -> Version | None:
    """None: nothing has run here. Raises Refusal where it cannot be told."""
    web, there = run.request.web, listing(docker, candidate.project.name)
    running = there.of(web, states=("running",))
    if running:
        answer = docker.ask("exec", running[0], "cat", asked.version_file)
        try:
            return version_in(asked.version_file, answer.text)
        except ValueError:
            return _planned_way_back(
                asked,
                f"in the working directory of '{web}' there is no file {asked.version_file} that holds one.",
                "Set upgrade.version to the file that does, or unset upgrade.changelog.",
            )
    current = releases.linked(run.state, "current")
    known = read_line(releases.directory_of(run, current) / "version") if current else ""
    if known:
        return version_of(known)
    if there.of(web):
        return _planned_way_back(asked, f"'{web}' does not run.", f"Start it:  docker compose up -d {web}")
    return None


def _planned_way_back(asked: Upgrade, reason: str, remedy: str) -> Version:
    """A way back asks for nothing, so it need not be certain what runs. Raises Refusal where it is none."""
    if asked.start is None or asked.changes.version > asked.start:
        raise Refusal(f"Which version runs cannot be told: {reason}", f"{NOTHING_STOPPED} {remedy}")
    return asked.start


def _missing(run: Run, docker: Docker, candidate: Candidate, asked: Upgrade, way: Way) -> list[str]:
    """The variables that the web service, as the release will have it, lacks."""
    if not any(leg.variables for leg in way.legs):
        return []
    answer = project_answer(docker, candidate.compose)
    if not answer.succeeded:
        raise docker.failure("Docker Compose does not accept the Compose file or the environment of this release.")
    web = run.request.web
    environment = json.loads(answer.text)["services"][web].get("environment") or {}
    there = [name for name, value in environment.items() if value is not None]
    file = _where(run, candidate)
    return missing_variables(asked.changes, way, run.request.acknowledged or (), there=there, web=web, file=file)


def _where(run: Run, candidate: Candidate) -> str:
    """Where the web service's variables are written; of several files the last, which counts."""
    from server import compose_file  # noqa: PLC0415 - PyYAML takes a while, and few releases need new variables

    service = compose_file.services_in(candidate.file.read_text()).get(run.request.web) or {}
    named = compose_file.files_named(service, "env_file")
    if not named:
        return f"`environment:` of '{run.request.web}' in the Compose file"
    file = os.path.normpath(run.directory / named[-1])
    if file == str(run.directory / FILE) and run.request.keeps_environment:
        return "`env` of the stack's configuration"
    return file
