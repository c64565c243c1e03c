"""An application with a one-shot, a worker, and a service of an inactive profile on one image, with real Compose."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import httpx
import pytest

from tests.e2e.conftest import PORTS, Deployment
from tests.e2e.harness import Application, Project, Sandbox
from tests.e2e.test_strategies import NGINX
from tests.e2e.tiny import tiny_application, tiny_project

pytestmark = pytest.mark.e2e

COMPOSE_FILE = """\
x-app: &app
  image: {repository}:none
  init: true
services:
  web:
    <<: *app
    depends_on:
      migrate: {{condition: service_completed_successfully}}
      seeder: {{condition: service_started}}
  worker:
    <<: *app
    command: [sleep, "1000000"]
    restart: always
  migrate:
    <<: *app
    command: [sh, -c, "cat version; ! grep broken version || exit 9"]
  seeder:
    <<: *app
    command: ["true"]
    restart: on-failure
  console:
    <<: *app
    command: [sleep, "1000000"]
    profiles: [tools]
  mail:
    image: {registry}/nginx:1
  nginx:
    image: {registry}/nginx:1
    ports: ["{port}:80"]
    volumes: ["./nginx.conf:/etc/nginx/conf.d/default.conf:ro"]
    depends_on:
      mail: {{condition: service_started, required: false}}
"""


@pytest.fixture
def deployment(sandbox: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """The tiny application, whose Compose file is the server's own."""
    with ExitStack() as stack:
        source = tmp_path_factory.mktemp("one-shots")
        application = stack.enter_context(tiny_application(sandbox, "one-shots", source, port=next(PORTS)))
        project = stack.enter_context(tiny_project(application, tmp_path_factory.mktemp("one-shots-project")))
        application.write(NGINX, "nginx.conf")
        application.write(
            COMPOSE_FILE.format(repository=application.repository, registry=sandbox.registry, port=application.port)
        )
        project.config["releve:app"] |= {"services": ["web", "worker"], "pending": ["true"]}
        project.config["releve:backup"] = {"service": "web", "command": ["cat", "version"]}
        project.set("app.composeFile", None)
        yield application, project


def on_server(application: Application, command: str) -> str:
    return application.sandbox.on_server("sh", "-c", f"cd {application.directory} && {command}").strip()


def ended(application: Application, service: str) -> str:
    """The exit status of a one-shot, and the version that it ran with."""
    state = on_server(
        application, f"docker inspect -f '{{{{.State.Status}}}} {{{{.State.ExitCode}}}}' one-shots-{service}-1"
    )
    return f"{state} {on_server(application, f'docker logs one-shots-{service}-1 2>&1')}".strip()


def release(application: Application, project: Project, version: str) -> str:
    application.commit("version", version)
    output = project.release(version).output
    serves(application, version)
    return output


def serves(application: Application, version: str) -> None:
    assert httpx.get(application.url, trust_env=False).text == version
    assert ended(application, "migrate") == f"exited 0 {version}"
    assert ended(application, "seeder") == "exited 0"
    assert "Recreate" not in application.would_recreate()


def test_one_shots_and_profiles_through_releases_a_failure_and_a_rollback(deployment: Deployment) -> None:
    application, project = deployment
    output = release(application, project, "1.1.0")
    assert "notice: 'migrate', which runs to its end, gets the image, too" in output
    assert "console" not in application.containers()

    # By hand: a service of a profile is started, one that others can do without is stopped.
    on_server(application, "docker compose --profile tools up -d console && docker compose stop mail")
    console = application.containers()["console"]
    project.set("app.pending", ["sh", "-c", "exit 3"])
    output = release(application, project, "1.2.0")
    assert output.index("dumped the database") < output.index("'migrate' ran to its end")
    assert application.containers()["console"] == console
    assert "mail" not in application.containers()

    project.set("app.pending", ["true"])
    before, web = application.read(), application.containers()["web"]
    application.commit("version", "1.3.0-broken")
    project.set("tag", "1.3.0-broken")
    failed = project.up()
    assert not failed.succeeded
    assert "The service 'migrate' ended with status 9" in failed.output
    assert "was put back and serves" in failed.output, failed.output
    assert application.read() == before
    assert application.containers()["web"] == web
    serves(application, "1.2.0")

    project.release("1.1.0")
    serves(application, "1.1.0")

    project.set("app.strategy", "rolling")
    release(application, project, "1.4.0")
    application.commit("version", "1.5.0-broken")
    project.set("tag", "1.5.0-broken")
    failed = project.up()
    assert "The service 'migrate' ended with status 9" in failed.output
    serves(application, "1.4.0")
