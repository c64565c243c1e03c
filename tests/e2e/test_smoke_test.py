"""The smoke test itself: what it tries, and that nothing of it is left, whatever happens to it."""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.candidates import (
    ANSWERS,
    HANGS,
    Candidate,
    Workshop,
    anonymous_volumes,
    ruby,
    throwaways,
    volume_exists,
    workshop,
)
from tests.e2e.harness import CHECKOUT, Sandbox, environment

pytestmark = pytest.mark.e2e

PATIENCE = 120
"""Seconds that the tests wait at most, on a slow machine."""


@pytest.fixture(scope="module")
def shop(sandbox: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workshop]:
    with workshop(sandbox, "smoke", tmp_path_factory.mktemp("smoke")) as shop:
        yield shop


@pytest.fixture(scope="module")
def answers(shop: Workshop) -> str:
    """An image that answers every request, by digest."""
    return shop.image(Candidate(ANSWERS), "build-answers")


@pytest.fixture(scope="module")
def hangs(shop: Workshop) -> str:
    """An image that takes requests and answers none, by digest."""
    return shop.image(Candidate(HANGS), "build-hangs")


class SmokeTest:
    """`python -m release.smoke_test` under way."""

    def __init__(self, shop: Workshop, image: str, settings: dict[str, Any]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "release.smoke_test"],
            cwd=shop.project.directory,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self.process.stdin
        request = {"image": image, "platform": "linux/amd64", "smokeTest": settings, "configuration": None}
        json.dump(request, self.process.stdin)
        self.process.stdin.close()
        self.process.stdin = None

    def end(self) -> tuple[int, str]:
        """Its exit status, and all that it printed."""
        output, errors = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode, output + errors


def running(shop: Workshop, before: set[str], services: int = 1) -> str:
    """The project of a smoke test that was started after `before` was looked up, once its containers are there."""

    def new() -> list[str]:
        return [name for name in throwaways(shop.project.directory).get("container", []) if name not in before]

    eventually(lambda: len(new()) >= services)
    return new()[0]


def projects(shop: Workshop) -> set[str]:
    return {name for names in throwaways(shop.project.directory).values() for name in names}


def eventually(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < deadline, "that did not come true in time"
        time.sleep(0.2)


def watchdog_of(process: subprocess.Popen[str]) -> int:
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    (watchdog,) = [int(pid) for pid in children if b"release.throwaway" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    return watchdog


def needing_a_database(shop: Workshop) -> dict[str, Any]:
    return {"needs": {"postgres": f"{shop.sandbox.registry}/postgres:15"}, "timeout": 300}


COMPOSE_FILE = """
services:
  database:
    image: @REGISTRY@/postgres:15
    container_name: releve-e2e-fixed-name
    environment: {POSTGRES_PASSWORD: x}
    volumes: [data:/var/lib/postgresql/data]
    ports: !reset []
  web:
    image: ${IMAGE}
    profiles: [smoke]
    environment: {GREETING: "a$$b"}
    ports: ["127.0.0.1:3000:3000"]
    restart: always
  not-wanted:
    image: releve.invalid/none
    profiles: [tools]
volumes:
  data:
    name: releve-e2e-fixed-volume
"""


def test_a_compose_file_of_ones_own_is_run_beside_what_uses_the_same_names_and_leaves_nothing(
    shop: Workshop, answers: str
) -> None:
    file = shop.project.directory / "smoke.yml"
    file.write_text(COMPOSE_FILE.replace("@REGISTRY@", shop.sandbox.registry))
    # Both at once: neither the container's name, nor the port, nor the volume is shared.
    both = [SmokeTest(shop, answers, {"composeFile": "smoke.yml", "paths": ["/", "/other"]}) for _ in range(2)]
    for one in both:
        status, output = one.end()
        assert status == 0, output
        assert "answers: / 200, /other 200" in output
    assert throwaways(shop.project.directory) == {}
    assert not volume_exists("releve-e2e-fixed-volume")


def test_secrets_of_the_environment_are_in_no_message(shop: Workshop) -> None:
    image = shop.image(Candidate(ruby("puts ENV.to_a.inspect; exit 3")), "build-talks")
    env = {"API_TOKEN": "hunter2-$hunter2", "DATABASE_URL": "postgresql://app:correct-horse@postgres/app"}
    status, output = SmokeTest(shop, image, {"env": env}).end()
    assert status == 1
    assert "exit status 3" in output
    assert '["API_TOKEN", "[API_TOKEN]"]' in output
    assert "hunter2" not in output
    assert "correct-horse" not in output


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_test_removes_what_it_has_made(shop: Workshop, hangs: str, number: signal.Signals) -> None:
    test = SmokeTest(shop, hangs, {"timeout": 300})
    running(shop, set())
    test.process.send_signal(number)
    status, output = test.end()
    assert status == 130
    assert "interrupted" in output
    assert throwaways(shop.project.directory) == {}


def test_after_a_kill_9_everything_goes_by_itself_anonymous_volumes_too(shop: Workshop, hangs: str) -> None:
    test = SmokeTest(shop, hangs, needing_a_database(shop))
    project = running(shop, set(), services=2)
    volumes = anonymous_volumes(project)
    assert volumes
    test.process.kill()
    test.process.wait()
    eventually(lambda: throwaways(shop.project.directory) == {})
    assert not any(volume_exists(volume) for volume in volumes)


def test_the_next_run_removes_what_is_left_of_a_dead_one_and_nothing_of_one_that_runs_beside(
    shop: Workshop, hangs: str, answers: str
) -> None:
    beside = SmokeTest(shop, hangs, {"timeout": 300})
    try:
        alive = running(shop, set())
        dead = SmokeTest(shop, hangs, needing_a_database(shop))
        left = running(shop, {alive}, services=2)
        volumes = anonymous_volumes(left)
        os.kill(watchdog_of(dead.process), signal.SIGKILL)
        dead.process.kill()
        dead.process.wait()
        assert projects(shop) == {alive, left}

        status, output = SmokeTest(shop, answers, {}).end()
        assert status == 0, output
        assert projects(shop) == {alive}
        assert not any(volume_exists(volume) for volume in volumes)
    finally:
        beside.process.send_signal(signal.SIGTERM)
        beside.end()
    assert projects(shop) == set()


def test_a_candidate_that_passes_gets_its_tag_and_another_smoke_test_is_no_reason_to_test_it_again(
    shop: Workshop,
) -> None:
    tag = f"1.0.0-{secrets.token_hex(4)}"
    secret = f"hunter2-{tag}"
    shop.commit(Candidate(ANSWERS, {"paths": ["/"], "env": {"API_TOKEN": secret}}))
    shop.project.set("tag", tag)
    shop.project.set("app.directory", "/apps/nowhere")
    # The rollout then fails, which is not what this is about.
    done = shop.project.up()
    assert "starts, stays up and answers: / 200" in done.output, done.output
    manifests = shop.sandbox.manifests(shop.repository)
    assert manifests[tag] in {digest for name, digest in manifests.items() if name.startswith("build-")}
    assert throwaways(shop.project.directory) == {}
    # What the operator wrote in clear stays in the stack file; the state does not have it.
    assert secret not in shop.project.state().replace(json.dumps(shop.project.config), "")
    for settings in ({"paths": ["/elsewhere"], "memory": "64m"}, None):
        shop.project.set("image.smokeTest", settings)
        preview = shop.project.preview()
        assert preview.succeeded, preview.output
        assert "image-smoke-test" not in preview.output, preview.output


def test_ctrl_c_during_a_smoke_test_ends_the_release_without_a_tag_and_leaves_nothing(shop: Workshop) -> None:
    tag = f"1.0.0-{secrets.token_hex(4)}"
    shop.commit(Candidate(HANGS, {"paths": ["/"], "timeout": 300}))
    shop.project.set("tag", tag)
    up = subprocess.Popen(
        [CHECKOUT / "sandbox/run", "pulumi", "up", "--yes", "--skip-preview", "--non-interactive",
         "--stack", shop.project.stack],
        cwd=shop.project.directory, env=environment(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        running(shop, set())
        # As a terminal does it: to everything that runs there.
        os.killpg(up.pid, signal.SIGINT)
        output, _ = up.communicate(timeout=PATIENCE)
    finally:
        if up.poll() is None:
            os.killpg(up.pid, signal.SIGKILL)
    assert up.returncode != 0, output
    eventually(lambda: throwaways(shop.project.directory) == {})
    assert tag not in shop.sandbox.manifests(shop.repository)
