"""One-shots on the application's image: when they run, and what comes of one that fails. Optional services."""

from __future__ import annotations

from typing import Any

import pytest

from server.request import Assets, Database, Strategy
from tests.server.server import IMAGE, MakeServer, Result, Server
from tests.server.test_staged import POSTGRES, history, phases

COMPOSE_FILE = """\
name: shop
services:
  web:
    image: app:1.0
    depends_on:
      migrate:
        condition: service_completed_successfully
  migrate:
    image: app:1.0
    command: [bin/rails, db:migrate]
"""

# What has run, as docker lists it: exited. $STUBS/code: the status with which `migrate` ends; `running`: it does not.
ENDS = (
    """
listed_state() {
    if grep -qxF -- "$1" "$STUBS/created" 2>/dev/null; then echo created
    elif [ "$1" != migrate ] || [ -e "$STUBS/runs" ]; then echo running
    else echo exited; fi
}
state_of() {
    code=$(cat "$STUBS/code" 2>/dev/null || echo 0)
    if [ "$1" != migrate ]; then answer state "running 0 today $(image_of "$1") 0"
    elif [ "$code" = running ]; then echo "running $(cat "$STUBS/restarts" 2>/dev/null || echo 0) today x 1 3"
    else echo "exited 0 today x 0 $code"; fi
}
case "$*" in
    'compose create --no-recreate migrate') note_created migrate; exit ;;
    logs*migrate) echo 'PG::UndefinedColumn: no column note'; exit ;;
    *-pending*) printf '   up     20240101000000  Create visits\\n  down    20240701000000  Add note\\n'; exit ;;
esac
"""
    + POSTGRES
)
NOTHING_PENDING = ENDS.replace("  down    20240701000000  Add note\\n", "")
RUNS = ("rm", "create", "start")
"""What it takes to run it."""
FACTS, DUMPS = ("exec", "exec", "exec"), ("exec", "exec")
"""What PostgreSQL is asked before anything is stopped, and a dump that is read to its end."""
UP = ("create", "start", "create --remove-orphans")
DATABASE = Database(service="db")
"""Without app.migrate."""


def run(server: Server, step: str, *, timeout: int = 9, **fields: Any) -> Result:
    return server.run(step, timeout=timeout, **{"strategy": Strategy.STAGED, "assets": Assets(), **fields})


def prepare(server: Server, behaviour: str = NOTHING_PENDING, **fields: Any) -> Server:
    server.compose_file.write_text(COMPOSE_FILE)
    server.behave(behaviour)
    result = run(server, "pull", **fields)
    assert result.status == 0, result
    server.forget_calls()
    return server


def test_it_has_ended_before_the_web_service_is_touched_and_runs_once(server: Server) -> None:
    prepare(server)
    result = run(server, "up")
    assert result.status == 0, result
    assert phases(server) == ["pending", *RUNS, *UP]
    assert ["start", "migrate"] in server.docker_calls("start")
    assert server.docker_calls("start").count(["start", "migrate"]) == 1
    assert "'migrate' ran to its end" in result.output
    assert server.compose_file.read_text() == COMPOSE_FILE.replace("app:1.0", IMAGE)
    assert history(server)[-1]["result"] == "released"


def test_it_is_said_before_anything_happens_that_it_gets_the_image(server: Server) -> None:
    server.compose_file.write_text(COMPOSE_FILE)
    server.behave(ENDS)
    result = run(server, "pull")
    assert "notice: 'migrate', which runs to its end, gets the image, too" in result.output


def test_one_that_fails_stops_the_release_with_its_log_before_the_web_service_is_touched(server: Server) -> None:
    prepare(server)
    (server.stubs / "code").write_text("3")
    result = run(server, "up")
    assert result.status == 1
    assert "The service 'migrate' ended with status 3" in result.errors
    assert "PG::UndefinedColumn: no column note" in result.errors
    assert phases(server)[: len(RUNS) + 1] == ["pending", *RUNS]
    # Its container is the old release's again before Compose sees what needs it, and would recreate that, too.
    assert phases(server)[len(RUNS) + 1 :] == ["rm", "create", *UP, "start"]
    assert history(server)[-1]["result"] == "restored"
    assert server.compose_file.read_text() == COMPOSE_FILE


def test_pending_migrations_are_dumped_for_before_it_runs_in_place_of_app_migrate(server: Server) -> None:
    prepare(server, ENDS)
    result = run(server, "up", database=DATABASE)
    assert result.status == 0, result
    done = phases(server)
    assert done[done.index("pending") :] == ["pending", *FACTS, "stop", *DUMPS, *RUNS, *UP]
    assert len(list((server.state / "backups").iterdir())) == 1


def test_where_pending_migrations_cannot_be_told_it_is_said_what_to_set(server: Server) -> None:
    prepare(server, 'case "$*" in compose*-pending*) exit 127 ;; esac\n' + ENDS)
    result = run(server, "up")
    assert result.status == 1
    assert "nor a one-shot migrates:  app.pending: ['true']" in result.errors


def test_where_app_migrate_is_set_that_has_run_before_it(server: Server) -> None:
    prepare(server, ENDS)
    result = run(server, "up", database=Database(service="db", migrate=("rails", "db:migrate")))
    assert result.status == 0, result
    done = phases(server)
    assert done[done.index("stop") :] == ["stop", *DUMPS, "migrate", *RUNS, *UP]


def test_the_dump_is_restored_where_it_fails_to_migrate(server: Server) -> None:
    prepare(server, ENDS)
    (server.stubs / "code").write_text("3")
    result = run(server, "up", database=Database(service="db", restore_on_failure=True))
    assert result.status == 1
    assert "The database is what it was before the migrations" in result.errors


@pytest.mark.parametrize(("restarts", "message"), [("9", "ended with status 3"), ("1", "has not ended in its time")])
def test_one_that_does_not_end_is_stopped_and_the_release_too(server: Server, restarts: str, message: str) -> None:
    prepare(server)
    (server.stubs / "code").write_text("running")
    (server.stubs / "restarts").write_text(restarts)
    limits = {**run_limits(server), "migrate": 1}
    result = run(server, "up", limits=limits)
    assert result.status == 1
    assert f"'migrate' {message}" in result.errors
    assert ["stop", "migrate"] in server.docker_calls("stop")


def run_limits(server: Server) -> dict[str, int]:
    return server.request("up", timeout=9).limits


def test_one_that_seems_to_end_and_runs_is_refused_before_anything_happens(server: Server) -> None:
    server.compose_file.write_text(COMPOSE_FILE)
    server.behave(ENDS)
    (server.stubs / "runs").touch()
    result = run(server, "pull")
    assert result.status == 1
    assert "If it is to keep running, add it to app.services" in result.errors
    assert run(server, "pull", one_shots=("migrate",)).status == 0


def test_one_that_is_needed_in_short_form_is_not_asked_to_run(server: Server) -> None:
    text = COMPOSE_FILE.replace("\n      migrate:\n        condition: service_completed_successfully", " [migrate]")
    prepare(server)
    server.compose_file.write_text(text + "    restart: on-failure\n")
    assert run(server, "pull").status == 0
    result = run(server, "up")
    assert result.status == 0, result


def test_one_on_another_image_that_is_needed_in_short_form_may_have_ended(server: Server) -> None:
    text = (
        "name: shop\nservices:\n  web:\n    image: app:1.0\n    depends_on: [migrate]\n  migrate:\n    image: minio:1\n"
    )
    server.compose_file.write_text(text + '    restart: "no"\n')
    server.behave(NOTHING_PENDING)
    database = Database(migrate=("rails", "db:migrate"))
    assert run(server, "pull", database=database).status == 0
    result = run(server, "up", database=database)
    assert result.status == 0, result
    assert server.docker_calls("start", "migrate") == []


def test_at_the_first_release_it_finds_what_it_may_use(server: Server) -> None:
    others = "  search:\n    image: search:1\n  nginx:\n    image: nginx:1\n    depends_on: [web]\n"
    prepare(server)
    server.compose_file.write_text(COMPOSE_FILE + others)
    server.behave('containers() { printf "%s\\n" "web running web" "migrate exited migrate"; }\n' + NOTHING_PENDING)
    assert run(server, "pull").status == 0
    result = run(server, "up")
    assert result.status == 0, result
    (first, *_) = server.docker_calls("compose", "up")
    assert first == ["compose", "up", "-d", "--no-recreate", "search"]


OPTIONAL = """\
name: shop
services:
  web:
    image: app:1.0
    depends_on:
      mail: {condition: service_started, required: false}
  mail:
    image: mail:1
"""


def test_an_optional_service_that_was_switched_off_is_neither_demanded_nor_started(server: Server) -> None:
    server.compose_file.write_text(OPTIONAL)
    server.behave('listed_state() { [ "$1" = mail ] && echo exited || echo running; }')
    assert run(server, "pull").status == 0
    server.forget_calls()
    result = run(server, "up", database=Database(migrate=("rails", "db:migrate"), pending=("true",)))
    assert result.status == 0, result
    assert not [call for call in server.docker_calls() if "mail" in call]
    assert phases(server)[-2:] == ["create", "create --remove-orphans"]


def test_what_runs_of_an_inactive_profile_is_no_orphan(server: Server) -> None:
    text = "name: shop\nservices:\n  web:\n    image: app:1.0\n  console:\n    image: app:1.0\n    profiles: [tools]\n"
    server.compose_file.write_text(text)
    server.behave('case "$*" in "compose --profile * config --services") printf "web\\nconsole\\n"; exit ;; esac')
    assert run(server, "pull").status == 0
    server.forget_calls()
    result = run(server, "up")
    assert result.status == 0, result
    assert ["compose", "create"] in server.docker_calls("compose", "create")
    assert not [call for call in server.docker_calls("compose") if "--remove-orphans" in call]


@pytest.mark.parametrize(("code", "status"), [("0", 0), ("3", 1)])
def test_in_place_it_must_have_ended_well(new_server: MakeServer, code: str, status: int) -> None:
    server = new_server()
    server.compose_file.write_text(COMPOSE_FILE)
    server.behave(ENDS)
    (server.stubs / "code").write_text(code)
    for step in ("stop", "up"):
        assert server.run(step).status == 0
    result = server.run("verify")
    assert result.status == status, result
    assert ("The service 'migrate' ended with status 3" in result.errors) is bool(status)


def test_in_place_one_for_which_compose_does_not_start_the_services_is_shown(server: Server) -> None:
    server.compose_file.write_text(COMPOSE_FILE)
    server.behave('case "$*" in "compose up "*) exit 1 ;; esac\n' + ENDS)
    (server.stubs / "code").write_text("3")
    assert server.run("stop").status == 0
    result = server.run("up")
    assert "The service 'migrate' ended with status 3" in result.errors
    assert "PG::UndefinedColumn: no column note" in result.errors
    assert "The services are stopped" in result.errors


def test_a_template_that_the_services_merge_gets_the_image_and_need_not_run(server: Server) -> None:
    text = "name: shop\nservices:\n  base: &base\n    image: app:1.0\n  web:\n    <<: *base\n    command: serve\n"
    server.compose_file.write_text(text)
    server.behave('listed_state() { [ "$1" = base ] && echo exited || echo running; }')
    result = run(server, "pull")
    assert "notice: 'base', which is not in app.services, gets the image, too" in result.output
    server.forget_calls()
    result = run(server, "up")
    assert result.status == 0, result
    assert server.compose_file.read_text() == text.replace("app:1.0", IMAGE)
    assert server.docker_calls("start") == [["start", "base"]]
