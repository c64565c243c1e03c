"""A stack may change from the vendor's plugins to the offline ones and back: neither sees a change in it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.engine.harness import Engine, Stack
from tests.engine.registry import Registry
from tests.engine.sshd import Server

pytestmark = pytest.mark.engine

PROGRAM = """
import pulumi_docker as docker
image = docker.Image("image", image_name="{address}/cross-preview:one", build=docker.DockerBuildArgs(
    context="context", dockerfile="context/Dockerfile", platform="linux/amd64", args={{"VERSION": "1"}}))
secret = pulumi.Output.secret("hush")
published = command.local.Command("local", create="cat", stdin=secret, triggers=[image.repo_digest])
command.remote.Command("remote", connection=SERVER, create="cat", stdin="hello", logging="none",
    add_previous_output_in_env=False, triggers=[published.id], opts=ResourceOptions(ignore_changes=IGNORED))
"""


@pytest.fixture(params=["vendor first", "offline first"])
def engines(request: pytest.FixtureRequest, vendor: Engine, offline: Engine) -> tuple[Engine, Engine]:
    return (vendor, offline) if request.param == "vendor first" else (offline, vendor)


def test_what_one_kind_of_plugin_deployed_the_other_leaves_as_it_is(
    engines: tuple[Engine, Engine], server: Server, image_registry: Registry, tmp_path: Path
) -> None:
    deploying, previewing = engines
    (tmp_path / "context").mkdir()
    (tmp_path / "context/Dockerfile").write_text("FROM scratch\nCOPY . /\n")
    (tmp_path / "state").mkdir()
    # One state for both engines.
    backend = {"PULUMI_BACKEND_URL": (tmp_path / "state").as_uri()}
    stack = Stack(deploying, tmp_path, {"CONTRACT_SERVER": json.dumps(server.with_key), **backend})
    program = PROGRAM.format(address=image_registry.address)
    assert stack.up(program).succeeded
    stack.engine = previewing
    assert stack.preview(program, "--expect-no-changes").succeeded
