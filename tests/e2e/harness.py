"""What the end-to-end tests act on: the sandbox, an application on its server, and a Pulumi project that releases it.

Everything is driven by the commands that a person would use.
"""

from __future__ import annotations

import copy
import itertools
import json
import os
import re
import shlex
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO, Any

import httpx
import yaml

CHECKOUT = Path(__file__).resolve().parents[2]
WORKER = os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")
SANDBOX_DIRECTORY = CHECKOUT / (".sandbox-tests" if WORKER == "0" else f".sandbox-tests-{WORKER}")
"""Tests that run side by side have a sandbox each: they count logins, restart Engines, and pause registries."""
SERVER = "server1"
LOOKS_UP_ONCE = Path(__file__).parent / "nginx-literal.conf"
"""The configuration of an nginx that looks the application's name up once: it must be told of new containers."""

Config = dict[str, Any]


@dataclass(frozen=True)
class Result:
    """A finished command: its exit status, and everything it printed."""

    status: int
    output: str

    @property
    def succeeded(self) -> bool:
        return self.status == 0


class Sandbox:
    """The sandbox of the tests, seen from one of its servers: a registry and that server."""

    def __init__(self) -> None:
        self.config: Config = {}
        self.server = SERVER

    def up(self) -> None:
        self.command("up", "--quiet")
        stack_file = SANDBOX_DIRECTORY / "Pulumi.local.yaml"
        self.config = yaml.safe_load(stack_file.read_text())["config"]
        self._remove_leftovers()

    def add_server(self, name: str, *options: str) -> Sandbox:
        """The same sandbox seen from another server, which is made if need be."""
        self.command("add-server", name, *options)
        other = copy.copy(self)
        other.server = name
        other.config = copy.deepcopy(self.config)
        port = re.search(r"^ssh=(\d+)$", (SANDBOX_DIRECTORY / "ports" / name).read_text(), re.MULTILINE)
        assert port
        key = (SANDBOX_DIRECTORY / "ssh" / f"{name}_host_ed25519_key.pub").read_text()
        other.config["releve:servers"][0] |= {
            "name": name, "port": int(port[1]), "hostKey": " ".join(key.split()[:2])
        }  # fmt: skip
        other._remove_leftovers()
        return other

    def _remove_leftovers(self) -> None:
        """What a killed run left in a kept sandbox holds the ports that the tests need."""
        for directory in self.as_root("find", "/apps", "-mindepth", "1", "-maxdepth", "1").splitlines():
            if directory != "/apps/fabmanager":
                self.command("remove", self.server, directory)

    def down(self) -> None:
        self.command("down")

    def command(self, name: str, *arguments: str, cwd: Path = CHECKOUT) -> str:
        """Runs one of the sandbox's commands, which must succeed."""
        done = self._run([str(CHECKOUT / "sandbox" / name), *arguments], cwd)
        assert done.succeeded, f"sandbox/{name} {' '.join(arguments)} failed:\n{done.output}"
        return done.output

    def pulumi(self, project: Path, *arguments: str) -> Result:
        """Runs a pulumi command in `project`, with the sandbox's environment."""
        return self.run(project, "pulumi", *arguments, "--non-interactive")

    def run(self, project: Path, *command: str) -> Result:
        """Runs a command in `project`, with the sandbox's environment."""
        return self._run([str(CHECKOUT / "sandbox" / "run"), *command], project)

    def start(self, command: list[str], cwd: Path, output: IO[bytes]) -> subprocess.Popen[bytes]:
        """Starts a command that the caller may kill; what it prints goes to `output`."""
        return subprocess.Popen(
            command, cwd=cwd, env=environment(), stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
        )

    def on_server(self, *command: str) -> str:
        """Runs a command on the server as the user that releases; it must succeed."""
        return self._in_container(["--user", "deploy", "--workdir", "/home/deploy"], command)

    def as_root(self, *command: str) -> str:
        """Runs a command on the server as root: what the tests alone may do."""
        return self._in_container([], command)

    def _in_container(self, options: list[str], command: tuple[str, ...]) -> str:
        # Without a login: it takes three times as long, and the tests count those of the product.
        done = self._run(["docker", "exec", *options, f"{self.prefix}-{self.server}", *command], CHECKOUT)
        assert done.succeeded, f"{' '.join(command)} failed on {self.server}:\n{done.output}"
        return done.output

    def connections(self) -> int:
        """How many SSH connections the server has accepted so far."""
        return int(self.command("connections", self.server))

    @cached_property
    def prefix(self) -> str:
        """What the names of this sandbox's containers begin with."""
        port = self.registry.rpartition(":")[2]
        return subprocess.run(
            ["docker", "ps", "--filter", "label=releve.sandbox", "--filter", f"publish={port}",
             "--format", '{{.Label "releve.sandbox"}}'],
            check=True, capture_output=True, text=True,
        ).stdout.strip()  # fmt: skip

    @property
    def registry(self) -> str:
        """The registry's address, the same on this machine and on the server."""
        return str(self.config["releve:image"]["repository"]).partition("/")[0]

    @contextmanager
    def registry_paused(self) -> Iterator[None]:
        """The registry accepts connections and does not answer, as one that is overloaded."""
        name = f"{self.prefix}-registry"
        subprocess.run(["docker", "pause", name], check=True, capture_output=True)
        try:
            yield
        finally:
            subprocess.run(["docker", "unpause", name], check=True, capture_output=True)

    def manifests(self, repository: str) -> dict[str, str]:
        """Tag → digest of everything that the registry holds under `repository`."""
        base = f"http://{self.registry}/v2/{repository.partition('/')[2]}"
        tags = httpx.get(f"{base}/tags/list").json().get("tags") or []
        accept = {"Accept": "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, "
                            "application/vnd.docker.distribution.manifest.v2+json"}  # fmt: skip
        return {
            tag: httpx.head(f"{base}/manifests/{tag}", headers=accept).headers["Docker-Content-Digest"] for tag in tags
        }

    @staticmethod
    def _run(command: list[str], cwd: Path) -> Result:
        done = subprocess.run(
            command,
            cwd=cwd, env=environment(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, errors="replace", check=False,
        )  # fmt: skip
        return Result(done.returncode, done.stdout)


def environment() -> dict[str, str]:
    """The environment in which the sandbox's commands work on the sandbox of the tests."""
    return {**os.environ, "RELEVE_SANDBOX": str(SANDBOX_DIRECTORY), "NO_COLOR": "1"}


class Application:
    """A Compose project in a directory of its own on the server, and the source it is built from."""

    def __init__(
        self, sandbox: Sandbox, name: str, source: Path, port: int, database: str = "fabmanager/fabmanager_production"
    ) -> None:
        self.sandbox = sandbox
        self.user, self.database = database.split("/")
        self.name = name
        self.source = source
        self.port = port
        self.directory = f"/apps/{name}"
        self.repository = f"{sandbox.registry}/{name}"
        self._versions = itertools.count(1)

    @property
    def url(self) -> str:
        """The public address, through nginx."""
        return self.sandbox.command("url", self.sandbox.server, str(self.port)).strip()

    def page(self) -> str:
        return httpx.get(self.url, trust_env=False).text

    def health(self) -> Any:
        return httpx.get(f"{self.url}/health", trust_env=False).json()

    def new_version(self, version: str, *options: str) -> None:
        """Commits a new version of the source, as a developer would."""
        self.sandbox.command("new-version", version, *options, "--in", str(self.source))

    def fresh_version(self, *options: str) -> str:
        """Commits a version that was not there before, and returns it."""
        # The time, because a sandbox that was kept has those of its last run.
        version = f"7.{next(self._versions)}.{int(time.time())}"
        self.new_version(version, *options)
        return version

    def commit(self, name: str, text: str) -> None:
        """Commits a changed file of the source."""
        (self.source / name).write_text(text)
        self.git("commit", "--quiet", "--all", "--message", name)

    def git(self, *arguments: str) -> None:
        """Runs a git command in the source."""
        subprocess.run(["git", "-C", self.source, *arguments], check=True)

    def read(self, name: str = "docker-compose.yml") -> str:
        return self.sandbox.on_server("cat", f"{self.directory}/{name}")

    def write(self, text: str, name: str = "docker-compose.yml") -> None:
        """Writes a file of the project on the server, as somebody who edits it there."""
        self.sandbox.on_server("sh", "-c", 'printf %s "$1" >"$2"', "sh", text, f"{self.directory}/{name}")

    def configure_nginx(self, file: Path) -> None:
        """Gives nginx another configuration, as somebody who edits it there."""
        self.write(file.read_text(), "config/nginx/default.conf")
        self.sandbox.on_server("docker", "exec", self.containers()["nginx"], "nginx", "-s", "reload")

    def move(self) -> None:
        """Lets the web service's container have another address than the next one will have: the lowest that is free.

        nginx knows of it.
        """
        script = """
            network=$(docker inspect --format '{{range $name, $_ := .NetworkSettings.Networks}}{{$name}}{{end}}' "$1")
            docker stop "$1"
            docker run --detach --rm --name "place-$1" --network "$network" --entrypoint sleep "$3" 60
            docker start "$1"
            docker exec "$2" nginx -s reload
            docker rm --force "place-$1"
        """
        there = self.containers()
        image = self.sandbox.on_server("docker", "inspect", "--format", "{{.Image}}", there["nginx"]).strip()
        self.sandbox.on_server("sh", "-euc", script, "sh", there["fabmanager"], there["nginx"], image)
        until = time.monotonic() + 60
        while not self._answers():
            assert time.monotonic() < until, "the application does not answer"
            time.sleep(0.2)

    def _answers(self) -> bool:
        try:
            return httpx.get(self.url, trust_env=False).is_success
        except httpx.HTTPError:
            return False

    def containers(self) -> dict[str, str]:
        """Service → container id of what runs."""
        listing = self.sandbox.on_server(
            "docker", "ps", "--no-trunc",
            "--filter", f"label=com.docker.compose.project.working_dir={self.directory}",
            "--format", '{{.Label "com.docker.compose.service"}} {{.ID}}',
        )  # fmt: skip
        return dict(line.split() for line in listing.splitlines() if line)

    def files(self) -> set[str]:
        """Files of the directory that are not Relève's own."""
        found = self.sandbox.as_root("find", self.directory, "-not", "-path", f"{self.directory}/.releve*")
        return set(found.splitlines())

    def asset_statuses(self) -> dict[str, int]:
        """Path → status of every stylesheet and script that the page names."""
        paths = re.findall(r'(?:href|src)="(/(?:assets|packs)/[^"]+)"', self.page())
        return {path: httpx.get(f"{self.url}{path}", trust_env=False).status_code for path in paths}

    def serves(self, version: str) -> bool:
        """Whether page, health and all assets are those of one version."""
        assets = self.asset_statuses()
        page, health = self.page(), self.health()
        return f"<strong>{version}</strong>" in page and health["version"] == version and set(assets.values()) == {200}

    def sql(self, statement: str) -> str:
        """What the database answers."""
        psql = ["psql", f"--username={self.user}", "--no-align", "--tuples-only", f"--dbname={self.database}"]
        script = 'cd "$1" && shift && exec docker compose exec -T postgres "$@"'
        return self.sandbox.on_server("sh", "-c", script, "sh", self.directory, *psql, f"--command={statement}").strip()

    def history(self) -> list[dict[str, Any]]:
        """The rollouts of this directory, as the server remembers them."""
        return [json.loads(line) for line in self.read(".releve/history.jsonl").splitlines()]

    def would_recreate(self) -> str:
        """What `docker compose up` by hand would do now; empty when nothing."""
        dry_run = self.sandbox.on_server(
            "sh", "-c", 'cd "$1" && docker compose up -d --remove-orphans --dry-run 2>&1', "sh", self.directory
        )
        return "\n".join(line for line in dry_run.splitlines() if re.search("Recreate|Create|Start", line))


class Project:
    """A copy of this checkout with one stack: what a person has on their machine."""

    def __init__(self, sandbox: Sandbox, directory: Path, stack: str, config: Config) -> None:
        self.sandbox = sandbox
        self.directory = directory
        self.stack = stack
        self.stack_file = directory / f"Pulumi.{stack}.yaml"
        copy_checkout(directory)
        assert sandbox.pulumi(directory, "stack", "init", stack).succeeded
        self.config = config
        self.write()

    def write(self) -> None:
        """Writes the configuration to the stack file, as an editor would, keeping Pulumi's own lines."""
        document = yaml.safe_load(self.stack_file.read_text()) if self.stack_file.exists() else {}
        document = (document or {}) | {"config": self.config}
        self.stack_file.write_text(yaml.safe_dump(document, sort_keys=False, allow_unicode=True))

    def set(self, key: str, value: Any) -> None:
        """Sets a key by its path, for example `app.directory`; None removes it."""
        first, *rest = key.split(".")
        path = [f"releve:{first}", *rest]
        target: Any = self.config
        for part in path[:-1]:
            target = target[int(part) if part.isdigit() else part]
        last: Any = int(path[-1]) if path[-1].isdigit() else path[-1]
        if value is None:
            target.pop(last, None)
        else:
            target[last] = value
        self.write()

    def start_up(self, output: IO[bytes]) -> subprocess.Popen[bytes]:
        """Starts an `up` that the caller may kill: the process is pulumi itself."""
        run = str(CHECKOUT / "sandbox" / "run")
        command = [run, "pulumi", "up", "--yes", "--skip-preview", "--non-interactive", "--stack", self.stack]
        return self.sandbox.start(command, self.directory, output)

    def cancel(self) -> None:
        """Takes away the lock that a killed pulumi has left on the stack."""
        self._pulumi("cancel", "--yes")

    def run_as_written(self, command: str, replaced: Mapping[str, str], *options: str) -> Result:
        """Runs a command of a document.

        replaced: words, or what stands behind a = in one, that stand for others; options: more of them
        """
        heads = [word.rpartition("=") for word in shlex.split(command)]
        words = [f"{head}{equals}{replaced.get(tail, tail)}" for head, equals, tail in heads]
        program = next(word for word in words if "=" not in word)
        more = ["--non-interactive"] if program == "pulumi" else []
        asks = {"up", "rollback", "restore", "unlock"} & set(words) and "--yes" not in (*words, *options)
        return self.sandbox.run(self.directory, "env", *words, *more, *(["--yes"] if asks else []), *options)

    def up(self) -> Result:
        """Rolls out; what ran is what the plan said, whatever came of it."""
        done = self._pulumi("up", "--yes", "--skip-preview")
        planned, run = steps_planned(done), [step for step in steps_run(done) if step != "env-key"]
        assert planned is None or run == (planned if done.succeeded else planned[: len(run)]), done.output
        return done

    def preview(self, *options: str) -> Result:
        return self._pulumi("preview", *options)

    def configure(self, *arguments: str) -> Result:
        """Runs `pulumi config set`."""
        return self._pulumi("config", "set", *arguments)

    def release(self, tag: str) -> Result:
        """Sets the tag and rolls it out; that must succeed."""
        self.set("tag", tag)
        done = self.up()
        assert done.succeeded, done.output
        return done

    def is_unchanged(self) -> bool:
        """Whether a preview finds nothing to do."""
        return self.preview("--expect-no-changes").succeeded

    def outputs(self) -> Any:
        return json.loads(self._pulumi("stack", "output", "--json").output)

    def state(self) -> str:
        return self._pulumi("stack", "export").output

    def remove(self) -> None:
        """Forgets the stack. A failed `up` may have left operations pending, which destroy would stumble over."""
        if not self._pulumi("stack", "rm", "--yes", "--force").succeeded:
            self.cancel()  # a killed `up` leaves a lock
            self._pulumi("stack", "rm", "--yes", "--force")
        shutil.rmtree(self.directory)

    def _pulumi(self, command: str, *options: str) -> Result:
        return self.sandbox.pulumi(self.directory, command, "--stack", self.stack, *options)


@contextmanager
def placed(sandbox: Sandbox, name: str, source: Path, *, port: int) -> Iterator[Application]:
    """An application on the server, with its database and proxy up and no release yet; removed in every outcome.

    source: an empty directory, which becomes a clone of the example's checkout
    """
    subprocess.run(["git", "clone", "--quiet", SANDBOX_DIRECTORY / "app", source], check=True)
    for key, value in (("user.name", "test"), ("user.email", "test@example.org")):
        subprocess.run(["git", "-C", source, "config", key, value], check=True)
    application = Application(sandbox, name, source, port)
    try:
        sandbox.command("place", sandbox.server, application.directory, "--port", str(port))
        yield application
    finally:
        sandbox.command("remove", sandbox.server, application.directory)


@contextmanager
def fab_manager(sandbox: Sandbox, name: str, directory: Path, *, port: int) -> Iterator[tuple[Application, Project]]:
    """The stand-in for Fab-manager, installed by hand, and a project with the stack that the sandbox writes for it.

    directory: an empty one, for the source and the project
    """
    application = Application(sandbox, name, directory / "source", port, "postgres/fablab_production")
    stack_file = SANDBOX_DIRECTORY / "Pulumi.fab-manager.yaml"
    try:
        stack_file.unlink(missing_ok=True)  # of another installation
        options = ("--port", str(port), "--source", str(application.source))
        sandbox.command("fab-manager", sandbox.server, application.directory, *options)
        project = Project(sandbox, directory / "project", name, yaml.safe_load(stack_file.read_text())["config"])
        try:
            yield application, project
        finally:
            project.remove()
    finally:
        sandbox.command("remove", sandbox.server, application.directory)


def set_variable(application: Application) -> None:
    """Sets what the changelog of the stand-in asks for on the way to 6.5.10."""
    application.write(f"{application.read('config/env')}PLACES_COUNTRY=FR\n", "config/env")


@contextmanager
def project_of(application: Application, directory: Path) -> Iterator[Project]:
    """A project that releases `application`, removed in every outcome."""
    config = copy.deepcopy(application.sandbox.config)
    config["releve:image"]["repository"] = application.repository
    config["releve:image"]["source"]["path"] = str(application.source)
    # It takes seconds at every build; the tests of it ask for it.
    config["releve:image"].pop("smokeTest", None)
    config["releve:app"]["directory"] = application.directory
    config["releve:health"]["settle"] = 0  # tests that need it set it: it is ten seconds of every rollout
    config["releve:servers"][0]["url"] = application.url
    project = Project(application.sandbox, directory, application.name, config)
    try:
        yield project
    finally:
        project.remove()


def steps_run(result: Result) -> list[str]:
    """The steps on the server that an `up` ran, or a preview announced, each once and in order."""
    found = re.findall(r"server\d-([a-z-]+) +(?:create|creating|replace|creat\w+ replacement)", result.output)
    return list(dict.fromkeys(found))


def steps_planned(result: Result) -> list[str] | None:
    """The steps on the server that the plan named; None: it was refused before there was one."""
    found = re.search(r"^ +steps +(.*?) +\(strategy", result.output, re.MULTILINE)
    if "plan\n" not in result.output:
        return None
    building = ("build", "check", "smoke-test", "publish")
    return [step for step in (found[1].split(", ") if found else []) if step not in building]


def built(result: Result) -> bool:
    """Whether an `up` built an image; that a former one leaves the state is no build."""
    return re.search(r"docker:index:Image \S+ (creat|updat|replac)", result.output) is not None


def copy_checkout(directory: Path) -> None:
    """Copies what git tracks or would track of this checkout, as a clone has it."""
    listed = subprocess.run(
        ["git", "-C", CHECKOUT, "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    for name in filter(None, listed.split("\0")):
        if (CHECKOUT / name).is_file() and not name.startswith(("tests/", "example/")):
            (directory / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(CHECKOUT / name, directory / name)
    (directory / ".venv").symlink_to((CHECKOUT / ".venv").resolve())
