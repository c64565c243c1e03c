"""The beginning of `install`, and of what is asked of a server that may have no program: what its Python runs first.

Before it is known to be one that fits. release/program.py sends this file as the first line of standard input; the
request is the second, and the archive of the program the third. Everything here is valid in any Python 3, so that an
old one can say what is missing. Nothing is written before that is known, and then only into a directory of its own,
which is gone at the end.
"""

import base64
import hashlib
import json
import os
import shutil
import signal
import sys
import tempfile
import zlib
from pathlib import Path

OLDEST = (3, 9)


def start(step: str, sha256: str) -> None:
    """Runs a step of the program that arrives, and ends with its status.

    sha256: of the archive, before it was compressed
    """
    _require_python()
    request, line = sys.stdin.readline(), sys.stdin.readline()
    files = json.loads(_archive(line, sha256))
    # A connection that ends is no reason to stop half way; and whoever ends this gets what was written removed.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    sys.exit(_run(step, files, sha256[:12], request))


def _run(step: str, files: "dict[str, str]", name: str, request: str) -> int:
    # The copies that stay get the modes of these files.
    os.umask(0o077)
    directory = tempfile.mkdtemp(prefix="releve-")
    try:
        program = Path(directory, name)
        for path, text in files.items():
            file = program / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(text.encode())
        # Its bytecode is made where it is to stay.
        sys.dont_write_bytecode = True
        sys.path.insert(0, str(program))
        from server.program import main  # noqa: PLC0415 - it has only just come to be there

        return main([step], request, program)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _require_python() -> None:
    version = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info < OLDEST:
        _refuse(
            "The server's python3 is Python {}; 3.9 or newer is needed.".format(version),
            "Install a newer one, with PyYAML, in such a way that `python3` starts it. Debian 11, Ubuntu 22.04 and "
            "all after them have it.",
        )
    try:
        import yaml  # noqa: F401, PLC0415 # type: ignore[import-untyped, unused-ignore] # asked for here alone
    except ImportError:
        _refuse(
            "The server's python3, Python {}, has no PyYAML.".format(version),
            "As root:  apt-get install python3-yaml   (On another system, its package with Python's module `yaml`.)",
        )


def _archive(line: str, sha256: str) -> str:
    try:
        content = zlib.decompress(base64.b64decode(line))
    except (ValueError, zlib.error):
        content = b""
    if hashlib.sha256(content).hexdigest() != sha256:
        _refuse("What arrived is damaged.", "Try again.")
    return content.decode()


def _refuse(message: str, remedy: str) -> None:
    sys.exit("install: {}\nNothing was changed. {}".format(message, remedy))
