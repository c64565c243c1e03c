"""What the rows of the fault matrix act on: two releases of one application, and two ways to roll them out."""

from __future__ import annotations

import json
import shlex
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from tempfile import TemporaryFile
from typing import IO, Any

import httpx

from configuration.load import load
from release import steps
from release.program import Program
from release.reference import ImageReference
from server.request import StepName, dump
from tests.e2e.faults.injection import DEADLINE
from tests.e2e.harness import CHECKOUT, LOOKS_UP_ONCE, SERVER, Application, Project, Result

OLD, NEW = "1.0.0", "1.1.0"
"""The new release brings a migration."""
RETIRED = "0.9.0"
"""A release before the old one, of the same files."""

MIGRATION = "20240801000000"


class Run:
    """A rollout that has been started, and may be killed."""

    def __init__(self, process: subprocess.Popen[bytes], output: IO[bytes]) -> None:
        self.process = process
        self._output = output
        self._started = time.monotonic()

    def wait(self) -> Result:
        """Waits for its end."""
        status = self.process.wait(timeout=2 * DEADLINE)
        return Result(status, self.output)

    @property
    def output(self) -> str:
        """What it has printed so far."""
        self._output.seek(0)
        return self._output.read().decode(errors="replace")


class Stage:
    """An application with two releases. Each row begins with the old one, as if the new one had never been there."""

    def __init__(self, application: Application, project: Project) -> None:
        self.application = application
        self.project = project
        self.sandbox = application.sandbox
        self.assets: dict[str, set[str]] = {}
        self._pulumi_ran = True

    def prepare(self) -> None:
        """Makes both releases, through pulumi, and remembers which assets each of them names."""
        self.project.set("app.beforeUp", [["test", "-e", "/usr/src/app/Gemfile"]])
        for version, options in ((OLD, ()), (NEW, ("--migration",))):
            if version != OLD:
                self.application.new_version(version, *options)
            self.project.release(version)
            self.assets[version] = set(self.application.asset_statuses())
        assert self.assets[OLD] != self.assets[NEW]
        self.application.configure_nginx(LOOKS_UP_ONCE)

    # ------------------------------------------------------------------------------------------------ rolling out

    def start(self, tag: str, output: IO[bytes], *, pulumi: bool, at: StepName = StepName.PULL) -> Run:
        """Starts to roll a release out. at: the step to begin with, where pulumi is not there to know."""
        self.project.set("tag", tag)
        self._pulumi_ran = self._pulumi_ran or pulumi
        if pulumi:
            return Run(self.project.start_up(output), output)
        chain = " && ".join(
            f"printf %s {shlex.quote(asked)} | {shlex.join(self._over_ssh(line))}"
            for line, asked in self._commands(tag, at)
        )
        return Run(self.sandbox.start(["sh", "-c", chain], CHECKOUT, output), output)

    def roll_out(self, tag: str, *, pulumi: bool, at: StepName = StepName.PULL) -> Result:
        """Rolls a release out, to the end."""
        with TemporaryFile() as output:
            return self.start(tag, output, pulumi=pulumi, at=at).wait()

    def _commands(self, tag: str, at: StepName) -> list[tuple[str, str]]:
        """Of each step the command line and the standard input, as components/rollout.py gives them to pulumi."""
        delivered = {
            key: value if isinstance(value, str) else json.dumps(value) for key, value in self.project.config.items()
        }
        stack = load(delivered, self.project.stack_file)
        digest = self.sandbox.manifests(self.application.repository)[tag]
        image = ImageReference(stack.image.repository, tag, digest)
        # The copy that the project has put on the server, whatever is done to the checkout meanwhile.
        program = Program.read(self.project.directory / "server")
        delivery = steps.delivery_of(stack, None, image)
        plan = steps.plan(stack)

        def asked(step: StepName) -> str:
            (server,) = stack.servers
            return dump(steps.request_of(step, stack, server, image=image, delivery=delivery, actor="test@example.org"))

        directory = stack.app.directory
        return [(program.step_command(step, directory), asked(step)) for step in plan[plan.index(at) :]]

    @staticmethod
    def _over_ssh(line: str) -> list[str]:
        return [str(CHECKOUT / "sandbox" / "ssh"), SERVER, *shlex.split(line)]

    # ----------------------------------------------------------------------------------------- where a row begins

    def bring_to_old(self) -> None:
        """The old release serves, the database is its own, and of the new one nothing is on the server."""
        self.application.sql("ALTER TABLE visits DROP COLUMN IF EXISTS note")
        self.application.sql(f"DELETE FROM schema_migrations WHERE version = '{MIGRATION}'")  # noqa: S608 - no input
        if not self.is_settled(OLD):
            # compatible: a row that did not hold may have left a migration that the line above has undone half.
            with setting(self.project, {"app.migrations": "compatible"}):
                done = self.roll_out(OLD, pulumi=False)
            assert done.succeeded, done.output
        self.project.set("tag", OLD)
        if self._pulumi_ran:
            self.project.cancel()
            done = self.project.up()
            assert done.succeeded, done.output
        self._pulumi_ran = False
        self._forget_new()
        # The next containers have another address: whoever forgets to tell nginx is found out.
        self.application.move()
        assert self.what_serves() == OLD

    def _forget_new(self) -> None:
        directory = self.application.directory
        # What it has published goes while the server still knows of it: the old release is what is left.
        self.sandbox.as_root("rm", "-rf", f"{directory}/.releve/previous")
        done = self.roll_out(OLD, pulumi=False, at=StepName.PURGE)
        assert done.succeeded, done.output
        self.sandbox.as_root(
            "sh", "-c", 'rm -rf "$1"/.releve/releases/"$2"-* && docker images --quiet "$3:$2" |'
            "xargs --no-run-if-empty docker rmi --force",
            "sh", directory, NEW, self.application.repository,
        )  # fmt: skip
        # And there is one that the new release retires: otherwise nothing would have to be purged.
        self.sandbox.as_root(
            "sh", "-c", 'cd "$1"/.releve/releases && [ -d "$3" ] || cp -a "$2"-* "$3"',
            "sh", directory, OLD, f"{RETIRED}-{0:012}",
        )  # fmt: skip

    # --------------------------------------------------------------------------------------------- looking at it

    def what_serves(self, patience: float = 0) -> str | None:
        """The release whose page, assets and health visitors get, all of one; None: there is no such release.

        patience: seconds to wait for one
        """
        until = time.monotonic() + patience
        while True:
            version = self._what_serves_now()
            if version or time.monotonic() >= until:
                return version
            time.sleep(0.2)

    def _what_serves_now(self) -> str | None:
        try:
            version = str(self.application.health()["version"])
            whole = self.application.serves(version) and set(self.application.asset_statuses()) == self.assets.get(
                version
            )
        except (httpx.HTTPError, ValueError):
            return None
        return version if whole else None

    def is_settled(self, version: str) -> bool:
        """Whether all of the server belongs to one release, and nothing of a rollout is under way."""
        return self.what_serves() == version and not self.contradictions(version)

    def contradictions(self, version: str) -> list[str]:
        """What on the server is not of this release, or is left of a rollout."""
        application, directory = self.application, self.application.directory
        found = []
        reference = f"{application.repository}:{version}@{self.sandbox.manifests(application.repository)[version]}"
        lines = [line for line in application.read().splitlines() if f"image: {application.repository}:" in line]
        if len(lines) != 2 or not all(f"image: {reference}" in line for line in lines):
            found.append(f"the Compose file names {lines}, not {reference}")
        containers = application.containers()
        running = [containers[service] for service in ("fabmanager", "worker") if service in containers]
        ids = self.sandbox.on_server("docker", "inspect", "--format", "{{.Image}}", *running).split() if running else []
        wanted = self.sandbox.on_server("docker", "image", "inspect", "--format", "{{.Id}}", reference).split()
        if ids != wanted * 2:
            found.append(f"the containers run {ids}, not {wanted}")
        if would := application.would_recreate():
            found.append(f"docker compose up would still do something: {would}")
        oneoffs = self.sandbox.on_server("docker", "ps", "-aq", "--filter", f"label=releve.project={directory}")
        if oneoffs.strip():
            found.append(f"one-off containers are left: {oneoffs}")
        leftovers = self.sandbox.as_root(
            "sh", "-c", 'cd "$1" && ls -d .releve/staging .releve/tmp .releve/transaction* .releve/backups/*.part '
            '2>/dev/null; find . -name "*.releve-new"', "sh", directory,
        )  # fmt: skip
        if leftovers.strip():
            found.append(f"files are left: {leftovers}")
        found += [f".releve/{lock} is held" for lock in ("lock", "children") if not self.lock_is_free(lock)]
        return found

    def lock_is_free(self, name: str = "lock") -> bool:
        """Whether nobody works on the directory."""
        path = f"{self.application.directory}/.releve/{name}"
        free = self.sandbox.on_server(
            "sh", "-c", 'if flock --nonblock "$1" true; then echo free; else echo held; fi', "sh", path
        )
        return free.strip() == "free"

    def others(self) -> dict[str, str]:
        """Container ids of what is not the application's."""
        containers = self.application.containers()
        return {service: containers[service] for service in ("postgres", "nginx")}

    def visits(self) -> str:
        """The rows of the database. Not when they were greeted: the worker does that at its own time."""
        return self.application.sql("SELECT id, name, created_at FROM visits ORDER BY id")

    def database_is_whole(self) -> bool:
        """Whether the migration was run wholly, or not at all."""
        column = self.application.sql("SELECT count(*) FROM information_schema.columns WHERE column_name = 'note'")
        mark = self.application.sql(f"SELECT count(*) FROM schema_migrations WHERE version = '{MIGRATION}'")  # noqa: S608
        return column == mark

    def results(self) -> list[dict[str, Any]]:
        """The history, empty where there is none yet."""
        return self.application.history()


@contextmanager
def setting(project: Project, values: dict[str, Any]) -> Iterator[None]:
    """Configuration for a while, by key path."""
    kept = json.dumps(project.config)
    try:
        for key, value in values.items():
            project.set(key, value)
        yield
    finally:
        tag = project.config["releve:tag"]
        project.config = json.loads(kept)
        project.set("tag", tag)


def log_of(application: Application) -> str:
    """The end of the newest log on the server, to explain a failure."""
    return application.sandbox.on_server("tail", "-n", "80", f"{application.directory}/.releve/latest.log")
