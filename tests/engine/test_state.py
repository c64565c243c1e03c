"""A state that a team shares, in PostgreSQL and in S3: who holds its lock, and how one that was left goes."""

from __future__ import annotations

import base64
import os
import re
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.e2e.harness import copy_checkout
from tests.engine import backends
from tests.engine.backends import Backend
from tests.engine.harness import Engine, wait_until
from tests.engine.sshd import closed_port

pytestmark = pytest.mark.engine


@pytest.fixture(params=["postgres", "s3"])
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Backend]:
    with backends.postgresql() if request.param == "postgres" else backends.s3(tmp_path) as running:
        yield running


@pytest.fixture
def silent_registry() -> Iterator[str]:
    """Takes connections and answers none: who asks it waits."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"127.0.0.1:{listener.getsockname()[1]}"


class Client:
    """A checkout on a machine of its own, as far as Pulumi can tell."""

    def __init__(self, engine: Engine, directory: Path, backend: Backend) -> None:
        self.directory = directory
        copy_checkout(directory / "checkout")
        own = {"PULUMI_BACKEND_URL": backend.url, "NO_COLOR": "1", **backend.environment}
        self.environment = {**engine.environment, **own}

    def start(self, *command: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            command, cwd=self.directory / "checkout", env=self.environment, text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip

    def run(self, *command: str) -> tuple[int, str]:
        with self.start(*command) as process:
            output, _ = process.communicate()
            return process.returncode, output


HOST_KEY = "ssh-ed25519 " + base64.b64encode(b"\0\0\0\x0bssh-ed25519\0\0\0\x20" + bytes(32)).decode()
UP = ("pulumi", "up", "--yes", "--skip-preview", "--non-interactive", "--stack", "prod")


def test_the_lock_of_a_shared_state_names_its_owner_and_one_that_was_left_is_explained_and_removed(
    engine: Engine, backend: Backend, silent_registry: str, tmp_path: Path
) -> None:
    one, two = (Client(engine, tmp_path / name, backend) for name in ("one", "two"))
    assert one.run("pulumi", "stack", "init", "prod")[0] == 0
    with closed_port() as port:
        file = one.directory / "checkout/Pulumi.prod.yaml"
        document = yaml.safe_load(file.read_text())
        document["config"]["releve:image"]["repository"] = f"{silent_registry}/shop/app"
        reached = {"host": "127.0.0.1", "port": port, "hostKey": HOST_KEY}
        document["config"]["releve:servers"][0] |= reached
        for client in (one, two):
            (client.directory / "checkout/Pulumi.prod.yaml").write_text(yaml.safe_dump(document))
        with one.start(*UP) as killed:
            wait_until(lambda: "is locked by" in two.run("./releve", "lock", "--stack", "prod")[1], "there is a lock")
            status, refused = two.run(*UP)
            assert status != 0
            assert f"created by {backends.whoami()} (pid " in refused
            os.kill(int(re.findall(r"\(pid (\d+)\)", refused)[0]), signal.SIGKILL)
            killed.wait()
        status, told = two.run("./releve", "lock", "--stack", "prod")
        assert status == 2
        assert f"locked by {backends.whoami()} (process {killed.pid}, which is gone)" in told
        status, removed = two.run("./releve", "unlock", "--yes", "--stack", "prod")
        assert status == 0, removed
        assert f"locked by {backends.whoami()} (process {killed.pid}, which is gone)" in removed
    assert two.run("./releve", "lock", "--stack", "prod") == (0, "nobody holds the lock of prod\n")
    assert backend.secret not in refused + told + removed
