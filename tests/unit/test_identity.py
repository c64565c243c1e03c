"""Which containers are the project's: decided from what Docker tells of all of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from server.identity import Identity, Placed, Verdict, judge, login_variables
from server.project import repository_of

DIRECTORY = "/apps/shop"
FILE, OVERRIDE = f"{DIRECTORY}/docker-compose.yml", f"{DIRECTORY}/docker-compose.override.yml"
SHOP = Identity("shop", DIRECTORY, (FILE,))
WITH_OVERRIDE = Identity("shop", DIRECTORY, (FILE, OVERRIDE))
RESOLVED = {
    "services": {
        "web": {"image": "shop/app:1", "volumes": [{"type": "bind", "source": f"{DIRECTORY}/public"}]},
        "db": {"image": "postgres:15", "volumes": [{"type": "bind", "source": f"{DIRECTORY}/postgresql"}]},
    }
}


def placed(service: str = "db", **changes: Any) -> Placed:
    """A running container of the project, made by Compose from the directory's file."""
    usual = Placed(
        f"shop-{service}-1", "running", "postgres:15", "shop", DIRECTORY, files=(FILE,), service=service,
        mounts=(f"{DIRECTORY}/postgresql",),
    )  # fmt: skip
    return dataclasses.replace(usual, **changes)


def verdict(
    *containers: Placed,
    wanted: Identity = SHOP,
    variables: Mapping[str, str] | None = None,
    released: bool = False,
) -> Verdict:
    return judge(wanted, containers, variables or {}, lambda: RESOLVED, released=released)


NO_LABELS: dict[str, Any] = {"project": "", "directory": "", "files": (), "service": ""}
ELSEWHERE: dict[str, Any] = {"directory": "/apps/other", "files": ("/apps/other/docker-compose.yml",), "mounts": ()}

FINE = {
    "nothing runs": (),
    "what runs is the project": (placed(), placed("web")),
    "its files came from standard input, once": (placed(files=()),),
    "it is of a Compose that noted no directory": (placed(directory="", files=()),),
    "the directory was moved": (placed(directory="/apps/before", is_there=False, files=()),),
    "another project lives elsewhere": (placed(), placed("web", project="other", **ELSEWHERE)),
    "another project of other files lives beside it": (
        placed(), placed("web", project="staging", files=(f"{DIRECTORY}/staging.yml",)),
    ),
    "a tool of another project saves the files of a service that has no container yet": (
        placed("backup", project="tools", image="restic/restic:1", directory="/apps/tools", files=()),
    ),
    "a proxy of another project serves files of the web service": (
        placed("nginx", project="proxy", image="nginx:1", directory="/p", files=(), mounts=(f"{DIRECTORY}/public",)),
    ),
    "a database by hand works on the files, and so does the project's own": (
        placed(), placed(**NO_LABELS, name="by-hand"),
    ),
    "a database by hand is stopped": (placed(**NO_LABELS, name="by-hand", state="exited"),),
}  # fmt: skip


@pytest.mark.parametrize("containers", FINE.values(), ids=FINE)
def test_the_containers_are_the_projects_where(containers: tuple[Placed, ...]) -> None:
    assert verdict(*containers) == Verdict()


OTHER_NAME: dict[str, Any] = {"project": "fablab", "name": "fablab-db-1"}
REFUSED: dict[str, tuple[tuple[Placed, ...], tuple[str, ...]]] = {
    "the project runs under another name": (
        (placed(**OTHER_NAME),),
        ("'fablab'", "fablab-db-1", "'shop'", "COMPOSE_PROJECT_NAME=fablab", "`name: fablab`"),
    ),
    "it ran under another name, and would get empty volumes": ((placed(**OTHER_NAME, state="exited"),), ("'fablab'",)),
    "it ran under this name, and now runs under another": (
        (placed(state="exited"), placed(**OTHER_NAME)),
        ("'fablab'", "COMPOSE_PROJECT_NAME=fablab"),
    ),
    "it runs under another name from another file of the directory": (
        (placed(**OTHER_NAME, files=(f"{DIRECTORY}/production.yml",)),),
        ("'fablab'",),
    ),
    "another checkout has a project of the same name": (
        (placed("web", **ELSEWHERE),),
        ("would take over the containers", "of /apps/other: shop-web-1", "cd '/apps/other' && docker compose down"),
    ),
    "another checkout has it, stopped": ((placed(), placed("web", **ELSEWHERE, state="exited")), ("take over",)),
    "it was made from two files": (
        (placed(), placed("worker", files=(FILE, f"{DIRECTORY}/production.yml"))),
        ("the files docker-compose.yml and production.yml, not from docker-compose.yml", "shop-worker-1",
         "docker-compose.override.yml"),
    ),
    "it was made from a file elsewhere": ((placed(files=("/etc/shop/prod.yml",)),), ("/etc/shop/prod.yml",)),
    "a database by hand works on the files of the project's, which has no container": (
        (placed(**NO_LABELS, name="by-hand"),),
        ("The container by-hand, of no Compose project, works on the files of the service 'db'", "docker stop by-hand"),
    ),
    "another project's service of that name works on the same files": (
        (placed(project="old", directory="/srv/shop", image="bitnami/postgresql:15", files=()),),
        ("of the project 'old', of /srv/shop",),
    ),
}  # fmt: skip


@pytest.mark.parametrize(("containers", "words"), REFUSED.values(), ids=REFUSED)
def test_the_project_is_left_alone_where(containers: tuple[Placed, ...], words: tuple[str, ...]) -> None:
    refusal = verdict(*containers).refusal
    assert refusal
    assert refusal.remedy.startswith("Nothing was changed. ")
    for word in words:
        assert word in f"{refusal.message} {refusal.remedy}"


def test_what_is_left_of_a_former_name_is_a_notice() -> None:
    said = verdict(placed(), placed(**OTHER_NAME, state="exited"))
    assert said.refusal is None
    assert "of the Compose project 'fablab', and stopped; they stay: fablab-db-1" in said.notices[0]


def test_an_override_file_that_the_containers_were_made_without_is_refused_until_a_release_was_made() -> None:
    refusal = verdict(placed(), wanted=WITH_OVERRIDE).refusal
    assert refusal
    assert "were made without docker-compose.override.yml" in refusal.message
    said = verdict(placed(), wanted=WITH_OVERRIDE, released=True)
    assert said.refusal is None
    assert said.notices == ("docker-compose.override.yml came since these were made, and takes effect now: shop-db-1",)
    assert verdict(placed(files=(OVERRIDE, FILE)), wanted=WITH_OVERRIDE) == Verdict()


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        (
            {"COMPOSE_PROJECT_NAME": "fablab"},
            ("COMPOSE_PROJECT_NAME=fablab", "write COMPOSE_PROJECT_NAME=fablab into .env"),
        ),
        ({"COMPOSE_FILE": "docker-compose.yml:prod.yml"}, ("COMPOSE_FILE=docker-compose.yml:prod.yml", "override.yml")),
    ],
)
def test_variables_of_logins_that_mean_another_project_are_refused_before_it_has_containers(
    variables: dict[str, str], words: tuple[str, ...]
) -> None:
    refusal = verdict(variables=variables).refusal
    assert refusal
    for word in words:
        assert word in f"{refusal.message} {refusal.remedy}"
    said = verdict(placed(), variables=variables)
    assert said.refusal is None
    assert "which rollouts do not heed" in said.notices[0]


@pytest.mark.parametrize("given", ["docker-compose.yml", "./docker-compose.yml", FILE])
def test_variables_of_logins_that_mean_the_same_project_are_fine(given: str) -> None:
    assert verdict(variables={"COMPOSE_PROJECT_NAME": "shop", "COMPOSE_FILE": given}) == Verdict()


def test_what_the_login_says_wins_over_the_environment_of_all_logins(tmp_path: Path) -> None:
    file = tmp_path / "environment"
    file.write_text('PATH=/bin\nCOMPOSE_PROJECT_NAME="fablab"\nexport COMPOSE_FILE=a.yml\n#COMPOSE_FILE=b.yml\n')
    assert login_variables({}, file) == {"COMPOSE_PROJECT_NAME": "fablab", "COMPOSE_FILE": "a.yml"}
    assert login_variables({"COMPOSE_PROJECT_NAME": "mine"}, file)["COMPOSE_PROJECT_NAME"] == "mine"
    assert login_variables({}, tmp_path / "none") == {}


@pytest.mark.parametrize(
    ("image", "repository"),
    [
        ("nginx", "nginx"),
        ("docker.io/library/nginx:1", "nginx"),
        ("localhost:5000/shop/app:1.0", "localhost:5000/shop/app"),
        ("localhost:5000/shop/app@sha256:77", "localhost:5000/shop/app"),
        ("ghcr.io/shop/app:1.0@sha256:77", "ghcr.io/shop/app"),
    ],
)
def test_a_repository_is_what_an_image_is_called_without_its_tag(image: str, repository: str) -> None:
    assert repository_of(image) == repository
