"""One-off containers that only ask or compile, while the old release serves and before any dump.

They must not change the database, and some images' entrypoints migrate it whatever they are told to run. So PostgreSQL
gets the wish, from its clients, to let them only read; and the migrations are compared before and after.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import IO

from server.commands import Docker
from server.containers import Compose, OneOffs, listing
from server.database import migrates
from server.errors import StepError
from server.in_container import in_container
from server.postgres import Postgres, service_of
from server.project import Project
from server.releases import note_migration
from server.run import Run

_READ_ONLY = "-c default_transaction_read_only=on"
"""Every client that uses PostgreSQL's own library reads it from PGOPTIONS, Ruby's and psql among them."""
_MIGRATES = re.compile(
    r"all later migrations canceled|cannot execute (CREATE|ALTER|DROP|TRUNCATE|COMMENT)\b[A-Z ]* in a read-only trans"
)
_WRITES = re.compile(r"read-only transaction|ReadOnlySqlTransaction|startup parameter")
"""Something else fails by it: what writes at every start, or a pooler that passes no such wish on."""
_REMEDY = """Set app.entrypoint: [] in the configuration of the stack: such containers then run without the image's
entrypoint, and migrations in `up`, after a dump."""


@dataclass(frozen=True)
class Asking:
    """The project whose containers are asked, as the release wants it."""

    run: Run
    compose: Compose
    project: Project

    def ask(self, docker: Docker, purpose: str, command: Sequence[str], *, stdout: IO[bytes] | None = None) -> int:
        """Runs a command of the new image that changes no database. Returns its status.

        stdout: what it prints, for reading, too; None: that goes into the log
        Raises Failure where the database was migrated by it, or would have been.
        """
        run, said = self.run, " ".join(command)
        # With an entrypoint of one's choice, and where nothing is migrated under a dump anyway, that is as wanted.
        guards = run.request.entrypoint is None and migrates(run, self.project)
        before = _migrations(run, docker, self.project) if guards else ""
        serving = listing(docker, self.project.name).of(run.request.web, states=("running",)) if guards else []
        if before == "" or (before is None and not serving):  # nothing is there yet
            return self._run(docker, purpose, command, stdout)
        log = run.output.log.stat().st_size
        options = f"{_options(docker, serving)} {_READ_ONLY}".strip()
        status = self._run(docker, purpose, command, stdout, "-e", f"PGOPTIONS={options}")
        logged = run.output.logged(log) + _read(stdout)
        if status != 0 and _MIGRATES.search(logged):
            raise docker.failure(
                f"The image's entrypoint migrates the database: it began to where only `{said}` was to run. It could "
                "not: the database is as it was.",
                f"Nothing was stopped. {_REMEDY}",
            )
        if status != 0 and _WRITES.search(logged):
            run.say(f"notice: `{said}` does not run where the database can only be read; it is run again")
            status = self._run(docker, purpose, command, stdout)
        if before is not None and _migrations(run, docker, self.project) not in (before, None):
            note_migration(run)
            raise docker.failure(
                f"The database was migrated where only `{said}` was to run, without a dump: by the image's entrypoint, "
                "or when the application started.",
                f"Nothing was stopped: what serves works with the migrated database. {_REMEDY}",
            )
        return status

    def _run(
        self, docker: Docker, purpose: str, command: Sequence[str], stdout: IO[bytes] | None, *options: str
    ) -> int:
        oneoffs = OneOffs.of(self.run.request)
        if stdout:
            stdout.seek(0)
            stdout.truncate()
        words = (*options, *oneoffs.command(self.run.request.web, command))
        return oneoffs.run(docker, self.compose, purpose, *words, stdout=stdout)


def _read(file: IO[bytes] | None) -> str:
    if file is None:
        return ""
    file.seek(0)
    return file.read().decode(errors="replace")


def _migrations(run: Run, docker: Docker, project: Project) -> str | None:
    """Changes with the migrations of any database; "" where there are none yet, None where that is not known."""
    if run.request.database.command:
        return None
    try:
        server = Postgres(run, service_of(run, docker, project))
    except StepError:
        return None  # said where it matters
    answer = server.ask(docker, in_container("versions"))
    return answer.text if answer.succeeded else None


def _options(docker: Docker, serving: Sequence[str]) -> str:
    """What the application itself has in PGOPTIONS."""
    found = json.loads(docker.ask("inspect", *serving[:1]).text or "[]") if serving else []
    variables = [variable for container in found for variable in container["Config"].get("Env") or ()]
    own = [variable.partition("=")[2] for variable in variables if variable.startswith("PGOPTIONS=")]
    return own[0] if own else ""
