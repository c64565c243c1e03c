"""A real sshd on this machine, for the remote commands of the contract."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.engine.harness import output_of, tool, wait_until


@dataclass(frozen=True)
class Server:
    """A real sshd on this machine, reached as the user who runs the tests.

    Attributes:
        connection: the input of this name for a remote command, but for the private key
        private_key: the file of the key that opens it
        log: what sshd logs
    """

    connection: dict[str, Any]
    private_key: Path
    log: Path

    @property
    def with_key(self) -> dict[str, Any]:
        return {**self.connection, "private_key": self.private_key.read_text()}

    def logins(self) -> int:
        """How often someone has logged in so far."""
        return self.log.read_text().count("Accepted publickey")

    def attempts(self) -> int:
        """How often someone has connected so far, logged in or not."""
        return self.log.read_text().count("Connection from")


@contextmanager
def sshd(directory: Path, environment: Mapping[str, str] | None = None) -> Iterator[Server]:
    """Runs an sshd with keys of its own on a free port. environment: what who logs in gets."""
    tool("debian-packages", "sshd=openssh-server", "ssh-keygen=openssh-client", "ssh-agent=openssh-client")
    if os.getuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)  # sshd insists on it; an init system makes it where there is one
    for name in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(directory / name)], check=True)
    port, log = free_port(), directory / "log"
    (directory / "config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {directory}/host\nAuthorizedKeysFile {directory}/user.pub\n"
        "StrictModes no\nUsePAM no\nPasswordAuthentication no\nPidFile none\nLogLevel VERBOSE\n"
        + "SetEnv " * bool(environment)
        + " ".join(f'"{name}={value}"' for name, value in (environment or {}).items())
    )
    executable = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin")
    assert executable is not None
    process = subprocess.Popen([executable, "-D", "-f", str(directory / "config"), "-E", str(log)])
    try:
        wait_until(lambda: log.exists() and "Server listening" in log.read_text(), "sshd listens")
        host_key = " ".join((directory / "host.pub").read_text().split()[:2])
        user = output_of("id", "-un")
        connection = {"host": "127.0.0.1", "port": port, "user": user, "host_key": host_key, "dial_error_limit": 1}
        yield Server(connection, directory / "user", log)
    finally:
        process.terminate()
        process.wait()


@contextmanager
def closed_port() -> Iterator[int]:
    """A port that refuses connections: taken, so that nobody else begins to listen there, and not listened on."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        yield int(holder.getsockname()[1])


def free_port() -> int:
    """A port on which nobody listens."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
