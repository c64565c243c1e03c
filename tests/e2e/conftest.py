from __future__ import annotations

import copy
import itertools
import os
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.e2e.harness import Application, Project, Sandbox, placed, project_of

Deployment = tuple[Application, Project]
# A module removes what it has placed before the next one begins.
PORTS = itertools.cycle(range(8081, 8089))


@pytest.fixture(scope="session")
def sandbox() -> Iterator[Sandbox]:
    """A sandbox of the tests' own. RELEVE_KEEP_SANDBOX=1 leaves it, which makes the next run quicker."""
    sandbox = Sandbox()
    try:
        sandbox.up()
        yield sandbox
    finally:
        if not os.environ.get("RELEVE_KEEP_SANDBOX"):
            sandbox.down()


@pytest.fixture(scope="module")
def deployment(
    sandbox: Sandbox, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Deployment]:
    """One application with its own directory, database and source, and the project that releases it.

    Shared by a module's tests; each of them brings it to the release it needs, which costs nothing where it is there.
    """
    name = request.module.__name__.rpartition(".")[2].removeprefix("test_").replace("_", "-")
    with ExitStack() as stack:
        application = stack.enter_context(placed(sandbox, name, tmp_path_factory.mktemp(name), port=next(PORTS)))
        yield application, stack.enter_context(project_of(application, tmp_path_factory.mktemp(f"{name}-project")))


@pytest.fixture
def put_back(deployment: Deployment) -> Iterator[None]:
    """For tests that change configuration: it is put back, in every outcome."""
    _, project = deployment
    config = copy.deepcopy(project.config)
    try:
        yield
    finally:
        project.config = config
        project.write()


MIGRATION = """class AddNote < ActiveRecord::Migration[6.1]
  def change
    add_column :visits, :note, :string
  end
end
"""


@pytest.fixture
def migration(deployment: Deployment) -> Iterator[str]:
    """A version that adds a column; afterwards the database is as before."""
    application, _ = deployment
    file = application.source / "db/migrate/20240701000000_add_note.rb"
    file.write_text(MIGRATION)
    try:
        yield application.fresh_version()
    finally:
        file.unlink()
        application.sql("ALTER TABLE visits DROP COLUMN IF EXISTS note")
        application.sql("DELETE FROM schema_migrations WHERE version = '20240701000000'")
