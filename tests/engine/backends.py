"""Where a team keeps Pulumi's state: a PostgreSQL database and an S3 bucket, each by a real server on this machine."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from tests.engine.harness import output_of, tool, wait_until
from tests.engine.sshd import free_port

PASSWORD = "of-the-state"


@dataclass(frozen=True)
class Backend:
    """Somewhere for a state.

    url:         PULUMI_BACKEND_URL
    environment: what else a client needs
    secret:      what must be in nothing that is printed
    """

    url: str
    environment: dict[str, str]
    secret: str


@contextmanager
def postgresql() -> Iterator[Backend]:
    """A database of its own. PostgreSQL refuses to run as root, so then it is somebody else's."""
    user = "nobody" if os.getuid() == 0 else None
    directory = Path(tempfile.mkdtemp(prefix="releve-postgresql-"))
    try:
        if user:
            account = pwd.getpwnam(user)
            os.chown(directory, account.pw_uid, account.pw_gid)
        (directory / "password").write_text(PASSWORD)
        (directory / "password").chmod(0o644)
        data, port = directory / "data", free_port()
        programs = _programs()
        subprocess.run(
            [programs / "initdb", "--pgdata", data, "--auth=scram-sha-256", "--username=pulumi", "--no-sync",
             "--pwfile", directory / "password"],
            user=user, check=True, stdout=subprocess.DEVNULL, cwd=directory,
        )  # fmt: skip
        options: list[str | Path] = ["-D", data, "-p", str(port), "-h", "127.0.0.1", "-k", directory, "-F"]
        with _running([programs / "postgres", *options], directory / "log", user) as log:
            wait_until(lambda: "ready to accept connections" in log.read_text(), "PostgreSQL accepts connections")
            url = f"postgres://pulumi:{PASSWORD}@127.0.0.1:{port}/postgres?sslmode=disable"
            yield Backend(url, {}, PASSWORD)
    finally:
        shutil.rmtree(directory)


def _programs() -> Path:
    """The directory with PostgreSQL's programs. Debian keeps them off PATH."""
    if found := shutil.which("initdb"):
        return Path(found).parent
    tool("debian-packages", "pg_ctlcluster=postgresql")
    return max(Path("/usr/lib/postgresql").glob("*/bin"))


@contextmanager
def s3(directory: Path) -> Iterator[Backend]:
    """A bucket, in memory."""
    port = free_port()
    endpoint = f"http://127.0.0.1:{port}"
    with _running([tool("s3-server"), "-H", "127.0.0.1", "-p", str(port)], directory / "log", None):
        wait_until(lambda: _made(f"{endpoint}/state"), "the bucket is made")
        url = f"s3://state?region=eu-west-3&endpoint={endpoint}&s3ForcePathStyle=true"
        keys = {"AWS_ACCESS_KEY_ID": "releve", "AWS_SECRET_ACCESS_KEY": PASSWORD}
        yield Backend(url, keys, PASSWORD)


def _made(url: str) -> bool:
    try:
        return httpx.put(url, trust_env=False).is_success
    except httpx.TransportError:
        return False


@contextmanager
def _running(command: Sequence[str | Path], log: Path, user: str | None) -> Iterator[Path]:
    """A server, ended afterwards."""
    with log.open("w") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, user=user, cwd=log.parent)
    try:
        yield log
    finally:
        process.terminate()
        process.wait()


def whoami() -> str:
    """As Pulumi writes it into a lock."""
    return f"{output_of('id', '-un')}@{output_of('hostname')}"
