"""Containers of the new image that only ask or compile, before any dump: what their entrypoints do to the database."""

from __future__ import annotations

import pytest

from server.request import StepName
from tests.server.server import Server
from tests.server.test_staged import MIGRATE, PENDING, phases, prepare, run

VERSIONS = 'case "$*" in *"# names="*) cat "$STUBS/versions"; exit ;; esac'
# What Rails prints where it may only read, to whom the image's entrypoint has told to migrate.
CANCELED = (
    "*PGOPTIONS*) echo 'An error has occurred, this and all later migrations canceled:' >&2; "
    "echo 'PG::ReadOnlySqlTransaction: ERROR:  cannot execute ALTER TABLE in a read-only transaction' >&2; exit 1 ;;"
)
INSERTS = "*PGOPTIONS*) echo 'ERROR:  cannot execute INSERT in a read-only transaction' >&2; exit 1 ;;"
MIGRATES = '*" run "*) echo "e9 shop" >"$STUBS/versions" ;;'


@pytest.fixture
def there(server: Server) -> Server:
    """A database with migrations, and a release to come."""
    (server.stubs / "versions").write_text("a1 shop\n")
    server.settings["database"] = MIGRATE
    return prepare(server)


def behave(server: Server, case: str) -> None:
    server.behave(f'case "$*" in {case} esac\n{VERSIONS}\n{PENDING}')


def ones(server: Server) -> list[list[str]]:
    """The one-off containers of the image's own programs."""
    return [call for call in server.docker_calls("compose") if "--rm" in call]


@pytest.mark.parametrize("step", [StepName.PRECOMPILE, StepName.UP])
def test_an_entrypoint_that_migrates_is_kept_from_it_and_refused(there: Server, step: StepName) -> None:
    if step is StepName.PRECOMPILE:
        # Not compiled with these settings yet.
        there.compose_file.write_text(f"{there.compose_file.read_text()}    environment: [A=b]\n")
    behave(there, CANCELED)
    there.forget_calls()
    result = run(there, step)
    assert result.status == 1
    assert "The image's entrypoint migrates the database" in result.errors
    assert "the database is as it was" in result.errors
    assert "Set app.entrypoint: []" in result.errors
    assert len(ones(there)) == 1
    assert "PGOPTIONS=-c default_transaction_read_only=on" in ones(there)[0]
    assert not {"stop", "create", "migrate"} & set(phases(there))


def test_a_migration_that_happened_nevertheless_is_noticed_before_anything_is_stopped(there: Server) -> None:
    behave(there, MIGRATES)
    there.forget_calls()
    result = run(there, "up")
    assert result.status == 1
    assert "was migrated where only `bundle exec rails db:migrate:status` was to run" in result.errors
    assert "Set app.entrypoint: []" in result.errors
    assert not {"stop", "create", "migrate"} & set(phases(there))
    # The releases that were here know nothing of it.
    assert (there.state / "schema").exists()


def test_an_application_that_writes_when_it_starts_is_asked_again_as_it_is_used_to(there: Server) -> None:
    behave(there, INSERTS)
    result = run(there, "up")
    assert result.status == 0, result
    assert "is run again" in result.output
    assert "migrated the database" in result.output


@pytest.mark.parametrize("entrypoint", [None, (), ("tini",)])
def test_with_an_entrypoint_of_ones_own_or_without_any_tables_nothing_is_kept_from_writing(
    there: Server, entrypoint: tuple[str, ...] | None
) -> None:
    (there.stubs / "versions").write_text("" if entrypoint is None else "a1 shop\n")
    behave(there, "x) ;;")
    result = run(there, "up", entrypoint=entrypoint)
    assert result.status == 0, result
    assert not any("PGOPTIONS" in word for call in ones(there) for word in call)


@pytest.mark.parametrize("state", ["running", "exited"])
def test_where_postgresql_cannot_be_asked_what_serves_is_protected(there: Server, state: str) -> None:
    there.answer("project", f"web {state} web\n")
    behave(there, """*"# names="*) exit 2 ;; *" run "*-pending*) echo '  up  1  x'; exit ;;""")
    there.forget_calls()
    run(there, "up")
    assert any("PGOPTIONS" in word for word in ones(there)[0]) == (state == "running")


def test_what_is_only_asked_may_not_write(there: Server) -> None:
    behave(there, "x) ;;")
    there.forget_calls()
    assert run(there, "up").status == 0
    asked, migrated = ones(there)
    assert any("PGOPTIONS" in word for word in asked)
    assert not any("PGOPTIONS" in word for word in migrated)
