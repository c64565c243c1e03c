"""The first release on a server that has nothing but an empty directory, and the way out of what fails there."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest

from tests.e2e.conftest import PORTS
from tests.e2e.harness import Application, Project, Sandbox, steps_run
from tests.e2e.tiny import tiny_application, tiny_project

pytestmark = pytest.mark.e2e

COMPOSE_FILE = """\
services:
  web:
    image: {repository}:none
    env_file: .env
    user: "0:0"
    ports: ["{port}:3000"]
    restart: always
    volumes: ["./public:/app/public", "./uploads:/app/uploads"]
    depends_on:
      db: {{condition: service_healthy}}
  db:
    image: {registry}/postgres:15
    environment: {{POSTGRES_PASSWORD: "$DB_PASSWORD"}}
    healthcheck: {{test: [CMD, pg_isready, --host, 127.0.0.1], interval: 1s, retries: 60}}
"""
PASSWORD = 'it\'s a \\ "$5" # secret\\'


@pytest.fixture(scope="module")
def deployment(sandbox: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Application, Project]]:
    source = tmp_path_factory.mktemp("first-source")
    directory = tmp_path_factory.mktemp("first-project")
    with (
        tiny_application(sandbox, "first", source, port=next(PORTS)) as application,
        tiny_project(application, directory) as project,
    ):
        text = COMPOSE_FILE.format(repository=application.repository, port=application.port, registry=sandbox.registry)
        (directory / "compose.yml").write_text(text)
        project.config["releve:app"] |= {
            "assets": ["/app/public"],
            # Only root may write there.
            "precompile": ["sh", "-c", "touch cache && echo 'a{}' >public/a.css"],
            "pending": ["sh", "-c", "test -e uploads/migrated || exit 3"],
            "migrate": ["sh", "-c", 'printf %s "$DB_PASSWORD" >uploads/migrated'],
        }
        project.config["releve:backup"] = {"service": "db", "command": ["echo", "a dump"]}
        project.config["releve:env"] = {"PASSWORD": "misnamed-password"}
        project.write()
        yield application, project


def test_what_the_release_needs_starts_with_its_compose_file_and_environment_once_these_are_right(
    deployment: tuple[Application, Project],
) -> None:
    application, project = deployment
    project.set("tag", "1.0.0")
    failed = project.up()
    assert not failed.succeeded
    assert "'db' cannot be started" in failed.output
    assert "POSTGRES_PASSWORD: must be set" in failed.output  # its own log
    project.set("env", {"DB_PASSWORD": PASSWORD})
    done = project.up()
    assert done.succeeded, done.output
    assert "time without an answer: none, as nothing served before" in done.output
    assert application.history()[-1]["downtime"] is None
    assert application.page() == "1.0.0"
    assert application.containers().keys() == {"web", "db"}
    assert application.would_recreate() == ""
    # What was written before anything was in place is in the directory itself.
    assert application.read("uploads/migrated") == PASSWORD
    for printed in (failed.output, done.output):
        assert "misnamed-password" not in printed
        assert PASSWORD not in printed


def test_after_the_servers_compose_file_was_mended_the_same_command_goes_on(
    deployment: tuple[Application, Project],
) -> None:
    application, project = deployment
    text = application.read()
    application.write(text.replace('user: "0:0"', 'user: "12345:12345"'))
    project.set("app.composeFile", None)
    (application.source / "version").write_text("1.1.0")
    subprocess.run(["git", "-C", application.source, "commit", "--quiet", "--all", "--message", "1.1.0"], check=True)
    # Docker made such directories for a former version.
    left = f"{application.directory}/.releve/tmp/project/uploads"
    application.sandbox.as_root("sh", "-c", f"mkdir -p {left} && touch {left}/file")
    project.set("tag", "1.1.0")
    failed = project.up()
    assert not failed.succeeded
    assert "precompile: The command failed" in failed.output
    assert application.page() == "1.0.0"
    application.write(text)
    done = project.up()
    assert done.succeeded, done.output
    assert steps_run(done) == ["precompile", "up", "purge"]
    assert application.page() == "1.1.0"
    assert 'user: "0:0"' in application.read()
    assert ".releve/left-" not in application.sandbox.as_root("find", f"{application.directory}/.releve")
