"""The docker command, as the user has it: with their context, their account and their Compose."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from errors import ReleaseError

PULL_TIMEOUT = 900
"""Seconds for pulling an image."""


class DockerError(ReleaseError):
    """A docker command failed, did not end in time, or does not exist; the message holds the end of what it said."""


def docker(
    *arguments: str,
    stdin: str = "",
    timeout: float | None = None,
    environment: Mapping[str, str] | None = None,
    started: Callable[[int], None] | None = None,
) -> str:
    """Runs docker and gives what it prints on stdout.

    stdin:   what it reads; secrets go here, never into the arguments, which every user of the machine can see
    timeout: seconds; by default as long as it takes
    environment: variables besides this process's own
    started: called with the id of its process group once it runs, and with 0 when it is gone
    Raises DockerError. When it is interrupted, the command and what it has started are killed.
    """
    tell = started or (lambda _: None)
    try:
        # A process group of its own: `docker compose` is two processes, and killing one leaves the other at work.
        process = subprocess.Popen(
            ["docker", *arguments],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace",
            env={**os.environ, **(environment or {})}, process_group=0,
        )  # fmt: skip
    except FileNotFoundError:
        raise DockerError("there is no docker command, and images are tried and checked with it. Install it.") from None
    with process:
        try:
            tell(process.pid)
            output, errors = process.communicate(stdin, timeout=timeout)
        except subprocess.TimeoutExpired:
            raise DockerError(f"docker {arguments[0]} did not end within {timeout:.0f} s") from None
        finally:
            if process.returncode is None:
                kill_group(process.pid)
            tell(0)
    if process.returncode != 0:
        said = " ".join(errors.split())
        raise DockerError(f"docker {arguments[0]} fails: {said[-600:] or f'exit status {process.returncode}'}")
    return output


def have_image(image: str, platform: str, configuration: str | None) -> None:
    """Pulls an image unless this machine has it.

    image:         repository:tag@digest
    platform:      os/architecture
    configuration: the text of a Docker client's config.json with the account for it; None: the user's own is used
    Raises DockerError.
    """
    with suppress(DockerError):
        docker("image", "inspect", image)
        return
    pull = ("pull", "--quiet", "--platform", platform, image)
    if configuration is None:
        docker(*pull, timeout=PULL_TIMEOUT)
        return
    # The user's own configuration also says which Engine is meant; that must stay the same.
    engine = docker("context", "inspect", "--format", "{{.Endpoints.docker.Host}}").strip()
    with tempfile.TemporaryDirectory(prefix="releve-") as directory:  # mode 0700
        Path(directory, "config.json").write_text(configuration)
        docker(*pull, timeout=PULL_TIMEOUT, environment={"DOCKER_CONFIG": directory, "DOCKER_HOST": engine})


def kill_group(group: int) -> None:
    """Kills a process group at once, if there still is one."""
    with suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)
