"""The strategy staged: prepared beside the running release, switched in one transaction, put back when that fails."""

from __future__ import annotations

import json
import re

import pytest

from tests.e2e.conftest import Deployment
from tests.e2e.harness import LOOKS_UP_ONCE, Application, Project, steps_run

pytestmark = pytest.mark.e2e


@pytest.fixture(autouse=True, scope="module")
def looked_up_once(deployment: Deployment) -> None:
    """All of this behind an nginx that must be told where the application is."""
    application, project = deployment
    project.release("1.0.0")
    application.configure_nginx(LOOKS_UP_ONCE)


def serving(deployment: Deployment) -> tuple[Application, Project, str]:
    """The application with a release that serves, whichever the test before has left, and its version."""
    application, project = deployment
    if "fabmanager" not in application.containers():
        project.release("1.0.0")
    version = str(application.health()["version"])
    project.set("tag", version)
    assert application.serves(version)
    return application, project, version


def compiled(output: str) -> bool:
    return "compiled beside the running release" in output


def test_the_first_rollout_over_an_installation_made_by_hand_can_be_put_back(
    deployment: Deployment, put_back: None
) -> None:
    application, project, version = serving(deployment)
    directory = application.directory
    # As if Relève had never been here: the same release, under a tag of their own, in containers started by hand.
    stable = "made/by-hand:stable"
    by_hand = re.sub(rf"image: {re.escape(application.repository)}:\S+", f"image: {stable}", application.read())
    assert stable in by_hand
    application.sandbox.on_server("docker", "tag", f"{application.repository}:{version}", stable)
    application.write(by_hand)
    application.sandbox.on_server("sh", "-c", f"cd {directory} && rm -rf .releve/[!b]* && docker compose up -d")
    application.move()
    project.set("tag", application.fresh_version("--broken", "boot"))
    failed = project.up()
    assert not failed.succeeded
    assert "recorded what runs here as found-" in failed.output
    assert re.search(r"The release found-\S+ was put back and serves", failed.output)
    assert application.read() == by_hand
    assert application.serves(version)
    assert application.would_recreate() == ""


def test_the_proxy_the_database_and_its_rows_are_left_alone_and_few_logins_are_needed(deployment: Deployment) -> None:
    application, project, _ = serving(deployment)
    application.sql("INSERT INTO visits (name, created_at, updated_at) VALUES ('Ada', now(), now())")
    rows = application.sql("SELECT count(*) FROM visits")
    containers = application.containers()
    version = application.fresh_version()
    connections = application.sandbox.connections()
    done = project.release(version)
    assert application.sandbox.connections() - connections <= 8
    assert application.serves(version)
    now = application.containers()
    assert {service for service in now if now[service] != containers[service]} == {"fabmanager", "worker"}
    assert application.sql("SELECT count(*) FROM visits") == rows
    assert application.would_recreate() == ""
    # The measured downtime is an output, and in the history.
    assert project.outputs()["downtimeSeconds"] == application.history()[-1]["downtime"]
    assert re.search(r"serves; the site did not answer for [0-9.]+ s", done.output)


def test_a_page_loaded_before_the_switch_finds_its_assets_and_going_back_pulls_and_compiles_nothing(
    deployment: Deployment,
) -> None:
    application, project, version = serving(deployment)
    old = application.asset_statuses()
    project.release(application.fresh_version())
    new = application.asset_statuses()
    assert set(old) != set(new)
    served = application.sandbox.on_server("sh", "-c", f"cd {application.directory}/public && find . -type f")
    assert {path for path in (*old, *new) if f".{path}\n" in served} == {*old, *new}
    manifests = re.findall(r"\.sprockets-manifest-\S+\.json", served)
    assert len(manifests) == 1, "of two manifests Sprockets takes either"

    application.sandbox.on_server("docker", "image", "prune", "--force")
    back = project.release(version)
    assert "is here already" in back.output
    assert "pull: pulled" not in back.output
    assert not compiled(back.output)
    assert application.serves(version)


def test_assets_that_the_image_holds_are_published_and_nothing_is_compiled(
    deployment: Deployment, put_back: None
) -> None:
    application, project, _ = serving(deployment)
    project.set("app.assetsFrom", "image")
    version = application.fresh_version()
    done = project.release(version)
    assert "took the assets that the image holds" in done.output
    assert not compiled(done.output)
    assert application.serves(version)


def test_releases_beyond_those_kept_go_with_their_images_and_assets_and_nothing_else(
    deployment: Deployment, put_back: None
) -> None:
    application, project, _ = serving(deployment)
    project.config["releve:keepReleases"] = 1
    first = application.fresh_version()
    project.release(first)
    # Beside what it has published there is an upload, which nobody has released.
    upload = f"{application.directory}/public/packs/uploads/photo.jpg"
    application.sandbox.as_root("sh", "-c", f"mkdir -p {upload.rpartition('/')[0]} && echo photo >{upload}")
    published = set(application.asset_statuses())
    second = application.fresh_version()
    project.release(second)
    gone = published - set(application.asset_statuses())
    assert gone, "what follows would show nothing"
    others = application.sandbox.on_server("docker", "image", "ls", "--format", "{{.Repository}}:{{.Tag}}").split()
    third = application.fresh_version()
    project.release(third)
    kept = application.sandbox.on_server("ls", f"{application.directory}/.releve/releases").split()
    # The live one, and the one before it, whose assets are still served.
    assert {name.partition("-")[0] for name in kept} == {second, third}
    assert f"{application.repository}:{first}" in others
    images = application.sandbox.on_server("docker", "image", "ls", "--format", "{{.Repository}}:{{.Tag}}").split()
    # With it the tag goes by which Relève kept it while it ran.
    removed = {name for name in set(others) - set(images) if ":releve-" not in name}
    assert removed == {f"{application.repository}:{first}"}
    files = application.sandbox.on_server("sh", "-c", f"cd {application.directory}/public && find . -type f")
    assert not [path for path in gone if f".{path}\n" in files]
    assert application.sandbox.on_server("cat", upload) == "photo\n"
    application.sandbox.as_root("rm", "-rf", upload.rpartition("/")[0])
    back = project.release(first)
    assert "released already: nothing is built" in back.output
    assert "pull: pulled" in back.output


def test_a_release_that_turns_healthy_and_dies_is_put_back(deployment: Deployment, put_back: None) -> None:
    application, project, version = serving(deployment)
    file = application.source / "config/initializers/dies.rb"
    # Not by a signal: the kernel keeps those from a container's first process.
    file.write_text("Thread.new { sleep 8; exit!(1) } if defined?(Puma)\n")
    project.set("tag", application.fresh_version())
    file.unlink()
    project.set("health.settle", 30)
    failed = project.up()
    assert not failed.succeeded
    assert "stopped or was started again" in failed.output
    assert "was put back and serves" in failed.output
    assert application.serves(version)


def has_note(application: Application) -> bool:
    names = application.sql("SELECT column_name FROM information_schema.columns WHERE table_name = 'visits'")
    return "note" in names.split()


def test_pending_migrations_run_under_a_dump_and_an_older_release_is_refused_afterwards(
    deployment: Deployment, put_back: None, migration: str
) -> None:
    application, project, version = serving(deployment)
    application.move()
    done = project.release(migration)
    assert "migrated the database" in done.output
    assert application.serves(migration)
    assert has_note(application)
    dump = re.findall(r"dumped the database .*to (\S+),", done.output)[0]
    assert application.sandbox.on_server("stat", "-c", "%a", f"{application.directory}/{dump}").strip() == "600"

    containers = application.containers()
    project.set("tag", version)
    refused = project.up()
    assert not refused.succeeded
    assert "it is ahead of this release" in refused.output
    assert f"{application.directory}/{dump}" in refused.output
    assert application.containers() == containers

    project.set("app.migrations", "compatible")
    back = project.up()
    assert back.succeeded, back.output
    assert application.serves(version)


def test_a_dump_can_be_made_at_any_time(deployment: Deployment) -> None:
    application, project, _ = serving(deployment)
    done = application.sandbox.run(project.directory, "./releve", "backup", "-s", project.stack)
    assert done.succeeded, done.output
    dump = re.findall(r"dumped the database .*to (\S+-on-demand\.dump),", done.output)[0]
    assert application.sandbox.on_server("stat", "-c", "%a", f"{application.directory}/{dump}").strip() == "600"


def test_a_failed_migration_is_put_back_and_the_dump_is_named(deployment: Deployment, put_back: None) -> None:
    application, project, version = serving(deployment)
    application.move()
    project.set("tag", application.fresh_version("--broken", "migration"))
    failed = project.up()
    assert not failed.succeeded
    assert "The migrations fail" in failed.output
    assert re.search(r"The database was migrated, or partly.* What it was before is in \S+\.dump", failed.output)
    assert application.serves(version)


def test_where_that_is_wanted_the_dump_is_restored_and_the_maintenance_page_was_there_meanwhile(
    deployment: Deployment, put_back: None, migration: str
) -> None:
    application, project, version = serving(deployment)
    application.sql("INSERT INTO visits (name, created_at, updated_at) VALUES ('Grace', now(), now())")
    rows = application.sql("SELECT count(*) FROM visits")
    project.config["releve:backup"] = {"restoreOnFailure": True}
    project.set("app.maintenancePage", "public/maintenance.html")
    # A command that only works while the page is there, where the server's user has it.
    page = f"{application.directory}/public/maintenance.html"
    seen = f"{application.directory}/.releve/page-seen"
    watch = f"until [ -e {page} ]; do sleep 0.1; done; touch {seen}"
    application.sandbox.on_server("sh", "-c", f"nohup timeout 300 sh -c '{watch}' >/dev/null 2>&1 &")
    project.set("app.beforeUp", [["sh", "-c", "echo the task speaks; exit 3"]])
    project.set("tag", migration)
    failed = project.up()
    assert not failed.succeeded
    assert "The task failed: sh -c" in failed.output
    assert "the task speaks" in failed.output
    assert "The database is what it was before the migrations" in failed.output
    assert not has_note(application)
    assert application.sql("SELECT count(*) FROM visits") == rows
    assert application.serves(version)
    assert application.sandbox.as_root("ls", seen).strip() == seen
    assert "maintenance.html" not in application.sandbox.on_server("ls", f"{application.directory}/public")


def test_tasks_run_once_a_release_and_a_failed_one_after_the_switch_is_reported(
    deployment: Deployment, put_back: None
) -> None:
    application, project, _ = serving(deployment)
    version = application.fresh_version()
    project.set("tag", version)
    project.set("app.beforeUp", [["echo", "before it"]])
    project.set("app.afterUp", [["echo", "after it"], ["test", "-e", "/usr/src/app/nowhere"]])
    failed = project.up()
    assert not failed.succeeded
    assert "up: done: echo before it" in failed.output
    assert "The task failed: test -e /usr/src/app/nowhere" in failed.output
    assert application.serves(version)

    project.set("app.afterUp", [["echo", "after it"], ["test", "-e", "/usr/src/app/Gemfile"]])
    again = project.up()
    assert again.succeeded, again.output
    assert "done before: echo after it" in again.output
    assert steps_run(again) == ["after-up", "purge"]


VALUES = {
    "PLAIN": "value",
    "DOLLAR": "a$HOME ${PATH} $$",
    "HASH": "a #b",
    "QUOTES": 'it\'s "so"',
    "SPACES": "  two  words ",
    "UNICODE": "élève ✓",
    "BACKSLASH": "C:\\n\\t",
    "EQUALS": "a=b==",
    "EMPTY": "",
}


def test_the_environment_of_the_configuration_arrives_as_it_is_and_its_values_are_shown_nowhere(
    deployment: Deployment, put_back: None
) -> None:
    application, project, version = serving(deployment)
    by_hand = dict(re.findall(r"^(\w+)=(.*)$", application.read(".env"), re.MULTILINE))
    project.config["releve:env"] = {name: value for name, value in by_hand.items() if name != "SECRET_KEY_BASE"}
    project.write()
    refused = project.up()
    assert not refused.succeeded
    assert "has names that the configuration lacks: SECRET_KEY_BASE" in refused.output

    project.config["releve:env"] = {**by_hand, **VALUES, "APP_LOCALE": "fr"}
    project.write()
    preview = project.preview("--diff")
    assert re.search(r"env DOLLAR \w+: a change compiles the assets again", preview.output), preview.output
    done = project.up()
    assert done.succeeded, done.output
    # Its packs depend on the locale, so they were compiled anew, with the environment that was not in place yet.
    assert compiled(done.output)
    assert "Livre des visites" in application.page()
    assert set(application.asset_statuses().values()) == {200}
    inside = application.sandbox.on_server(
        *("docker", "exec", application.containers()["fabmanager"], "ruby", "-rjson", "-e", "puts ENV.to_h.to_json")
    )
    arrived = json.loads(inside)
    assert {name: arrived.get(name) for name in VALUES} == VALUES
    assert application.sandbox.on_server("stat", "-c", "%a", f"{application.directory}/.env").strip() == "600"
    assert project.is_unchanged()
    secret = by_hand["SECRET_KEY_BASE"]
    for text in (preview.output, done.output, project.state(), application.read(".releve/latest.log")):
        assert secret not in text
        assert VALUES["QUOTES"] not in text

    # A release that fails does not leave its environment behind.
    env = application.read(".env")
    project.set("tag", application.fresh_version("--broken", "boot"))
    project.config["releve:env"] = {**by_hand, **VALUES, "APP_LOCALE": "en"}
    project.write()
    assert not project.up().succeeded
    assert application.read(".env") == env
    assert application.serves(version)
