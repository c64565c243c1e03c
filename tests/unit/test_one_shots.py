"""Services on the application's image that run to their end, and optional ones: what follows from the project alone."""

from __future__ import annotations

from typing import Any

import pytest

from server.one_shots import awaited, ends
from server.project import Project

pytestmark = pytest.mark.unit

COMPLETES = {"condition": "service_completed_successfully"}
STARTED = {"condition": "service_started"}
OURS = ("web", "worker")


def service(image: str = "r/app:1", **more: Any) -> dict[str, Any]:
    return {"image": image, **more}


@pytest.mark.parametrize(
    ("restart", "expected"),
    [("no", True), (False, True), ("on-failure", True), ("on-failure:3", True), ("always", False), (None, False)],
)
def test_what_docker_starts_again_at_most_when_it_fails_runs_to_its_end(restart: object, expected: bool) -> None:
    assert ends({"migrate": service(restart=restart)}, "migrate") is expected


def test_what_others_wait_for_to_complete_runs_to_its_end_whatever_it_says_of_restarts() -> None:
    assert ends({"web": service(depends_on={"migrate": COMPLETES}), "migrate": service()}, "migrate")


@pytest.mark.parametrize(
    ("services", "found"),
    [
        ({"web": service(depends_on={"migrate": COMPLETES}), "migrate": service("r/app:0")}, ["migrate"]),
        ({"web": service(depends_on=["seeder"]), "seeder": service(restart="on-failure")}, ["seeder"]),
        ({"web": service(depends_on=["seeder"]), "seeder": service()}, []),
        ({"web": service(), "worker2": service(restart="on-failure")}, []),
        ({"web": service(depends_on={"setup": COMPLETES}), "setup": service("minio:1")}, []),
        ({"web": service(""), "setup": service("")}, []),
        ({"web": service("localhost:5000/app"), "job": service("localhost:5000/app@sha256:0")}, []),
        (
            {
                "web": service("localhost:5000/app", depends_on=["job"]),
                "job": service("localhost:5000/app:2", restart="no"),
            },
            ["job"],
        ),
    ],
)
def test_one_shots_on_the_same_repository_are_known_by_how_they_are_waited_for(
    services: dict[str, Any], found: list[str]
) -> None:
    assert awaited(services, ["web"]) == found


def project(**services: dict[str, Any]) -> Project:
    return Project.of({"name": "shop", "services": services}, OURS, ["report"])


SHOP = project(
    web=service(depends_on={"seed": COMPLETES, "db": STARTED, "mail": {**STARTED, "required": False}}),
    worker=service(),
    seed=service(depends_on={"migrate": COMPLETES, "db": STARTED, "search": STARTED}),
    migrate=service(restart="no"),
    warm=service(restart="no", depends_on={"web": STARTED}),
    report=service(),
    base=service(),
    db=service("postgres:15"),
    search=service("elasticsearch:8"),
    mail=service("mail:1"),
)


def test_one_shots_have_the_image_of_the_web_service_and_come_after_those_they_need() -> None:
    assert SHOP.along == ("seed", "migrate", "warm", "report", "base")
    assert SHOP.one_shots == ("migrate", "seed", "warm", "report")


def test_one_shots_that_need_the_application_do_not_run_before_it() -> None:
    assert SHOP.early(OURS) == ["migrate", "seed", "report"]


def test_neither_one_shots_nor_optional_services_must_run_for_the_application_to_start() -> None:
    assert SHOP.needed_by(["web"], OURS) == ["db"]
    assert SHOP.needed_by(["web", *SHOP.early(OURS)], OURS) == ["db", "search"]


def test_a_service_that_needs_one_shots_alone_starts_at_once_when_they_have_ended() -> None:
    assert SHOP.starts_at_once(["web"])
    assert not project(web=service(depends_on={"setup": COMPLETES}), setup=service("minio:1")).starts_at_once(["web"])
