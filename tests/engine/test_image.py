"""docker:index/image:Image, as far as the candidate of a release relies on it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.engine.harness import Stack
from tests.engine.registry import Registry

pytestmark = pytest.mark.engine


class Candidate:
    """A build context and the program that builds it as repository:tag."""

    def __init__(self, directory: Path, registry: Registry) -> None:
        self.repository = directory.name.replace("_", "-")
        self.name = f"{registry.address}/{self.repository}:one"
        self.context = directory / "context"
        (self.context / "app").mkdir(parents=True)
        self.write("Dockerfile", "FROM scratch\nARG VERSION\nCOPY app /app\n")
        self.write("app/version", "1")

    def write(self, path: str, text: str) -> None:
        (self.context / path).write_text(text)

    def program(
        self, *, context: str = "context", version: str = "1", options: str = "None", account: str = "", cache: str = ""
    ) -> str:
        return f"""
import pulumi_docker as docker
image = docker.Image("image", image_name={self.name!r}, build=docker.DockerBuildArgs(
    context={context!r}, dockerfile="{context}/Dockerfile", platform="linux/amd64", args={{"VERSION": {version!r}}},
    {cache}
), registry=docker.RegistryArgs(server={self.name.partition("/")[0]!r}, {account}), opts={options})
"""


@pytest.fixture
def candidate(tmp_path: Path, image_registry: Registry) -> Candidate:
    return Candidate(tmp_path, image_registry)


def test_create_builds_and_pushes_and_gives_the_digest(
    stack: Stack, candidate: Candidate, image_registry: Registry
) -> None:
    outcome = stack.up(candidate.program())
    assert outcome.steps == ["create image"]
    assert "COPY app /app" in outcome.messages
    image = stack.resource("image")
    digest = image_registry.digest(candidate.repository, "one")
    assert digest is not None
    assert image.outputs["repoDigest"] == f"{image_registry.address}/{candidate.repository}@{digest}"
    assert image.id == candidate.name


def test_a_preview_builds_and_pushes_nothing(stack: Stack, candidate: Candidate, image_registry: Registry) -> None:
    program = candidate.program() + "command.local.Command('publish', create='true', triggers=[image.repo_digest])"
    assert stack.preview(program).steps == ["create image", "create publish"]
    assert image_registry.digest(candidate.repository, "one") is None


def test_an_unchanged_context_gives_no_difference(stack: Stack, candidate: Candidate) -> None:
    stack.up(candidate.program())
    assert stack.preview(candidate.program(), "--expect-no-changes").succeeded


def test_a_changed_context_updates_under_the_same_id(
    stack: Stack, candidate: Candidate, image_registry: Registry
) -> None:
    stack.up(candidate.program())
    before = stack.resource("image")
    candidate.write("app/version", "2")
    outcome = stack.up(candidate.program())
    assert outcome.steps == ["update image"]
    assert outcome.diffs == {"image": {"build": "update"}}
    after = stack.resource("image")
    assert after.id == before.id
    assert after.outputs["repoDigest"] != before.outputs["repoDigest"]
    assert after.outputs["repoDigest"].endswith(f"@{image_registry.digest(candidate.repository, 'one')}")


def test_a_changed_file_mode_is_a_changed_context(stack: Stack, candidate: Candidate) -> None:
    stack.up(candidate.program())
    (candidate.context / "app/version").chmod(0o755)
    assert stack.preview(candidate.program()).steps == ["update image"]


def test_what_the_ignore_file_names_does_not_count(stack: Stack, candidate: Candidate) -> None:
    candidate.write(".dockerignore", "**/*.log\n!app/kept.log\n")
    candidate.write("app/kept.log", "1")
    stack.up(candidate.program())
    candidate.write("app/ignored.log", "1")
    assert stack.preview(candidate.program()).steps == []
    candidate.write("app/kept.log", "2")
    assert stack.preview(candidate.program()).steps == ["update image"]


def test_another_build_argument_or_context_path_is_an_update(stack: Stack, candidate: Candidate) -> None:
    stack.up(candidate.program())
    assert stack.preview(candidate.program(version="2")).steps == ["update image"]
    candidate.context.rename(candidate.context.with_name("elsewhere"))
    assert stack.preview(candidate.program(context="elsewhere")).steps == ["update image"]


def test_a_failed_build_saves_nothing_and_shows_the_end_of_its_output(stack: Stack, candidate: Candidate) -> None:
    candidate.write("Dockerfile", "FROM scratch\nCOPY missing /\n")
    outcome = stack.up(candidate.program())
    assert not outcome.succeeded
    assert '"/missing": not found' in outcome.messages
    assert not stack.holds("image")


def test_a_retained_image_leaves_the_state_without_a_call_to_delete_it(
    stack: Stack, candidate: Candidate, image_registry: Registry, tmp_path: Path
) -> None:
    stack.up(candidate.program(options="ResourceOptions(retain_on_delete=True)"))
    calls = tmp_path / "calls.json"
    stack.environment["PULUMI_DEBUG_GRPC"] = str(calls)
    assert stack.up("").steps == ["delete image"]
    methods = [json.loads(line)["method"] for line in calls.read_text().splitlines()]
    assert [method for method in methods if method.endswith("/Delete")] == []
    assert not stack.holds("image")
    assert image_registry.digest(candidate.repository, "one") is not None


@pytest.mark.parametrize("account", ["username='fab', password=pulumi.Output.secret('other-s3cret')", ""])
def test_another_registry_account_or_none_any_more_is_no_difference(
    stack: Stack, candidate: Candidate, account: str
) -> None:
    stack.up(candidate.program(account="username='fab', password=pulumi.Output.secret('s3cret')"))
    assert stack.preview(candidate.program(account=account), "--expect-no-changes").succeeded


def test_a_registry_account_that_is_new_is_no_difference(stack: Stack, candidate: Candidate) -> None:
    stack.up(candidate.program())
    account = "username='fab', password=pulumi.Output.secret('s3cret')"
    assert stack.preview(candidate.program(account=account), "--expect-no-changes").succeeded


def test_images_to_take_layers_from_are_asked(stack: Stack, candidate: Candidate) -> None:
    stack.up(candidate.program())
    candidate.write("app/version", "2")
    outcome = stack.up(candidate.program(cache=f"cache_from=docker.CacheFromArgs(images=[{candidate.name!r}])"))
    assert outcome.steps == ["update image"]
    assert f"importing cache manifest from {candidate.name}" in outcome.messages
