"""The strategy rolling: visitors keep getting answers, whatever is rolled out, and whatever happens meanwhile."""

from __future__ import annotations

import itertools
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from tempfile import TemporaryFile

import httpx
import pytest

from benchmark.visitors import Kind, Request, visitors
from tests.e2e.conftest import Deployment
from tests.e2e.faults.injection import Action, Injection, Place
from tests.e2e.faults.report import Kill, kept
from tests.e2e.harness import CHECKOUT, LOOKS_UP_ONCE, Application, Project

pytestmark = pytest.mark.e2e

CONFIGURATIONS = {
    "asks-again": CHECKOUT / "sandbox/projects/fabmanager/config/nginx/default.conf",
    "looks-up-once": LOOKS_UP_ONCE,
}
"""Of an nginx that asks Docker's DNS again, and of one that does so only when it reads its configuration."""


KILLED_AT = {
    "what refuses for the proxy starts": Place("docker run *--network container:*"),
    "the new container is made": Place("docker compose create *"),
    "the new container starts": Place("docker start *"),
    "the new container is waited for": Place("connect * 3000", after_switch=True),
    "the proxy is reloaded": Place("docker exec * nginx * -s reload"),
    "connections to the old container are refused": Place("docker inspect OLD", after_switch=True),
    "the old container is stopped": Place("docker stop OLD"),
    "the old container is removed": Place("docker rm OLD"),
    "the new worker is made": Place("docker compose create * worker"),
    "the project is brought up": Place("docker compose create --remove-orphans"),
}
"""OLD is the id of the web service's container before."""
KILLS = [
    Kill("asks-again", "the new container is made", "the program", back=False),
    Kill("asks-again", "the new container is waited for", "pulumi", back=True),
    Kill("asks-again", "connections to the old container are refused", "the program", back=True),
    Kill("asks-again", "the old container is stopped", "the program", back=False),
    Kill("looks-up-once", "the new container starts", "the program", back=True),
    Kill("looks-up-once", "the old container is removed", "the program", back=True),
]
if os.environ.get("RELEVE_FAULTS") == "all":
    KILLS = [
        Kill(*row) for row in itertools.product(CONFIGURATIONS, KILLED_AT, ("the program", "pulumi"), (False, True))
    ]


@pytest.fixture(params=CONFIGURATIONS, scope="module")
def rolling(deployment: Deployment, request: pytest.FixtureRequest) -> Deployment:
    """The application with a release that serves, behind an nginx of each kind."""
    application, project = deployment
    project.set("app.strategy", "rolling")
    if "fabmanager" not in application.containers():
        project.release("1.0.0")
    application.configure_nginx(CONFIGURATIONS[request.param])
    return deployment


@pytest.fixture(scope="module")
def releases(deployment: Deployment) -> tuple[str, str]:
    """Two versions that have both served. Of the deployment: the same for each kind of nginx."""
    application, project = deployment
    first, second = str(application.health()["version"]), application.fresh_version()
    project.release(second)
    return first, second


def serving(deployment: Deployment) -> tuple[Application, Project, str]:
    """The application with a release that serves, whichever the test before has left, and its version."""
    application, project = deployment
    version = str(application.health()["version"])
    project.set("tag", version)
    assert application.serves(version)
    return application, project, version


@contextmanager
def visited(application: Application, slow: int = 1) -> Iterator[list[Request]]:
    """Visitors all the while, of what the release that serves now has. slow: slow requests a second."""
    stylesheet = re.findall(r'href="([^"]+\.css)"', application.page())[0]
    paths = {Kind.PAGE: "/", Kind.OLD_ASSET: stylesheet, Kind.NEW_ASSET: stylesheet, Kind.HEALTH: "/health"}
    # Few, and patient ones: the tests beside this one, or a slow machine, are no fault of the rollout's.
    with visitors(application.url, paths, interval=0.1, patience=60, slow=slow) as requests:
        time.sleep(1)
        yield requests
        time.sleep(1)


def lost(requests: list[Request]) -> list[Request]:
    assert len(requests) > 30
    return [request for request in requests if not request.answered]


def web_containers(application: Application) -> list[str]:
    """Ids of all containers of the web service, running or not."""
    listing = application.sandbox.on_server(
        *("docker", "ps", "--all", "--no-trunc", "--quiet", "--filter", "label=com.docker.compose.service=fabmanager"),
        *("--filter", f"label=com.docker.compose.project.working_dir={application.directory}"),
    )
    return listing.split()


def is_in_order(application: Application, version: str) -> None:
    assert application.serves(version)
    assert len(web_containers(application)) == 1
    assert application.would_recreate() == ""


def test_no_request_fails_in_rollouts_and_rollbacks(rolling: Deployment) -> None:
    application, project, old = serving(rolling)
    new = application.fresh_version()
    others = {name: container for name, container in application.containers().items() if name in ("nginx", "postgres")}
    pages = [application.asset_statuses()]
    with visited(application) as requests:
        for version in (new, old):
            done = project.release(version)
            pages.append(application.asset_statuses())
    assert lost(requests) == []
    is_in_order(application, old)
    assert others.items() <= application.containers().items()
    assert project.outputs()["downtimeSeconds"] == 0
    # Back to a release that has served here, nothing is pulled, compiled or tried.
    assert "compiled" not in done.output
    assert "tried" not in done.output
    # A page loaded before a switch gets its assets after it, and the other way round.
    assert len({frozenset(page) for page in pages}) == 2
    for path in {path for page in pages for path in page}:
        assert httpx.get(f"{application.url}{path}", trust_env=False).status_code == 200


@pytest.mark.parametrize("rolling", ["asks-again"], indirect=True)
def test_requests_that_wait_behind_slow_ones_are_answered_before_the_old_container_stops(
    rolling: Deployment, releases: tuple[str, str]
) -> None:
    application, project, old = serving(rolling)
    # Two of three seconds begin each second, and five threads answer: connections wait in the queue of the kernel.
    with visited(application, slow=2) as requests:
        for version in (*(version for version in releases if version != old), old):
            project.release(version)
    assert lost(requests) == []
    is_in_order(application, old)


@pytest.mark.parametrize(
    ("rolling", "broken"),
    [("asks-again", "boot"), ("asks-again", "health"), ("looks-up-once", "health")],
    indirect=["rolling"],
)
def test_a_broken_image_costs_no_request_and_the_old_container_is_not_touched(rolling: Deployment, broken: str) -> None:
    application, project, version = serving(rolling)
    containers = application.containers()
    project.set("tag", application.fresh_version("--broken", broken))
    project.set("health.timeout", 15)
    with visited(application) as requests:
        failed = project.up()
    project.set("health.timeout", 120)
    assert not failed.succeeded
    assert "was put back and serves" in failed.output
    assert lost(requests) == []
    assert application.containers() == containers
    is_in_order(application, version)


@pytest.mark.parametrize(("rolling", "row"), [(row.proxy, row) for row in KILLS], indirect=["rolling"], ids=str)
def test_whatever_is_killed_no_request_fails_and_the_next_rollout_ends_with_the_right_container(
    rolling: Deployment, releases: tuple[str, str], row: Kill
) -> None:
    application, project, old = serving(rolling)
    new = next(version for version in releases if version != old)
    with kept(row):
        with visited(application) as requests:
            row.status = roll_out_and_kill(application, project, new, row)
            assert row.status != 0
            row.containers = len(web_containers(application))
            assert row.containers <= 2
            wanted = old if row.back else new
            project.release(wanted)
        row.requests, row.failed = len(requests), len(lost(requests))
        assert lost(requests) == []
        is_in_order(application, wanted)


def roll_out_and_kill(application: Application, project: Project, tag: str, row: Kill) -> int:
    """Rolls a release out, and kills what is said where it is said. Returns the status, when the server is at rest."""
    injection = Injection(application)
    project.set("tag", tag)
    place = KILLED_AT[row.place]
    place = replace(place, pattern=place.pattern.replace("OLD", application.containers()["fabmanager"]))
    with injection.armed(place, Action.MEET, release=tag), TemporaryFile() as output:
        run = project.start_up(output)
        try:
            assert injection.wait_until_reached(run), f"the rollout never came to where {row.place}"
            if row.killed == "pulumi":
                run.kill()
            else:
                injection.kill_program()
            injection.release()
            status = run.wait(timeout=120)
            injection.wait_for_the_end()
        finally:
            run.kill()
    if row.killed == "pulumi":
        project.cancel()
    return status


@pytest.mark.parametrize("rolling", ["asks-again"], indirect=True)
def test_a_release_that_turns_healthy_and_dies_leaves_the_old_container_where_it_is(
    rolling: Deployment, put_back: None
) -> None:
    application, project, version = serving(rolling)
    containers = application.containers()
    file = application.source / "config/initializers/dies.rb"
    # Where it serves, not where it is tried; and not by a signal: the kernel keeps those from a first process.
    file.write_text("Thread.new { sleep 8; exit!(1) } if defined?(Puma)\n")
    project.set("tag", application.fresh_version())
    file.unlink()
    project.set("health.settle", 30)
    with visited(application) as requests:
        failed = project.up()
    assert not failed.succeeded
    assert "stopped or was started again" in failed.output
    assert "was put back and serves" in failed.output
    # Those that it was answering when it died.
    assert len(lost(requests)) <= 10
    assert application.containers()["fabmanager"] == containers["fabmanager"]
    is_in_order(application, version)


@pytest.mark.parametrize("rolling", ["asks-again"], indirect=True)
def test_pending_migrations_are_refused_unless_the_old_release_can_work_with_them(
    rolling: Deployment, put_back: None, migration: str
) -> None:
    application, project, version = serving(rolling)
    containers = application.containers()
    project.set("tag", migration)
    refused = project.up()
    assert not refused.succeeded
    assert "set app.migrations: compatible" in refused.output
    assert application.containers() == containers
    project.set("app.migrations", "compatible")
    with visited(application) as requests:
        done = project.up()
        assert done.succeeded, done.output
        assert "dumped the database" in done.output
        back = project.release(version)
    assert "the database is ahead of this release" in back.output or "is here already" in back.output
    assert lost(requests) == []
    is_in_order(application, version)


@pytest.mark.parametrize("rolling", ["asks-again"], indirect=True)
def test_workers_are_told_to_take_no_more_work_and_replaced_one_after_the_other(
    rolling: Deployment, releases: tuple[str, str], put_back: None
) -> None:
    application, project, old = serving(rolling)
    worker = application.containers()["worker"]
    project.set("app.workerQuiet", ["sh", "-c", "echo told $HOSTNAME"])
    project.release(next(version for version in releases if version != old))
    log = application.read(".releve/latest.log")
    (told,) = re.findall(r"(?m)^told (\w+)$", log)
    assert worker.startswith(told)
    assert application.containers()["worker"] != worker
