"""The database: which one is dumped before migrations, what is refused instead, and the way back."""

from __future__ import annotations

import re
from typing import Any

import pytest

from server.request import Migrations, Strategy
from tests.server.server import Server
from tests.server.test_staged import MIGRATE, PENDING, POSTGRES, migrating, phases, prepare, run


@pytest.fixture
def prepared(server: Server) -> Server:
    return prepare(server)


HEADING = "Status   Migration ID    Migration Name\\n"
SAYS = (
    f"database: shop\\n\\n {HEADING}   up     20240101000000  Create visits\\n  down    20240701000000  Add note\\n\\n"
    f"database: shop_queue\\n\\n {HEADING}   up     20240101000000  Create jobs\\n"
)
NAMES = f"case \"$*\" in *-pending*|*rails*db:migrate:status) printf '{SAYS}'; exit ;; esac"


def dumped(server: Server) -> list[str]:
    """The databases of which the containers were asked for a dump."""
    calls = [call for call in server.docker_calls("compose", "exec") if call[6].startswith("# exec pg_dump --format")]
    return [call[9] for call in calls]


@pytest.mark.parametrize("step", ["up", "dump"])
def test_the_databases_that_the_application_names_are_dumped_whatever_the_container_says(
    prepared: Server, step: str
) -> None:
    prepared.behave(f"{NAMES}\n{PENDING}")
    result = run(prepared, step, database=MIGRATE)
    assert result.status == 0, result
    assert dumped(prepared) == ["shop", "shop_queue"]
    files = sorted(path.name.partition("Z-")[2] for path in (prepared.state / "backups").iterdir())
    label = "before-2.0" if step == "up" else "on-demand"
    assert files == [f"{label}.0-shop.dump", f"{label}.1-shop_queue.dump"]


def test_whoever_asks_for_a_dump_is_told_of_it_in_their_language(prepared: Server) -> None:
    prepared.behave(f"{NAMES}\n{PENDING}")
    said = {"dumped the database '{name}' to {file}, {size} KiB": "base {name} : {file}, {size} Kio"}
    result = run(prepared, "dump", database=MIGRATE, messages=said)
    assert result.status == 0, result
    assert re.search(r"^dump: base shop : \.releve/backups/\S+\.dump, \d+ Kio \(", result.output, re.MULTILINE)
    assert "dumped" not in result.output


def test_dumps_that_were_made_together_are_kept_as_one(prepared: Server) -> None:
    prepared.behave(f"{NAMES}\n{PENDING}")
    backups = prepared.state / "backups"
    backups.mkdir()
    for name in ("20250101T000000Z-x.dump", "20250102T000000Z-x.0-a.dump", "20250102T000000Z-x.1-b.dump", "mine.dump"):
        (backups / name).touch()
    assert run(prepared, "dump", database=migrating(keep=2)).status == 0
    kept = sorted(path.name for path in backups.iterdir())
    assert kept[:2] == ["20250102T000000Z-x.0-a.dump", "20250102T000000Z-x.1-b.dump"]
    assert len(kept) == 5


def test_the_database_is_the_service_in_which_postgresql_runs_whatever_the_images_are_called(server: Server) -> None:
    server.compose_file.write_text(
        server.compose_file.read_text()
        + "  backup:\n    image: some/postgres-backup\n  vectors:\n    image: a/pgvector\n"
    )
    top = 'case "$*" in "top vectors "*) printf "PID COMMAND\\n1 postgres\\n9 postgres\\n"; exit ;; "top "*) '
    top += 'printf "PID COMMAND\\n1 go-cron\\n"; exit ;; esac'
    server.behave(f"{top}\n{POSTGRES}")
    result = server.run("dump", strategy=Strategy.STAGED, database=migrating(service=None))
    assert result.status == 0, result
    assert {call[3] for call in server.docker_calls("compose", "exec")} == {"vectors", "web"}


ANSWERS = '*\'# psql\'*) case "$(cat)" in *pg_database_size*) echo "{}" ;; *) echo shop ;; esac; exit ;;'


@pytest.mark.parametrize(
    ("behaviour", "changes", "reason", "remedy"),
    [
        ("*'# psql'*) exit 2 ;;", {}, "PostgreSQL in the service 'db' cannot be reached", "backup.user"),
        ("*'# exec pg_dump --schema'*) exit 1 ;;", {}, "pg_dump cannot read the database 'shop'", "backup.user"),
        (ANSWERS.format("9|5|0|t|shop"), {}, "'shop' in the service 'db' has no table schema_migr", "backup.database"),
        (
            ANSWERS.format("9|0|0|t|shop"),
            {"pending": ("x",)},
            "'shop' in the service 'db' has no table:",
            "backup.datab",
        ),
        (ANSWERS.format("9|5|1|f|shop"), {"restore_on_failure": True}, "may not create a database", "backup.user"),
        (ANSWERS.format(f"{10**18}|5|1|t|shop"), {}, "The dump may need 953674316406 MiB", "Make room"),
        ("*-pending*) echo 'database: fab'; printf '{HEADING}'; echo 'down 2 x'; exit ;;", {}, "'fab', and", "service"),
        (
            "'top '*) printf 'PID COMMAND\\n1 bash\\n'; exit ;;",
            {"service": None},
            "in none of the project",
            "backup.serv",
        ),
        ("'top '*) printf 'PID COMMAND\\n1 postgres\\n'; exit ;;", {"service": None}, "db1 and db2", "backup.service"),
        ("x) ;;", {"service": "gone", "command": ("x",)}, "'gone' (backup.service)", "backup.service"),
    ],
)
def test_what_cannot_be_dumped_is_refused_before_anything_is_stopped(
    prepared: Server, behaviour: str, changes: dict[str, Any], reason: str, remedy: str
) -> None:
    prepared.answer("project", "web running web\ndb1 running 1234\ndb2 running 5678\n")
    behaviour = behaviour.replace("{HEADING}", HEADING)
    prepared.behave(f'case "$*" in *bin/x) ;; *" web x") exit 3 ;; {behaviour} esac\n{PENDING}')
    prepared.forget_calls()
    result = run(prepared, "up", database=migrating(**changes))
    assert result.status == 1
    assert reason in result.errors
    assert remedy in result.errors
    assert not {"stop", "create", "migrate"} & set(phases(prepared))
    assert not (prepared.state / "transaction").exists()


@pytest.mark.parametrize(("own", "status"), [("20240101000000", 0), ("20240101000000 20250101000000", 1)])
def test_a_version_of_a_plugin_is_none_of_the_applications(prepared: Server, own: str, status: int) -> None:
    said = f"database: shop\\n\\n {HEADING}   up  20240101000000  Create\\n"
    said += "   up  20250101000000  ********** NO FILE **********\\n"
    prepared.behave(
        f"case \"$*\" in *-pending*) printf '{said}'; exit ;; *'# psql'*) echo {own} | tr ' ' '\\n'; exit ;; esac"
    )
    result = run(prepared, "up", database=MIGRATE)
    assert result.status == status, result
    assert ("it is ahead of this release" in result.errors) == bool(status)


FAILS = 'case "$*" in *" run "*-migrate*) exit 1 ;; esac'


def restored(server: Server) -> list[str]:
    """The databases into which a dump was read."""
    return [call[10] for call in server.docker_calls("compose", "exec") if "pg_restore --exit" in call[6]]


def test_the_dumps_are_restored_where_the_migrations_fail_and_that_is_wanted(server: Server) -> None:
    server.answer("running", "sha256:old")
    prepare(server)
    server.behave(f"{FAILS}\n{NAMES}\n{PENDING}")
    result = run(server, "up", database=migrating(restore_on_failure=True))
    assert result.status == 1
    assert "The database is what it was before the migrations" in result.errors
    assert "was put back; it runs and answers on its own address" in result.errors
    assert len(set(restored(server))) == 2


def test_where_a_dump_cannot_be_restored_the_old_release_starts_on_the_database_as_it_is(server: Server) -> None:
    server.answer("running", "sha256:old")
    prepare(server)
    server.behave(f'case "$*" in *"pg_restore --exit"*) exit 1 ;; esac\n{FAILS}\n{PENDING}')
    result = run(server, "up", database=migrating(restore_on_failure=True))
    assert result.status == 1
    assert "The dump of 'shop' cannot be restored: pg_restore fails." in result.errors
    assert "was put back; it runs and answers on its own address" in result.errors
    assert "stays so. What it was before is in" in result.errors
    assert "It could not be restored" in result.errors


def test_a_database_in_which_the_old_release_has_gone_on_writing_is_not_restored(server: Server) -> None:
    server.answer("running", "sha256:old")
    prepare(server)
    server.behave(f"{FAILS}\n{PENDING}")
    compatible = migrating(restore_on_failure=True, migrations=Migrations.COMPATIBLE)
    result = run(server, "up", database=compatible)
    assert result.status == 1
    assert restored(server) == []
    assert "stays so. What it was before is in" in result.errors
