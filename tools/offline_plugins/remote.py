"""Runs a command on a server over SSH, for `command:remote:Command`."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any

import asyncssh

from .output import Output, Stream
from .provider import StepError

_CHUNK = 65536
_FIRST_DELAY, _BACKOFF, _LONGEST_DELAY = 0.1, 1.5, 5.0
_KEEPALIVE_SECONDS, _KEEPALIVES_MISSED = 15, 3


async def run(connection: dict[str, Any], command: str, output: Output, *, stdin: str = "") -> None:
    """Runs a command in the login shell of the connection's user and gives what it prints to the output.

    Args:
        connection: the input of this name: host, port, user, hostKey, privateKey, password, proxy and so on
        command: what the server's shell is given
        output: takes stdout and stderr
        stdin: the command's whole standard input

    A server that no longer answers ends the run within a minute. What runs there runs on.

    Raises:
        StepError: the server cannot be reached or is not the expected one, the login fails, the connection breaks, or
            the command fails, as "Process exited with status N".
    """
    limit = int(connection.get("dialErrorLimit", 10))
    delay, failures = _FIRST_DELAY, 0
    async with AsyncExitStack() as stack:
        while True:
            try:
                client = await stack.enter_async_context(_dialled(connection))
                break
            except _DialError as error:
                failures += 1
                if 0 <= limit < failures:
                    raise StepError(f"after {failures} failed attempts: {error}") from error
            await asyncio.sleep(delay)
            delay = min(delay * _BACKOFF, _LONGEST_DELAY)
        await _execute(client, command, output, stdin)


class _DialError(Exception):
    """An attempt to connect failed; another may succeed."""


@asynccontextmanager
async def _dialled(connection: dict[str, Any]) -> AsyncIterator[asyncssh.SSHClientConnection]:
    """One attempt to connect, through the proxy where there is one."""
    async with AsyncExitStack() as connections:
        tunnel = None
        if proxy := connection.get("proxy"):
            tunnel = await connections.enter_async_context(await _connect(proxy, None))
        yield await connections.enter_async_context(await _connect(connection, tunnel))


async def _connect(
    endpoint: dict[str, Any], tunnel: asyncssh.SSHClientConnection | None
) -> asyncssh.SSHClientConnection:
    host, port = endpoint["host"], int(endpoint.get("port", 22))
    try:
        expected = asyncssh.import_public_key(endpoint["hostKey"]) if "hostKey" in endpoint else None
        async with _client_keys(endpoint) as keys:
            return await asyncssh.connect(
                host,
                port,
                tunnel=tunnel or (),
                username=endpoint.get("user", "root"),
                password=endpoint.get("password"),
                client_keys=keys or None,
                known_hosts=([expected], [], []) if expected else None,
                connect_timeout=int(endpoint.get("perDialTimeout", 15)) or None,
                keepalive_interval=_KEEPALIVE_SECONDS,
                keepalive_count_max=_KEEPALIVES_MISSED,
                # Only what the resource says counts: nothing of this user's SSH configuration and keys.
                config=None,
                agent_path=None,
                gss_host=None,
            )
    except asyncssh.KeyImportError as error:
        raise StepError(f"ssh: a key of the connection cannot be read: {error}") from error
    except asyncssh.HostKeyNotVerifiable as error:
        raise _DialError("ssh: handshake failed: ssh: host key mismatch") from error
    except asyncssh.PermissionDenied as error:
        raise _DialError("ssh: handshake failed: ssh: unable to authenticate") from error
    except asyncssh.Error as error:
        raise _DialError(f"ssh: handshake failed: {error.reason}") from error
    except OSError as error:
        raise _DialError(f"dial tcp {host}:{port}: {_reason(error)}") from error


@asynccontextmanager
async def _client_keys(endpoint: dict[str, Any]) -> AsyncIterator[list[Any]]:
    """The private key given, else the agent's keys: one method, as the vendor's plugin does it.

    An agent that is named but does not answer is an error, also beside a private key.
    """
    agent_path = endpoint.get("agentSocketPath") or os.environ.get("SSH_AUTH_SOCK")
    async with AsyncExitStack() as stack:
        keys: list[Any] = []
        if agent_path:
            try:
                agent = await stack.enter_async_context(asyncssh.connect_agent(agent_path))
                keys = list(await agent.get_keys())
            except OSError as error:
                raise StepError(f"dial unix {agent_path}: {_reason(error)}") from error
        if "privateKey" in endpoint:
            keys = [asyncssh.import_private_key(endpoint["privateKey"], endpoint.get("privateKeyPassword"))]
        yield keys


def _reason(error: OSError) -> str:
    if error.errno is not None and error.errno > 0:
        return os.strerror(error.errno)
    return error.strerror or "i/o timeout"


async def _execute(client: asyncssh.SSHClientConnection, command: str, output: Output, stdin: str) -> None:
    try:
        process = await client.create_process(command, encoding=None)
    except asyncssh.Error as error:
        raise StepError(f"ssh: {error.reason}") from error
    async with asyncio.TaskGroup() as streams:
        streams.create_task(_read(process.stdout, Stream.STDOUT, output))
        streams.create_task(_read(process.stderr, Stream.STDERR, output))
        streams.create_task(_write(process.stdin, stdin))
    await process.wait_closed()
    if process.returncode is None:
        raise StepError("ssh: the connection broke before the command ended; it may still run on the server")
    if process.exit_signal is not None:
        status = 128 - process.returncode
        raise StepError(f"Process exited with status {status} from signal {process.exit_signal[0]}")
    if process.returncode != 0:
        raise StepError(f"Process exited with status {process.returncode}")


async def _read(reader: asyncssh.SSHReader[bytes], stream: Stream, output: Output) -> None:
    # A broken connection ends the stream, too; the missing exit status tells.
    with suppress(asyncssh.Error):
        while chunk := await reader.read(_CHUNK):
            await output.feed(stream, chunk)
    await output.feed(stream, b"")


async def _write(writer: asyncssh.SSHWriter[bytes], text: str) -> None:
    # The command need not read its input.
    with suppress(asyncssh.Error, OSError):
        writer.write(text.encode())
        await writer.drain()
        writer.write_eof()
