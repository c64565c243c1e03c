"""The database: a verified dump before migrations, and the way back from it."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from server.commands import Docker, keep_newest
from server.containers import Compose, OneOffs
from server.errors import Refusal
from server.in_container import in_container
from server.project import Project
from server.run import Run, file_timestamp

_POSTGRES = re.compile(r"(^|/)(postgres|postgis|postgresql)[^/]*$")

# The official image's variables say whose the database is; $1 and $2 are backup.user and backup.database.
_WHOSE = "user=${1:-${POSTGRES_USER:-postgres}} name=${2:-${POSTGRES_DB:-${POSTGRES_USER:-postgres}}}; shift 2; "
_SIZE = """exec psql --no-align --tuples-only --username="$user" --dbname="$name" \\
    --command="SELECT pg_database_size(current_database())\""""
_DUMP = 'exec pg_dump --format=custom --username="$user" --dbname="$name"'


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
