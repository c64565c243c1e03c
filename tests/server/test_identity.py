"""pull and install: the project's containers and files are known by facts, before anything is done."""

from __future__ import annotations

import json

import pytest

from tests.server.server import Server
from tests.server.test_install import install

HASH = "5" * 64


def placed(
    server: Server,
    service: str,
    *,
    project: str = "shop",
    directory: str = "",
    files: str = "",
    settings: str = HASH,
    image: str = "sha256:wanted",
    state: str = "running",
) -> str:
    """A container, as the line that the docker stub answers."""
    directory = directory or str(server.directory)
    name = f"{project}-{service}-1"
    labels = [project, directory, files or f"{directory}/docker-compose.yml", service, "False", settings, image]
    return json.dumps([name, state, "nginx:1", "", "", *labels]) + "\n"


def runs(server: Server, *lines: str) -> None:
    """Tells the docker stub of the server's containers."""
    server.answer("placed", "".join(lines))


def changed_nothing(server: Server) -> bool:
    harmless = ("config", "ps", "version", "inspect", "image")
    return all(any(word in call for word in harmless) for call in server.docker_calls())


@pytest.mark.parametrize("step", ["pull", "install"])
def test_a_project_that_runs_under_another_name_is_refused(server: Server, step: str) -> None:
    runs(server, placed(server, "nginx", project="fablab"))
    result = install(server) if step == "install" else server.run(step)
    assert result.status == 1
    assert "are of the Compose project 'fablab': fablab-nginx-1" in result.errors
    assert "the project 'shop'" in result.errors
    assert "write COMPOSE_PROJECT_NAME=fablab into .env" in result.errors
    assert changed_nothing(server)


def test_a_project_that_was_made_from_two_files_is_refused(server: Server) -> None:
    other = server.directory / "docker-compose.prod.yml"
    other.write_text("services: {}\n")
    runs(server, placed(server, "nginx", files=f"{server.compose_file},{other}"))
    result = server.run("pull")
    assert result.status == 1
    assert "from the files docker-compose.yml and docker-compose.prod.yml, not from docker-compose.yml" in result.errors
    assert changed_nothing(server)
    # As the message says.
    other.rename(server.directory / "docker-compose.override.yml")
    assert server.run("pull").status == 0


def test_another_checkout_of_the_same_name_is_not_taken_over(server: Server) -> None:
    elsewhere = server.home / "other" / "shop"
    elsewhere.mkdir(parents=True)
    runs(server, placed(server, "web", directory=str(elsewhere)))
    result = server.run("pull")
    assert result.status == 1
    assert f"would take over the containers of another one of the same name, of {elsewhere}" in result.errors
    elsewhere.rmdir()  # it was moved to where the project is now
    assert server.run("pull").status == 0


def test_a_directory_that_is_reached_by_a_link_is_the_same(server: Server) -> None:
    link = server.home / "linked"
    link.symlink_to(server.directory)
    runs(server, placed(server, "nginx", directory=str(link)))
    assert server.run("pull").status == 0


def test_compose_is_run_under_the_name_by_which_the_directory_is_known(server: Server) -> None:
    server.behave('printf %s "$PWD" >"$STUBS/seen"')
    assert server.run("pull").status == 0
    assert (server.stubs / "seen").read_text() == str(server.directory)


def test_a_variable_of_the_login_that_names_another_project_is_refused_before_that_has_containers(
    server: Server,
) -> None:
    server.environment["COMPOSE_PROJECT_NAME"] = "fablab"
    result = server.run("pull")
    assert result.status == 1
    assert "Logins on this server have COMPOSE_PROJECT_NAME=fablab" in result.errors
    runs(server, placed(server, "nginx"))
    result = server.run("pull")
    assert result.status == 0
    assert "notice: Logins on this server have COMPOSE_PROJECT_NAME=fablab" in result.output
