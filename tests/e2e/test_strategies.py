"""Each strategy after every other one, for an application that is there at once and for one that takes its time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import httpx
import pytest

from tests.e2e.conftest import PORTS, Deployment
from tests.e2e.harness import Sandbox
from tests.e2e.tiny import SERVER, tiny_application, tiny_project

pytestmark = pytest.mark.e2e

# Each of the three after each other one, once. What takes its time is another thing to `rolling` alone.
ORDER = {
    0.3: ["staged", "rolling", "in-place", "staged", "in-place", "rolling", "staged"],
    5: ["staged", "rolling", "in-place", "rolling"],
}
NGINX = """\
resolver 127.0.0.11 valid=1s ipv6=off;
server {
    listen 80;
    location / {
        set $web web;
        proxy_pass http://$web:3000;
        proxy_connect_timeout 300ms;
    }
}
"""
COMPOSE_FILE = """\
services:
  web:
    image: {repository}:none
    init: true
  nginx:
    image: {registry}/nginx:1
    ports: ["{port}:80"]
    volumes: ["./nginx.conf:/etc/nginx/conf.d/default.conf:ro"]
"""


@pytest.fixture
def deployment(sandbox: Sandbox, tmp_path_factory: pytest.TempPathFactory, boot: float) -> Iterator[Deployment]:
    """The tiny application behind an nginx that asks again."""
    with ExitStack() as stack:
        source = tmp_path_factory.mktemp("strategies")
        application = stack.enter_context(tiny_application(sandbox, "strategies", source, port=next(PORTS)))
        project = stack.enter_context(tiny_project(application, tmp_path_factory.mktemp("strategies-project")))
        application.commit("server.pl", f"select undef, undef, undef, {boot};\n{SERVER}")
        application.write(NGINX, "nginx.conf")
        (project.directory / "compose.yml").write_text(
            COMPOSE_FILE.format(repository=application.repository, registry=sandbox.registry, port=application.port)
        )
        yield application, project


@pytest.mark.parametrize("boot", ORDER, ids=["quick", "slow"])
def test_every_strategy_works_after_every_other_one(deployment: Deployment, boot: float) -> None:
    application, project = deployment
    for number, strategy in enumerate(ORDER[boot], 1):
        application.commit("version", f"1.{number}.0")
        project.set("app.strategy", strategy)
        project.release(f"1.{number}.0")
        assert httpx.get(application.url, trust_env=False).text == f"1.{number}.0"
        assert application.would_recreate() == ""
