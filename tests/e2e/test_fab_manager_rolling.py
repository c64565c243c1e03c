"""Fab-manager under the strategy rolling, once its stock file is changed as docs/fab-manager.md says."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from benchmark.visitors import Kind, visitors
from tests.commands import blocks
from tests.e2e.conftest import PORTS, Deployment
from tests.e2e.harness import CHECKOUT, Application, Project, Sandbox, fab_manager, set_variable

pytestmark = pytest.mark.e2e

DOCUMENT = CHECKOUT / "docs/fab-manager.md"
REQUESTS = 2_000
FILES = ("docker-compose.yml", "config/nginx/fabmanager.conf")


def doctor(project: Project) -> str:
    """What is said of the server, unwrapped."""
    done = project.sandbox.run(project.directory, "./releve", "doctor", "-s", project.stack)
    return " ".join(done.output.split())


@pytest.fixture(scope="module")
def stock(sandbox: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """The installation made by hand, with its stock file."""
    name = "fab-manager-rolling"
    with fab_manager(sandbox, name, tmp_path_factory.mktemp(name), port=next(PORTS)) as both:
        yield both


@pytest.fixture(scope="module")
def deployment(stock: Deployment, tmp_path_factory: pytest.TempPathFactory) -> Deployment:
    """The same, changed as the document says, with the release 6.5.10 on it."""
    application, project = stock
    said = doctor(project)
    assert "nginx will be recreated, too: volumes_from fabmanager" in said
    assert "nginx will be recreated, too: links fabmanager" in said
    assert "'fabmanager' runs supervisord" in said
    assert "'fabmanager' has no stop_grace_period" in said

    set_variable(application)
    project.release("6.5.10")  # by `staged`: it has migrations
    apply(application, tmp_path_factory.mktemp("changed"))
    text = yaml.safe_load(blocks(DOCUMENT, "yaml")[0])["releve:app"]
    project.config["releve:app"] |= text
    project.write()
    until = time.monotonic() + 90
    while "<strong>6.5.10</strong>" not in application.page():
        assert time.monotonic() < until, "the changed installation does not serve"
        time.sleep(0.5)
    said = doctor(project)
    assert "fit for every strategy; app.strategy is rolling" in said
    assert "better not like this" not in said
    return stock


def apply(application: Application, directory: Path) -> None:
    """The document's changes of files, and its commands."""
    for name in FILES:
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text(application.read(name))
    git = ["git", "apply", "--unidiff-zero", "-p0"]
    subprocess.run(git, cwd=directory, input="".join(blocks(DOCUMENT, "diff")), text=True, check=True)
    for name in FILES:
        application.write((directory / name).read_text(), name)
    commands = re.findall(r"(?m)^    (docker compose .*)$", DOCUMENT.read_text())
    assert len(commands) == 2
    application.sandbox.on_server("sh", "-euc", f"cd {application.directory}\n" + "\n".join(commands))


def commit(application: Application, version: str) -> None:
    package = application.source / "package.json"
    package.write_text(package.read_text().replace("6.5.10", version))
    application.git("commit", "--quiet", "--all", "--message", version)


def jobs(application: Application, column: str) -> list[str]:
    """The numbers of the jobs of which the application has written that time."""
    return application.sql(f"SELECT id FROM exports WHERE {column} IS NOT NULL").split()  # noqa: S608 - ours


def export(application: Application, seconds: int) -> str:
    """Begins a job, and returns its number once it is at work."""
    answer = httpx.post(f"{application.url}/exports", params={"seconds": seconds}, trust_env=False)
    number = answer.text.strip()
    until = time.monotonic() + 30
    while number not in jobs(application, "started_at"):
        assert time.monotonic() < until, "nobody takes the job"
        time.sleep(0.2)
    return number


def events(application: Application, service: str, since: str, until: str) -> list[tuple[str, str]]:
    """Starts and ends of the service's containers, in order: what, and the container."""
    listed = application.sandbox.on_server(
        *("docker", "events", "--since", since, "--until", until, "--filter", "event=start", "--filter", "event=die"),
        *(
            "--filter",
            f"label=com.docker.compose.service={service}",
            "--filter",
            "label=com.docker.compose.oneoff=False",
        ),
        *("--format", '{{.Action}} {{.Actor.ID}} {{index .Actor.Attributes "com.docker.compose.project.working_dir"}}'),
    )
    found = [line.split() for line in listed.splitlines()]
    return [(what, container) for what, container, directory in found if directory == application.directory]


def clock(application: Application) -> str:
    return application.sandbox.on_server("date", "+%s.%N").strip()


def test_no_request_fails_no_job_is_lost_and_one_sidekiq_works_at_a_time(deployment: Deployment) -> None:
    application, project = deployment
    containers = application.containers()
    stylesheet = re.findall(r'href="(/packs/[^"]+\.css)"', application.page())[0]
    # Visitors do not ask for /health, which disturbs the others.
    paths: dict[Kind, Any] = {
        Kind.PAGE: "/", Kind.OLD_ASSET: stylesheet, Kind.NEW_ASSET: stylesheet, Kind.HEALTH: "/"
    }  # fmt: skip
    commit(application, "6.5.11")
    since = clock(application)
    job = export(application, 20)
    with visitors(application.url, paths, patience=60) as requests:
        project.release("6.5.11")
        project.release("6.5.10")
        while len(requests) < REQUESTS:
            time.sleep(0.5)
    assert [request for request in requests if not request.answered] == []
    assert job in jobs(application, "finished_at")
    seen = events(application, "worker", since, clock(application))
    assert [what for what, _ in seen] == ["die", "start"] * 2
    assert seen[0] == ("die", containers["worker"])
    assert seen[1][1] == seen[2][1]
    now = application.containers()
    assert {name for name in now if now[name] != containers[name]} == {"fabmanager", "worker"}
    assert application.would_recreate() == ""
