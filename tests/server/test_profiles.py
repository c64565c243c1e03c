"""Services in profiles, active on this server or not."""

from __future__ import annotations

import pytest

from server.request import Delivery
from tests.server.server import IMAGE, Server

IN_A_PROFILE = """\
name: shop
services:
  web:
    image: app:1.0
  worker:
    image: app:1.0
    profiles: [jobs]
"""


@pytest.fixture
def server(server: Server) -> Server:
    server.services = ("web", "worker")
    server.compose_file.write_text(IN_A_PROFILE)
    return server


def test_a_service_of_the_application_in_a_profile_that_is_not_active_is_refused_with_what_to_do(
    server: Server,
) -> None:
    result = server.run("pull")
    assert result.status == 1
    assert "'worker' (app.services) is in the profile 'jobs', which is not active" in result.errors
    assert f"Set COMPOSE_PROFILES=jobs in {server.directory}/.env" in result.errors


def test_a_service_of_the_application_in_a_profile_that_is_active_is_one_like_others(server: Server) -> None:
    (server.directory / ".env").write_text("COMPOSE_PROFILES=jobs\n")
    result = server.run("stop")
    assert result.status == 0, result
    assert server.compose_file.read_text().count(IMAGE) == 2


def test_profiles_that_come_with_the_release_count(server: Server) -> None:
    server.settings["delivery"] = Delivery(environment="COMPOSE_PROFILES=jobs\n")
    result = server.run("pull")
    assert result.status == 0, result


ANCHORED = """\
name: shop
x-app: &app
  image: app:1.0
services:
  web:
    <<: *app
  console:
    <<: *app
    restart: always
    profiles: [tools]
"""


def test_all_profiles_are_asked_about_also_where_variables_must_be_filled_in(server: Server) -> None:
    server.services = ("web",)
    server.compose_file.write_text(ANCHORED)
    server.behave('case "$*" in *--no-interpolate*) echo "invalid type string for external" >&2; exit 1 ;; esac')
    result = server.run("stop")
    assert result.status == 0, result
    assert server.compose_file.read_text() == ANCHORED.replace("app:1.0", IMAGE)
    asked = [call for call in server.docker_calls("compose") if "config" in call and "--no-interpolate" not in call]
    assert [call[1:3] for call in asked].count(["--profile", "*"]) == 2


def test_what_a_service_of_an_inactive_profile_lacks_is_no_obstacle(server: Server) -> None:
    server.services = ("web",)
    server.compose_file.write_text(ANCHORED)
    server.behave('case "$*" in *--no-interpolate* | *--profile*) echo "env file not found" >&2; exit 1 ;; esac')
    assert server.run("stop").status == 0
