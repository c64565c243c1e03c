"""Releases by pull request, from the branch to the way back: git, the engine, SSH and the program for servers are real.

Docker on the server is the stub of tests/server, and the registry and the forges are small servers of the tests'.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from gitops import report
from tests.e2e.harness import copy_checkout
from tests.engine.harness import WAIT_SECONDS, Engine, wait_until
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


@dataclass(frozen=True)
class Running:
    """A command that goes on meanwhile, and the file with what it prints."""

    process: subprocess.Popen[bytes]
    log: Path

    def output(self) -> str:
        return self.log.read_text()

    def wait(self) -> int:
        return self.process.wait(WAIT_SECONDS)


@dataclass(frozen=True)
class Hold:
    """Something on a server that lasts as long as its gate is closed, and says when it has been reached."""

    gate: Path
    reached: Path

    def close(self) -> None:
        self.reached.unlink(missing_ok=True)
        self.gate.touch()

    def open(self) -> None:
        self.gate.unlink(missing_ok=True)

    def await_someone(self) -> None:
        wait_until(self.reached.exists, "the server is at work")


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

    @property
    def hook_checkout(self) -> Path:
        return self.home / "checkout"

    def run(
        self, *command: str, cwd: Path | None = None, more: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            command, cwd=cwd or self.work, env={**self.environment, **(more or {})},
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
        )  # fmt: skip
        sys.stderr.write(done.stdout)
        return done

    def pulumi_run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Something that connects to servers."""
        return self.run("tools/with-ssh-key", *command)

    def deploy(self, stack: str, approved: str) -> subprocess.CompletedProcess[str]:
        return self.pulumi_run("make", "--silent", "deploy", f"STACK={stack}", f"RELEVE_APPROVED={approved}")

    def unlock(self, stack: str) -> subprocess.CompletedProcess[str]:
        return self.pulumi_run("./releve", "unlock", "--yes", "--stack", stack)

    def release(self, stack: str) -> int:
        """Rolls out whatever is planned now, as somebody at a terminal."""
        return self.pulumi_run(
            "pulumi", "up", "--yes", "--skip-preview", "--non-interactive", "--stack", stack
        ).returncode

    @contextmanager
    def deploying(self, stack: str, approved: str) -> Iterator[Running]:
        """A deploy that goes on meanwhile."""
        log = self.home / f"deploy-{len(list(self.home.glob('deploy-*')))}"
        command = ["tools/with-ssh-key", "./releve", "gitops", "deploy", "--stack", stack, "--approved", approved]
        with (
            log.open("w") as output,
            subprocess.Popen(
                command, cwd=self.work, env=self.environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output
            ) as process,
        ):
            yield Running(process, log)

    def git(self, *words: str) -> str:
        done = self.run("git", *words)
        assert done.returncode == 0, done.stdout
        return done.stdout

    def make(self, target: str, stack: str) -> subprocess.CompletedProcess[str]:
        return self.run("make", "--silent", target, f"STACK={stack}")

    def set(self, stack: str, key: str, value: Any) -> None:
        self.config[stack][f"releve:{key}"] = value
        self.write(stack)

    def write(self, stack: str) -> None:
        file = self.work / f"Pulumi.{stack}.yaml"
        kept = yaml.safe_load(file.read_text()) if file.exists() else {}
        file.write_text(yaml.safe_dump({**kept, "config": self.config[stack]}, sort_keys=False))

    def read(self) -> None:
        """Takes the stack files as git has them."""
        for stack in STACKS:
            self.config[stack] = yaml.safe_load((self.work / f"Pulumi.{stack}.yaml").read_text())["config"]

    def secret(self, stack: str, path: str, value: str) -> None:
        """Sets a secret, as somebody at a terminal."""
        done = self.run("pulumi", "config", "set", "--secret", "--path", path, value, "--stack", stack)
        assert done.returncode == 0
        self.read()

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
        "releve:tag": "1.0.0",
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
    """The first commit, in a bare repository with the hook, and the clone that the hook works in."""
    made.git("init", "--quiet", "--initial-branch=main")
    made.git("add", "--all", "--force", ".")
    made.git("rm", "--quiet", "--cached", ".venv")
    made.commit("The first release, made by hand")
    bare = made.home / "shared.git"
    made.git("clone", "--quiet", "--bare", ".", str(bare))
    made.git("remote", "add", "origin", str(bare))
    made.git("clone", "--quiet", str(bare), str(made.hook_checkout))
    (made.hook_checkout / ".venv").symlink_to((made.work / ".venv").resolve())
    install = made.run("./releve", "gitops", "init", "hook", "--in", str(bare / "hooks"))
    assert install.returncode == 0
    names = ("PULUMI_BACKEND_URL", "PULUMI_CONFIG_PASSPHRASE", "RELEVE_SSH_KEY")
    variables = "".join(f"{name}={shlex.quote(made.environment[name])}\n" for name in names)
    (made.home / "environment").write_text(variables)
    settings = {
        "releve.checkout": str(made.hook_checkout),
        "releve.environment": str(made.home / "environment"),
        "receive.advertisePushOptions": "true",
    }
    for key, value in settings.items():
        made.git("-C", str(bare), "config", key, value)


def fingerprint_in(output: str) -> str:
    """Of the one plan in what was printed."""
    (found,) = set(FINGERPRINT.findall(output))
    return str(found)


def by_stack(output: str) -> dict[str, str]:
    """The fingerprint that the hook showed for each stack."""
    parts = re.split(r"Previewing update \((\w+)\)", output)
    return {stack: fingerprint_in(text) for stack, text in zip(parts[1::2], parts[2::2], strict=True)}


def test_a_release_goes_from_a_branch_to_production_and_back(repository: Repository) -> None:
    work, checkout = repository, repository.hook_checkout
    work.git("switch", "--quiet", "--create", "topic")
    for stack in STACKS:
        work.set(stack, "tag", "1.1.0")
    head = work.commit("Release 1.1.0")

    shown = work.git("push", "origin", "topic")
    assert "1.1.0 (sha256:" in shown
    assert "Traceback" not in shown
    assert "[mandatory]" not in shown, "the project passes its own policy pack"
    planned = by_stack(shown)
    assert set(planned) == set(STACKS)
    for stack in STACKS:
        job = work.forge.github(work.home, head, request=5)
        assert work.run("./releve", "gitops", "comment", "--stack", stack, cwd=checkout, more=job).returncode == 0
    comments = work.forge.bodies(5)
    assert [report.fingerprint_in(body) for body in comments] == [planned[stack] for stack in STACKS]
    for body in comments:
        assert "because     nothing was released here before" in body.partition("<details>")[0]
        assert "command:remote:Command: (create)" in body.partition("<details>")[2]

    work.git("switch", "--quiet", "main")
    work.git("merge", "--quiet", "--no-ff", "--no-edit", "topic")
    merged = work.git("rev-parse", "HEAD").strip()
    work.forge.merged[merged] = 5
    job = work.forge.github(work.home, merged)
    approved = work.run("./releve", "gitops", "approved", "--stack", "staging", more=job).stdout.strip()
    assert approved == planned["staging"]
    done = work.git("push", "--push-option", f"staging={approved}", "origin", "main")
    assert (work.tag_of("staging"), work.tag_of("prod")) == ("1.1.0", "1.0.0"), done

    # Production was previewed again, and somebody approves that.
    assert by_stack(done.partition("Previewing update (staging)")[0])["prod"] == planned["prod"]
    assert work.deploy("prod", planned["prod"]).returncode == 0
    assert work.tag_of("prod") == "1.1.0"

    work.git("revert", "--no-edit", "--mainline", "1", merged)
    work.read()
    back = work.make("preview", "staging").stdout
    assert "tag 1.1.0 → 1.0.0" in back
    assert work.deploy("staging", fingerprint_in(back)).returncode == 0
    assert work.tag_of("staging") == "1.0.0"


def test_what_was_approved_is_not_applied_when_something_has_changed_since(repository: Repository) -> None:
    work = repository
    work.set("prod", "tag", "1.0.0")
    work.secret("prod", "env.TOKEN", "first")
    assert work.release("prod") == 0
    work.set("prod", "tag", "1.1.0")
    approved = fingerprint_in(work.make("preview", "prod").stdout)

    def refused(because: str) -> None:
        done = work.deploy("prod", approved)
        assert done.returncode != 0
        assert f"nothing was deployed: what was approved is {approved}, and the plan is" in done.stdout
        assert because in done.stdout
        assert work.tag_of("prod") == "1.0.0"

    work.set("prod", "tag", "1.2.0")
    refused("because     tag 1.0.0 → 1.2.0")
    work.set("prod", "tag", "1.1.0")

    work.secret("prod", "env.TOKEN", "second")
    refused("env changed: TOKEN")
    work.secret("prod", "env.TOKEN", "first")

    moved = work.registry.manifests["shop/app:1.1.0"]
    digest = work.registry.hold("shop/app", "1.1.0", b"another image")
    refused(f"1.1.0 ({digest[:19]}")
    work.registry.manifests["shop/app:1.1.0"] = moved

    # Another one landed first.
    work.set("prod", "tag", "1.2.0")
    assert work.release("prod") == 0
    work.set("prod", "tag", "1.1.0")
    done = work.deploy("prod", approved)
    assert done.returncode != 0
    assert "because     tag 1.2.0 → 1.1.0" in done.stdout
    assert work.tag_of("prod") == "1.2.0"


def test_a_tag_that_staging_has_yet_to_release_is_waited_for_and_is_no_plan(repository: Repository) -> None:
    repository.set("prod", "tag", "9.9.9")
    shown = repository.make("preview", "prod")
    assert shown.returncode == 0
    assert "prod waits for the stack that builds to release this tag" in shown.stdout
    planned = repository.run("./releve", "gitops", "planned", "--stack", "prod")
    assert planned.returncode != 0
    assert "the preview of prod came to no plan: it waits for" in planned.stdout


@pytest.fixture
def hold(repository: Repository) -> Iterator[Hold]:
    """Lets what `up` does on the server of staging last as long as it is closed."""
    server = repository.servers["staging"]
    made = Hold(server.stubs / "hold", server.stubs / "held")
    server.behave(f'case "$*" in *" up "*) while [ -e {made.gate} ]; do touch {made.reached}; sleep 0.1; done ;; esac')
    try:
        yield made
    finally:
        made.open()


def test_two_deploys_at_once_wait_for_each_other_and_both_end_right(repository: Repository, hold: Hold) -> None:
    work = repository
    work.set("staging", "tag", "1.2.0")
    approved = fingerprint_in(work.make("preview", "staging").stdout)
    hold.close()
    with work.deploying("staging", approved) as first:
        hold.await_someone()
        with work.deploying("staging", approved) as second:
            wait_until(lambda: "waiting until that has ended" in second.output(), "the second waits")
            hold.open()
            assert first.wait() == 0
            assert second.wait() == 0
    assert work.tag_of("staging") == "1.2.0"
    # Not that it was refused: nothing was left to do.
    assert "server1: nothing to do, it runs 1.2.0" in second.output()


def test_a_killed_deploy_is_named_by_the_next_which_goes_on_once_the_lock_is_removed(
    repository: Repository, hold: Hold
) -> None:
    work = repository
    tag = "1.1.0" if work.tag_of("staging") == "1.2.0" else "1.2.0"
    work.set("staging", "tag", tag)
    approved = fingerprint_in(work.make("preview", "staging").stdout)
    hold.close()
    with work.deploying("staging", approved) as killed:
        hold.await_someone()
        held = work.run("./releve", "lock", "--stack", "staging")
        assert held.returncode == 2
        process = int(re.findall(r"\(process (\d+)\)", held.stdout)[0])
        os.kill(process, signal.SIGKILL)
        assert killed.wait() != 0
    refused = work.deploy("staging", approved)
    assert refused.returncode != 0
    assert f"(process {process}, which is gone)" in refused.stdout
    assert "make unlock STACK=staging" in refused.stdout
    busy = work.unlock("staging")
    assert busy.returncode != 0
    assert "a step works on server1" in busy.stdout
    hold.open()
    wait_until(lambda: work.unlock("staging").returncode == 0, "the step on the server ends, and the lock is removed")
    assert work.deploy("staging", fingerprint_in(work.make("preview", "staging").stdout)).returncode == 0
    assert work.tag_of("staging") == tag


def test_what_the_nightly_look_finds_on_a_server_is_in_an_issue(repository: Repository) -> None:
    work = repository
    # Whatever was released to it, it has lost all of it.
    assert work.release("staging") == 0
    shutil.rmtree(work.servers["staging"].state)
    looked = work.pulumi_run("make", "--silent", "drift", "STACK=staging")
    assert looked.returncode != 0
    job = work.forge.github(work.home, "c0ffee")
    assert work.run("./releve", "gitops", "issue", "--stack", "staging", more=job).returncode == 0
    (issue,) = [issue for issue in work.forge.issues if issue["title"] == "staging is not as it was released"]
    (what,) = [line for line in looked.stdout.splitlines() if line.startswith("  release: ")]
    assert what in issue["body"]
