"""What the plugins tell the engine while they work."""

from typing import Any

import grpc.aio

from .protocol import engine_pb2, engine_pb2_grpc


class Engine:
    """The engine's side of the connection: shows messages beside the resource they concern."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub: Any = engine_pb2_grpc.EngineStub(channel)  # typed for synchronous channels alone

    async def info(self, urn: str, message: str) -> None:
        """Shows a message that stays."""
        await self._log(engine_pb2.INFO, urn, message, ephemeral=False)

    async def warning(self, urn: str, message: str) -> None:
        """Shows a warning."""
        await self._log(engine_pb2.WARNING, urn, message, ephemeral=False)

    async def status(self, urn: str, message: str) -> None:
        """Shows progress, which the next one replaces."""
        await self._log(engine_pb2.INFO, urn, message, ephemeral=True)

    async def _log(
        self, severity: engine_pb2.LogSeverity.ValueType, urn: str, message: str, *, ephemeral: bool
    ) -> None:
        request = engine_pb2.LogRequest(severity=severity, message=message, urn=urn, ephemeral=ephemeral)
        await self._stub.Log(request)
