"""The database: whether migrations are pending, a verified dump before they run, and the way back from it."""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import IO

from server.commands import Docker, keep_newest
from server.containers import Compose, OneOffs
from server.errors import Refusal
from server.in_container import in_container
from server.project import Project
from server.releases import directory_of, schema
from server.request import Migrations, Strategy
from server.run import Run, file_timestamp, read_line, replace_file

NONE, PENDING = 0, 3
"""What app.pending says by its status; anything else is a failure."""
_POSTGRES = re.compile(r"(^|/)(postgres|postgis|postgresql)[^/]*$")
_ROW = re.compile(r"\s*(up|down)\s+(\d+)\s+(.*)")
_NO_FILE = re.compile(r"\*+ NO FILE \*+\s*")

# The official image's variables say whose the database is; $1 and $2 are backup.user and backup.database.
_WHOSE = "user=${1:-${POSTGRES_USER:-postgres}} name=${2:-${POSTGRES_DB:-${POSTGRES_USER:-postgres}}}; shift 2; "
_SIZE = """exec psql --no-align --tuples-only --username="$user" --dbname="$name" \\
    --command="SELECT pg_database_size(current_database())\""""
_DUMP = 'exec pg_dump --format=custom --username="$user" --dbname="$name"'


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


# ------------------------------------------------------------------------------------------------------------- the dump


def newest_dump(state: Path) -> Path | None:
    """The newest dump that is kept."""
    dumps = sorted((state / "backups").glob("*.dump"), key=lambda path: path.stat().st_mtime_ns)
    return dumps[-1] if dumps else None


def remove_unfinished_dumps(state: Path) -> None:
    """Of a killed run, or those that have filled the disk."""
    for part in (state / "backups").glob("*.part"):
        part.unlink()


@dataclass(frozen=True)
class Database:
    """Where the database is, and how it is spoken to.

    service: its own in the Compose project, or one of the application's
    """

    run: Run
    service: str

    @classmethod
    def find(cls, run: Run, project: Project) -> Database:
        """The configured service, or the only one with a PostgreSQL image. Raises Refusal."""
        service = run.request.database.service
        if service:
            return cls(run, service)
        found = [name for name, service in project.services.items() if _POSTGRES.search(service.image)]
        if len(found) != 1:
            raise Refusal(
                "Which service is the database is not known, so no dump can be made, and nothing is migrated without.",
                "Set backup.service; for another database than PostgreSQL, backup.command as well.",
            )
        return cls(run, found[0])

    def dump(self, docker: Docker, compose: Compose, name: str) -> Path:
        """Makes a dump of all that only its owner can read, and has it read back. Raises Failure, or Refusal."""
        run, backups = self.run, self.run.state / "backups"
        backups.mkdir(exist_ok=True)
        self._require_space(docker)
        remove_unfinished_dumps(run.state)
        dump = backups / f"{file_timestamp()}-{name}.dump"
        part = dump.with_name(f"{dump.name}.part")
        run.output.note([f"dump of the service {self.service}"])
        try:
            with part.open("wb") as file:
                self._write(docker, compose, file)
            self._check(docker, part)
        except BaseException:
            part.unlink(missing_ok=True)  # half a dump may be what has filled the disk
            raise
        part.rename(dump)
        keep_newest(backups, run.request.database.keep)
        run.say(f"dumped the database to .releve/backups/{dump.name}, {dump.stat().st_size // 1024} KiB")
        return dump

    def _write(self, docker: Docker, compose: Compose, file: IO[bytes]) -> None:
        command = self.run.request.database.command
        if not command:
            if self._postgres(docker, _DUMP, stdout=file) != 0:
                raise docker.failure("pg_dump fails.", "See backup.service, backup.database and backup.user.")
            return
        if self.service in self.run.request.services:
            # A database in a file of the application, or none of this server's: the application may be stopped, and has
            # the client. By a shell: an entrypoint of the image's might print something of its own.
            words = ("--entrypoint", "sh", self.service, "-c", 'exec "$@"', "sh", *command)
            status = OneOffs.of(self.run.request).run(docker, compose, "dump", *words, stdout=file)
        else:
            status = self._inside(docker, command, stdout=file)
        if status != 0:
            raise docker.failure("The dump fails (backup.command).")

    def _check(self, docker: Docker, part: Path) -> None:
        if self.run.request.database.command:
            if part.stat().st_size == 0:
                raise docker.failure("The dump is empty (backup.command).")
            return
        with part.open("rb") as file, open(os.devnull, "wb") as nowhere:  # noqa: PTH123 - no path
            if self._inside(docker, ("pg_restore", "--list"), stdin=file, stdout=nowhere) != 0:
                raise docker.failure("pg_restore cannot read the dump.")

    def _require_space(self, docker: Docker) -> None:
        """As much as the database takes: a dump is smaller, but by how much nobody knows before."""
        last = newest_dump(self.run.state)
        if self.run.request.database.command:
            needed = last.stat().st_size if last else 0
        else:
            with (self.run.scratch / "size").open("w+b") as file:
                failed = self._postgres(docker, _SIZE, stdout=file) != 0
                file.seek(0)
                said = file.read().strip()
            if failed or not said.isdigit():
                raise docker.failure(
                    "The database does not say how large it is.", "See backup.service, backup.database and backup.user."
                )
            needed = int(said)
        free = shutil.disk_usage(self.run.state).free
        if needed >= free:
            raise Refusal(
                f"The dump may need {needed >> 20} MiB, and only {free >> 20} MiB are free below {self.run.directory}.",
                "Make room, then run `pulumi up` again.",
            )

    def restore(self, docker: Docker, dump: Path) -> None:
        """Makes the database what it was when it was dumped. Raises Failure."""
        with dump.open("rb") as file:
            if self._postgres(docker, in_container("restore"), stdin=file) != 0:
                raise docker.failure("The dump cannot be restored.")

    def _postgres(
        self, docker: Docker, program: str, *, stdin: IO[bytes] | None = None, stdout: IO[bytes] | None = None
    ) -> int:
        """Runs a shell program with $user and $name in the database's container. Returns its status."""
        asked = self.run.request.database
        command = ("sh", "-c", f"{_WHOSE}{program}", "sh", asked.user or "", asked.name or "")
        return self._inside(docker, command, stdin=stdin, stdout=stdout)

    def _inside(
        self, docker: Docker, command: Sequence[str], *, stdin: IO[bytes] | None = None, stdout: IO[bytes] | None = None
    ) -> int:
        return docker.run("compose", "exec", "-T", self.service, *command, stdin=stdin or b"", stdout=stdout)


def migrate(run: Run, docker: Docker, compose: Compose, dump: Path) -> None:
    """Runs the migrations. Raises Failure."""
    # From here on the database may be another one: the dump is what it was.
    (run.transaction / "dump").write_text(f".releve/backups/{dump.name}\n")
    note_migration(run)
    if OneOffs.of(run.request).run(docker, compose, "migrate", run.request.web, *run.request.database.migrate) != 0:
        raise docker.failure("The migrations fail (app.migrate).")
    run.say("migrated the database")
