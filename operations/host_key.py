"""The key by which a server is known: asked of the server itself, and shown so that a person can compare it."""

from __future__ import annotations

import base64
import hashlib
import subprocess

from errors import ReleaseError

TIMEOUT = 10
"""Seconds."""


def scanned(host: str, port: int) -> str:
    """The ed25519 key of whoever answers there, as servers[].hostKey has it: nobody says that it is the right one.

    Raises ReleaseError where nobody answers, or has no such key.
    """
    command = ("ssh-keyscan", "-t", "ed25519", "-T", str(TIMEOUT), "-p", str(port), host)
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise ReleaseError("there is no command `ssh-keyscan` here: install the OpenSSH client") from None
    for line in done.stdout.splitlines():
        words = line.split()
        if len(words) > 2 and words[1] == "ssh-ed25519":  # noqa: PLR2004 - host, algorithm, key
            return f"{words[1]} {words[2]}"
    raise ReleaseError(
        f"no SSH server with an ed25519 key answers at {host}, port {port}. Is it the right port (--port)? Where it is "
        "only reached through another host: --host-key"
    )


def fingerprint(key: str) -> str:
    """Of a key, as `ssh-keygen -lf` prints it."""
    digest = hashlib.sha256(base64.b64decode(key.split()[1])).digest()
    return f"SHA256:{base64.b64encode(digest).decode().rstrip('=')}"
