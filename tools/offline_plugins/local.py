"""Runs a command on this machine, for `command:local:Command`."""

import asyncio
import os
import signal
from collections.abc import Mapping, Sequence
from contextlib import suppress

from .output import Output, Stream
from .provider import StepError

_CHUNK = 65536


async def run(
    arguments: Sequence[str],
    output: Output,
    *,
    directory: str | None,
    environment: Mapping[str, str],
    stdin: str = "",
) -> None:
    """Runs a program to its end and gives what it prints to the output.

    A cancelled run kills the program and whatever it started.

    Raises:
        StepError: the program cannot be started or fails, as "exit status N".
    """
    try:
        process = await asyncio.create_subprocess_exec(
            *arguments,
            cwd=directory,
            env=environment,
            stdin=asyncio.subprocess.PIPE if stdin else asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
    except OSError as error:
        raise StepError(f"{arguments[0]}: {error.strerror}") from error
    try:
        async with asyncio.TaskGroup() as streams:
            streams.create_task(_read(process.stdout, Stream.STDOUT, output))
            streams.create_task(_read(process.stderr, Stream.STDERR, output))
            streams.create_task(_write(process.stdin, stdin))
        status = await process.wait()
    finally:
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
    if status < 0:
        raise StepError(f"signal: {signal.strsignal(-status) or -status}")
    if status > 0:
        raise StepError(f"exit status {status}")


async def _read(reader: asyncio.StreamReader | None, stream: Stream, output: Output) -> None:
    if reader is None:
        return
    while chunk := await reader.read(_CHUNK):
        await output.feed(stream, chunk)
    await output.feed(stream, b"")


async def _write(writer: asyncio.StreamWriter | None, text: str) -> None:
    if writer is None:
        return
    # The program need not read its input.
    with suppress(ConnectionError):
        writer.write(text.encode())
        await writer.drain()
        writer.close()
        await writer.wait_closed()
