"""./releve on a server with a release: what it says, that it changes nothing, and what it finds of changes by hand."""

from __future__ import annotations

import functools
import json
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import Deployment
from tests.e2e.harness import CHECKOUT, Application, Project, Result, steps_run
from tests.unit.sinks import webhook

pytestmark = pytest.mark.e2e

ASSETS = "public/assets"


def releve(project: Project, *arguments: str) -> Result:
    command, *more = arguments
    return project.sandbox.run(project.directory, "./releve", command, "--stack", project.stack, *more)


def drift(project: Project) -> list[str]:
    """What ./releve drift names: lines of "item: what"."""
    done = releve(project, "drift")
    assert done.status in (0, 2), done.output
    found = re.findall(r"^  (\S.*)$", done.output, re.MULTILINE)
    assert done.status == (2 if found else 0), done.output
    return found


def everything(application: Application) -> str:
    """Every file of the project with its date, and every container with its state."""
    files = application.sandbox.as_root("find", application.directory, "-printf", "%p %T@ %s %m\n")
    ids = application.sandbox.on_server("docker", "ps", "-aq", "--no-trunc").split()
    state = "{{.Id}} {{.State.Status}} {{.State.StartedAt}} {{.RestartCount}}"
    states = application.sandbox.on_server("docker", "inspect", "--format", state, *sorted(ids))
    return "\n".join(sorted(files.splitlines())) + states


@pytest.fixture
def released(deployment: Deployment) -> Deployment:
    """The application with a release that serves."""
    application, project = deployment
    if "fabmanager" not in application.containers():
        project.release("1.0.0")
    return application, project


def serving(application: Application, project: Project) -> str:
    """The version that the test before has left, which is the configured one from now on."""
    version = str(application.health()["version"])
    project.set("tag", version)
    return version


def two_releases(application: Application, project: Project) -> tuple[str, str]:
    """The version that serves, and the one that served before it."""
    version = serving(application, project)
    others = [it["release"] for it in application.history() if it["result"] == "released" and it["release"] != version]
    if not others:
        project.release(application.fresh_version())
        return two_releases(application, project)
    return version, others[-1]


def test_reading_commands_say_what_runs_and_leave_every_file_and_container_as_it_was(released: Deployment) -> None:
    application, project = released
    before = everything(application)
    status = releve(project, "status")
    assert status.succeeded, status.output
    assert re.search(r"running +1\.0\.0-[0-9a-f]{12}", status.output)
    assert "answers as it should" in status.output
    told: Any = json.loads(releve(project, "status", "--json").output)
    (server,) = told["servers"].values()
    assert server["image"] == told["wanted"]["released"] == project.outputs()["release"]
    assert {it["service"] for it in server["containers"]} == {"fabmanager", "worker", "postgres", "nginx"}
    assert drift(project) == []
    history = releve(project, "history", "--json")
    assert json.loads(history.output)[-1]["release"] == "1.0.0"
    assert "listening" in releve(project, "logs", "--tail", "50").output.lower()
    assert "purge: kept" not in releve(project, "logs").output
    assert releve(project, "backups").succeeded
    doctor = releve(project, "doctor")
    assert doctor.succeeded, doctor.output
    assert "fit for every strategy" in doctor.output
    assert everything(application) == before


@contextmanager
def changed(application: Application, script: str, back: str) -> Iterator[None]:
    """The server after a change by hand, which is undone in every outcome."""
    directory = application.directory
    try:
        application.sandbox.as_root("sh", "-c", f"cd {directory} && {script}")
        yield
    finally:
        application.sandbox.as_root("sh", "-c", f"cd {directory} && {back}")


EDIT = "cp -p docker-compose.yml /tmp/kept.yml && {} && : "
BACK = "cp -p /tmp/kept.yml docker-compose.yml"
LOOPS = (
    "for _ in $(seq 300); do "
    "case \"$(docker inspect -f '{{{{.State.Status}}}} {{{{.RestartCount}}}}' {name}-nginx-1)\" in "
    "restarting\\ [5-9]) break ;; esac; sleep 0.1; done"
)
"""Until Docker has started it so often that it waits for seconds before the next time."""
CHANGES = {
    "Compose file: docker-compose.yml was edited: nginx": (
        EDIT.format("sed -i 's/^  nginx:/  nginx:\\n    labels: {by: hand}/' docker-compose.yml"), BACK,
    ),
    "service: {name}-worker-1 is exited": ("docker compose stop worker", "docker compose start worker"),
    "service: {name}-nginx-1 is paused": ("docker compose pause nginx", "docker compose unpause nginx"),
    "service: {name}-nginx-1 is restarting": (
        EDIT.format("sed -i 's/^  nginx:/  nginx:\\n    command: [\"false\"]/' docker-compose.yml")
        + f"&& docker compose up -d nginx && {LOOPS}; {BACK}",
        "docker compose up -d nginx",
    ),
    "other image: 'old' is on the same repository": (
        EDIT.format(
            "printf '  old:\\n    image: {repository}:0.9\\n' >x && "
            "sed -i '/^services:/r x' docker-compose.yml"
        ),
        f"{BACK}; rm -f x",
    ),
    "orphan: {name}-cache-1 belongs to no service": (
        "docker tag $(docker inspect -f '{{{{.Image}}}}' {name}-nginx-1) other:1 && "
        + EDIT.format("printf '  cache:\\n    image: other:1\\n' >x && sed -i '/^services:/r x' docker-compose.yml")
        + f"&& docker compose create cache && {BACK}",
        "docker rm -f $(docker ps -aqf name=-cache-1); rm -f x",
    ),
    "assets: changed or missing in": (
        "for f in public/assets/*.css; do mv $f /tmp/kept.css; break; done; printf %s $f >/tmp/kept.name",
        'mv /tmp/kept.css "$(cat /tmp/kept.name)"',
    ),
    "image: {name}-worker-1 runs": (
        "docker tag $(docker inspect -f '{{{{.Image}}}}' {name}-nginx-1) other:1 && "
        + EDIT.format("sed -i 's#^    image: .*/{name}:.*#    image: other:1#' docker-compose.yml")
        + f"&& docker compose up -d --no-deps worker; {BACK}",
        "docker compose up -d --no-deps worker",
    ),
}  # fmt: skip


@pytest.mark.parametrize("expected", CHANGES)
def test_drift_names_what_was_changed_by_hand(released: Deployment, expected: str) -> None:
    application, project = released
    names = {"{name}": application.name, "{repository}": application.repository, "{{{{": "{{", "}}}}": "}}"}
    script, back = (functools.reduce(lambda text, pair: text.replace(*pair), names.items(), text)
                    for text in CHANGES[expected])  # fmt: skip
    with changed(application, script, back):
        found = drift(project)
        assert any(line.startswith(expected.replace("{name}", application.name)) for line in found), found
    assert drift(project) == []


def test_drift_names_the_variables_that_were_changed_and_no_value(released: Deployment) -> None:
    application, project = released
    if "SECRET_KEY_BASE" not in application.read(".env"):
        pytest.fail("the example has no SECRET_KEY_BASE any more")
    before = application.read(".env")
    project.config["releve:env"] = dict(line.split("=", 1) for line in before.splitlines() if "=" in line)
    project.write()
    assert project.up().succeeded
    edit = "cp -p .env /tmp/kept.env && echo ADDED=hidden-value >>.env"
    with changed(application, edit, "cp -p /tmp/kept.env .env"), webhook() as (port, posted):
        project.config["releve:notify"] = {"urls": [f"json://127.0.0.1:{port}/"]}
        project.write()
        assert releve(project, "drift", "--notify").status == 2
        project.set("notify", None)
        (line,) = drift(project)
        assert line == "environment: .env was edited: ADDED"
        assert [message["message"] for message in posted] == [f"{application.sandbox.server}: {line}"]
    assert drift(project) == []


def test_another_host_key_is_drift_and_a_server_that_is_away_is_an_error(released: Deployment, put_back: None) -> None:
    _, project = released
    # Another machine that answers there.
    project.set("servers.0.hostKey", "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAINu5pkMrBSN8gnPn/7sTgGhLLboSgEWsYkUlT74qIPeM")
    (line,) = drift(project)
    assert line.startswith("host key: what answers at")
    project.set("servers.0.port", 1)
    away = releve(project, "drift")
    assert away.status == 1
    assert "cannot be reached" in away.output


def test_whoever_is_to_be_told_is_told_of_a_release_and_of_one_that_was_put_back(
    released: Deployment, put_back: None
) -> None:
    application, project = released
    with webhook() as (port, posted):
        # The second takes nothing, which changes no outcome.
        project.config["releve:notify"] = {"urls": [f"json://127.0.0.1:{port}/", "json://127.0.0.1:1/"]}
        version = application.fresh_version()
        done = project.release(version)
        assert "warning: nobody was told there: notify.urls[1] (json)" in done.output
        assert re.search(rf"server\d serves {version} at", done.output)
        assert "to go back: pulumi config set tag" in done.output
        project.set("tag", application.fresh_version("--broken", "boot"))
        assert not project.up().succeeded
        assert application.serves(version)
    titles = [message["title"] for message in posted]
    assert titles == [
        f"{project.stack}: {version} serves",
        f"{project.stack}: {project.config['releve:tag']} was put back",
    ]


def test_rollback_proposes_the_release_before_sets_its_tag_and_rolls_it_out(
    released: Deployment, put_back: None
) -> None:
    application, project = released
    version, before = two_releases(application, project)
    done = releve(project, "rollback", "--yes")
    assert done.succeeded, done.output
    assert f"from {version} back to {before}, which the server has kept" in done.output
    assert application.serves(before)
    assert drift(project) == []
    assert f"releve:tag: {before}" in project.stack_file.read_text()


def test_a_backup_that_is_restored_brings_deleted_rows_back_and_what_was_there_before_is_kept(
    released: Deployment, put_back: None
) -> None:
    application, project = released
    version = serving(application, project)
    application.sql("INSERT INTO visits (name, created_at, updated_at) VALUES ('Grace', now(), now())")
    assert releve(project, "backup").succeeded
    (*_, newest) = json.loads(releve(project, "backups", "--json").output)
    application.sql("DELETE FROM visits WHERE name = 'Grace'")
    application.sql("INSERT INTO visits (name, created_at, updated_at) VALUES ('Later', now(), now())")
    refused = releve(project, "restore", "no.dump", "--yes")
    assert "./releve backups lists them" in refused.output
    done = releve(project, "restore", newest["name"], "--yes")
    assert done.succeeded, done.output
    assert application.sql("SELECT count(*) FROM visits WHERE name = 'Grace'") == "1"
    assert application.sql("SELECT count(*) FROM visits WHERE name = 'Later'") == "0"
    assert application.serves(version)
    assert "-before-restore.dump" in releve(project, "backups").output
    assert releve(project, "status").succeeded


# An index by a function that takes its time: it is made anew when the dump is restored.
SLOW = """
CREATE FUNCTION slow(integer) RETURNS integer IMMUTABLE LANGUAGE plpgsql AS 'BEGIN RETURN $1; END';
CREATE TABLE slow AS SELECT 1 AS number;
CREATE INDEX ON slow (slow(number));
CREATE OR REPLACE FUNCTION slow(integer) RETURNS integer IMMUTABLE LANGUAGE plpgsql
    AS 'BEGIN PERFORM pg_sleep(3); RETURN $1; END'
"""
ASLEEP = "SELECT count(*) FROM pg_stat_activity WHERE datname LIKE 'releve%' AND wait_event = 'PgSleep'"


def test_a_restore_that_is_killed_on_the_way_says_so_and_the_same_command_repeats_it(
    released: Deployment, put_back: None, tmp_path: Path
) -> None:
    application, project = released
    version = serving(application, project)
    application.sql(SLOW)
    assert releve(project, "backup").succeeded
    (*_, newest) = json.loads(releve(project, "backups", "--json").output)
    application.sql("DROP TABLE slow; DROP FUNCTION slow")
    command = ["./releve", "restore", newest["name"], "--yes", "--stack", project.stack]
    with (tmp_path / "output").open("wb") as output:
        restore = project.sandbox.start([str(CHECKOUT / "sandbox/run"), *command], project.directory, output)
        deadline = time.monotonic() + 60
        while application.sql(ASLEEP) != "1":
            assert time.monotonic() < deadline, "the dump is not being restored"
        (process,) = re.findall(r"process (\d+), step restore", application.read(".releve/lock"))
        application.sandbox.as_root("kill", "-9", process)
        assert restore.wait(60) != 0
    assert "has ended, and restore had not" in (tmp_path / "output").read_text()
    status = releve(project, "status")
    assert status.status == 1
    assert f"was interrupted; go on with  ./releve restore {newest['name']}" in status.output
    done = project.sandbox.run(project.directory, *command)
    assert done.succeeded, done.output
    assert application.sql("SELECT number FROM slow") == "1"
    application.sql("DROP TABLE slow; DROP FUNCTION slow")
    assert application.serves(version)
    assert releve(project, "status").succeeded


def test_migrations_are_rehearsed_on_a_copy_while_the_site_serves(
    released: Deployment, put_back: None, migration: str
) -> None:
    application, project = released
    version = serving(application, project)
    # Built and released on the registry, and refused on the server before anything is changed.
    project.set("app.pending", ["false"])
    project.set("tag", migration)
    assert not project.up().succeeded
    project.set("app.pending", None)
    done = releve(project, "rehearse")
    assert done.succeeded, done.output
    assert re.search(r"1 migrations were pending; on the copy they took \d+ s", done.output)
    names = application.sql("SELECT column_name FROM information_schema.columns WHERE table_name = 'visits'")
    assert "note" not in names.split()
    assert "releve_restored" not in application.sql("SELECT datname FROM pg_database")
    assert application.serves(version)


def test_what_was_approved_is_rolled_out_and_nothing_else(released: Deployment, put_back: None) -> None:
    application, project = released
    _, before = two_releases(application, project)

    def plan() -> Any:
        return json.loads(releve(project, "plan", "--json").output)

    def up(fingerprint: str) -> Result:
        command = ("pulumi", "up", "--yes", "--skip-preview", "--non-interactive", "--stack", project.stack)
        return project.sandbox.run(project.directory, "env", f"RELEVE_APPROVED={fingerprint}", *command)

    project.set("tag", version := application.fresh_version())
    approved = plan()["fingerprint"]
    connections = application.sandbox.connections()
    project.set("app.beforeUp", [["true"]])
    refused = up(approved)
    assert not refused.succeeded
    assert f"this is not what was approved: RELEVE_APPROVED is {approved}" in refused.output
    assert version not in application.sandbox.manifests(application.repository)
    assert application.sandbox.connections() == connections
    project.set("app.beforeUp", None)
    project.set("tag", before)
    planned = plan()
    done = up(planned["fingerprint"])
    assert done.succeeded, done.output
    assert application.serves(before)
    assert planned["servers"][0]["steps"] == steps_run(done)


def test_a_console_is_in_a_container_of_its_own_and_the_databases_one_is_the_applications(released: Deployment) -> None:
    application, project = released
    version, before = serving(application, project), application.containers()
    assert releve(project, "console", "--", "cat", "VERSION").output.strip().endswith(version)
    stack = project.stack
    asked = f"echo 'SELECT current_database()' | ./releve console --db --stack {stack}"
    assert "fabmanager_production" in project.sandbox.run(project.directory, "sh", "-c", asked).output
    asked = f"echo 'puts Visit.table_name.upcase' | ./releve console --rails --stack {stack}"
    assert "VISITS" in project.sandbox.run(project.directory, "sh", "-c", asked).output
    assert application.containers() == before
