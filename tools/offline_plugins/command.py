"""The plugin `command`: commands on this machine and, over SSH, on servers."""
# ruff: noqa: N802  # the protocol names its methods

import json
import os
import secrets
from functools import partial

import grpc

from . import local
from .output import Output, Stream
from .properties import UNKNOWN, Properties, changes, reveal, secret, unmarshal
from .protocol import provider_pb2
from .provider import Context, Provider, StepError

_LOCAL, _REMOTE = "command:local:Command", "command:remote:Command"
_CREDENTIALS = frozenset({"password", "privateKey", "privateKeyPassword"})
_SHELL = ["/bin/sh", "-c"]
_SHARED_INPUTS = frozenset({"addPreviousOutputInEnv", "create", "delete", "logging", "stdin", "triggers", "update"})
_INPUTS = {
    _LOCAL: _SHARED_INPUTS | {"dir", "environment", "interpreter"},
    # Not `environment`: it must fail where the server does not accept it, and the SSH library does not ask the server.
    _REMOTE: _SHARED_INPUTS | {"connection"},
}


class CommandProvider(Provider):
    """`command:local:Command` and `command:remote:Command`.

    Creating runs `create`; updating runs `update`, or `create` without one; deleting runs `delete`. What is printed
    becomes the outputs stdout and stderr. That changed triggers replace is the SDK's demand, not the plugin's.
    """

    name = "command"
    version = "1.2.1"
    configuration = provider_pb2.ConfigureResponse(
        acceptSecrets=True, supportsPreview=True, acceptResources=True, acceptOutputs=True
    )

    async def CheckConfig(self, request: provider_pb2.CheckRequest, context: Context) -> provider_pb2.CheckResponse:
        """Adds the mark of the vendor's framework, so that a stack may change plugins without a difference."""
        response = await super().CheckConfig(request, context)
        response.inputs.update({"__pulumi-go-provider-version": "1.2.0"})
        return response

    async def DiffConfig(self, _request: provider_pb2.DiffRequest, context: Context) -> None:
        """Unimplemented, as by the vendor's plugin."""
        await context.abort(grpc.StatusCode.UNIMPLEMENTED, "DiffConfig is not implemented")

    async def check(self, resource_type: str, urn: str, inputs: Properties) -> Properties:
        """Marks the credentials of a connection as secrets."""
        if resource_type not in _INPUTS:
            self.refuse(f"resources of type {resource_type}")
        self.refuse_unknown(inputs, _INPUTS[resource_type], urn)
        if isinstance(connection := reveal(inputs.get("connection")), dict):
            inputs["connection"] = secret(_with_secret_credentials(connection))
        return inputs

    def diff(self, request: provider_pb2.DiffRequest) -> provider_pb2.DiffResponse:
        """Every changed input is an update in place."""
        old, new = reveal(unmarshal(request.old_inputs)), reveal(unmarshal(request.news))
        detailed = changes(old, new)
        return provider_pb2.DiffResponse(
            changes=provider_pb2.DiffResponse.DIFF_SOME if detailed else provider_pb2.DiffResponse.DIFF_NONE,
            diffs=sorted(key for key in old.keys() | new.keys() if old.get(key) != new.get(key)),
            detailedDiff={path: provider_pb2.PropertyDiff(kind=kind) for path, kind in detailed.items()},
            hasDetailedDiff=True,
        )

    def preview(self, resource_name: str, inputs: Properties) -> tuple[str, Properties]:
        """Runs nothing: what will be printed is unknown."""
        return _new_id(resource_name), {**inputs, "stdout": UNKNOWN, "stderr": UNKNOWN}

    async def create(self, request: provider_pb2.CreateRequest, inputs: Properties) -> tuple[str, Properties]:
        """Runs `create`."""
        return _new_id(request.name), await self._run_command(request.urn, inputs, inputs.get("create"), previous={})

    async def update(self, request: provider_pb2.UpdateRequest, inputs: Properties) -> Properties:
        """Runs `update`, or `create` where there is none."""
        command = inputs.get("update", inputs.get("create"))
        return await self._run_command(request.urn, inputs, command, previous=unmarshal(request.olds))

    async def delete(self, request: provider_pb2.DeleteRequest, state: Properties) -> None:
        """Runs `delete`, if there is one."""
        await self._run_command(request.urn, state, state.get("delete"), previous=state)

    async def _run_command(
        self, urn: str, inputs: Properties, command: str | None, *, previous: Properties
    ) -> Properties:
        """The resource's state after running the command, if any; `previous` is the state before."""
        plain, command = reveal(inputs), reveal(command)
        output = Output(plain.get("logging"), partial(self.engine.status, urn))
        if command is not None:
            try:
                if "connection" in plain:
                    await self._run_remotely(plain, command, output, reveal(previous))
                else:
                    await _run_locally(plain, command, output, reveal(previous))
            except StepError as error:
                quoted = json.dumps(command, ensure_ascii=False)
                raise StepError(f"{error}: running {quoted}:\n{output.both}") from error
        return {**inputs, "stdout": output.text(Stream.STDOUT), "stderr": output.text(Stream.STDERR)}

    async def _run_remotely(self, inputs: Properties, command: str, output: Output, previous: Properties) -> None:
        from . import remote  # noqa: PLC0415  # a preview needs no SSH and must not wait for its import

        if _previous_output(inputs, previous):
            self.refuse("addPreviousOutputInEnv for remote commands; set it to false")
        await remote.run(inputs["connection"], command, output, stdin=inputs.get("stdin", ""))


async def _run_locally(inputs: Properties, command: str, output: Output, previous: Properties) -> None:
    await local.run(
        [*inputs.get("interpreter", _SHELL), command],
        output,
        directory=inputs.get("dir"),
        environment={**os.environ, **inputs.get("environment", {}), **_previous_output(inputs, previous)},
        stdin=inputs.get("stdin", ""),
    )


def _previous_output(inputs: Properties, previous: Properties) -> dict[str, str]:
    """The variables that carry what the last run printed, unless the resource declines them."""
    if inputs.get("addPreviousOutputInEnv") is False:
        return {}
    return {f"PULUMI_COMMAND_{stream.upper()}": previous[stream] for stream in Stream if previous.get(stream)}


def _with_secret_credentials(connection: Properties) -> Properties:
    return {
        key: secret(value)
        if key in _CREDENTIALS
        else _with_secret_credentials(value)
        if key == "proxy" and isinstance(value, dict)
        else value
        for key, value in connection.items()
    }


def _new_id(resource_name: str) -> str:
    return resource_name + secrets.token_hex(4)
