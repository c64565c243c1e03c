"""Setting the image in the server's own Compose file, and putting the repository's file in its place."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from server import compose_file
from server.request import Delivery
from tests.server.compose_cases import (
    CASES,
    Outcome,
    check_outcome,
    expected_of,
    one_shots_of,
    run_case,
    services_of,
)
from tests.server.server import IMAGE, MakeServer, Result, Server, side_by_side


@pytest.fixture(scope="module")
def outcomes(table_server: MakeServer) -> dict[Path, Outcome]:
    """The outcomes of all cases, Compose being played by normal_form.py."""
    servers = {case: table_server() for case in CASES}
    return side_by_side(lambda case: run_case(servers[case], case), CASES)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_exactly_the_images_of_the_services_are_set_or_the_file_is_left_as_it_is(
    outcomes: dict[Path, Outcome], case: Path
) -> None:
    check_outcome(case, outcomes[case])


@pytest.mark.parametrize(
    "case",
    # An override file and the active profiles are known on the server alone.
    [case for case in CASES if not (case / "override.yml").exists() and not (case / "profiles.txt").exists()],
    ids=lambda case: case.name,
)
def test_the_client_understands_a_file_as_the_server_does(case: Path) -> None:
    text = (case / "before.yml").read_bytes().decode()
    if (case / "refusal.txt").exists():
        with pytest.raises(compose_file.ComposeFileError) as refusal:
            _set(text, case)
        assert (case / "refusal.txt").read_text().strip() in str(refusal.value)
    else:
        after = _set(text, case)
        assert after.encode() == expected_of(case)
        assert _set(after, case) == after


def _set(text: str, case: Path) -> str:
    compose_file.refuse_parts(text)
    return compose_file.with_image(text, services_of(case), IMAGE, one_shots_of(case))


@pytest.mark.parametrize("name", ["compose.yaml", "compose.yml", "docker-compose.yml", "docker-compose.yaml"])
def test_the_file_that_compose_would_choose_is_the_one_that_is_set(server: Server, name: str) -> None:
    text = server.compose_file.read_text()
    later = server.directory / "docker-compose.yaml"
    server.compose_file.rename(later)
    (server.directory / name).write_text(text)
    assert server.run("stop").status == 0
    assert IMAGE in (server.directory / name).read_text()
    assert name == later.name or later.read_text() == text


def test_the_mode_of_the_file_is_kept_and_the_old_content_too(server: Server) -> None:
    before = server.compose_file.read_text()
    server.compose_file.chmod(0o640)
    assert server.run("stop").status == 0
    assert server.compose_file.stat().st_mode & 0o7777 == 0o640
    (kept,) = (server.state / "compose").iterdir()
    assert kept.read_text() == before
    assert kept.stat().st_mode & 0o777 == 0o600


def test_a_file_that_names_the_image_already_is_not_written(server: Server) -> None:
    server.run("stop")
    written = server.compose_file.stat().st_mtime_ns
    result = server.run("stop")
    assert result.status == 0
    assert server.compose_file.stat().st_mtime_ns == written
    assert len(list((server.state / "compose").iterdir())) == 1


def test_a_file_in_another_encoding_is_refused(server: Server) -> None:
    server.compose_file.write_bytes(server.compose_file.read_bytes() + "# déjà vu\n".encode("latin-1"))
    result = server.run("pull")
    assert result.status == 1
    assert f"{server.compose_file} is not in UTF-8" in result.errors


def test_a_symbolic_link_is_refused(server: Server) -> None:
    real = server.home / "elsewhere.yml"
    server.compose_file.rename(real)
    server.compose_file.symlink_to(real)
    result = server.run("stop")
    assert result.status == 1
    assert "is a symbolic link" in result.errors
    assert IMAGE not in real.read_text()


def test_a_compose_file_named_by_the_environment_file_is_refused(server: Server) -> None:
    (server.directory / ".env").write_text("A=b\nexport COMPOSE_FILE=prod.yml\n")
    result = server.run("pull")
    assert result.status == 1
    assert "sets COMPOSE_FILE" in result.errors


def test_a_compose_file_named_by_the_configurations_environment_is_refused(server: Server) -> None:
    result = server.run("pull", delivery=Delivery(environment="COMPOSE_FILE='prod.yml'\n"))
    assert result.status == 1
    assert "env.COMPOSE_FILE: which file holds the image lines would not be certain" in result.errors


@pytest.mark.skipif(os.geteuid() == 0, reason="root can write everywhere")
def test_an_unwritable_directory_is_refused(server: Server) -> None:
    server.directory.chmod(0o555)
    result = server.run("pull")
    assert result.status == 1
    assert "cannot write in" in result.errors


def test_variables_of_the_login_do_not_reach_compose(server: Server) -> None:
    server.environment |= {"COMPOSE_FILE": "other.yml", "COMPOSE_PROJECT_NAME": "other", "DOCKER_DEFAULT_PLATFORM": "x"}
    server.behave('env | grep -e ^COMPOSE_ -e ^DOCKER_ >>"$STUBS/seen"')
    assert server.run("stop").status == 0
    assert (server.stubs / "seen").read_text() == ""


def test_a_docker_engine_elsewhere_is_refused(server: Server) -> None:
    server.environment["DOCKER_HOST"] = "tcp://10.0.0.1:2375"
    result = server.run("pull")
    assert result.status == 1
    assert "DOCKER_HOST is tcp://10.0.0.1:2375" in result.errors


def test_the_form_with_variables_filled_in_is_compared_where_the_other_cannot_be_had(server: Server) -> None:
    server.behave('case "$*" in *--no-interpolate*) echo "invalid type string for external" >&2; exit 1 ;; esac')
    assert server.run("stop").status == 0
    assert IMAGE in server.compose_file.read_text()


def test_what_pull_has_prepared_is_used_as_long_as_the_files_are_the_same(server: Server) -> None:
    assert server.run("pull").status == 0
    server.forget_calls()
    assert server.run("stop").status == 0
    assert [call for call in server.docker_calls("compose") if "config" in call] == []


def test_a_file_that_was_changed_since_pull_is_prepared_again(server: Server) -> None:
    assert server.run("pull").status == 0
    text = server.compose_file.read_text()
    server.compose_file.write_text(text + "    restart: always\n")
    assert server.run("stop").status == 0
    assert server.compose_file.read_text() == text.replace("app:1.0", f"app:2.0@{IMAGE.partition('@')[2]}") + (
        "    restart: always\n"
    )


@pytest.mark.parametrize(
    ("change", "file"),
    [("env_file", "settings.env"), ("override", "docker-compose.override.yml"), (".env", ".env")],
)
def test_what_compose_takes_into_the_services_is_looked_at_again_when_it_has_changed(
    server: Server, change: str, file: str
) -> None:
    if change == "env_file":
        server.compose_file.write_text(server.compose_file.read_text() + "    env_file: settings.env\n")
    (server.directory / file).write_text("services: {web: {restart: always}}\n" if change == "override" else "A=1\n")
    assert server.run("pull").status == 0
    (server.directory / file).write_text("services: {web: {restart: no}}\n" if change == "override" else "A=2\n")
    server.forget_calls()
    assert server.run("stop").status == 0
    assert [call for call in server.docker_calls("compose") if "config" in call]


REPOSITORY_FILE = f"# ours\nname: shop\nservices:\n  web:\n    image: {IMAGE}\n    restart: always # é\n"


def deliver(server: Server, text: str = REPOSITORY_FILE) -> Result:
    """As for an application whose Compose file the repository keeps: `pull`, and `stop` where that succeeds."""
    server.settings |= {"delivery": Delivery(compose_file=text), "keeps_compose_file": True}
    result = server.run("pull")
    return server.run("stop") if result.status == 0 else result


def test_the_repositorys_file_replaces_the_servers(server: Server) -> None:
    server.compose_file.chmod(0o640)
    result = deliver(server)
    assert result.status == 0, result
    assert server.compose_file.read_text() == REPOSITORY_FILE
    assert server.compose_file.stat().st_mode & 0o777 == 0o640


def test_the_repositorys_file_is_made_where_the_server_has_none(server: Server) -> None:
    server.compose_file.unlink()
    result = deliver(server)
    assert result.status == 0, result
    assert server.compose_file.read_text() == REPOSITORY_FILE
    assert server.compose_file.stat().st_mode & 0o777 == 0o644


def test_the_environment_comes_with_it_in_place(server: Server) -> None:
    server.settings["delivery"] = Delivery(environment="A='1'\n")
    for step in ("pull", "stop"):
        assert server.run(step).status == 0
    assert (server.directory / ".env").read_text() == "A='1'\n"


def test_the_repositorys_file_must_name_the_image(server: Server) -> None:
    before = server.compose_file.read_bytes()
    result = deliver(server, REPOSITORY_FILE.replace("app:2.0", "app:1.0"))
    assert result.status == 1
    assert f"does not give web the image {IMAGE}" in result.errors
    assert server.compose_file.read_bytes() == before


def test_a_step_that_means_another_delivery_than_pull_was_given_changes_nothing(server: Server) -> None:
    assert deliver(server).status == 0
    before = server.compose_file.read_bytes()
    server.forget_calls()
    result = server.run("stop", delivery=Delivery(compose_file=REPOSITORY_FILE + "# newer\n"))
    assert result.status == 1
    assert "has another Compose file or environment: another run came in between" in result.errors
    assert server.compose_file.read_bytes() == before
    assert server.docker_calls("compose", "stop") == []


@pytest.mark.parametrize("step", ["pull", "stop"])
def test_a_file_that_compose_does_not_accept_is_refused(server: Server, step: str) -> None:
    before = server.compose_file.read_bytes()
    server.settings |= {"delivery": Delivery(compose_file=REPOSITORY_FILE), "keeps_compose_file": True}
    if step == "stop":
        assert server.run("pull").status == 0
        (server.directory / ".env").write_text("A=changed since\n")  # so it is prepared again
    server.behave('case "$*" in *config*) echo "services.web.x: not allowed" >&2; exit 15 ;; esac')
    result = server.run(step)
    assert result.status == 1
    assert "services.web.x: not allowed" in result.errors
    assert server.compose_file.read_bytes() == before
