"""Dumps the database of a stack's server now, as before migrations: `python -m operations.dump --stack prod`.

The dump is checked, stays on the server, and is one of the backup.keep newest there.
"""

from __future__ import annotations

import argparse
import sys

from errors import ReleaseError
from operations import server
from release import steps
from server.request import StepName


def main(arguments: list[str]) -> int:
    """Entry point; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m operations.dump", description=__doc__.partition("\n")[0])
    parser.add_argument("--stack", "-s", required=True, help="the stack whose database is dumped")
    try:
        settings = server.load(parser.parse_args(arguments).stack)
        (host,) = settings.servers
        return server.run_step(host, StepName.DUMP, steps.request_of(StepName.DUMP, settings, host))
    except ReleaseError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
