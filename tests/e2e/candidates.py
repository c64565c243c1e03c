"""Small applications that are quickly built: git checkouts whose Dockerfile starts from the example's own image."""

from __future__ import annotations

import copy
import json
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.e2e.harness import CHECKOUT, SANDBOX_DIRECTORY, Project, Sandbox

ENVIRONMENT = {
    "DATABASE_URL": "postgresql://postgres:throwaway@postgres/postgres",
    "SECRET_KEY_BASE": "of-the-smoke-test-alone",
    "RAILS_SERVE_STATIC_FILES": "true",
}


@dataclass(frozen=True)
class Candidate:
    """An image to be: what its Dockerfile adds to the example's, files beside it, and how it is tried."""

    dockerfile: str
    smoke_test: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)


def ruby(program: str) -> str:
    """The CMD that runs a Ruby program, without the example's entry point and without its health check's requests."""
    return f"HEALTHCHECK NONE\nENTRYPOINT []\nCMD {json.dumps(['ruby', '-rsocket', '-e', program])}\n"


def rails(sandbox: Sandbox) -> dict[str, Any]:
    """The smoke test of a Rails application that has its own database."""
    return {"env": ENVIRONMENT, "needs": {"postgres": f"{sandbox.registry}/postgres:15"}}


ANSWERS = ruby(
    "server = TCPServer.new('0.0.0.0', 3000); "
    'loop { client = server.accept; client.gets; client.print "HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\n\\r\\nok"; '
    "client.close }"
)
HANGS = ruby("server = TCPServer.new('0.0.0.0', 3000); clients = []; loop { clients << server.accept }")


class Workshop:
    """A project that builds candidates, one after the other, into one repository."""

    def __init__(self, sandbox: Sandbox, project: Project, source: Path, repository: str) -> None:
        self.sandbox = sandbox
        self.project = project
        self.source = source
        self.repository = repository
        self.base = f"{repository}:base"

    def build_base(self) -> None:
        """Puts the example's image into the repository, for the candidates to start from."""
        argument = f"BASE_IMAGE={self.sandbox.registry}/debian:bookworm-slim"
        _run("docker", "build", "--quiet", "--build-arg", argument, "--tag", self.base, str(SANDBOX_DIRECTORY / "app"))
        _run("docker", "push", "--quiet", self.base)

    def commit(self, candidate: Candidate) -> None:
        """Makes the candidate the last commit of the source."""
        for old in self.source.iterdir():
            if old.name != ".git":
                old.unlink()
        header = "" if candidate.dockerfile.startswith("FROM") else f"FROM {self.base}\nUSER app\n"
        files = {"Dockerfile": header + candidate.dockerfile, **candidate.files}
        for name, text in files.items():
            (self.source / name).write_text(text)
        _run("git", "-C", str(self.source), "add", "--all", "--force")
        _run("git", "-C", str(self.source), "commit", "--quiet", "--allow-empty", "--message", "candidate")
        self.project.set("image.smokeTest", dict(candidate.smoke_test) or None)

    def image(self, candidate: Candidate, tag: str) -> str:
        """Builds and pushes a candidate without pulumi; its reference by digest."""
        self.commit(candidate)
        name = f"{self.repository}:{tag}"
        _run("docker", "build", "--quiet", "--tag", name, str(self.source))
        _run("docker", "push", "--quiet", name)
        return f"{name}@{self.sandbox.manifests(self.repository)[tag]}"


@contextmanager
def workshop(sandbox: Sandbox, name: str, directory: Path) -> Iterator[Workshop]:
    """A workshop with the example's image in it; its project is removed in every outcome."""
    source = directory / "source"
    _run("git", "init", "--quiet", str(source))
    for key, value in (("user.name", "test"), ("user.email", "test@example.org")):
        _run("git", "-C", str(source), "config", key, value)
    config = copy.deepcopy(sandbox.config)
    repository = f"{sandbox.registry}/{name}"
    config["releve:image"] = {"repository": repository, "source": {"path": str(source)}}
    project = Project(sandbox, directory / "project", name, config)
    try:
        shop = Workshop(sandbox, project, source, repository)
        shop.build_base()
        yield shop
    finally:
        project.remove()


def throwaways(locks: Path) -> dict[str, list[str]]:
    """What there is of smoke tests whose locks lie in this directory: kind → names."""
    found = {}
    for kind, options in (("container", ["--all"]), ("network", []), ("volume", [])):
        listing = _run(
            "docker", kind, "ls", *options, "--filter", "label=releve.smoke-test",
            "--format", '{{.Label "releve.smoke-test.lock"}} {{.Label "releve.smoke-test"}}',
        )  # fmt: skip
        names = [line.split()[1] for line in listing.splitlines() if line.partition(":")[2].startswith(f"{locks}/")]
        if names:
            found[kind] = names
    return found


def anonymous_volumes(project: str) -> list[str]:
    """The volumes that the containers of a Compose project use, by name."""
    containers = _run(
        "docker", "container", "ls", "--all", "--quiet", "--filter", f"label=com.docker.compose.project={project}"
    ).split()
    template = '{{range .Mounts}}{{if eq .Type "volume"}}{{println .Name}}{{end}}{{end}}'
    return _run("docker", "container", "inspect", "--format", template, *containers).split() if containers else []


def volume_exists(name: str) -> bool:
    return name in _run("docker", "volume", "ls", "--quiet").split()


def _run(*command: str) -> str:
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}"
    return done.stdout
