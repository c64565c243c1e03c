"""The entry point: what the engine starts as `pulumi-resource-command` and `pulumi-resource-docker`.

The engine passes its own address as the last argument, reads the port we serve from the first line of our standard
output, and sends SIGINT when it is done.
"""

import asyncio
import contextlib
import os
import signal
import sys

import grpc.aio

from .command import CommandProvider
from .engine import Engine
from .image import ImageProvider
from .protocol import provider_pb2_grpc
from .provider import Provider

# Captured output of a step may be long; the engine accepts far more than gRPC's default of 4 MiB.
_UNLIMITED = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]


def main() -> None:
    """Serves the plugin named by the first argument, `command` or `docker`, until the engine ends."""
    asyncio.run(_serve(sys.argv[1], engine_address=sys.argv[-1]))


async def _serve(name: str, *, engine_address: str) -> None:
    async with grpc.aio.insecure_channel(engine_address) as channel:
        provider = _provider(name, Engine(channel))
        server = grpc.aio.server(options=_UNLIMITED)
        provider_pb2_grpc.add_ResourceProviderServicer_to_server(provider, server)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        print(port, flush=True)
        await _end(of_process=os.getppid())
        provider.cancel_operations()
        await server.stop(grace=1)


def _provider(name: str, engine: Engine) -> Provider:
    match name:
        case "command":
            return CommandProvider(engine)
        case "docker":
            return ImageProvider(engine)
        case _:
            sys.exit(f"no offline plugin is called {name!r}: there are command and docker")


async def _end(*, of_process: int) -> None:
    """Returns when we are told to stop, or that parent process is gone: a killed engine leaves no plugin behind."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    while os.getppid() == of_process and not stop.is_set():
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), timeout=0.5)
