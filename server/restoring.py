"""The way back from migrations: the databases become what they were when they were dumped.

Each dump is restored into a database beside the migrated one, made like it; when all are there, they change places at
once. Until then the migrated ones are untouched, and until after that they are not dropped.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from server import maintenance_page
from server.commands import Docker
from server.database import Dump
from server.postgres import Postgres, service_of
from server.project import Project
from server.run import RESTORING, Run
from server.tasks import forget_since

TRIES = 3
"""Of the exchange: whoever connects again meanwhile is in its way."""

# By pg_database's columns as JSON: later versions of PostgreSQL have more of them.
_CREATE = r"""
DROP DATABASE IF EXISTS :"new";
SELECT format('CREATE DATABASE %I OWNER %I TEMPLATE template0 ENCODING %L LC_COLLATE %L LC_CTYPE %L '
        'CONNECTION LIMIT %s', :'new', pg_get_userbyid(datdba), pg_encoding_to_char(encoding), j ->> 'datcollate',
        j ->> 'datctype', datconnlimit)
    || CASE spcname WHEN 'pg_default' THEN '' ELSE format(' TABLESPACE %I', spcname) END
    || CASE j ->> 'datlocprovider'
        WHEN 'i' THEN format(' LOCALE_PROVIDER icu ICU_LOCALE %L', coalesce(j ->> 'datlocale', j ->> 'daticulocale'))
        WHEN 'b' THEN format(' LOCALE_PROVIDER builtin BUILTIN_LOCALE %L', j ->> 'datlocale')
        ELSE '' END
    || CASE WHEN j ->> 'daticurules' IS NULL THEN '' ELSE format(' ICU_RULES %L', j ->> 'daticurules') END
FROM pg_database d JOIN pg_tablespace t ON t.oid = dattablespace, to_jsonb(d) j WHERE datname = :'old'
\gexec
SELECT format('REVOKE ALL ON DATABASE %I FROM PUBLIC', :'new')
FROM pg_database WHERE datname = :'old' AND datacl IS NOT NULL
\gexec
SELECT format('GRANT %s ON DATABASE %I TO %s%s', privilege_type, :'new',
    CASE grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(grantee)) END,
    CASE WHEN is_grantable THEN ' WITH GRANT OPTION' ELSE '' END)
FROM pg_database, aclexplode(datacl) WHERE datname = :'old'
\gexec
"""

# The value of a list of names is kept as it is written in SQL.
_SETTINGS = r"""
SELECT format('ALTER %s SET %I TO %s',
    CASE setrole WHEN 0 THEN format('DATABASE %I', :'new')
        ELSE format('ROLE %I IN DATABASE %I', pg_get_userbyid(setrole), :'new') END,
    name, CASE WHEN name IN ('search_path', 'temp_tablespaces', 'local_preload_libraries', 'session_preload_libraries')
        THEN replace(value, '""', '''''') ELSE quote_literal(value) END)
FROM pg_db_role_setting JOIN pg_database d ON d.oid = setdatabase, unnest(setconfig) setting,
    substr(setting, 1, strpos(setting, '=') - 1) name, substr(setting, strpos(setting, '=') + 1) value
WHERE datname = :'old'
\gexec
"""

_FILL = 'exec pg_restore --exit-on-error --no-password --dbname="$1"'

_EXCHANGE = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = :'old{0}';
ALTER DATABASE :"old{0}" RENAME TO :"kept{0}";
ALTER DATABASE :"new{0}" RENAME TO :"old{0}";
"""


@dataclass(frozen=True)
class _Exchange:
    """A database, the one that takes its place, and what it is called then; PostgreSQL cuts names at 63 bytes."""

    server: Postgres
    file: Path
    old: str

    @property
    def _short(self) -> str:
        return hashlib.sha256(self.old.encode()).hexdigest()[:12]

    @property
    def new(self) -> str:
        return f"releve_restored_{self._short}"

    @property
    def kept(self) -> str:
        return f"releve_migrated_{self._short}"

    def variables(self, number: str = "") -> list[str]:
        """For psql."""
        names = (("old", self.old), ("new", self.new), ("kept", self.kept))
        return [f"--set={name}{number}={value}" for name, value in names]


def restore(run: Run, docker: Docker, project: Project, dumps: Sequence[Dump]) -> None:
    """Makes the databases what they were when they were dumped.

    Raises Failure; the databases are then what they were before.
    """
    exchanges = []
    for dump in dumps:
        server = Postgres(run, dump.service or service_of(run, docker, project))
        exchanges.append(_Exchange(server, dump.file, server.facts(docker, dump.database).name))
    try:
        for exchange in exchanges:
            _make(docker, exchange)
        _exchange(docker, exchanges)
    except BaseException:
        for exchange in exchanges:
            _drop(docker, exchange, "new")
        raise
    forget_since(run.state, min(dump.file.stat().st_mtime_ns for dump in dumps))
    for exchange in exchanges:
        if not _drop(docker, exchange, "kept"):
            run.say(f"notice: the migrated database stays as {exchange.kept}; drop it by hand")


def _make(docker: Docker, exchange: _Exchange) -> None:
    """The database beside, with all that belongs to it: encoding, collation, owners, rights, settings."""
    server, failing = exchange.server, f"The dump of '{exchange.old}' cannot be restored"
    if not server.sql(docker, _CREATE, *exchange.variables(), database="template1").succeeded:
        raise docker.failure(f"{failing}: no database like it can be created.")
    with exchange.file.open("rb") as file:
        if server.shell(docker, _FILL, exchange.new, database="template1", stdin=file) != 0:
            raise docker.failure(f"{failing}: pg_restore fails.")
    # Not before: they hold for pg_restore, too.
    if not server.sql(docker, _SETTINGS, *exchange.variables(), database="template1").succeeded:
        raise docker.failure(f"{failing}: its settings cannot be set.")


def make_beside(run: Run, docker: Docker, dump: Dump) -> Beside:
    """Restores a dump into a database beside the one that it is of, which stays as it is. Raises Failure."""
    server = Postgres(run, dump.service)
    beside = Beside(_Exchange(server, dump.file, server.facts(docker, dump.database).name))
    try:
        _make(docker, beside.exchange)
    except BaseException:
        beside.drop(docker)
        raise
    return beside


@dataclass(frozen=True)
class Beside:
    """A database that holds what another one held."""

    exchange: _Exchange

    @property
    def name(self) -> str:
        """Its name."""
        return self.exchange.new

    def drop(self, docker: Docker) -> bool:
        """Removes it; whether that succeeded."""
        return _drop(docker, self.exchange, "new")


def _exchange(docker: Docker, exchanges: list[_Exchange]) -> None:
    """All or none. They are in one server: one service is dumped."""
    server = exchanges[0].server
    for exchange in exchanges:
        _drop(docker, exchange, "kept")
    text = "".join(_EXCHANGE.format(number) for number in range(len(exchanges)))
    variables = [word for number, exchange in enumerate(exchanges) for word in exchange.variables(str(number))]
    for _ in range(TRIES):
        if server.sql(docker, f"BEGIN;{text}COMMIT;", *variables, database="template1").succeeded:
            return
    raise docker.failure("What was restored cannot take the place of the migrated database.")


def _drop(docker: Docker, exchange: _Exchange, which: str) -> bool:
    text = f'DROP DATABASE IF EXISTS :"{which}";'
    return exchange.server.sql(docker, text, *exchange.variables(), database="template1").succeeded


def end_restore(run: Run, project: Project) -> None:
    """The site is back: a restore of a backup, should one have been killed, need not be repeated any more."""
    maintenance_page.hide(run, project)
    (run.state / RESTORING).unlink(missing_ok=True)
