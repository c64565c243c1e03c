"""The database: what is dumped before migrations, verified, and kept."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

from server.commands import Docker
from server.containers import Compose, OneOffs, listing
from server.errors import Refusal
from server.postgres import SET, Facts, Postgres, service_of
from server.project import Project
from server.run import Run, file_timestamp

_SAFE = re.compile(r"[^A-Za-z0-9_-]")
_DUMPS = "[0-9]*T[0-9]*Z-*.dump"
"""As the files are called below."""
_TIME = len("20260101T000000Z")


class Named(Protocol):
    """A database that the application names."""

    @property
    def name(self) -> str:
        """As PostgreSQL has it, or ""."""

    @property
    def is_pending(self) -> bool:
        """Whether it is to be migrated."""


def migrates(run: Run, project: Project) -> bool:
    """Whether anything migrates the database under a dump: app.migrate, or one-shots."""
    return bool(run.request.database.migrate or project.one_shots)


@dataclass(frozen=True)
class Dump:
    """A dump of one database, and where that is.

    database: "" where backup.command has made the dump
    """

    file: Path
    database: str
    service: str


def newest_dumps(state: Path) -> list[Path]:
    """The dumps that were made last, of one database each."""
    dumps = sorted((state / "backups").glob(_DUMPS))
    return [dump for dump in dumps if dump.name[:_TIME] == dumps[-1].name[:_TIME]]


def keep_newest(state: Path, count: int) -> None:
    """Removes all but the newest dumps; those that were made together are one."""
    dumps = sorted((state / "backups").glob(_DUMPS))
    kept = sorted({dump.name[:_TIME] for dump in dumps})[-count:]
    for dump in dumps:
        if dump.name[:_TIME] not in kept:
            dump.unlink()


def dumps_named(state: Path, name: str) -> list[Path]:
    """The dump with this file name, and those that were made together with it."""
    if not (state / "backups" / name).is_file():
        return []
    return [dump for dump in sorted((state / "backups").glob(_DUMPS)) if _made_with(dump.name, name)]


def _made_with(one: str, other: str) -> bool:
    return one[:_TIME] == other[:_TIME]


def remove_unfinished_dumps(state: Path) -> None:
    """Of a killed run, or those that have filled the disk."""
    for part in (state / "backups").glob("*.part"):
        part.unlink()


def note_dumps(run: Run, dumps: Sequence[Dump]) -> None:
    """In the journal of the transaction: from now on the database may be another one than it was when it was dumped."""
    lines = [f".releve/backups/{dump.file.name}\t{dump.database}\t{dump.service}\n" for dump in dumps]
    (run.transaction / "dump").write_text("".join(lines))


def noted_dumps(run: Run) -> list[Dump]:
    """What is in the journal."""
    dumps = []
    for line in (run.transaction / "dump").read_text().splitlines():
        # An earlier version of this program has noted the file alone.
        path, database, service, *_ = [*line.split("\t"), "", ""]
        dumps.append(Dump(run.directory / path, database or run.request.database.name or "", service))
    return dumps


@dataclass(frozen=True)
class Database:
    """What is dumped, and where.

    server: the service in which it is, or one of the application's
    names:  of the databases; none where backup.command dumps
    """

    run: Run
    server: Postgres
    names: tuple[str, ...]

    @classmethod
    def find(cls, run: Run, docker: Docker, project: Project, named: Sequence[Named]) -> Database:
        """The databases to dump, each of which can be dumped, as far as that can be known. Nothing is changed.

        named: those that the application names. Raises Refusal or Failure.
        """
        server = Postgres(run, service_of(run, docker, project))
        if run.request.database.command:
            _require_running(run, docker, project, server.service)
            last = newest_dumps(run.state)
            _require_space(run, sum(dump.stat().st_size for dump in last))
            return cls(run, server, ())
        found = [server.facts(docker, name) for name in _names(run, docker, server, named)]
        for facts in found:
            _refuse_wrong(run, project, server.service, facts)
        # As much as the databases take: a dump is smaller, but by how much nobody knows before.
        _require_space(run, sum(facts.size for facts in found))
        for facts in found:
            # It locks each table as the dump itself will: what may not be read is noticed here.
            if server.shell(docker, "exec pg_dump --schema-only --file=/dev/null", database=facts.name) != 0:
                raise docker.failure(f"pg_dump cannot read the database '{facts.name}'.", SET)
        return cls(run, server, tuple(facts.name for facts in found))

    def dump(self, docker: Docker, compose: Compose, label: str, *, keeps_all: bool = False) -> list[Dump]:
        """Makes dumps of all that only their owner can read, and has each read back. Raises Failure.

        keeps_all: the oldest stay, too
        """
        run, backups = self.run, self.run.state / "backups"
        backups.mkdir(exist_ok=True)
        remove_unfinished_dumps(run.state)
        run.output.note([f"dump of the service {self.server.service}"])
        # Those of one second are taken for dumps that were made together.
        while any(backups.glob(f"{(begun := file_timestamp())}-*.dump")):
            time.sleep(0.1)
        begin = f"{begun}-{label}"
        dumps = []
        try:
            for number, name in enumerate(self.names or ("",)):
                which = f".{number}-{_SAFE.sub('_', name)}" if len(self.names) > 1 else ""
                dump = Dump(backups / f"{begin}{which}.dump", name, self.server.service)
                self._dump_one(docker, compose, name, _part(dump))
                dumps.append(dump)
        except BaseException:
            remove_unfinished_dumps(run.state)  # half a dump may be what has filled the disk
            raise
        for dump in dumps:
            _part(dump).rename(dump.file)
            file, size = f".releve/backups/{dump.file.name}", dump.file.stat().st_size // 1024
            if dump.database:
                run.tell("dumped the database '{name}' to {file}, {size} KiB", name=dump.database, file=file, size=size)
            else:
                run.tell("dumped the database to {file}, {size} KiB", file=file, size=size)
        if not keeps_all:
            keep_newest(run.state, run.request.database.keep)
        return dumps

    def _dump_one(self, docker: Docker, compose: Compose, name: str, part: Path) -> None:
        if not self.names:
            with part.open("wb") as file:
                self._run_command(docker, compose, file)
            if part.stat().st_size == 0:
                raise docker.failure("The dump is empty (backup.command).")
            return
        with part.open("wb") as file:
            if self.server.shell(docker, "exec pg_dump --format=custom", database=name, stdout=file) != 0:
                raise docker.failure(f"pg_dump of '{name}' fails.")
        with part.open("rb") as file:
            # All of it: a table of contents is read from one that lacks its end, too.
            if self.server.shell(docker, "exec pg_restore --file=/dev/null", stdin=file) != 0:
                raise docker.failure("pg_restore cannot read the dump.")

    def _run_command(self, docker: Docker, compose: Compose, file: IO[bytes]) -> None:
        command, service = self.run.request.database.command, self.server.service
        if service in self.run.request.services:
            # A database in a file of the application, or none of this server's: the application may be stopped, and has
            # the client. By a shell: an entrypoint of the image's might print something of its own.
            words = ("--entrypoint", "sh", service, "-c", 'exec "$@"', "sh", *command)
            status = OneOffs.of(self.run.request).run(docker, compose, "dump", *words, stdout=file)
        else:
            status = self.server.inside(docker, command, stdout=file)
        if status != 0:
            raise docker.failure("The dump fails (backup.command).")


def _part(dump: Dump) -> Path:
    return dump.file.with_name(f"{dump.file.name}.part")


def _names(run: Run, docker: Docker, server: Postgres, named: Sequence[Named]) -> Sequence[str]:
    """The configured database, or those of the application that are there, or what the container's variables say."""
    asked = run.request.database
    if asked.name:
        return (asked.name,)
    named = [database for database in named if database.name]
    there = server.databases(docker)
    if not named:
        return ("",)
    absent = [database for database in named if database.name not in there]
    if len(absent) == len(named) or any(database.is_pending for database in absent):
        raise Refusal(
            f"The application's database is '{absent[0].name}', and PostgreSQL in the service '{server.service}' has "
            f"none of that name.",
            SET,
        )
    for database in absent:
        run.say(f"notice: '{database.name}' is not in the service '{server.service}', and no part of the dump")
    return [database.name for database in named if database.name in there]


def _refuse_wrong(run: Run, project: Project, service: str, facts: Facts) -> None:
    """Raises Refusal where that can hardly be the application's database, or could not be restored."""
    asked, where = run.request.database, f"The database '{facts.name}' in the service '{service}'"
    is_rails = migrates(run, project) and not asked.pending
    if is_rails and not facts.migrations:
        raise Refusal(f"{where} has no table schema_migrations: it is not the application's.", SET)
    if not is_rails and not asked.name and not facts.tables:
        raise Refusal(
            f"{where} has no table: it is not the application's.", "Nothing was stopped. Set backup.database."
        )
    if asked.restore_on_failure and not facts.may_create:
        raise Refusal(
            f"The user that dumps {facts.name} may not create a database, so the dump could not be restored.",
            "Nothing was stopped. Set backup.user to one that may, or backup.restoreOnFailure: false.",
        )


def _require_running(run: Run, docker: Docker, project: Project, service: str) -> None:
    ours = service in run.request.services
    if not ours and not listing(docker, project.name).of(service, states=("running",)):
        raise Refusal(f"The service '{service}' (backup.service), which makes the dump, is not running.", SET)


def _require_space(run: Run, needed: int) -> None:
    free = shutil.disk_usage(run.state).free
    if needed >= free:
        raise Refusal(
            f"The dump may need {needed >> 20} MiB, and only {free >> 20} MiB are free below {run.directory}.",
            "Make room, then run `pulumi up` again.",
        )
