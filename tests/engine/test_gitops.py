"""Releases by pull request, from the branch to the way back: git, the engine, SSH and the program for servers are real.

Docker on the server is the stub of tests/server, and the registry and the forges are small servers of the tests'.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.e2e.harness import copy_checkout
from tests.engine.harness import Engine, output_of
from tests.engine.sshd import sshd
from tests.server.server import Server
from tests.unit import forge_server, registry_server
from tests.unit.forge_server import ForgeServer
from tests.unit.registry_server import RegistryServer

pytestmark = pytest.mark.engine

STACKS = ("staging", "prod")
GIT = {
    f"GIT_{who}_{what}": value
    for who in ("AUTHOR", "COMMITTER")
    for what, value in (("NAME", "test"), ("EMAIL", "test@example.org"))
}
FINGERPRINT = re.compile(r"fingerprint   ([0-9a-f]{12}) ")


@dataclass
class Repository:
    """A bare repository with the hook, and a clone in which somebody works.

    environment: of whoever works, with Pulumi's
    """

    home: Path
    environment: dict[str, str]
    registry: RegistryServer
    servers: dict[str, Server]
    forge: ForgeServer
    config: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def work(self) -> Path:
        return self.home / "work"

    def run(self, *command: str, **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, cwd=self.work, env={**self.environment, **more},
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
        )  # fmt: skip

    def git(self, *words: str) -> str:
        done = self.run("git", *words)
        assert done.returncode == 0, done.stdout
        return done.stdout

    def make(self, target: str, stack: str, **more: str) -> subprocess.CompletedProcess[str]:
        return self.run("make", "--silent", target, f"STACK={stack}", **more)

    def set(self, stack: str, key: str, value: Any) -> None:
        self.config[stack][f"releve:{key}"] = value
        self.write(stack)

    def write(self, stack: str) -> None:
        file = self.work / f"Pulumi.{stack}.yaml"
        kept = yaml.safe_load(file.read_text()) if file.exists() else {}
        file.write_text(yaml.safe_dump({**kept, "config": self.config[stack]}, sort_keys=False))

    def commit(self, message: str) -> str:
        self.git("commit", "--quiet", "--all", "--message", message)
        return self.git("rev-parse", "HEAD").strip()

    def tag_of(self, stack: str) -> str:
        """The release that the server's Compose file names."""
        (found,) = re.findall(r"app:([^@\s]+)", self.servers[stack].compose_file.read_text())
        return str(found)


def server_in(home: Path, registry: RegistryServer) -> Server:
    """A server whose project runs the application, released by hand."""
    home.mkdir()
    server = Server(home)
    server.write_command("python3", f'#!/bin/sh\nexec {shlex.quote(str(Path(server_python())))} "$@"\n')
    server.compose_file.write_text(f"name: shop\nservices:\n  web:\n    image: {registry.host}/shop/app:1.0.0\n")
    return server


def server_python() -> str:
    """One that has PyYAML, as a server's own has."""
    return str(Path(__file__).parents[2] / ".venv/bin/python")


@pytest.fixture(scope="module")
def repository(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Repository]:
    """Two stacks, each with a server, at the release 1.0.0 that was made by hand."""
    home = tmp_path_factory.mktemp("gitops")
    with ExitStack() as stack:
        registry = stack.enter_context(registry_server.serving())
        forge = stack.enter_context(forge_server.serving())
        for tag in ("1.0.0", "1.1.0", "1.2.0"):
            registry.hold("shop/app", tag, f"manifest of {tag}".encode())
        servers = {name: stack.enter_context(server_in(home / name, registry)) for name in STACKS}
        (home / "state").mkdir()
        environment = {**engine.environment, "PULUMI_BACKEND_URL": (home / "state").as_uri(), "NO_COLOR": "1", **GIT}
        made = Repository(home, environment, registry, servers, forge)
        copy_checkout(made.work)
        for name in STACKS:
            (home / f"sshd-{name}").mkdir()
            login = stack.enter_context(sshd(home / f"sshd-{name}", servers[name].variables()))
            made.config[name] = configuration(servers[name], login.connection, registry)
            # One key opens both.
            key = home / "sshd-staging/user"
            (home / f"sshd-{name}/user.pub").write_bytes(key.with_suffix(".pub").read_bytes())
            environment["RELEVE_SSH_KEY"] = key.read_text()
            assert made.run("pulumi", "stack", "init", name).returncode == 0
            made.write(name)
        publish(made)
        yield made


def configuration(server: Server, login: dict[str, Any], registry: RegistryServer) -> dict[str, Any]:
    """Of a stack that releases what others have built to a server."""
    return {
        "releve:tag": "1.1.0",
        "releve:image": {"repository": f"{registry.host}/shop/app"},
        "releve:app": {
            "directory": str(server.directory), "services": ["web"], "strategy": "in-place",
            "port": server.application.port, "assets": [],
        },
        "releve:health": {"path": "/health", "settle": 0},
        "releve:servers": [
            {
                "name": "server1", "host": login["host"], "port": login["port"], "user": login["user"],
                "hostKey": login["host_key"],
            }
        ],
    }  # fmt: skip


def publish(made: Repository) -> None:
    """The first commit, in a bare repository with the hook and the clone that the hook works in."""
    made.git("init", "--quiet", "--initial-branch=main")
    made.git("add", "--all")
    made.commit("the first release")
    made.git("clone", "--quiet", "--bare", ".", "../shared.git")
    made.git("remote", "add", "origin", "../shared.git")


def test_a_release_goes_from_a_branch_to_production_and_back(repository: Repository) -> None:
    done = repository.make("preview", "staging")
    print(done.stdout)
    assert done.returncode == 0
    (found,) = FINGERPRINT.findall(done.stdout)
    done = repository.run("tools/with-ssh-key", "make", "deploy", "STACK=staging", f"RELEVE_APPROVED={found}")
    print(done.stdout)
    print((repository.servers["staging"].compose_file).read_text())
    assert done.returncode == 0
