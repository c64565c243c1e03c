"""Two stacks, two servers, one registry: staging builds and releases, production deploys exactly that."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import httpx
import pytest

from tests.e2e.conftest import PORTS
from tests.e2e.harness import CHECKOUT, Application, Project, Sandbox, built, steps_run
from tests.e2e.tiny import tiny_application, tiny_project

pytestmark = pytest.mark.e2e

NAME = "promotion"
INDEX = "application/vnd.oci.image.index.v1+json"
MANIFESTS = f"{INDEX}, application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json"


@dataclass(frozen=True)
class Stage:
    """One of the two: an application on its server, and the project whose stack releases it."""

    application: Application
    project: Project

    def digests_that_run(self) -> set[str]:
        """What the containers of the application's services run, as the server's own Docker Engine says it."""
        containers = self.application.containers()
        images = self.application.sandbox.on_server(
            "docker", "inspect", "--format", "{{.Image}}", containers["web"]
        ).split()
        listed = self.application.sandbox.on_server(
            "docker", "image", "inspect", "--format", "{{json .RepoDigests}}", *images
        )
        names = [name for line in listed.splitlines() for name in json.loads(line)]
        return {name.partition("@")[2] for name in names if name.startswith(f"{self.application.repository}@")}


@pytest.fixture(scope="module")
def stages(sandbox: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Stage, Stage]]:
    """Staging and production of one application, each on a server of its own; production has no source."""
    port = next(PORTS)
    with ExitStack() as stack:
        made: list[Stage] = []
        for name, server in ((f"{NAME}-staging", sandbox), (f"{NAME}-production", sandbox.add_server("server2"))):
            source, directory = tmp_path_factory.mktemp(name), tmp_path_factory.mktemp(name)
            application = stack.enter_context(tiny_application(server, name, source, port=port))
            application.repository = made[0].application.repository if made else application.repository
            made.append(Stage(application, stack.enter_context(tiny_project(application, directory))))
        staging, production = made
        production.project.set("image.source", None)
        yield staging, production


def manifest(application: Application, reference: str) -> httpx.Response:
    path = application.repository.partition("/")[2]
    url = f"http://{application.sandbox.registry}/v2/{path}/manifests/{reference}"
    return httpx.get(url, headers={"Accept": MANIFESTS}, trust_env=False)


def put_manifest(application: Application, tag: str, content: bytes, media_type: str) -> str:
    """Pushes a manifest as somebody else would, and returns its digest."""
    path = application.repository.partition("/")[2]
    url = f"http://{application.sandbox.registry}/v2/{path}/manifests/{tag}"
    stored = httpx.put(url, content=content, headers={"Content-Type": media_type}, trust_env=False)
    assert stored.status_code == httpx.codes.CREATED, stored.text
    return stored.headers["Docker-Content-Digest"]


def test_a_tag_that_staging_has_not_released_fails_in_productions_preview_with_the_command_for_it(
    stages: tuple[Stage, Stage], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, production = stages
    connections = production.application.sandbox.connections()
    production.project.set("tag", "9.9.9")
    with monkeypatch.context() as environment:
        # A stack without a source needs no Docker.
        environment.setenv("DOCKER_HOST", "unix:///nonexistent/docker.sock")
        preview = production.project.preview()
    assert not preview.succeeded
    assert f"{production.application.repository}:9.9.9 is not in the registry" in preview.output
    assert "pulumi config set tag 9.9.9 -s staging && pulumi up -s staging" in preview.output
    assert production.application.sandbox.connections() == connections


def test_production_runs_the_digest_that_staging_built(stages: tuple[Stage, Stage]) -> None:
    staging, production = stages
    assert built(staging.project.release("1.0.0"))
    promoted = production.project.release("1.0.0")
    assert not built(promoted)
    assert "pull" in steps_run(promoted)
    assert production.project.outputs()["release"] == staging.project.outputs()["release"]
    (digest,) = staging.digests_that_run()
    assert production.digests_that_run() == {digest}
    assert staging.project.outputs()["release"].endswith(f"@{digest}")
    assert production.project.is_unchanged()


def test_the_released_tag_is_the_candidate_byte_for_byte_and_says_what_it_was_made_of(
    stages: tuple[Stage, Stage],
) -> None:
    staging, _ = stages
    staging.project.release("1.0.0")
    tags = staging.application.sandbox.manifests(staging.application.repository)
    (candidate,) = [tag for tag, digest in tags.items() if tag.startswith("build-") and digest == tags["1.0.0"]]
    released = manifest(staging.application, "1.0.0")
    assert released.content == manifest(staging.application, candidate).content
    path = staging.application.repository.partition("/")[2]
    blob = f"http://{staging.application.sandbox.registry}/v2/{path}/blobs/{released.json()['config']['digest']}"
    labels = httpx.get(blob, trust_env=False).json()["config"]["Labels"]
    head = ["git", "-C", str(staging.application.source), "rev-parse", "HEAD"]
    revision = subprocess.run(head, check=True, capture_output=True, text=True).stdout.strip()
    assert labels["org.opencontainers.image.version"] == "1.0.0"
    assert labels["org.opencontainers.image.revision"] == revision


def test_an_index_is_released_byte_for_byte_as_well(stages: tuple[Stage, Stage]) -> None:
    staging, _ = stages
    application = staging.application
    staging.project.release("1.0.0")
    single = manifest(application, "1.0.0")
    entry = {
        "mediaType": single.headers["Content-Type"],
        "digest": single.headers["Docker-Content-Digest"],
        "size": len(single.content),
        "platform": {"os": "linux", "architecture": "amd64"},
    }
    content = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]}, indent=3).encode()
    digest = put_manifest(application, "build-index", content, INDEX)
    command = [sys.executable, "-m", "release.publish", f"{application.repository}:1.0.0-index", digest]
    subprocess.run(command, check=True, cwd=CHECKOUT, capture_output=True)
    released = manifest(application, "1.0.0-index")
    assert released.content == content
    assert released.headers["Content-Type"] == INDEX


def test_a_tag_that_somebody_else_pushes_between_decision_and_publication_is_not_overwritten(
    stages: tuple[Stage, Stage],
) -> None:
    staging, _ = stages
    application, project = staging.application, staging.project
    staging.project.release("1.0.0")
    application.commit("version", "1.1.0")
    # The first attempt decides that 1.1.0 is to be built, and then fails for lack of a base image.
    base = f"{application.sandbox.registry}/{NAME}-base-{os.getpid()}"
    project.set("image.source.args.BASE_IMAGE", f"{base}:1")
    project.set("tag", "1.1.0")
    failed = project.up()
    assert not failed.succeeded
    assert f"{base}:1" in failed.output
    # Meanwhile the base appears, and somebody pushes the tag.
    subprocess.run(["docker", "tag", f"{application.sandbox.registry}/debian:bookworm-slim", f"{base}:1"], check=True)
    subprocess.run(["docker", "push", "--quiet", f"{base}:1"], check=True, capture_output=True)
    theirs = manifest(application, "1.0.0")
    put_manifest(application, "1.1.0", theirs.content, theirs.headers["Content-Type"])
    before = application.containers()
    refused = project.up()
    assert not refused.succeeded
    assert built(refused)
    assert "1.1.0 was pushed by somebody else" in refused.output
    assert "choose another tag" in refused.output
    assert manifest(application, "1.1.0").content == theirs.content
    assert application.containers() == before
