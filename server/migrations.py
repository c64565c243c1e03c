"""Migrations: whether the release has any that the database lacks, as the application itself says, and running them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum

from server.asking import Asking
from server.commands import Docker
from server.containers import Compose, OneOffs
from server.database import migrates, newest_dumps
from server.errors import Failure, Refusal
from server.output import COLOURS
from server.postgres import Postgres, service_of
from server.project import Project
from server.releases import directory_of, note_migration, schema
from server.request import Migrations, Strategy
from server.run import Run, read_line, replace_file

NONE, PENDING = 0, 3
"""What app.pending says by its status; anything else is a failure."""
_LINE = re.compile(r"\s*(up|down)\s+(\d+)\s+(.*)")
_NAME = re.compile(r"database: (.+)")
_HEADING = re.compile(r"\s*Status\s+Migration ?ID\b.*")
_NO_FILE = "********** NO FILE **********"
_NO_TABLE = "Schema migrations table does not exist yet"
"""Rails' own words, since 5.0. It ends there, with status 1: databases after this one are not looked at."""
_OWN = "SELECT version FROM schema_migrations WHERE version ~ '^[0-9]+$'"
_RAILS = ("bundle", "exec", "rails")
_STATUS = "db:migrate:status"
_STATUS_OF_ONE = re.compile(rf"\b{_STATUS}:(\S+)")


class State(Enum):
    """Of the migrations, as Rails tells it."""

    NONE = "none pending"
    PENDING = "pending"
    AHEAD = "the database is ahead of the release"
    NO_TABLES = "no tables yet"
    UNKNOWN = "cannot be told"


@dataclass(frozen=True)
class Migrated:
    """What one database has of migrations.

    name:    the database's, "" where Rails says none
    known:   the versions that the release has a file for → whether the database has them
    without: the versions of the database that the release has no file for
    """

    name: str
    known: dict[int, bool]
    without: frozenset[int]

    @property
    def is_pending(self) -> bool:
        """Whether the release has migrations that the database lacks."""
        return not all(self.known.values())

    @property
    def is_ahead(self) -> bool:
        """Whether the database has newer ones than the release: applications delete the files of old ones.

        Where there are no files at all the tables are not made by migrations.
        """
        return bool(self.known) and any(version > max(self.known) for version in self.without)


def migrated(said: str) -> tuple[Migrated, ...]:
    """The databases that `rails db:migrate:status` lists, whatever else is printed around and between."""
    found: dict[str, list[tuple[str, int, bool]]] = {}
    name = ""
    for line in COLOURS.sub("", said).splitlines():
        if named := _NAME.fullmatch(line.strip()):
            name = named[1]
        elif _HEADING.fullmatch(line):
            found.setdefault(name, [])
        elif row := _LINE.fullmatch(line):
            # Of the same database twice, with the files of different directories, either may lack what the other has.
            found.setdefault(name, []).append((row[1], int(row[2]), _NO_FILE in row[3]))
    return tuple(_migrated(name, rows) for name, rows in found.items())


def _migrated(name: str, rows: Sequence[tuple[str, int, bool]]) -> Migrated:
    known = {version: what == "up" for what, version, no_file in rows if not no_file}
    return Migrated(name, known, frozenset(version for _, version, no_file in rows if no_file) - set(known))


def lacks_table(said: str) -> bool:
    """Whether Rails says that a database has no table of migrations."""
    return _NO_TABLE in said


def state_of(databases: Sequence[Migrated], *, lacking: bool, compatible: bool) -> State:
    """What these make together.

    lacking:    another database has no table of migrations; beside others these are to be run
    compatible: a release may run on a database that is ahead of it
    """
    if not databases:
        return State.NO_TABLES if lacking else State.UNKNOWN
    ahead = any(database.is_ahead for database in databases)
    if ahead and not compatible:
        return State.AHEAD
    if lacking or any(database.is_pending for database in databases):
        return State.PENDING
    return State.AHEAD if ahead else State.NONE


def pending(run: Run, docker: Docker, asking: Asking) -> Sequence[Migrated] | None:
    """The databases that the application names, where the release has migrations that one of them lacks, or None.

    Asked of the new image, before anything changes. Raises Refusal where the release cannot work with the database as
    it is, Failure where that cannot be told.
    """
    state, databases = _ask(run, docker, asking)
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
        return databases
    if state is State.NONE:
        _note_older_schema(run)
    elif state is State.AHEAD:
        _refuse_newer_database(run)
    elif state is State.NO_TABLES:
        run.say("notice: the database has no tables yet; setting it up is left to the application, or to you")
    return None


def need_not_ask(run: Run, current: str) -> bool:
    """Whether the release has served here, and no migration was run since: an answer would cost a start."""
    directory = directory_of(run)
    known = current == run.image.release or (directory / "live").exists()
    return known and read_line(directory / "schema") == schema(run.state) and not run.transaction.exists()


def _ask(run: Run, docker: Docker, asking: Asking) -> tuple[State, Sequence[Migrated]]:
    if not run.request.database.pending:
        return _ask_rails(run, docker, asking)
    status, _ = _answer(run, docker, asking, *run.request.database.pending)
    if status not in (NONE, PENDING):
        raise _unknown(docker, status, "app.pending")
    return State.PENDING if status == PENDING else State.NONE, ()


def _ask_rails(run: Run, docker: Docker, asking: Asking) -> tuple[State, Sequence[Migrated]]:
    status, said = _answer(run, docker, asking, *_RAILS, _STATUS)
    databases, lacking = migrated(said), lacks_table(said)
    if status != 0 and not lacking:
        raise _unknown(docker, status, f"{' '.join(_RAILS)} {_STATUS}")
    if lacking and not databases:
        databases = _ask_for_each(run, docker, asking)
    databases = tuple(_without_plugins(asking, docker, database) for database in databases)
    state = state_of(databases, lacking=lacking, compatible=run.request.database.migrations is Migrations.COMPATIBLE)
    if state is State.UNKNOWN:
        raise _unknown(docker, status, f"{' '.join(_RAILS)} {_STATUS}")
    _keep_names(run, databases)
    return state, databases


def _ask_for_each(run: Run, docker: Docker, asking: Asking) -> tuple[Migrated, ...]:
    """Where the first database has no table, Rails says nothing of those after it. Where it is the only one, none."""
    _, tasks = _answer(run, docker, asking, "bundle", "exec", "rake", "--tasks", _STATUS)
    found: list[Migrated] = []
    for name in _STATUS_OF_ONE.findall(tasks):
        status, said = _answer(run, docker, asking, *_RAILS, f"{_STATUS}:{name}")
        if status != 0 and not lacks_table(said):
            raise _unknown(docker, status, f"{' '.join(_RAILS)} {_STATUS}:{name}")
        found += migrated(said)
    return tuple(found)


def status_of(run: Run, docker: Docker, asking: Asking) -> str:
    """What Rails says of its migrations, with all that is printed around it. Raises Failure."""
    status, said = _answer(run, docker, asking, *_RAILS, _STATUS)
    if status != 0:
        raise _unknown(docker, status, f"{' '.join(_RAILS)} {_STATUS}")
    return said


def _without_plugins(asking: Asking, docker: Docker, database: Migrated) -> Migrated:
    """Rails prints `20250101000000-plugin`, as Redmine's plugins have it, as if it were a version of its own."""
    if not database.is_ahead or not database.name or asking.run.request.database.command:
        return database
    try:
        server = Postgres(asking.run, service_of(asking.run, docker, asking.project))
    except Refusal:
        return database
    answer = server.sql(docker, _OWN, database=database.name)
    own = frozenset(int(version) for version in answer.text.split())
    return replace(database, without=database.without & own) if answer.succeeded else database


def _answer(run: Run, docker: Docker, asking: Asking, *command: str) -> tuple[int, str]:
    """The status of a command of the new image, and all that it, or the entrypoint, prints."""
    before = run.output.log.stat().st_size
    with (run.scratch / "answer").open("w+b") as file:
        status = asking.ask(docker, "pending", command, stdout=file)
        file.seek(0)
        said = file.read()
    errors = run.output.logged(before)
    run.output.append(said)
    return status, f"{said.decode(errors='replace')}\n{errors}"


def _keep_names(run: Run, databases: Sequence[Migrated]) -> None:
    if any(database.name for database in databases):
        replace_file(run.state / "databases", "".join(f"{database.name}\n" for database in databases))


def named(run: Run, docker: Docker, project: Project) -> Sequence[Migrated]:
    """The databases that the running release names, or that were named when one was last asked; perhaps none."""
    asked = run.request.database
    if asked.pending or asked.name or asked.command or not migrates(run, project):
        return ()
    answer = docker.ask("compose", "exec", "-T", run.request.web, *_RAILS, _STATUS)
    kept = run.state / "databases"
    if not migrated(answer.text) and kept.exists():
        return [Migrated(name, {}, frozenset()) for name in kept.read_text().splitlines()]
    return migrated(answer.text)


def _unknown(docker: Docker, status: int, what: str) -> Failure:
    return docker.failure(
        f"Whether migrations are pending cannot be told: status {status} ({what}).",
        "Nothing was stopped. Where the application does not tell it as Rails does: app.pending. Where neither\n"
        "app.migrate nor a one-shot migrates:  app.pending: ['true']",
    )


def _note_older_schema(run: Run) -> None:
    """A release that has served before the last migration knows all of the database: that was put back."""
    directory = directory_of(run)
    if (directory / "live").exists() and read_line(directory / "schema") != schema(run.state):
        note_migration(run)


def _refuse_newer_database(run: Run) -> None:
    if run.request.database.migrations is Migrations.COMPATIBLE:
        run.say("notice: the database is ahead of this release (app.migrations: compatible)")
        return
    dumps = newest_dumps(run.state)
    where = " ".join(map(str, dumps)) or f"{run.state}/backups: there is none"
    raise Refusal(
        f"The database has migrations that {run.image.tag} does not know: it is ahead of this release.",
        "Go forward instead; or set app.migrations: compatible if this release works with it; or restore the dump "
        "made\n"
        f"before they ran, which loses what was written since:  {where}",
    )


def migrate(run: Run, docker: Docker, compose: Compose) -> None:
    """Runs the migrations. Raises Failure."""
    note_migration(run)
    if not run.request.database.migrate:
        return  # one-shots do it
    if not run_migrations(run, docker, compose):
        raise docker.failure("The migrations fail (app.migrate).")
    run.say("migrated the database")


def run_migrations(run: Run, docker: Docker, compose: Compose) -> bool:
    """Runs app.migrate in a one-off container; whether it succeeded."""
    oneoffs = OneOffs.of(run.request)
    return oneoffs.run(docker, compose, "migrate", *oneoffs.command(run.request.web, run.request.database.migrate)) == 0
