"""What the vendor's plugins were asked and answered (traffic.jsonl), asked again: names and shapes must be the same.

It was recorded with the vendor's plugins command 1.2.1 and docker 5.1.0; of calls with the same shapes one is kept.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.engine.harness import Engine
from tests.engine.plugin import Plugin, running
from tests.engine.registry import Registry
from tests.engine.sshd import Server

pytestmark = pytest.mark.engine

CALLS = [json.loads(line) for line in Path(__file__).with_name("traffic.jsonl").read_text().splitlines()]
UNKNOWN = "04da6b54-80e4-46f7-96ec-b56ff0331ba9"
SECRET = "1b47061264138c4ac30d75fd1eb44270"
# Answers that are a matter of time, content or chance are compared by type; these words are compared as they are.
WORDS = re.compile(f"{UNKNOWN}|{SECRET}|[A-Z_]+|[0-9.]+")


@pytest.fixture(scope="module")
def plugins(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Plugin]]:
    directory = tmp_path_factory.mktemp("replay")
    (directory / "context").mkdir()
    (directory / "context/Dockerfile").write_text("FROM scratch\nARG VERSION\nCOPY Dockerfile /\n")
    with ExitStack() as stack:
        yield {
            name: stack.enter_context(running(engine.plugin(name), directory, dict(engine.environment)))
            for name in ("command", "docker")
        }


@pytest.mark.parametrize("call", CALLS, ids=lambda call: f"{call['scenario']}-{call['plugin']}-{call['method']}")
def test_the_answer_has_the_vendors_names_and_shapes(
    call: dict[str, Any], plugins: dict[str, Plugin], server: Server, image_registry: Registry
) -> None:
    plugin = plugins[call["plugin"]]
    request, response = (_here(call[part], server, image_registry) for part in ("request", "response"))
    if "errors" not in call:
        assert _shape(plugin.call(call["method"], request)) == _shape(response)
        return
    with pytest.raises(grpc.RpcError) as raised:
        plugin.call(call["method"], request)
    assert isinstance(raised.value, grpc.Call)
    assert call["errors"] == [f"rpc error: code = {_name(raised.value.code())} desc = {raised.value.details()}"]


def _here(value: Any, server: Server, registry: Registry) -> Any:
    """A recorded message with this machine's addresses and keys."""
    if isinstance(value, dict):
        here = {key: _here(item, server, registry) for key, item in value.items()}
        if "hostKey" in here:
            here |= {"port": server.connection["port"], "user": server.connection["user"]}
        return here
    if isinstance(value, list):
        return [_here(item, server, registry) for item in value]
    if isinstance(value, str):
        value = value.replace("<address>", server.connection["host"])
        value = value.replace("<host key>", server.connection["host_key"])
        value = value.replace("<private key>", server.private_key.read_text())
        value = value.replace("localhost:5000", registry.address)
    return value


def _name(code: grpc.StatusCode) -> str:
    """A status as Go spells it, such as `Unknown`."""
    return code.name.title().replace("_", "")


def _shape(value: Any) -> Any:
    match value:
        case dict():
            return {key: _shape(item) for key, item in value.items()}
        case list():
            return [_shape(item) for item in value]
        case str() if WORDS.fullmatch(value):
            return value
        case int() | float() if not isinstance(value, bool):
            return "number"
        case _:
            return type(value).__name__
