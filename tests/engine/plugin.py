"""A plugin alone, without the engine: started as the engine starts it, and asked by the tests."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from concurrent import futures
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.empty_pb2 import Empty
from google.protobuf.json_format import MessageToDict, ParseDict
from pulumi.runtime.proto import engine_pb2, engine_pb2_grpc, provider_pb2, provider_pb2_grpc

REQUESTS = {
    "Handshake": provider_pb2.ProviderHandshakeRequest,
    "GetPluginInfo": Empty,
    "CheckConfig": provider_pb2.CheckRequest,
    "DiffConfig": provider_pb2.DiffRequest,
    "Configure": provider_pb2.ConfigureRequest,
    "Check": provider_pb2.CheckRequest,
    "Diff": provider_pb2.DiffRequest,
    "Create": provider_pb2.CreateRequest,
    "Update": provider_pb2.UpdateRequest,
    "Delete": provider_pb2.DeleteRequest,
    "Read": provider_pb2.ReadRequest,
    "Cancel": Empty,
}


class _Engine(engine_pb2_grpc.EngineServicer):
    """As much of an engine as a plugin talks to: it takes messages."""

    def __init__(self) -> None:
        self.messages: list[str] = []

    def Log(self, request: engine_pb2.LogRequest, _context: grpc.ServicerContext) -> Empty:  # noqa: N802
        self.messages.append(request.message)
        return Empty()


class Plugin:
    """A running plugin.

    Attributes:
        process: its process
        messages: what it has told the engine so far
    """

    def __init__(self, process: subprocess.Popen[str], channel: grpc.Channel, messages: list[str]) -> None:
        self.process = process
        self.messages = messages
        self._stub = provider_pb2_grpc.ResourceProviderStub(channel)

    def call(self, method: str, request: dict[str, Any]) -> dict[str, Any]:
        """The answer to a call, as JSON.

        Raises:
            grpc.RpcError: the plugin answered with an error.
        """
        answer = getattr(self._stub, method)(ParseDict(request, REQUESTS[method](), ignore_unknown_fields=True))
        return dict(MessageToDict(answer))


@contextmanager
def running(executable: Path, directory: Path, environment: dict[str, str]) -> Iterator[Plugin]:
    """Runs a plugin in a program's directory."""
    engine = _Engine()
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=2))
    engine_pb2_grpc.add_EngineServicer_to_server(engine, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    command = [str(executable), "--logtostderr", f"127.0.0.1:{port}"]
    with subprocess.Popen(command, cwd=directory, env=environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            with grpc.insecure_channel(f"127.0.0.1:{process.stdout.readline().strip()}") as channel:
                yield Plugin(process, channel, engine.messages)
        finally:
            process.terminate()
            process.wait()
            server.stop(grace=None)
