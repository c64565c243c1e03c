"""What the application's changelog asks for: looked at by `pull`, and run with the release, each once."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest

from server.request import Changes, Database, Item, ItemKind, Strategy, Upgrade, Version
from tests.server.server import RELEASE, Result, Server

BEFORE = Item((1, 1, 0), 12, ItemKind.PRE, "before the migration: `rails shop:fix`", ("rails shop:fix",))
AFTER = Item((1, 1, 0), 13, ItemKind.POST, "`rails shop:index[2026,1]`", ("rails shop:index[2026,1]",))
LAST = Item((2, 0, 0), 5, ItemKind.POST, "`rails shop:seed`", ("rails shop:seed",))
VARIABLE = Item((2, 0, 0), 6, ItemKind.ENVIRONMENT, "add the `LOCALE` environment variable", names=("LOCALE",))
TO_READ = Item((2, 0, 0), 7, ItemKind.UNKNOWN, "look at your invoices")
GATE = Item((2, 0, 0), 4, ItemKind.GATE, "upgrade to v1.1.0 before", names=("1.1.0",))

MIGRATE = Database(migrate=("rails", "db:migrate"), service="nginx", pending=("bin/pending",), command=("dump",))
PENDING = 'case "$*" in *" run "*-pending*) exit 3 ;; *" dump") echo dump ;; esac'


def upgrade(*items: Item, start: Version | None = (1, 0, 0), to: Version = (2, 0, 0)) -> Upgrade:
    return Upgrade(Changes(to, "CHANGELOG.md", (), items), start, "package.json")


def runs(server: Server, version: str, more: str = "") -> None:
    """Lets the running container be of a version."""
    server.behave(f'case "$*" in \'exec web cat package.json\') echo \'{{"version": "{version}"}}\' ;; esac\n{more}')


def run(server: Server, step: str, *items: Item, **fields: Any) -> Result:
    if step == "pull":
        fields.setdefault("upgrade", upgrade(*items))
    return server.run(step, **{"strategy": Strategy.STAGED, "acknowledged": (), **fields})


def tasks(server: Server) -> list[str]:
    """The commands and migrations that were run in one-off containers, in order, and the dump."""
    found = []
    for call in server.docker_calls("compose"):
        if call[-1] == "dump":
            found.append("dump")
        elif "--name" in call and call[call.index("--name") + 1].rpartition("-")[2] in ("task", "migrate"):
            found.append(" ".join(call[call.index("web") + 1 :]))
    return found


@pytest.fixture
def server(server: Server) -> Server:
    runs(server, "1.0.0")
    return server


@pytest.mark.parametrize(
    ("items", "words"),
    [
        ([GATE], ["1.1.0 must not be skipped", "CHANGELOG.md line 4 (2.0.0)"]),
        ([TO_READ], ["CHANGELOG.md line 7 (2.0.0)", "look at your invoices", "'upgrade.acknowledged[0]' 2.0.0:7"]),
        (
            [VARIABLE],
            ["CHANGELOG.md line 6 (2.0.0)", "the variable LOCALE", "'web' does not get", "`environment:` of 'web'"],
        ),
    ],
)
def test_what_speaks_against_the_release_is_refused_with_its_line_before_anything_is_pulled_or_stopped(
    server: Server, items: Sequence[Item], words: Sequence[str]
) -> None:
    result = run(server, "pull", *items)
    assert result.status == 1
    for word in (*words, "Nothing was stopped"):
        assert word in result.errors
    assert [call for call in server.docker_calls() if {"pull", "stop", "run", "up"} & set(call)] == []


def test_a_variable_that_the_web_service_gets_is_enough_and_so_is_one_that_somebody_does_without(
    server: Server,
) -> None:
    assert run(server, "pull", VARIABLE, acknowledged=("2.0.0:6",)).status == 0
    text = server.compose_file.read_text()
    server.compose_file.write_text(f"{text}    environment:\n      LOCALE: fr\n")
    assert run(server, "pull", VARIABLE).status == 0


def test_a_missing_variable_belongs_into_the_file_that_the_web_service_reads(server: Server) -> None:
    text = server.compose_file.read_text()
    server.compose_file.write_text(f"{text}    env_file: ./config/env\n")
    assert f"Add it to {server.directory}/config/env" in run(server, "pull", VARIABLE).errors


@pytest.mark.parametrize("pending", [PENDING, PENDING.replace("exit 3", "exit 0")])
def test_tasks_run_after_the_dump_before_the_migrations_and_when_the_release_is_in_place(
    server: Server, pending: str
) -> None:
    runs(server, "1.0.0", pending)
    result = run(server, "pull", BEFORE, AFTER, LAST, database=MIGRATE)
    assert result.status == 0, result
    assert "the upgrade 1.0.0 → 2.0.0 asks for tasks: 1 before the migrations, 2 when the release is in place" in (
        result.output
    )
    server.forget_calls()
    done = run(server, "up", database=MIGRATE)
    assert done.status == 0, done
    assert "done: bundle exec rails shop:fix (1.1.0:12)" in done.output
    assert tasks(server) == ["dump", "bundle exec rails shop:fix", "rails db:migrate"]
    assert server.docker_calls("compose", "stop")
    server.forget_calls()
    after = run(server, "after-up", after_up=(("bin/clear",),))
    assert after.status == 0, after
    assert tasks(server) == ["bundle exec rails shop:index[2026,1]", "bundle exec rails shop:seed", "bin/clear"]
    server.forget_calls()
    assert "done before: bundle exec rails shop:seed (2.0.0:5)" in run(server, "after-up").output
    assert tasks(server) == []


def test_a_task_reads_nothing_and_its_words_are_in_the_log(server: Server) -> None:
    runs(server, "1.0.0", 'case "$*" in *-task*) echo "the task reads <$(cat)>" ;; esac')
    for step in ("pull", "up", "after-up"):
        assert run(server, step, AFTER).status == 0
    assert "the task reads <>" in server.logs()[-1].read_text()


def test_a_task_that_fails_is_named_with_its_line_and_a_retry_goes_on_with_it(server: Server) -> None:
    for step in ("pull", "up"):
        assert run(server, step, AFTER, LAST).status == 0
    runs(server, "2.0.0", 'case "$*" in *shop:seed) echo "no such record"; exit 1 ;; esac')
    failed = run(server, "after-up")
    assert failed.status == 1
    assert "The task failed: bundle exec rails shop:seed (2.0.0:5)" in failed.errors
    assert "no such record" in failed.errors
    assert "pulumi config set --path 'upgrade.acknowledged[0]' 2.0.0:5" in failed.errors
    runs(server, "2.0.0")
    server.forget_calls()
    assert run(server, "after-up").status == 0
    assert tasks(server) == ["bundle exec rails shop:seed"]


def test_a_task_that_somebody_has_run_by_hand_is_not_run(server: Server) -> None:
    for step in ("pull", "up"):
        assert run(server, step, AFTER, LAST).status == 0
    server.forget_calls()
    result = run(server, "after-up", acknowledged=("2.0.0:5",))
    assert "acknowledged (2.0.0:5), so not run: rails shop:seed" in result.output
    assert tasks(server) == ["bundle exec rails shop:index[2026,1]"]


def test_a_task_before_the_migrations_that_fails_puts_the_old_release_back(server: Server) -> None:
    before = server.compose_file.read_text()
    runs(server, "1.0.0", f'{PENDING}\ncase "$*" in *shop:fix) exit 1 ;; esac')
    assert run(server, "pull", BEFORE, database=MIGRATE).status == 0
    server.forget_calls()
    result = run(server, "up", database=MIGRATE)
    assert result.status == 1
    assert "The task failed: bundle exec rails shop:fix (1.1.0:12)" in result.errors
    assert "put back" in result.errors
    assert "rails db:migrate" not in tasks(server)
    assert server.compose_file.read_text() == before


def test_a_way_back_runs_nothing_whatever_the_changelog_says(server: Server) -> None:
    runs(server, "3.0.0")
    for step in ("pull", "up", "after-up"):
        assert run(server, step, BEFORE, AFTER, TO_READ, VARIABLE, upgrade=upgrade(AFTER, start=(3, 0, 0))).status == 0
    assert tasks(server) == []


def test_a_way_back_need_not_be_certain_of_what_runs(server: Server) -> None:
    server.behave("case \"$*\" in 'exec web cat package.json') exit 1 ;; esac")
    refused = run(server, "pull", AFTER)
    assert "Which version runs cannot be told: in the working directory of 'web'" in refused.errors
    assert run(server, "pull", AFTER, upgrade=upgrade(AFTER, start=(3, 0, 0))).status == 0


def test_another_version_than_the_plan_was_made_for_is_refused(server: Server) -> None:
    runs(server, "0.9.0")
    result = run(server, "pull", AFTER)
    assert result.status == 1
    assert "planned from 1.0.0, and on this server 0.9.0 runs (package.json)" in result.errors
    assert "pulumi config set --path upgrade.running 0.9.0" in result.errors
    assert run(server, "pull", AFTER, upgrade=upgrade(AFTER, start=None)).status == 0


def test_where_nothing_runs_there_is_nothing_to_upgrade_from(server: Server) -> None:
    server.answer("project", "")
    result = run(server, "pull", TO_READ, VARIABLE, AFTER, upgrade=upgrade(TO_READ, AFTER, start=None))
    assert result.status == 0, result
    assert "nothing runs here yet" in result.output


def test_what_is_stopped_is_of_the_version_that_was_released_and_otherwise_it_must_run(server: Server) -> None:
    server.answer("project", "web exited web\n")
    assert "docker compose up -d web" in run(server, "pull", AFTER, upgrade=upgrade(AFTER, start=None)).errors
    live = server.state / "releases/1.0-000000000000"
    live.mkdir(parents=True)
    (live / "version").write_text("1.0.0\n")
    (server.state / "current").symlink_to("releases/1.0-000000000000")
    result = run(server, "pull", AFTER, upgrade=upgrade(AFTER, start=None))
    assert "the upgrade 1.0.0 → 2.0.0" in result.output


@pytest.mark.parametrize("asked", [upgrade(AFTER), None])
def test_a_release_that_is_pulled_again_keeps_what_its_upgrade_has_left(server: Server, asked: Upgrade | None) -> None:
    for step in ("pull", "up"):
        assert run(server, step, AFTER).status == 0
    runs(server, "2.0.0")
    assert run(server, "pull", upgrade=asked).status == 0
    server.forget_calls()
    assert run(server, "after-up").status == 0
    assert tasks(server) == ["bundle exec rails shop:index[2026,1]"]


def test_what_the_upgrade_to_the_live_release_has_left_is_done_with_the_next_one(server: Server) -> None:
    live = server.state / "releases/1.5-000000000000"
    live.mkdir(parents=True)
    left = [{"command": "rails shop:index[2026,1]", "place": "1.1.0:13"}]
    (live / "upgrade.json").write_text(json.dumps({"before": [], "after": left}))
    (server.state / "current").symlink_to("releases/1.5-000000000000")
    runs(server, "1.5.0")
    for step in ("pull", "up", "after-up"):
        assert run(server, step, LAST, upgrade=upgrade(AFTER, LAST, start=(1, 5, 0))).status == 0
    assert tasks(server) == ["bundle exec rails shop:index[2026,1]", "bundle exec rails shop:seed"]


def test_tasks_that_a_restored_dump_has_undone_are_run_again(server: Server) -> None:
    tables = (
        f"{PENDING}\n"
        'sql() { case "$(cat)" in *pg_database_size*) echo "1000|5|1|t|${10:-shop}" ;; esac; }\n'
        'case "$*" in *"sh -c # psql"*) sql "$@"; exit ;; *"# exec pg_dump"*) echo dump; exit ;; esac'
    )
    database = Database(
        migrate=("rails", "db:migrate"), service="db", name="shop", pending=("bin/pending",), restore_on_failure=True
    )
    runs(server, "1.0.0", f'{tables}\ncase "$*" in *db:migrate) exit 1 ;; esac')
    assert run(server, "pull", BEFORE, database=database).status == 0
    failed = run(server, "up", database=database)
    assert "The database is what it was before the migrations" in failed.errors
    runs(server, "1.0.0", tables)
    server.forget_calls()
    done = run(server, "up", database=database)
    assert done.status == 0, done
    assert tasks(server) == ["bundle exec rails shop:fix", "rails db:migrate"]


def test_without_a_changelog_nothing_is_asked_kept_or_run(server: Server) -> None:
    for step in ("pull", "up"):
        assert run(server, step, AFTER).status == 0
    server.forget_calls()
    assert run(server, "after-up", acknowledged=None).status == 0
    assert run(server, "pull", upgrade=None, acknowledged=None).status == 0
    assert (tasks(server), server.docker_calls("exec")) == ([], [])
    assert not (server.state / f"releases/{RELEASE.release}/upgrade.json").exists()
