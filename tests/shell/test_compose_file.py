"""Setting the image in the server's own Compose file, and putting the repository's file in its place."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest
import yaml

from release import steps
from tests.shell.compose_cases import CASES, Outcome, check_outcome, run_case
from tests.shell.normal_form import normal_form
from tests.shell.server import IMAGE, Server, side_by_side

COMPOSE = r"""
case "$*" in
    *' config'*)
        cat >"$STUBS/input.yml"
        sum=$(sha256sum <"$STUBS/input.yml")
        if [ -e "$STUBS/${sum%% *}" ]; then
            cat "$STUBS/${sum%% *}"
        elif [ -e docker-compose.override.yml ]; then
            exec "$PYTHON" "$NORMAL_FORM" "$STUBS/input.yml" docker-compose.override.yml
        else
            exec "$PYTHON" "$NORMAL_FORM" "$STUBS/input.yml"
        fi
        exit ;;
esac"""


def use_normal_forms(server: Server, *texts: bytes) -> None:
    """Let the docker stub answer `compose config` truly: quickly for these files, by a program for others."""
    server.environment["NORMAL_FORM"] = str(Path(__file__).with_name("normal_form.py"))
    server.behave(COMPOSE)
    override = server.directory / "docker-compose.override.yml"
    more = [override.read_text()] if override.exists() else []
    for text in texts:
        try:
            form = normal_form(text.decode(), *more)
        except yaml.YAMLError:
            continue
        (server.stubs / hashlib.sha256(text).hexdigest()).write_text(form)


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[Path, Outcome]:
    """The outcomes of all cases, Compose being played by normal_form.py."""
    servers = {case: Server(tmp_path_factory.mktemp("server")) for case in CASES}

    def run(case: Path) -> Outcome:
        server = servers[case]
        return run_case(server, case, lambda before, after: use_normal_forms(server, before, after))

    return side_by_side(run, CASES)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_exactly_the_images_of_the_services_are_set_or_the_file_is_left_as_it_is(
    outcomes: dict[Path, Outcome], case: Path
) -> None:
    check_outcome(case, outcomes[case])


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
    (kept,) = (server.directory / ".releve" / "compose").iterdir()
    assert kept.read_text() == before
    assert kept.stat().st_mode & 0o777 == 0o600


def test_a_file_that_names_the_image_already_is_not_written(server: Server) -> None:
    server.run("stop")
    written = server.compose_file.stat().st_mtime_ns
    result = server.run("stop")
    assert result.status == 0
    assert server.compose_file.stat().st_mtime_ns == written
    assert len(list((server.directory / ".releve" / "compose").iterdir())) == 1


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
    server.behave('case "$*" in *--no-interpolate) echo "invalid type string for external" >&2; exit 1 ;; esac')
    assert server.run("stop").status == 0
    assert IMAGE in server.compose_file.read_text()


REPOSITORY_FILE = f"# ours\nname: shop\nservices:\n  web:\n    image: {IMAGE}\n    restart: always # é\n"


def as_input(compose_file: str) -> str:
    return steps.input_of({"compose-file": compose_file})


@pytest.mark.parametrize("cut", ["compose-file aGFsZg==\n", "compose-file aGFs", ""])
def test_input_that_ended_early_changes_nothing(server: Server, cut: str) -> None:
    before = server.compose_file.read_bytes()
    result = server.run("stop", "--input-follows", stdin=cut)
    assert result.status == 1
    assert "Standard input ended early" in result.errors
    assert server.compose_file.read_bytes() == before


def test_the_repositorys_file_replaces_the_servers(server: Server) -> None:
    server.compose_file.chmod(0o640)
    result = server.run("stop", "--input-follows", stdin=as_input(REPOSITORY_FILE))
    assert result.status == 0, result
    assert server.compose_file.read_text() == REPOSITORY_FILE
    assert server.compose_file.stat().st_mode & 0o777 == 0o640


def test_the_repositorys_file_is_made_where_the_server_has_none(server: Server) -> None:
    server.compose_file.unlink()
    result = server.run("stop", "--input-follows", stdin=as_input(REPOSITORY_FILE))
    assert result.status == 0, result
    assert server.compose_file.read_text() == REPOSITORY_FILE
    assert server.compose_file.stat().st_mode & 0o777 == 0o644


def test_the_repositorys_file_must_name_the_image(server: Server) -> None:
    before = server.compose_file.read_bytes()
    result = server.run("stop", "--input-follows", stdin=as_input(REPOSITORY_FILE.replace("app:2.0", "app:1.0")))
    assert result.status == 1
    assert f"does not give web the image {IMAGE}" in result.errors
    assert server.compose_file.read_bytes() == before


@pytest.mark.parametrize("step", ["pull", "stop"])
def test_a_file_that_compose_does_not_accept_is_refused(server: Server, step: str) -> None:
    before = server.compose_file.read_bytes()
    server.behave('case "$*" in *config*) echo "services.web.x: not allowed" >&2; exit 15 ;; esac')
    result = server.run(step, "--input-follows", stdin=as_input(REPOSITORY_FILE))
    assert result.status == 1
    assert "services.web.x: not allowed" in result.errors
    assert server.compose_file.read_bytes() == before
