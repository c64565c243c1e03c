"""The step `facts` of a project that nothing is configured for: what it tells for ./releve adopt, and no trace."""

from __future__ import annotations

import json

import pytest

from server import survey
from server.request import dump
from server.survey import NOWHERE, Place, Survey
from tests.server.server import MakeServer, Result, Server

pytestmark = pytest.mark.server

COMPOSE_FILE = """\
services:
  web:
    image: shop/app:1.0
    environment: {SECRET_KEY_BASE: hunter2, DEFAULT_HOST: shop.example.org}
    healthcheck: {test: ["CMD", "curl", "http://hunter2@127.0.0.1:3000/up?a=1"]}
    restart: always
  worker:
    image: shop/app:1.0
    command: [sidekiq, --password, hunter2]
    restart: always
  migrate:
    image: shop/app:1.0
    command: [rake]
    restart: "no"
  base:
    image: shop/app:1.0
"""


@pytest.fixture
def server(new_server: MakeServer) -> Server:
    return new_server(services=())


def told(result: Result) -> Survey:
    assert result.status == 0, result
    assert "hunter2" not in result.output
    return survey.load(result.output)


def trace(server: Server) -> list[tuple[str, int, int]]:
    return sorted((str(it), it.stat().st_mtime_ns, it.lstat().st_size) for it in server.directory.rglob("*"))


def test_an_installation_is_told_of_without_a_secret_and_left_as_it_is(server: Server) -> None:
    server.compose_file.write_text(COMPOSE_FILE)
    before = trace(server)
    found = told(server.run("facts")).installation
    assert found is not None
    assert (found.project, found.directory) == ("shop", str(server.directory))
    web, worker, migrate, base = found.services
    assert (web.image, web.told, web.health) == ("shop/app:1.0", {"DEFAULT_HOST": "shop.example.org"}, "/up?a=1")
    assert web.variables == ("SECRET_KEY_BASE", "DEFAULT_HOST")
    assert (web.ends, worker.ends, migrate.ends) == (False, False, True)
    assert (worker.hands_on, base.hands_on) == (False, True)
    assert web.running is not None
    assert web.running.image == "registry.example:5000/shop/app:1.0"
    assert trace(server) == before


@pytest.mark.parametrize("runs", [True, False])
def test_what_an_nginx_passes_on_is_told_by_the_hosts_that_it_serves(server: Server, runs: bool) -> None:
    if not runs:
        (server.stubs / "project.answer").write_text("nginx running nginx\n")
    server.behave(
        """case "$*" in
        'top nginx'*) printf 'PID COMMAND\\n1 nginx: master process nginx -g daemon off;\\n'; exit ;;
        'exec nginx nginx'*-T) cat "$STUBS/nginx.conf"; exit ;;
        esac"""
    )
    (server.stubs / "nginx.conf").write_text(
        "server { listen 443 ssl; server_name shop.example.org; location / { proxy_pass http://web:3000; } }\n"
        "server { listen 80; server_name other.example.org; return 301 https://shop.example.org; }\n"
    )
    found = told(server.run("facts")).installation
    assert found is not None
    assert [(it.proxy, it.service, it.host, it.tls) for it in found.passing] == [
        ("nginx", "web", "shop.example.org", True)
    ]
    assert [it.name for it in found.services if it.running] == (["nginx", "web"] if runs else ["nginx"])


def test_the_databases_of_postgresql_are_told_and_which_of_them_are_migrated(server: Server) -> None:
    server.behave(
        """case "$*" in
        'top web -o'*) printf 'PID COMMAND\\n1 postgres\\n'; exit ;;
        'compose exec -T web sh -c'*template1*) printf 'postgres\\ntemplate1\\nshop\\n'; exit ;;
        'compose exec -T web sh -c'*shop) echo t; exit ;;
        'compose exec -T web sh -c'*) echo f; exit ;;
        esac"""
    )
    found = told(server.run("facts")).installation
    assert found is not None
    assert found.postgres == ("web",)
    assert [(it.name, it.is_migrated) for it in found.databases] == [("postgres", False), ("shop", True)]


def test_without_a_directory_it_is_told_where_projects_are(server: Server) -> None:
    fields = ["shop-web-1", "running", "x", "", "", "shop", str(server.directory), "", "web", "False", "", ""]
    (server.stubs / "placed.answer").write_text(json.dumps(fields) + "\n")
    request = json.loads(dump(server.request("facts")))
    request["directory"] = NOWHERE
    found = told(server.run_exactly(server.command("facts"), stdin=json.dumps(request)))
    assert found == Survey((Place("shop", str(server.directory), 1),), None)


def test_a_compose_file_that_compose_refuses_is_said(server: Server) -> None:
    server.compose_file.write_text("a: [\n")
    result = server.run("facts")
    assert result.status == 1
    assert "Docker Compose does not accept" in result.errors
