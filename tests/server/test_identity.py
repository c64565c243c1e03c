"""pull and install: the project's containers and files are known by facts, before anything is done."""

from __future__ import annotations

import json

import pytest

from server.request import Strategy
from tests.server.server import MakeServer, Server
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
    harmless = ("config", "ps", "version", "info", "inspect", "image")
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


def test_install_leaves_the_name_to_pull_where_env_may_set_it(server: Server) -> None:
    runs(server, placed(server, "nginx", project="fablab"))
    assert install(server, keeps_environment=True).status == 0


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


# ------------------------------------------------------------------------------- what becomes of the other services


def notices(output: str) -> list[str]:
    return [line.partition(": ")[2].rsplit(" (")[0] for line in output.splitlines() if ": notice: " in line]


def hashes(server: Server, full: str = "", **services: str) -> None:
    """What Compose says: the hashes of what the file says, and `full` for that with what other files say in it."""
    plain = "".join(f"{name} {value}\n" for name, value in services.items())
    server.answer("hashes", plain)
    server.answer("full-hashes", full or plain)
    server.behave(
        """case "$*" in *' --hash '*) case "$*" in *' -p '*) name=full-hashes ;; *) name=hashes ;; esac
           cat "$STUBS/$name.answer"; exit ;; esac"""
    )


OTHER = "6" * 64


@pytest.mark.parametrize(
    ("made", "plain", "full", "expected"),
    [
        ({}, HASH, "", []),
        ({}, OTHER, "", ["notice: 'nginx' will be recreated, too: its settings were changed since it was made"]),
        ({}, OTHER, HASH, []),  # what env_file says is part of it
        ({"image": "sha256:old"}, HASH, "",
         ["notice: 'nginx' will be recreated, too: nginx:1 is another image than when it was made"]),
    ],
)  # fmt: skip
def test_pull_lists_what_else_would_be_recreated(
    server: Server, made: dict[str, str], plain: str, full: str, expected: list[str]
) -> None:
    runs(server, placed(server, "web", settings=OTHER), placed(server, "nginx", **made))
    hashes(server, f"nginx {full}\n" if full else "", web=HASH, nginx=plain)
    result = server.run("pull")
    assert result.status == 0, result
    assert notices(result.output) == expected


def test_pull_lists_what_would_be_started_and_what_would_be_removed(server: Server) -> None:
    runs(server, placed(server, "web"), placed(server, "adminer"), placed(server, "mail", state="exited"))
    text = server.compose_file.read_text() + "  mail:\n    image: mail:1\n    profiles: [mail]\n"
    server.compose_file.write_text(text)
    hashes(server, web=HASH, nginx=HASH)
    assert notices(server.run("pull").output) == [
        "notice: 'nginx' will be started, too: it has no container yet",
        "notice: 'adminer' will be removed",
    ]


@pytest.mark.parametrize(
    "lines", ["    volumes_from:\n      - web\n", "    network_mode: service:web\n", "    scale: 0\n"]
)
def test_what_is_recreated_with_the_application_or_never_started_is_not_listed(server: Server, lines: str) -> None:
    server.compose_file.write_text(
        server.compose_file.read_text().replace("    image: nginx:1\n", f"    image: nginx:1\n{lines}")
    )
    runs(server, placed(server, "web"), *([] if "scale" in lines else [placed(server, "nginx")]))
    hashes(server, web=HASH, nginx=OTHER)
    assert not [notice for notice in notices(server.run("pull").output) if "'nginx'" in notice]


def test_services_that_get_the_image_along_are_not_listed(server: Server) -> None:
    image = "    image: registry.example:5000/shop/app:1.0\n"
    shared = image.replace("image: ", "image: &image ")
    along = "  migrate:\n    image: *image\n    restart: on-failure\n"
    server.compose_file.write_text(server.compose_file.read_text().replace(image, f"{shared}{along}"))
    runs(server, placed(server, "web"), placed(server, "nginx"), placed(server, "migrate", state="exited"))
    hashes(server, web=HASH, nginx=HASH, migrate=OTHER)
    assert notices(server.run("pull", strategy=Strategy.STAGED).output) == [
        "notice: 'migrate', which runs to its end, gets the image, too"
    ]


def test_images_that_other_services_lack_are_pulled_before_anything_stops(new_server: MakeServer) -> None:
    for lines, expected in (("", [["pull", "nginx:1"]]), ("    pull_policy: never\n", []), ("    build: .\n", [])):
        server = new_server()
        server.compose_file.write_text(
            server.compose_file.read_text().replace("    image: nginx:1\n", f"    image: nginx:1\n{lines}")
        )
        hashes(server, web=HASH, nginx=HASH)
        with (server.stubs / "behaviour").open("a") as file:
            file.write("""case "$*" in 'image inspect '*nginx:1) exit 1 ;; esac\n""")
        assert server.run("pull").status == 0
        assert server.docker_calls("pull") == expected


def test_a_service_of_the_same_repository_that_stays_behind_is_named(server: Server) -> None:
    others = {"jobs": "shop/app:0.9", "cron": "shop/app2:1"}
    lines = "".join(f"  {name}:\n    image: registry.example:5000/{image}\n" for name, image in others.items())
    server.compose_file.write_text(server.compose_file.read_text() + lines)
    stays = "'jobs' stays on registry.example:5000/shop/app:0.9: it is of the same repository, but not in app.services"
    assert notices(server.run("pull").output) == [f"notice: {stays}"]
    for step in ("stop", "up"):
        assert server.run(step).status == 0
    assert f"notice: {stays}" in server.run("verify").output.splitlines()[-1]

    for step in ("pull", "up"):
        result = server.run(step, strategy=Strategy.STAGED)
        assert result.status == 0, result
    assert f"notice: {stays}" in result.output.splitlines()[-1]
