"""A server whose Engine keeps images in containerd's store, and an installation made by hand under a name of its own.

An image's id is its digest there, and one whose tag has moved on is forgotten, although a container runs it.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack

import httpx
import pytest

from tests.e2e.conftest import PORTS, Deployment
from tests.e2e.harness import Application, Sandbox
from tests.e2e.test_strategies import NGINX
from tests.e2e.tiny import SERVER, tiny_application, tiny_project

pytestmark = pytest.mark.e2e

NAME = "fablab"
BY_HAND = f"by hand {os.getpid()}"
"""Of a sandbox that was kept, the server has what former runs put back: images of the same files are the same."""
COMPOSE_FILE = """\
services:
  web:
    image: {repository}:by-hand
    init: true
  nginx:
    image: {registry}/nginx:1
    env_file: nginx.env
    ports: ["{port}:80"]
    volumes: ["./nginx.conf:/etc/nginx/conf.d/default.conf:ro"]
"""


@pytest.fixture
def deployment(sandbox: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """The tiny application behind an nginx, started by hand with `docker compose -p`; its tag has moved on since."""
    server = sandbox.add_server("server3", "--image-store", "containerd")
    with ExitStack() as stack:
        source = tmp_path_factory.mktemp("containerd")
        application = stack.enter_context(tiny_application(server, "containerd", source, port=next(PORTS)))
        project = stack.enter_context(tiny_project(application, tmp_path_factory.mktemp("containerd-project")))
        project.set("app.composeFile", None)
        application.write(NGINX, "nginx.conf")
        application.write("WORKERS=2\n", "nginx.env")
        application.write(
            COMPOSE_FILE.format(repository=application.repository, registry=server.registry, port=application.port)
        )
        push_by_hand(application, BY_HAND)
        compose(application, "-p", NAME, "up", "-d")
        push_by_hand(application, "moved on")
        compose(application, "-p", NAME, "pull", "--quiet", "web")
        stack.callback(compose, application, "-p", NAME, "down")
        yield application, project


def push_by_hand(application: Application, version: str) -> None:
    """Builds a version and pushes it under the tag that the Compose file names."""
    image, registry = f"{application.repository}:by-hand", application.sandbox.registry
    application.commit("version", version)
    build = ["build", "--quiet", "--build-arg", f"BASE_IMAGE={registry}/debian:bookworm-slim", "--tag", image]
    for command in ([*build, str(application.source)], ["push", "--quiet", image]):
        subprocess.run(["docker", *command], check=True, capture_output=True)


def compose(application: Application, *arguments: str) -> None:
    """Runs `docker compose` as somebody who has logged in."""
    script = 'cd "$1" && shift && exec docker compose "$@" 2>&1'
    application.sandbox.on_server("sh", "-c", script, "sh", application.directory, *arguments)


def test_an_installation_made_by_hand_is_released_over_and_put_back_by_every_strategy(deployment: Deployment) -> None:
    application, project = deployment

    def serves(version: str) -> bool:
        return httpx.get(application.url, trust_env=False).text == version

    application.commit("server.pl", "die 'no such fab lab';")
    project.set("tag", "1.0.0")
    containers = application.containers()
    refused = project.up()
    assert not refused.succeeded
    assert f"are of the Compose project '{NAME}': {NAME}-nginx-1, {NAME}-web-1" in refused.output, refused.output
    assert application.containers() == containers
    application.write(f"COMPOSE_PROJECT_NAME={NAME}\n", ".env")

    broken = project.up()
    assert not broken.succeeded
    assert "the image that 'web' runs was no longer here; it is again" in broken.output, broken.output
    assert "was put back and serves" in broken.output
    assert serves(BY_HAND)
    application.commit("server.pl", SERVER)

    for strategy in ("staged", "rolling"):
        project.set("app.strategy", strategy)
        for version in (f"1.1.0-{strategy}", f"1.2.0-{strategy}"):
            application.commit("version", version)
            done = project.release(version)
            assert serves(version)
            assert "too: " not in done.output, done.output
        application.commit("server.pl", "die 'no such fab lab';")
        project.set("tag", f"1.3.0-{strategy}")
        broken = project.up()
        assert not broken.succeeded
        assert "was put back and serves" in broken.output, broken.output
        assert serves(version)
        application.commit("server.pl", SERVER)
        project.release(f"1.1.0-{strategy}")
        assert serves(f"1.1.0-{strategy}")
        assert application.would_recreate() == ""

    application.write(application.read().replace("    env_file", "    labels: [by.hand=yes]\n    env_file"))
    done = project.release(f"1.2.0-{strategy}")
    assert "notice: 'nginx' will be recreated, too: its settings were changed since it was made" in done.output
    assert application.containers()["nginx"] != containers["nginx"]
