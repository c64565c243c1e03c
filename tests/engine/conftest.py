"""Fixtures of the plugin contract: one engine, one sshd and one registry a session, one stack a test."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engine.harness import Engine, Stack
from tests.engine.registry import Registry, registry
from tests.engine.sshd import Server, sshd


@pytest.fixture(scope="session")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    directory = tmp_path_factory.mktemp("pulumi")
    return Engine.installed(directory / "home", directory / "state", os.environ.get("RELEVE_PLUGINS", ""))


@pytest.fixture(scope="session")
def offline(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    """The engine with the offline plugins, whichever others can be had."""
    directory = tmp_path_factory.mktemp("offline")
    return Engine.installed(directory / "home", directory / "state", "offline")


@pytest.fixture(scope="session")
def vendor(engine: Engine) -> Engine:
    """The engine with the vendor's plugins, where they can be had."""
    if engine.kind != "vendor":
        pytest.skip("not run: the vendor's plugins cannot be had here")
    return engine


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with sshd(tmp_path_factory.mktemp("sshd")) as running:
        yield running


@pytest.fixture(scope="session")
def image_registry() -> Iterator[Registry]:
    with registry(f"releve-tests-engine-{os.getpid()}") as running:
        yield running


@pytest.fixture
def stack(engine: Engine, tmp_path: Path) -> Stack:
    """A stack of the test's own. Its state goes with the test's directory; its resources leave nothing to destroy."""
    return Stack(engine, tmp_path)


@pytest.fixture
def server_stack(stack: Stack, server: Server) -> Stack:
    """A stack whose programs know the server as SERVER."""
    stack.environment["CONTRACT_SERVER"] = json.dumps(server.with_key)
    return stack
