"""The program that runs on a server: how it gets there, and how its steps are started.

This is where words become a shell command line: quoting happens here, once. What the program does is in server/.
"""

from __future__ import annotations

import base64
import hashlib
import json
import shlex
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from server import request
from server.request import Request, StepName

DIRECTORY = ".releve/bin"
"""Where a server keeps its programs, relative to the application's directory; each has a name of its own."""

# Nothing in it is special within single quotes in any login shell: sh, bash, fish, csh and tcsh pass it on as it is.
# Where not a line arrives, that must not read as success.
INSTALL = (
    'command -v python3 >/dev/null || { echo "install: The server has no command python3." >&2; '
    'echo "Nothing was changed. As root:  apt-get install python3 python3-yaml   (On another system, its packages of '
    'Python 3.9 or newer and PyYAML.)" >&2; exit 1; }; '
    'exec python3 -I -c "import sys; exec(sys.stdin.readline() or sys.exit(sys.argv[1]))" '
    '"install: What arrived is damaged. Try again."'
)


@dataclass(frozen=True)
class Program:
    """The program, installed on a server under a name that changes with its content.

    files:     path on the server, below the program's own directory → text
    bootstrap: what unpacks it there
    """

    files: Mapping[str, str]
    bootstrap: str

    @classmethod
    def read(cls, directory: Path) -> Program:
        """Reads the package `server`."""
        files = sorted([*directory.rglob("*.py"), *directory.glob("in_container/*.sh")])
        texts = {str(file.relative_to(directory)): file.read_text(encoding="utf-8") for file in files}
        # Python runs a directory by the __main__.py in it, and finds packages there.
        main, bootstrap = texts.pop("__main__.py"), texts.pop("bootstrap.py")
        return cls({"__main__.py": main, **{f"server/{name}": text for name, text in texts.items()}}, bootstrap)

    @cached_property
    def content(self) -> bytes:
        """All of it as one document, the same on every machine."""
        return json.dumps(self.files, sort_keys=True).encode()

    @cached_property
    def sha256(self) -> str:
        """Of the content; 64 hexadecimal digits."""
        return hashlib.sha256(self.content).hexdigest()

    @property
    def name(self) -> str:
        """That of its directory on a server."""
        return self.sha256[:12]

    def install_command(self) -> str:
        """The command line that checks a server and installs the program there; it reads `install_input`."""
        return f"sh -c '{INSTALL}'"

    def install_input(self, asked: Request, step: StepName = StepName.INSTALL) -> str:
        """Three lines: what unpacks the program and runs a step of it, the request, and the program.

        On standard input: an argument or a variable would not do, as Linux limits each to 128 KiB (MAX_ARG_STRLEN).
        """
        bootstrap = f"exec({self.bootstrap!a}); start({str(step)!r}, {self.sha256!r})"
        archive = base64.b64encode(zlib.compress(self.content, 9)).decode()
        return f"{bootstrap}\n{request.dump(asked)}\n{archive}\n"

    def path(self, directory: str) -> str:
        """Where it is, for the application in `directory`."""
        return f"{directory}/{DIRECTORY}/{self.name}"

    def step_command(self, step: StepName, directory: str) -> str:
        """The command line of a step for the application in `directory`; it reads the request."""
        return shlex.join(["python3", "-I", self.path(directory), step])
