"""A database that is not what its container's variables say: another name, another owner, its socket elsewhere."""

from __future__ import annotations

import re

import pytest

from tests.e2e.conftest import MIGRATION, Deployment
from tests.e2e.harness import Application

pytestmark = pytest.mark.e2e

DATABASE = "logbook_production"
POSTGRES = """\
    command: ["postgres", "-k", "/tmp"]
    environment:
      POSTGRES_HOST_AUTH_METHOD: trust
    volumes:
      - elsewhere:/var/lib/postgresql/data
"""


def psql(application: Application, statement: str, database: str = DATABASE) -> str:
    words = ["psql", "--host=/tmp", "--username=postgres", "--no-align", "--tuples-only", f"--dbname={database}"]
    script = 'cd "$1" && shift && exec docker compose exec -T postgres "$@"'
    command = (*words, f"--command={statement}")
    return application.sandbox.on_server("sh", "-c", script, "sh", application.directory, *command).strip()


@pytest.fixture(scope="module")
def elsewhere(deployment: Deployment) -> Deployment:
    """The application with such a database, and a release that serves."""
    application, project = deployment
    text = application.read()
    given = re.search(r"    environment:\n      POSTGRES_USER:.*?/var/lib/postgresql/data\n", text, re.DOTALL)
    assert given
    text = text.replace(given[0], POSTGRES).replace("volumes:\n  postgres:", "volumes:\n  elsewhere:")
    application.write(text)
    env = application.read(".env")
    url = f"DATABASE_URL=postgresql://logbook@postgres/{DATABASE}"
    application.write(re.sub("DATABASE_URL=.*", url, env), ".env")
    up = f"cd {application.directory} && docker compose up -d --wait postgres"
    application.sandbox.on_server("sh", "-c", up)
    psql(application, "CREATE ROLE logbook LOGIN", "postgres")
    create = f"CREATE DATABASE {DATABASE} OWNER logbook TEMPLATE template0 ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C'"
    psql(application, create, "postgres")
    project.release("1.0.0")
    return deployment


def properties(application: Application) -> str:
    """What a dump as such does not hold, the owner of a table, and which rows there are."""
    return psql(
        application,
        "SELECT pg_get_userbyid(datdba), encoding, datcollate, datctype, "
        "(SELECT string_agg(entry::text, ' ' ORDER BY entry::text) FROM unnest(datacl) entry), "
        "(SELECT tableowner FROM pg_tables WHERE tablename = 'visits'), (SELECT string_agg(name, ' ') FROM visits), "
        "(SELECT string_agg(column_name, ' ') FROM information_schema.columns WHERE table_name = 'visits') "
        "FROM pg_database WHERE datname = current_database()",
    )


def test_the_database_that_the_application_names_is_dumped_and_restored_as_it_was(
    elsewhere: Deployment, put_back: None
) -> None:
    application, project = elsewhere
    psql(application, f"GRANT CONNECT ON DATABASE {DATABASE} TO logbook WITH GRANT OPTION")
    psql(application, "INSERT INTO visits (name, created_at, updated_at) VALUES ('Grace', now(), now())")
    before = properties(application)
    assert "Grace" in before
    demanded = application.sandbox.run(project.directory, "./releve", "backup", "-s", project.stack)
    assert f"dumped the database '{DATABASE}'" in demanded.output

    project.config["releve:backup"] = {"restoreOnFailure": True}
    project.set("app.beforeUp", [["false"]])
    (application.source / "db/migrate/20240701000000_add_note.rb").write_text(MIGRATION)
    project.set("tag", application.fresh_version())
    failed = project.up()
    assert not failed.succeeded
    assert f"dumped the database '{DATABASE}'" in failed.output
    assert "migrated the database" in failed.output
    assert "The database is what it was before the migrations" in failed.output
    assert properties(application) == before
    assert application.serves("1.0.0")


def test_an_entrypoint_that_migrates_is_refused_and_without_it_migrations_run_under_a_dump(
    elsewhere: Deployment, put_back: None
) -> None:
    application, project = elsewhere
    before, containers = properties(application), application.containers()
    entrypoint = application.source / "bin/docker-entrypoint"
    text = entrypoint.read_text()
    entrypoint.write_text(text.replace('exec "$@"', 'bundle exec rails db:migrate\nexec "$@"'))
    (application.source / "db/migrate/20240701000000_add_note.rb").write_text(MIGRATION)
    version = application.fresh_version()
    entrypoint.write_text(text)  # of the versions after this one
    project.set("tag", version)
    refused = project.up()
    assert not refused.succeeded
    assert "The image's entrypoint migrates the database" in refused.output
    assert "Set app.entrypoint: []" in refused.output
    assert (properties(application), application.containers()) == (before, containers)

    project.set("app.entrypoint", [])
    done = project.up()
    assert done.succeeded, done.output
    assert f"dumped the database '{DATABASE}'" in done.output
    assert "note" in properties(application)
    assert application.serves(version)


def test_a_rolling_release_migrates_it_under_a_dump_and_interrupts_nobody(
    elsewhere: Deployment, put_back: None
) -> None:
    application, project = elsewhere
    project.set("app.strategy", "rolling")
    project.set("app.migrations", "compatible")
    project.release("1.0.0")
    migration = application.source / "db/migrate/20240702000000_add_place.rb"
    migration.write_text(MIGRATION.replace("AddNote", "AddPlace").replace(":note", ":place"))
    version = application.fresh_version()
    done = project.release(version)
    assert f"dumped the database '{DATABASE}'" in done.output
    assert "place" in properties(application)
    assert application.serves(version)
    assert project.outputs()["downtimeSeconds"] == 0
