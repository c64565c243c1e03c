"""What both plugins have in common as servers of the provider protocol."""
# ruff: noqa: N802  # the protocol names its methods

import asyncio
from collections.abc import Coroutine
from typing import Any, NoReturn, TypeAlias, TypeVar

import grpc
import grpc.aio
from google.protobuf.empty_pb2 import Empty

from .engine import Engine
from .properties import Properties, marshal, unmarshal
from .protocol import plugin_pb2, provider_pb2, provider_pb2_grpc

Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]
T = TypeVar("T")


class StepError(Exception):
    """A step failed, or cannot be done; the message is what the operator sees."""


class Provider(provider_pb2_grpc.ResourceProviderServicer):
    """A plugin: subclasses say how its resources are checked, compared, created, updated and deleted.

    Attributes:
        name: the plugin's name, as in `pulumi plugin install resource NAME`
        version: the vendor's version that this plugin stands in for
        configuration: what Configure answers
    """

    name: str
    version: str
    configuration: provider_pb2.ConfigureResponse

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._operations: set[asyncio.Task[Any]] = set()

    # What a plugin does with its resources.

    async def check(self, resource_type: str, urn: str, inputs: Properties) -> Properties:
        """The inputs as they are to be compared and stored."""
        raise NotImplementedError

    def diff(self, request: provider_pb2.DiffRequest) -> provider_pb2.DiffResponse:
        """What a change of inputs means."""
        raise NotImplementedError

    def preview(self, resource_name: str, inputs: Properties) -> tuple[str, Properties]:
        """The id and the state that creating or updating will bring, as far as they are known."""
        raise NotImplementedError

    async def create(self, request: provider_pb2.CreateRequest, inputs: Properties) -> tuple[str, Properties]:
        """Creates the resource: its id and its state."""
        raise NotImplementedError

    async def update(self, request: provider_pb2.UpdateRequest, inputs: Properties) -> Properties:
        """Updates the resource in place: its new state."""
        raise NotImplementedError

    async def delete(self, request: provider_pb2.DeleteRequest, state: Properties) -> None:
        """Deletes the resource."""
        raise NotImplementedError

    def refuse(self, what: str) -> NoReturn:
        """Fails for what only the vendor's plugin can do."""
        raise StepError(
            f"the offline plugin {self.name!r} does not do {what}. The vendor's plugin does; where its server can be "
            f"reached, it is installed by: pulumi plugin install resource {self.name} v{self.version}"
        )

    def refuse_unknown(self, properties: Properties, known: frozenset[str], where: str) -> None:
        """Fails when properties hold a key that is not among the known ones."""
        if unknown := sorted(properties.keys() - known):
            self.refuse(f"{', '.join(unknown)} ({where})")

    def cancel_operations(self) -> None:
        """Ends every running operation with an error."""
        for operation in self._operations:
            operation.cancel()

    # The protocol: one method a call.

    async def GetPluginInfo(self, _request: Empty, _context: Context) -> plugin_pb2.PluginInfo:
        """Which version this is."""
        return plugin_pb2.PluginInfo(version=self.version)

    async def CheckConfig(self, request: provider_pb2.CheckRequest, _context: Context) -> provider_pb2.CheckResponse:
        """Takes the provider's configuration as it is."""
        return provider_pb2.CheckResponse(inputs=request.news)

    async def Configure(
        self, _request: provider_pb2.ConfigureRequest, _context: Context
    ) -> provider_pb2.ConfigureResponse:
        """What of the protocol this plugin understands."""
        return self.configuration

    async def Check(self, request: provider_pb2.CheckRequest, context: Context) -> provider_pb2.CheckResponse:
        """Validates a resource's inputs."""
        inputs = await self._run(context, self.check(request.type, request.urn, unmarshal(request.news)))
        return provider_pb2.CheckResponse(inputs=marshal(inputs))

    async def Diff(self, request: provider_pb2.DiffRequest, _context: Context) -> provider_pb2.DiffResponse:
        """Compares a resource's inputs with the stored ones."""
        return self.diff(request)

    async def Create(self, request: provider_pb2.CreateRequest, context: Context) -> provider_pb2.CreateResponse:
        """Creates a resource, or foresees it in a preview."""
        inputs = unmarshal(request.properties)
        if request.preview:
            resource_id, state = self.preview(request.name, inputs)
        else:
            resource_id, state = await self._run(context, self.create(request, inputs))
        return provider_pb2.CreateResponse(id=resource_id, properties=marshal(state))

    async def Update(self, request: provider_pb2.UpdateRequest, context: Context) -> provider_pb2.UpdateResponse:
        """Updates a resource in place, or foresees it in a preview."""
        inputs = unmarshal(request.news)
        if request.preview:
            _, state = self.preview(request.name, inputs)
        else:
            state = await self._run(context, self.update(request, inputs))
        return provider_pb2.UpdateResponse(properties=marshal(state))

    async def Delete(self, request: provider_pb2.DeleteRequest, context: Context) -> Empty:
        """Deletes a resource."""
        await self._run(context, self.delete(request, unmarshal(request.properties)))
        return Empty()

    async def Read(self, request: provider_pb2.ReadRequest, _context: Context) -> provider_pb2.ReadResponse:
        """Answers a refresh with the state: there is nothing that a command or a build could be read back from."""
        return provider_pb2.ReadResponse(id=request.id, properties=request.properties, inputs=request.inputs)

    async def Cancel(self, _request: Empty, _context: Context) -> Empty:
        """Ends what is running; the engine asks for it when the operator interrupts."""
        self.cancel_operations()
        return Empty()

    async def Handshake(self, _request: provider_pb2.ProviderHandshakeRequest, context: Context) -> None:
        """Unimplemented, as by the vendor's plugins: the engine then uses CheckConfig and Configure alone."""
        await context.abort(grpc.StatusCode.UNIMPLEMENTED, "method Handshake not implemented")

    async def GetSchema(self, _request: provider_pb2.GetSchemaRequest, context: Context) -> None:
        """Unimplemented: programs in Python do not ask."""
        await context.abort(grpc.StatusCode.UNIMPLEMENTED, f"the offline plugin {self.name!r} has no schema")

    async def Invoke(self, request: provider_pb2.InvokeRequest, context: Context) -> provider_pb2.InvokeResponse:
        """Refused: no function is implemented."""

        async def refuse() -> NoReturn:
            self.refuse(f"the function {request.tok}")

        return await self._run(context, refuse())

    async def _run(self, context: Context, operation: Coroutine[Any, Any, T]) -> T:
        """The operation's result; its failure becomes the error of the call."""
        task = asyncio.create_task(operation)
        self._operations.add(task)
        try:
            return await task
        except StepError as error:
            await context.abort(grpc.StatusCode.UNKNOWN, str(error))
        except asyncio.CancelledError:
            await context.abort(grpc.StatusCode.CANCELLED, "cancelled")
        finally:
            self._operations.discard(task)
