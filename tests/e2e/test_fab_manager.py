"""Fab-manager, as a stand-in has its shape: an installation made by hand from the stock Compose file, taken over."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest

from tests.e2e.conftest import PORTS, Deployment
from tests.e2e.harness import Application, Sandbox, fab_manager, set_variable

pytestmark = pytest.mark.e2e

DUMP = re.compile(r"\S+\.dump")
TASKS = ("setup:build_places_cache", "maintenance:regenerate_statistics")


@pytest.fixture(scope="module")
def deployment(sandbox: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    with fab_manager(sandbox, "fab-manager", tmp_path_factory.mktemp("fab-manager"), port=next(PORTS)) as both:
        yield both


@pytest.fixture
def upgraded(deployment: Deployment) -> Deployment:
    """6.5.10 serves, whatever the test before has left."""
    application, project = deployment
    application.git("switch", "--quiet", "--force", "--detach", "v6.5.10")
    if "<strong>6.5.10</strong>" not in application.page():
        project.release("6.5.10")
    project.set("tag", "6.5.10")
    return deployment


@contextmanager
def seen_by_visitors(application: Application, path: str = "/") -> Iterator[list[str]]:
    """What visitors get meanwhile, who ask for a page again and again: status and heading, or an error."""
    seen: list[str] = []
    over = threading.Event()

    def ask() -> None:
        while not over.wait(0.1):
            try:
                answer = httpx.get(f"{application.url}{path}", timeout=30, trust_env=False)
                heading = re.search("<h1>(.*)</h1>", answer.text)
                seen.append(f"{answer.status_code} {heading[1] if heading else ''}".strip())
            except httpx.HTTPError:
                seen.append("no connection")

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()


def health_questions(application: Application) -> int:
    """How often the application has been asked for /health, as its log has it."""
    return application.read("log/app-stdout.log").count('Started GET "/health"')


def commit(application: Application, version: str) -> None:
    """Commits what was changed in the source as that version."""
    (application.source / "package.json").write_text(json.dumps({"name": "fab-manager", "version": version}))
    application.git("commit", "--quiet", "--all", "--message", version)


def test_an_installation_made_by_hand_is_upgraded_over_migrations_with_a_dump_and_a_maintenance_page(
    deployment: Deployment,
) -> None:
    application, project = deployment
    containers, asked = application.containers(), health_questions(application)
    assert "<strong>6.3.1</strong>" in application.page()
    # Which version runs is what its container says: nothing of it is known to the plan.
    project.set("tag", "6.5.10")
    refused = project.up()
    assert not refused.succeeded
    assert "asks for the variable PLACES_COUNTRY, which 'fabmanager' does not get" in refused.output
    assert application.containers() == containers
    set_variable(application)
    with seen_by_visitors(application) as pages, seen_by_visitors(application, "/slow?seconds=2") as slow:
        done = project.release("6.5.10")
    assert re.search(r"recorded what runs here as found-\S+", done.output)
    assert "dumped the database 'fablab_production'" in done.output
    assert "<strong>6.5.10</strong>" in application.page()
    assert set(application.asset_statuses().values()) == {200}
    # Both tasks of the changelog, in its order; the first has filled what the migration has added.
    done_at = [done.output.index(f"done: bundle exec rails fablab:{task}") for task in TASKS]
    assert done_at == sorted(done_at)
    assert application.sql("SELECT count(*) FROM visits WHERE place IS NULL") == "0"
    # Compose recreates what is tied to the application; that is known before.
    now = application.containers()
    assert {name for name in now if now[name] != containers[name]} == {"fabmanager", "nginx"}
    assert "nginx" in project.state()
    assert application.would_recreate() == ""
    # While it was stopped visitors were told so, and no longer. No page failed, as our questions might have caused.
    assert "503 Maintenance" in pages
    assert pages[-1] == "200 Fab-manager"
    assert set(pages) <= {"200 Fab-manager", "503 Maintenance", "no connection"}
    assert "500" not in {answer.partition(" ")[0] for answer in slow}
    assert "200" in slow
    # The page that costs the others their connections is asked for when the release answers, and once more at the end.
    assert health_questions(application) - asked == 2
    assert project.is_unchanged()


def test_the_dump_holds_the_tables_of_the_application(upgraded: Deployment) -> None:
    application, _ = upgraded
    (dump,) = application.sandbox.on_server("ls", f"{application.directory}/.releve/backups").split()
    listing = application.sandbox.on_server(
        "sh", "-c", 'cd "$1" && docker compose exec -T postgres pg_restore --list <".releve/backups/$2"',
        "sh", application.directory, dump,
    )  # fmt: skip
    assert "dbname: fablab_production" in listing
    assert set(re.findall(r"TABLE DATA public (\S+)", listing)) == {
        *("ar_internal_metadata", "exports", "schema_migrations", "visits")
    }


def test_the_way_back_over_migrations_is_refused_with_the_dump_and_the_way_forward_is_open(
    upgraded: Deployment,
) -> None:
    application, project = upgraded
    containers, compose_file = application.containers(), application.read()
    application.git("switch", "--quiet", "--detach", "v6.3.1")
    project.set("tag", "6.3.1")
    refused = project.up()
    assert not refused.succeeded
    assert "it is ahead of this release" in refused.output
    assert DUMP.search(refused.output)
    assert (application.containers(), application.read()) == (containers, compose_file)
    assert "<strong>6.5.10</strong>" in application.page()

    application.git("switch", "--quiet", "--detach", "v6.5.10")
    commit(application, "6.5.11")
    forward = project.release("6.5.11")
    assert "stopped fabmanager" not in forward.output
    assert "<strong>6.5.11</strong>" in application.page()
    # The row of a migration that no version has a file for, older than all of them, is in nobody's way.
    assert application.sql("SELECT count(*) FROM schema_migrations WHERE version = '20160906145713'") == "1"


def test_a_dead_puma_under_a_living_supervisord_is_noticed_and_its_own_log_is_in_the_message(
    upgraded: Deployment, put_back: None
) -> None:
    application, project = upgraded
    (application.source / "config/puma.rb").write_text('raise "puma is not well"\n')
    commit(application, "6.5.12")
    project.set("tag", "6.5.12")
    project.set("health.timeout", 20)
    failed = project.up()
    assert not failed.succeeded
    assert "'fabmanager' does not answer as it should" in failed.output
    assert "tail /var/log/supervisor/app-stderr.log" in failed.output
    assert "puma is not well" in failed.output
    assert "The release 6.5.10" in failed.output
    assert "<strong>6.5.10</strong>" in application.page()


def test_assets_in_the_anonymous_volume_are_refused_with_the_line_to_add(upgraded: Deployment, put_back: None) -> None:
    application, project = upgraded
    before = application.read(), application.containers()
    project.set("app.assets", ["/usr/src/app/public/packs", "/usr/src/app/public/assets"])
    done = project.up()
    assert not done.succeeded
    assert "/usr/src/app/public/assets is on the anonymous volume /usr/src/app/public" in done.output
    assert "./assets:/usr/src/app/public/assets" in done.output
    assert (application.read(), application.containers()) == before
