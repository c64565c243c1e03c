"""What a Compose file should have for the strategy `rolling`, without which it works, but not well.

What it cannot work with is in server/compose_file.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

SUPERVISORS = ("supervisord", "s6-svscan", "runsvdir", "foreman")
"""Programs that run several others in one container."""
_INTERPRETED = 2
"""Words of a command line, of which one is the program: `python3 /usr/bin/supervisord`."""


def advice(services: Mapping[str, Any], ours: Sequence[str], started: Sequence[str]) -> Iterator[tuple[str, str]]:
    """What is missing, and what to do about it.

    services: as Compose resolves them
    ours:     the application's: the web service first
    started:  the command line of the web service's container, () where there is none
    """
    web = ours[0]
    found = [name for word in started[:_INTERPRETED] if (name := PurePosixPath(word).name) in SUPERVISORS]
    command = [str(word) for word in services[web].get("command") or ()]
    if found:
        yield (
            f"'{web}' runs {found[0]}, and in it the workers: they run twice while two containers of it do.",
            "Give it the web server's `command`, and the worker a service of its own, which app.services names, too.",
        )
    if _writes_pid_file(command) and not any(_is_for_pids(mount) for mount in services[web].get("tmpfs") or ()):
        yield (
            f"'{web}' is a `rails server`: killed, it leaves a PID file, and its container does not start again.",
            "Add a `tmpfs` for the directory tmp/pids of the application.",
        )
    for name in ours:
        if name in services and not services[name].get("stop_grace_period"):
            yield (
                f"'{name}' has no stop_grace_period: 10 s after it is told to stop it is killed, with what it does.",
                "Set one that its longest request or job ends in.",
            )


def _writes_pid_file(command: Sequence[str]) -> bool:
    names = [PurePosixPath(word).name for word in command]
    starts = any(pair in (("rails", "server"), ("rails", "s")) for pair in zip(names, names[1:]))
    return starts and not any(word in ("-P", "--pid") or word.startswith("--pid=") for word in command)


def _is_for_pids(mount: object) -> bool:
    return str(mount).partition(":")[0].rstrip("/").endswith("tmp/pids")
