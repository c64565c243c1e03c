"""New connections from a proxy to a container, refused for a while; those that are there go on.

A proxy whose connection is refused asks the next container, also with a POST. One that is connected to a container that
stops may not ask again, and one that is connected to a container that only starts gets its errors.

The rules are in the proxy's network, and end with it. They are made by this server's own iptables, which the Docker
Engine
needs as well: an image of these files alone, of which one container at a time shares the proxy's network for as long as
a rollout changes rules. The application's image has no part in it.

  .releve/refusing   proxies in whose networks there may be rules, and containers to which connections were refused
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import select
import shutil
import subprocess
import tarfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from server.commands import Docker, end_group
from server.containers import OneOffs, id_of_image
from server.in_container import in_container
from server.run import Run, replace_file

SEARCHED = "/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin"
"""Where the programs are looked for, besides PATH: those of administrators are on no login's."""
EXTENSIONS = ("libxt_tcp.so", "libxt_standard.so", "libxt_REJECT.so", "libipt_REJECT.so", "libip6t_REJECT.so")
"""Of iptables, which it loads for the rules above."""
EXTENSION_DIRECTORIES = ("usr/lib/*/xtables", "usr/lib*/xtables", "lib/*/xtables", "lib*/xtables")


class Refuser:
    """Makes one proxy refuse connections. Its container starts when it is made, and ends when it is closed."""

    def __init__(self, run: Run, docker: Docker, image: str, proxy: str) -> None:
        self.proxy = proxy
        self._run = run
        self._oneoffs = OneOffs.of(run.request)
        self._image = image
        self._process = self._start(docker)
        self._able: bool | None = None

    def _start(self, docker: Docker) -> subprocess.Popen[bytes]:
        capabilities = ("--cap-drop", "ALL", "--cap-add", "NET_ADMIN", "--cap-add", "NET_RAW")
        return docker.spawn(
            *("run", "--rm", "-i", "--name", self._oneoffs.name(f"rules-{self.proxy[:12]}"), *self._oneoffs.labels),
            *("--network", f"container:{self.proxy}", *capabilities, "--read-only", "--tmpfs", "/run"),
            *("--security-opt", "no-new-privileges", self._image, "sh", "-c", in_container("refuse")),
        )

    def is_able(self, docker: Docker) -> bool:
        """Whether this server can refuse connections there."""
        if self._able is None:
            self._able = self._is_done(docker)
        return self._able

    def refuse(self, docker: Docker, addresses: Sequence[str]) -> bool:
        """Refuses new connections to these from now on, and to no others; whether that succeeded."""
        note_refused(self._run, [self.proxy])
        if self._tell(docker, addresses):
            return True
        self.accept(docker)
        return False

    def accept(self, docker: Docker) -> bool:
        """Accepts all connections again; whether that succeeded."""
        # Of a container that has just ended nothing comes back: another one does it.
        if not self._tell(docker, ()):
            self.close()
            self._process, self._able = self._start(docker), None
            if not self._tell(docker, ()):
                return False
        forget_refused(self._run, [self.proxy])
        return True

    def close(self) -> None:
        """Ends the container; the rules stay."""
        for stream in (self._process.stdin, self._process.stdout):
            try:
                if stream:
                    stream.close()
            except OSError:
                pass  # what was written to one that had ended
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            end_group(self._process)

    def _tell(self, docker: Docker, addresses: Sequence[str]) -> bool:
        stdin = self._process.stdin
        try:
            if stdin is None or not self.is_able(docker):
                return False
            stdin.write(f"{' '.join(addresses)}\n".encode())
            stdin.flush()
        except OSError:
            return False
        return self._is_done(docker)

    def _is_done(self, docker: Docker) -> bool:
        stdout = self._process.stdout
        if stdout is None or not select.select([stdout], [], [], max(docker.phase.left, 0))[0]:
            return False
        return stdout.readline().strip() == b"done"


# --------------------------------------------------------------------------------------------- what a killed run leaves


def refused(run: Run) -> set[str]:
    """Proxies in whose networks there may be rules, and containers to which connections were refused."""
    try:
        return set((run.state / "refusing").read_text().split())
    except OSError:
        return set()


def note_refused(run: Run, containers: Iterable[str]) -> None:
    """Before it is so: a run may be killed at any moment."""
    replace_file(
        run.state / "refusing", "".join(f"{container}\n" for container in sorted(refused(run) | set(containers)))
    )


def forget_refused(run: Run, containers: Iterable[str]) -> None:
    """They are not refused any more."""
    replace_file(
        run.state / "refusing", "".join(f"{container}\n" for container in sorted(refused(run) - set(containers)))
    )


# ------------------------------------------------------------------------------------------------------------ the image


def iptables_image(docker: Docker) -> str | None:
    """The name of an image that holds this server's iptables, and nothing else; it is made where it is not there.

    None where this server has no iptables that the login can read.
    """
    files = _files()
    if not files:
        return None
    told = "".join(f"{path} {Path(path).stat().st_size} {Path(path).stat().st_mtime_ns}\n" for path in files)
    name = f"releve-iptables:{hashlib.sha256(told.encode()).hexdigest()[:12]}"
    if id_of_image(docker, name):
        return name
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w", dereference=True) as tar:
        for path in files:
            tar.add(path, arcname=path.lstrip("/"))
    change = f"ENV PATH={SEARCHED}:{':'.join(sorted({str(Path(path).parent) for path in files[:3]}))}"
    return name if docker.run("import", "--change", change, "-", name, stdin=archive.getvalue()) == 0 else None


def _files() -> list[str]:
    """The programs, their libraries and iptables' own extensions; [] where one of the programs is missing."""
    searched = f"{os.environ.get('PATH', os.defpath)}:{SEARCHED}"
    programs = [shutil.which(name, path=searched) for name in ("sh", "iptables", "ip6tables")]
    found = [program for program in programs if program and os.access(program, os.R_OK)]
    extensions = [
        f"{directory}/{name}"
        for pattern in EXTENSION_DIRECTORIES
        for directory in sorted(map(str, Path("/").glob(pattern)))
        for name in EXTENSIONS
        if os.access(f"{directory}/{name}", os.R_OK)
    ]
    if len(found) < len(programs):
        return []
    # As the loader finds them; a program without any is complete by itself.
    try:
        listed = subprocess.run(["ldd", *found, *extensions], capture_output=True, text=True, check=False).stdout
    except FileNotFoundError:
        return []
    libraries = {path for path in re.findall(r"(?:=>\s+|^\s+)(/\S+)", listed, re.MULTILINE) if os.access(path, os.R_OK)}
    return list(dict.fromkeys([*found, *extensions, *sorted(libraries)]))
