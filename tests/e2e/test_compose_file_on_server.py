"""The table of tests/server with the real Docker Compose as the judge of what a file means."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.server.compose_cases import CASES, Outcome, check_outcome, run_case
from tests.server.server import IMAGE, MakeServer, Server, making_servers, side_by_side

CONFIG_IS_REAL = 'case "$*" in *" config"* | *"compose config"*) exec "$DOCKER" "$@" ;; esac'
"""For the docker stub: reading a file is Compose's part; nothing is started or stopped."""


@pytest.fixture(scope="module")
def new_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MakeServer]:
    """Makes servers with the real Compose."""
    with making_servers(lambda: tmp_path_factory.mktemp("server")) as make:
        yield lambda: with_real_compose(make())


def with_real_compose(server: Server) -> Server:
    docker = shutil.which("docker")
    assert docker, "Docker is not installed"
    server.environment["DOCKER"] = docker
    server.behave(CONFIG_IS_REAL)
    # A case names it as env_file, and here that must be there.
    (server.directory / ".env").touch()
    return server


@pytest.fixture(scope="module")
def outcomes(new_server: MakeServer) -> dict[Path, Outcome]:
    """The outcomes of all cases."""
    servers = {case: new_server() for case in CASES}
    return side_by_side(lambda case: run_case(servers[case], case), CASES)


@pytest.mark.e2e
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_exactly_the_images_of_the_services_are_set_or_the_file_is_left_as_it_is(
    outcomes: dict[Path, Outcome], case: Path
) -> None:
    check_outcome(case, outcomes[case])


@pytest.mark.e2e
@pytest.mark.parametrize(
    "line",
    [
        'ports: ["${PORT}:80"]',
        'deploy: {replicas: "${REPLICAS:-2}"}',
        'ulimits: {nofile: "${FILES:-1024}"}',
        "env_file: .env",
        "environment: {PASSWORD: $PASSWORD}",
    ],
)
def test_variables_are_no_obstacle_and_are_left_in_place(new_server: MakeServer, line: str) -> None:
    server = new_server()
    (server.directory / ".env").write_text("PORT=8080\nPASSWORD=s3cret\n")
    before = f"services:\n  web:\n    image: app:1.0\n    {line}\n"
    server.compose_file.write_text(before)
    result = server.run("stop")
    assert result.status == 0, result
    assert server.compose_file.read_text() == before.replace("app:1.0", IMAGE)
    assert "s3cret" not in result.output + result.errors + "".join(log.read_text() for log in server.logs())


@pytest.mark.e2e
def test_a_variable_that_must_be_set_and_is_not_is_noticed_before_anything_stops(new_server: MakeServer) -> None:
    server = new_server()
    before = "services:\n  web:\n    image: app:1.0\n    environment: {A: '${A:?is not set}'}\n"
    server.compose_file.write_text(before)
    result = server.run("stop")
    assert result.status == 1
    assert "is not set" in result.errors
    assert server.compose_file.read_text() == before
