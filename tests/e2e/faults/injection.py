"""Faults, injected into the sandbox's server at a chosen command of a rollout. The product knows nothing of them.

While a fault is armed, a wrapper stands before `docker` on the server's PATH, and before the function with which its
Python opens connections. At the command, or the connection, that the fault names it fails, hangs, or stops there and
waits, so that the test does what it wants at exactly that moment.
"""

from __future__ import annotations

import shlex
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum

from tests.e2e.harness import SERVER, Application, Sandbox

STATE = "/run/releve-fault"
DEADLINE = 180
"""Seconds that a run may take to get somewhere, on a slow machine."""

WRAPPER = f"""#!/bin/sh
# Stands before /usr/bin/docker while a fault is armed. See tests/e2e/faults/injection.py.
state={STATE}
directory='' pattern='' names='' lasts='' action=''
[ ! -f "$state/fault" ] || . "$state/fault"
case "docker $*" in
    $pattern) ;;
    *) exec /usr/bin/docker "$@" ;;
esac
# Only while the Compose file names this release: not before its containers are wanted, and not in a restore.
[ -z "$names" ] || grep -qF -- "$names" "$directory/docker-compose.yml" || exec /usr/bin/docker "$@"
mkdir "$state/reached" 2>/dev/null || [ -n "$lasts" ] || exec /usr/bin/docker "$@"
case $action in
    fail)
        echo "docker: this is an injected fault" >&2
        exit 1
        ;;
    hang) exec sleep 3600 ;;
    meet)
        until [ -e "$state/go" ]; do sleep 0.05; done
        exec /usr/bin/docker "$@"
        ;;
esac
"""

CONNECTIONS = f"""\
# Stands before socket.create_connection while a fault is armed. See tests/e2e/faults/injection.py.
import fnmatch, os, shlex, socket, threading, time

STATE = "{STATE}"
connect = socket.create_connection

def create_connection(address, *rest, timeout=None, **more):
    action = met("connect %s %s" % address[:2])
    if action == "fail":
        raise ConnectionRefusedError("this is an injected fault")
    if action == "hang":
        time.sleep(timeout or 3600)
        raise socket.timeout("this is an injected fault")
    while action == "meet" and not os.path.exists(STATE + "/go"):
        time.sleep(0.05)
    return connect(address, *rest, timeout=timeout, **more)

def met(words):
    # What is measured beside a rollout is none of its commands.
    if threading.current_thread() is not threading.main_thread() or not os.path.exists(STATE + "/fault"):
        return ""
    with open(STATE + "/fault") as file:
        fault = dict(word.partition("=")[::2] for word in shlex.split(file.read()))
    if not fnmatch.fnmatchcase(words, fault["pattern"]):
        return ""
    with open(fault["directory"] + "/docker-compose.yml") as file:
        if fault["names"] not in file.read():
            return ""
    try:
        os.mkdir(STATE + "/reached")
    except FileExistsError:
        return fault["action"] if fault["lasts"] else ""
    return fault["action"]

socket.create_connection = create_connection
"""
PACKAGES = "$(python3 -c 'import site; print(site.getsitepackages()[0])')"
"""Where the server's Python, isolated or not, finds it. The directory's .pth files are read whenever one starts."""


class Action(StrEnum):
    """What happens to the command itself."""

    FAIL = "fail"
    HANG = "hang"
    MEET = "meet"


@dataclass(frozen=True)
class Place:
    """A command of a rollout, or a connection that it opens by itself.

    pattern: of the shell, for `docker` and all its arguments, or for `connect ADDRESS PORT`
    after_switch: the same command is also run before the Compose file names the new release, and is not meant then
    """

    pattern: str
    after_switch: bool = False


class Injection:
    """The faults of one application's server."""

    def __init__(self, application: Application) -> None:
        self.application = application
        self.sandbox = application.sandbox
        self._container = f"{self.sandbox.prefix}-{SERVER}"

    @contextmanager
    def armed(self, place: Place, action: Action, *, release: str, lasts: bool = False) -> Iterator[None]:
        """While this lasts, the next run that comes to `place` meets the fault, once or (`lasts`) each time.

        release: the tag that is rolled out
        """
        fault = {
            "directory": self.application.directory,
            "pattern": place.pattern,
            "names": f":{release}@" if place.after_switch else "",
            "lasts": "yes" if lasts else "",
            "action": action,
        }
        text = "".join(f"{name}={shlex.quote(value)}\n" for name, value in fault.items())
        try:
            self._root(
                f"rm -rf {STATE} && mkdir -m 0777 {STATE} && printf %s {shlex.quote(text)} >{STATE}/fault"
                f" && printf %s {shlex.quote(WRAPPER)} >/usr/local/bin/docker && chmod 0755 /usr/local/bin/docker"
                f' && packages="{PACKAGES}" && mkdir -p "$packages"'
                f' && printf %s {shlex.quote(CONNECTIONS)} >"$packages/releve_fault.py"'
                ' && echo import releve_fault >"$packages/releve_fault.pth"'
            )
            yield
        finally:
            self.release()
            # The directory stays for a wrapper that still waits in it.
            self._root(f'rm -f {STATE}/fault /usr/local/bin/docker "{PACKAGES}"/releve_fault.*')

    def wait_until_reached(self, run: subprocess.Popen[bytes]) -> bool:
        """Waits until a command has met the fault. False where the run ended without coming there."""
        until = time.monotonic() + DEADLINE
        while time.monotonic() < until:
            ended = run.poll() is not None
            if self.reached():
                return True
            if ended:
                return False
            time.sleep(0.05)
        return False

    def reached(self) -> bool:
        """Whether a command has met the fault."""
        return self._succeeds("test", "-d", f"{STATE}/reached")

    def release(self) -> None:
        """Lets the command that waits go on."""
        self._root(f"mkdir -p {STATE} && touch {STATE}/go")

    # What is done at that moment.

    def kill_program(self) -> None:
        """`kill -9`. The docker commands that it has started live on."""
        self.sandbox.as_root("pkill", "-KILL", "--full", self._program_pattern)

    def end_program(self) -> None:
        """As a service manager or a person ends it: it may clean up."""
        self.sandbox.as_root("pkill", "-TERM", "--full", self._program_pattern)

    def cut_connection(self) -> None:
        """Ends the server's side of every SSH connection."""
        # Since OpenSSH 9.8 a session's program has a name of its own.
        self.sandbox.as_root("pkill", "-KILL", "--full", "^sshd(-session)?: deploy")

    def restart_engine(self) -> None:
        """Stops the Docker Engine as a service manager does; the sandbox's supervisor starts it again."""
        engine = self.sandbox.as_root("pgrep", "--exact", "dockerd").split()
        self.sandbox.as_root("kill", "-TERM", *engine)
        until = time.monotonic() + DEADLINE
        while self._succeeds("test", "-e", f"/proc/{engine[0]}"):
            assert time.monotonic() < until, "the Docker Engine does not end"
            time.sleep(0.05)

    @contextmanager
    def full_disk(self) -> Iterator[None]:
        """Takes the last byte of the application's own small disk. See `small_disk`."""
        ballast = f"{self.application.directory}/ballast"
        try:
            self._root(f"cat /dev/zero >{ballast} 2>/dev/null; df -P {ballast} | grep -q ' 100% '")
            yield
        finally:
            self._root(f"rm -f {ballast}")

    @contextmanager
    def full_engine_disk(self) -> Iterator[None]:
        """The place where the Docker Engine puts what it downloads has no room."""
        place = "/var/lib/docker/tmp"
        self._root(f"mkdir -p {place} && mount -t tmpfs -o size=4k,mode=0700 tmpfs {place}")
        try:
            yield
        finally:
            self._root(f"umount --lazy {place}")

    def wait_for_the_end(self) -> None:
        """Waits until the program has ended, which it does by itself in every case."""
        until = time.monotonic() + DEADLINE
        while self._succeeds("pgrep", "--full", self._program_pattern):
            assert time.monotonic() < until, "the program on the server does not end"
            time.sleep(0.1)

    def wait_for_the_engine(self) -> None:
        """Waits until the Docker Engine answers."""
        until = time.monotonic() + DEADLINE
        while not self._succeeds("docker", "version"):
            assert time.monotonic() < until, "the Docker Engine does not answer"
            time.sleep(0.1)

    @property
    def _program_pattern(self) -> str:
        # From the start: whoever looks for it has the pattern in its own arguments.
        return f"^python3 -I {self.application.directory}/.releve/bin/"

    def _root(self, script: str) -> None:
        self.sandbox.as_root("sh", "-c", script)

    def _succeeds(self, *command: str) -> bool:
        done = subprocess.run(["docker", "exec", self._container, *command], capture_output=True, check=False)
        return done.returncode == 0


@contextmanager
def small_disk(sandbox: Sandbox, directory: str) -> Iterator[None]:
    """`directory` of the server is a disk of its own, small enough to be filled. sandbox/remove takes it away."""
    sandbox.as_root(
        "sh",
        "-c",
        'mkdir -p "$1" && mount -t tmpfs -o size=64m,mode=0755,uid=1000,gid=1000 tmpfs "$1"',
        "sh",
        directory,
    )
    try:
        yield
    finally:
        sandbox.as_root("sh", "-c", '! mountpoint --quiet "$1" || umount --lazy "$1"', "sh", directory)
