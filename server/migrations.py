"""Migrations: whether the release has any that the database lacks, as the application itself says, and running them."""

from __future__ import annotations

import re
import time
from enum import Enum
from pathlib import Path

from server.commands import Docker
from server.containers import Compose, OneOffs
from server.database import newest_dump
from server.errors import Refusal
from server.releases import directory_of, schema
from server.request import Migrations, Strategy
from server.run import Run, read_line, replace_file

NONE, PENDING = 0, 3
"""What app.pending says by its status; anything else is a failure."""
_ROW = re.compile(r"\s*(up|down)\s+(\d+)\s+(.*)")
_NO_FILE = re.compile(r"\*+ NO FILE \*+\s*")


class State(Enum):
    """Of the migrations, as Rails tells it."""

    NONE = "none pending"
    PENDING = "pending"
    AHEAD = "the database is ahead of the release"
    NO_TABLES = "no tables yet"
    UNKNOWN = "cannot be told"


def state_of_migrations(status: int, said: str, errors: str) -> State:
    """What `rails db:migrate:status` means. errors: what it, or the entrypoint, said besides."""
    if status != 0:
        # Rails' own words, since 5.0.
        return State.NO_TABLES if "Schema migrations table does not exist yet" in errors else State.UNKNOWN
    rows = [(row[1], row[3]) for row in map(_ROW.fullmatch, said.splitlines()) if row]
    if any(_NO_FILE.fullmatch(name) for what, name in rows if what == "up"):
        return State.AHEAD
    if any(what == "down" for what, _ in rows):
        return State.PENDING
    return State.NONE if rows else State.UNKNOWN


def are_pending(run: Run, docker: Docker, compose: Compose) -> bool:
    """Whether the release has migrations that the database lacks: asked of the new image, before anything changes.

    Raises Refusal where the release cannot work with the database as it is, Failure where that cannot be told.
    """
    state = _ask(run, docker, compose)
    if state is State.PENDING:
        if run.request.strategy is Strategy.ROLLING and run.request.database.migrations is not Migrations.COMPATIBLE:
            raise Refusal(
                f"{run.image.tag} has migrations that are pending, and under the strategy rolling the old release "
                f"works on "
                "with the database.",
                "Nothing was stopped. If it can: set app.migrations: compatible. If not: set app.strategy: staged "
                "for this "
                "release.",
            )
        return True
    if state is State.NONE:
        _note_older_schema(run)
    elif state is State.AHEAD:
        _refuse_newer_database(run)
    elif state is State.NO_TABLES:
        run.say("notice: the database has no tables yet; setting it up is left to the application, or to you")
    return False


def need_not_ask(run: Run, current: str) -> bool:
    """Whether the release has served here, and no migration was run since: an answer would cost a start."""
    directory = directory_of(run)
    known = current == run.image.release or (directory / "live").exists()
    return known and read_line(directory / "schema") == schema(run.state) and not run.transaction.exists()


def _ask(run: Run, docker: Docker, compose: Compose) -> State:
    asked, oneoffs = run.request.database, OneOffs.of(run.request)
    command = asked.pending or ("bundle", "exec", "rails", "db:migrate:status")
    said = run.scratch / "pending"
    before = run.output.log.stat().st_size
    with said.open("wb") as file:
        status = oneoffs.run(docker, compose, "pending", run.request.web, *command, stdout=file)
    errors = run.output.logged(before)
    text = said.read_text(errors="replace")
    run.output.append(text.encode(errors="replace"))
    if asked.pending:
        state = {NONE: State.NONE, PENDING: State.PENDING}.get(status, State.UNKNOWN)
    else:
        state = state_of_migrations(status, text, errors)
    if state is State.UNKNOWN:
        message = f"Whether migrations are pending cannot be told: status {status} (app.pending)."
        raise docker.failure(message, "Nothing was stopped.")
    return state


def _note_older_schema(run: Run) -> None:
    """A release that has served before the last migration knows all of the database: that was put back."""
    directory = directory_of(run)
    if (directory / "live").exists() and read_line(directory / "schema") != schema(run.state):
        note_migration(run)


def note_migration(run: Run) -> None:
    """The database is another one from now on, whatever happens."""
    replace_file(run.state / "schema", f"{run.image.release}-{int(time.time())}\n")


def _refuse_newer_database(run: Run) -> None:
    if run.request.database.migrations is Migrations.COMPATIBLE:
        run.say("notice: the database is ahead of this release (app.migrations: compatible)")
        return
    dump = newest_dump(run.state)
    where = dump or f"{run.state}/backups: there is none"
    raise Refusal(
        f"The database has migrations that {run.image.tag} does not know: it is ahead of this release.",
        "Go forward instead; or set app.migrations: compatible if this release works with it; or restore the dump "
        "made\n"
        f"before they ran, which loses what was written since:  {where}",
    )


def migrate(run: Run, docker: Docker, compose: Compose, dump: Path) -> None:
    """Runs the migrations. Raises Failure."""
    # From here on the database may be another one: the dump is what it was.
    (run.transaction / "dump").write_text(f".releve/backups/{dump.name}\n")
    note_migration(run)
    if OneOffs.of(run.request).run(docker, compose, "migrate", run.request.web, *run.request.database.migrate) != 0:
        raise docker.failure("The migrations fail (app.migrate).")
    run.say("migrated the database")
