"""A PostgreSQL server in a container of the project: which service it is, and how it is spoken to."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import IO

from server.commands import Answer, Docker
from server.containers import listing
from server.errors import Failure, Refusal
from server.in_container import in_container
from server.project import Project
from server.run import Run

SET = "Nothing was stopped. Set what does not fit: backup.service, backup.database, backup.user; or backup.command."
_NOTHING = "so no dump can be made, and nothing is migrated without."
_PROCESSES = ("postgres", "postmaster")
DATABASES = "SELECT datname FROM pg_database WHERE datallowconn"
"""The names of all that can be asked."""
# Of a database, the name last: it may hold any character.
_FACTS = r"""
SELECT pg_database_size(current_database()), count(*), count(*) FILTER (WHERE relname LIKE '%schema\_migrations%'),
    (SELECT rolsuper OR rolcreatedb FROM pg_roles WHERE rolname = current_user), current_database()
FROM pg_class JOIN pg_namespace n ON n.oid = relnamespace
WHERE relkind IN ('r', 'p') AND nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast')
"""


@dataclass(frozen=True)
class Facts:
    """What there is to know of a database before it is dumped.

    size:       bytes
    migrations: how many of its tables are Rails' of migrations
    may_create: whether the user may create another database
    """

    name: str
    size: int
    tables: int
    migrations: int
    may_create: bool


def service_of(run: Run, docker: Docker, project: Project) -> str:
    """The configured service, or the only one in which PostgreSQL runs. Raises Refusal."""
    configured = run.request.database.service
    if configured:
        return configured
    found = services_running(docker, project.name, besides=run.request.services)
    if len(found) == 1:
        return found.pop()
    where = f"several services, {' and '.join(sorted(found))}," if found else "none of the project's services,"
    raise Refusal(
        f"Which service is the database is not known: PostgreSQL runs in {where} {_NOTHING}",
        "Nothing was stopped. Set backup.service; for another database than PostgreSQL, backup.command as well.",
    )


def services_running(docker: Docker, project: str, *, besides: Collection[str] = ()) -> set[str]:
    """The services of a Compose project in which PostgreSQL runs, but for some."""
    # By what runs, not by the image's name: those of backup tools hold the same words, and even the same programs.
    return {
        container.service
        for container in listing(docker, project).containers
        if container.state == "running" and container.service not in besides
        if _runs_postgres(docker, container.id)
    }


def _runs_postgres(docker: Docker, container: str) -> bool:
    lines = docker.ask("top", container, "-o", "pid,comm").text.splitlines()[1:]
    return any(line.split()[1:] and line.split()[1] in _PROCESSES for line in lines)


@dataclass(frozen=True)
class Postgres:
    """The server in the containers of one service."""

    run: Run
    service: str

    def databases(self, docker: Docker) -> list[str]:
        """The names of all. Raises Failure where the server cannot be reached as the user."""
        answer = self.sql(docker, DATABASES, database="template1")
        if not answer.succeeded:
            raise self._unreachable(docker)
        return answer.text.splitlines()

    def facts(self, docker: Docker, database: str) -> Facts:
        """Of one database, or of the one that the container's variables name. Raises Failure."""
        answer = self.sql(docker, _FACTS, database=database)
        fields = answer.text.rstrip("\n").split("|", 4)
        if not answer.succeeded or len(fields) != 5:  # noqa: PLR2004 - as selected
            raise self._unreachable(docker, database)
        size, tables, migrations, may_create, name = fields
        return Facts(name, int(size), int(tables), int(migrations), may_create == "t")

    def _unreachable(self, docker: Docker, database: str = "") -> Failure:
        what = f"The database '{database}'" if database else "PostgreSQL"
        return docker.failure(f"{what} in the service '{self.service}' cannot be reached, {_NOTHING}", SET)

    def sql(self, docker: Docker, text: str, *options: str, database: str = "") -> Answer:
        """What SQL answers; the options are psql's."""
        return docker.ask(*self._words('psql "$@"', database, *options), stdin=text.encode())

    def ask(self, docker: Docker, program: str) -> Answer:
        """What a shell program prints, as `shell` runs it."""
        return docker.ask(*self._words(program, ""))

    def shell(
        self,
        docker: Docker,
        program: str,
        *arguments: str,
        database: str = "",
        stdin: IO[bytes] | None = None,
        stdout: IO[bytes] | None = None,
    ) -> int:
        """Runs a shell program, whose PostgreSQL commands reach the database. Returns its status."""
        return docker.run(*self._words(program, database, *arguments), stdin=stdin or b"", stdout=stdout)

    def inside(self, docker: Docker, command: Sequence[str], *, stdout: IO[bytes]) -> int:
        """Runs a command in the container. Returns its status."""
        return docker.run("compose", "exec", "-T", self.service, *command, stdout=stdout)

    def _words(self, program: str, database: str, *arguments: str) -> tuple[str, ...]:
        first = program.partition("\n")[0]
        text = f"# {first}\n{in_container('postgres')}\n{program}"  # the log shows the first line
        user = self.run.request.database.user or ""
        return ("compose", "exec", "-T", self.service, "sh", "-c", text, "sh", user, database, *arguments)
