"""The step `restore`: the databases become what they were at a backup, with a dump of what they are now made before.

`restoring` is there from before the services stop until they serve again: a run that was killed is told by it, and is
repeated by the same command. What takes the place of a database does so at once, or not at all.
"""

from __future__ import annotations

import re
from pathlib import Path

from server import maintenance_page, releases
from server.bringing_up import bring_up, stop_application
from server.commands import Docker
from server.containers import Compose, inspect
from server.database import Database, Dump, dumps_named, keep_newest
from server.errors import Failure, Refusal, StepError
from server.health import Gate, await_health, look_at, require_containers
from server.migrations import named
from server.placement import read_project
from server.postgres import Postgres, service_of
from server.project import Project
from server.request import StepName
from server.restoring import end_restore
from server.restoring import restore as restore_dumps
from server.run import RESTORING, Run, file_timestamp, replace_file

_DATABASE = re.compile(r";\s+dbname: (.+)")
"""As `pg_restore --list` tells of the archive."""


def restore(run: Run) -> None:
    """Stops the services, dumps, restores, starts them, and waits until they answer. Raises Refusal or Failure."""
    docker, name = run.docker, run.request.backup or ""
    releases.begin_rollout(run)
    project = read_project(run, docker)
    if run.transaction.exists():
        raise Refusal("A rollout was interrupted here.", "Finish it, or undo it, first: pulumi up")
    if run.request.database.command:
        raise Refusal("What backup.command dumps, only you can restore.", "How: docs/operations.md, Restoring a dump.")
    dumps = _dumps(run, docker, project, name)
    database = Database.find(run, docker, project, named(run, docker, project))
    is_repeated = (run.state / RESTORING).exists()
    replace_file(run.state / RESTORING, f"{name}\n")
    maintenance_page.show(run, project)
    try:
        stop_application(run, docker, project)
        run.tell("stopped {services}", services=" ".join(run.request.services))
        before = database.dump(run.begin(StepName.DUMP), Compose(run.directory), "before-restore", keeps_all=True)
        _exchange(run, project, dumps)
    except BaseException as error:
        _start(run, project)
        # Whoever ends this may do so after the exchange.
        known = "as it was" if isinstance(error, StepError) else "whole: as it was, or as it is in the backup"
        run.say(f"the services run again; the database is {known}")
        raise
    _start(run, project)
    _require_health(run, project, before)
    # What was there at the beginning may be in a dump of the run that was killed.
    if not is_repeated:
        keep_newest(run.state, run.request.database.keep)


def _dumps(run: Run, docker: Docker, project: Project, name: str) -> list[Dump]:
    """What is to be restored, each with the name of its database, which the dump itself knows."""
    files = dumps_named(run.state, name)
    if not files:
        there = ", ".join(sorted(path.name for path in (run.state / "backups").glob("*.dump"))) or "none"
        raise Refusal(f"There is no backup '{name}'.", f"Nothing was stopped. There are: {there}")
    server = Postgres(run, service_of(run, docker, project))
    return [Dump(file, _database_of(run, docker, server, file), server.service) for file in files]


def _database_of(run: Run, docker: Docker, server: Postgres, file: Path) -> str:
    with file.open("rb") as archive, (run.scratch / "list").open("w+b") as listed:
        status = server.shell(docker, "exec pg_restore --list", stdin=archive, stdout=listed)
        listed.seek(0)
        found = _DATABASE.search(listed.read().decode(errors="replace"))
    if status != 0 or not found:
        raise docker.failure(f"{file.name} is no dump that pg_restore can read.", "Nothing was stopped.")
    return found[1]


def _exchange(run: Run, project: Project, dumps: list[Dump]) -> None:
    restore_dumps(run, run.begin(StepName.RESTORE), project, dumps)
    # Of which release its migrations are is not known: the next one asks.
    replace_file(run.state / "schema", f"restored-{file_timestamp()}\n")
    run.tell("restored {names}", names=" ".join(dump.file.name for dump in dumps))


def _start(run: Run, project: Project) -> None:
    """Whatever became of the databases: each is whole."""
    try:
        bring_up(run, run.begin(StepName.UP), project)
    except StepError as error:
        run.output.report(error)
        raise Failure("The services could not be started.", "Start them:  docker compose up -d") from None
    end_restore(run, project)


def _require_health(run: Run, project: Project, before: list[Dump]) -> None:
    docker = run.begin(StepName.GATE)
    there = require_containers(run, docker, project.name)
    web = there.of(run.request.web)
    live = releases.linked(run.state, "current")
    that = live or "the release"
    kept = " ".join(dump.file.name for dump in before)
    try:
        image = inspect(docker, *web[:1])[0].image
        watch = look_at(run, docker, there.of(*run.request.services), image)
        await_health(run, docker, Gate.of(run), watch, web)
    except Failure as error:
        raise Failure(
            error.message,
            f"The backup is restored. If {that} has migrations that it lacks:  pulumi up --replace '**-pull'  runs "
            f"them; or set the tag of the release that it is from. What was there before: {kept}",
            error.phase,
        ) from None
    if live:
        run.tell("{release} serves on what was restored; what was there before: {names}", release=live, names=kept)
    else:
        run.tell("the release serves on what was restored; what was there before: {names}", names=kept)
