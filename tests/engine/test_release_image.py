"""ReleaseImage as the engine runs it: what of it one stack alone does not show."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.engine.harness import CHECKOUT, Engine, Outcome, Stack, output_of
from tests.engine.registry import Registry

pytestmark = pytest.mark.engine

PROGRAM = """
import sys
sys.path.insert(0, {checkout!r})
from pathlib import Path
from components import image
from configuration.tree import ImageSettings, RegistrySettings

# As two stacks of one checkout have it: one path for both.
image.CONTEXT = {context!r}
settings = ImageSettings.model_validate({{
    "repository": {repository!r}, "source": {{"path": {source!r}}}, "checks": {{"command": "off"}},
}})
released = image.ReleaseImage("image", image.ReleaseImageArgs({tag!r}, settings, RegistrySettings()))
pulumi.export("digest", released.digest)
"""

DOCKER = """#!/bin/sh
# The first build gives the other stack's program time to write its own context, if nothing keeps it from that.
case "$*" in
    "buildx build"*)
        if mkdir "$MEETING/first" 2>/dev/null; then sleep 5; fi
        ;;
esac
exec {docker} "$@"
"""


@pytest.fixture
def two_stacks(offline: Engine, tmp_path: Path) -> tuple[Stack, Stack]:
    """Their builds overlap unless something prevents it."""
    (tmp_path / "bin").mkdir()
    docker = tmp_path / "bin/docker"
    docker.write_text(DOCKER.format(docker=output_of("sh", "-c", "command -v docker")))
    docker.chmod(0o755)
    environment = {"PATH": f"{tmp_path}/bin:{offline.environment['PATH']}", "MEETING": str(tmp_path)}
    stacks = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        stacks.append(Stack(offline, tmp_path / name, environment))
    return stacks[0], stacks[1]


def checkout_of(directory: Path, content: str) -> Path:
    """A source whose image holds this."""
    directory.mkdir()
    (directory / "Dockerfile").write_text("FROM scratch\nUSER app\nENV RAILS_ENV=production\nCOPY content /\n")
    (directory / "content").write_text(content)
    identity = ["-c", "user.name=test", "-c", "user.email=test@example.org"]
    for arguments in (["init", "--quiet"], ["add", "--all"], ["commit", "--quiet", "--message", "x"]):
        subprocess.run(["git", "-C", directory, *identity, *arguments], check=True)
    return directory


def test_two_stacks_of_one_checkout_build_their_own_sources_at_once_and_older_tags_than_theirs_are_warned_of(
    two_stacks: tuple[Stack, Stack], image_registry: Registry, tmp_path: Path
) -> None:
    repository = f"{image_registry.address}/two-stacks"
    tags = dict(zip(("one", "two"), ("1.0.0", "1.1.0"), strict=True))

    def program(name: str, tag: str) -> str:
        source, context = str(tmp_path / f"source-{name}"), str(tmp_path / "shared/context")
        return PROGRAM.format(checkout=str(CHECKOUT), context=context, repository=repository, source=source, tag=tag)

    def release(stack: Stack) -> Callable[[], Outcome]:
        checkout_of(tmp_path / f"source-{stack.name}", stack.name)
        return lambda: stack.up(program(stack.name, tags[stack.name]))

    with ThreadPoolExecutor() as pool:
        for outcome in pool.map(lambda up: up(), [release(stack) for stack in two_stacks]):
            assert outcome.succeeded, outcome.messages
    for stack in two_stacks:
        tagged = f"{repository}:{tags[stack.name]}"
        subprocess.run(["docker", "pull", "--quiet", tagged], check=True, stdout=subprocess.DEVNULL)
        holder = output_of("docker", "create", tagged, "none")
        try:
            subprocess.run(["docker", "cp", f"{holder}:/content", tmp_path / "found"], check=True)
        finally:
            subprocess.run(["docker", "rm", holder], check=True, stdout=subprocess.DEVNULL)
        assert (tmp_path / "found").read_text() == stack.name

    # Under an older tag that is not there, today's source is something else than what that may have been.
    older = two_stacks[0].preview(program("one", "0.9.0"))
    assert older.succeeded, older.messages
    assert f"{repository}:0.9.0 is not in the registry, though the newer 1.1.0 was released" in older.messages
    known = program("one", "0.8.0").replace("RegistrySettings()))", 'RegistrySettings(), released=("0.8.0",)))')
    assert f"{repository}:0.8.0 was released from this stack" in two_stacks[0].preview(known).messages
    newer = two_stacks[0].preview(program("one", "1.2.0"))
    assert newer.succeeded, newer.messages
    assert "though the newer" not in newer.messages
