"""An upgrade that asks for more than migrations, by the application's changelog."""

from __future__ import annotations

import time

import pytest

from tests.e2e.conftest import MIGRATION, Deployment
from tests.e2e.harness import Application

pytestmark = pytest.mark.e2e

FIRST, SECOND = (f"7.{minor}.{int(time.time())}" for minor in (0, 1))
"""The time, because a sandbox that was kept has those of its last run."""
CHANGELOG = f"""\
# Changelog

## v{SECOND}
- [TODO DEPLOY] `rails upgrade:note[before]` => run this BEFORE running the migrations
- [TODO DEPLOY] `rails upgrade:note[after]`
- [TODO DEPLOY] look at the visits of last year
- [TODO DEPLOY] add the `MAX_VISITS` environment variable

## v{FIRST}
- [TODO DEPLOY] `rails upgrade:note[never]`
"""
TASK = """\
namespace :upgrade do
  desc "Writes down when it runs: whether the migration has been run, and what it can read"
  task :note, [:name] => :environment do |_, arguments|
    has = Visit.column_names.include?("note") ? "with" : "without"
    Visit.create!(name: "#{arguments[:name]}-#{has}-column-and-#{$stdin.read.bytesize}-bytes")
  end
end
"""


@pytest.fixture(scope="module")
def upgrading(deployment: Deployment) -> Deployment:
    """The first version, released by a stack that reads the changelog; the second one is committed."""
    application, project = deployment
    project.config["releve:upgrade"] = {"changelog": "CHANGELOG.md", "version": "VERSION"}
    (application.source / "CHANGELOG.md").write_text(CHANGELOG)
    (application.source / "lib/tasks/upgrade.rake").write_text(TASK)
    application.new_version(FIRST)
    project.release(FIRST)
    (application.source / "db/migrate/20240701000000_add_note.rb").write_text(MIGRATION)
    application.new_version(SECOND)
    return deployment


def visits(application: Application) -> list[str]:
    return application.sql("SELECT name FROM visits ORDER BY id").splitlines()


def test_an_upgrade_is_planned_refused_until_it_is_ready_done_and_not_undone(upgrading: Deployment) -> None:
    application, project = upgrading
    assert visits(application) == [], "a first release has nothing to upgrade from"
    before = application.containers()

    project.set("tag", SECOND)
    connections = application.sandbox.connections()
    refused = project.up()
    assert not refused.succeeded
    assert f"CHANGELOG.md line 6 ({SECOND}) asks for something that a person must do or decide" in refused.output
    assert "look at the visits of last year" in refused.output
    acknowledge = f"'upgrade.acknowledged[0]' {SECOND}:6"
    assert f"pulumi config set --path {acknowledge}" in refused.output
    assert "Traceback" not in refused.output
    assert SECOND not in application.sandbox.manifests(application.repository), "nothing was built"
    assert application.sandbox.connections() == connections, "no server was connected to"

    project.set("upgrade.acknowledged", [f"{SECOND}:6"])
    preview = project.preview()
    assert preview.succeeded, preview.output
    assert f"upgrade     {FIRST} → {SECOND}" in preview.output
    assert f"before the migrations: rails upgrade:note[before] ({SECOND}:4)" in preview.output
    lacking = project.up()
    assert not lacking.succeeded
    assert f"CHANGELOG.md line 7 ({SECOND}) asks for the variable MAX_VISITS" in lacking.output
    assert f"Add it to {application.directory}/.env" in lacking.output
    assert (application.containers(), visits(application)) == (before, [])

    application.write(application.read(".env") + "MAX_VISITS=100\n", ".env")
    done = project.up()
    assert done.succeeded, done.output
    assert application.serves(SECOND)
    notes = ["before-without-column-and-0-bytes", "after-with-column-and-0-bytes"]
    assert visits(application) == notes
    assert f"done: bundle exec rails upgrade:note[after] ({SECOND}:5)" in project.state()

    # The way back, by a stack that builds nothing, so that only the registry can tell.
    project.set("image.source", None)
    project.set("app.migrations", "compatible")
    project.set("tag", FIRST)
    back = project.up()
    assert back.succeeded, back.output
    assert f"upgrade     {SECOND} → {FIRST} asks for nothing" in back.output
    assert application.serves(FIRST)
    assert visits(application) == notes, "nothing ran, and nothing was undone"
    project.set("tag", SECOND)
    assert f"after the switch: rails upgrade:note[after] ({SECOND}:5)" in project.preview().output
