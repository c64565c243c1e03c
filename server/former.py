"""What the program in sh has left, which ran on servers until November 2026: most of it is kept as it was then.

Only a set of compiled assets had another name for the same settings: a hash of what `docker compose config` prints.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from server.commands import Docker
from server.preparation import Candidate
from server.releases import directory_of
from server.request import Assets
from server.run import Run, read_line


def adopt_assets(run: Run, docker: Docker, candidate: Candidate) -> None:
    """Gives assets that were made for the release, under the same settings, the name that they have now."""
    directory, name = directory_of(run), candidate.prepared.assets
    if (directory / name).exists() or not any(path.is_dir() for path in directory.glob("assets-*")):
        return
    compose = candidate.compose
    text = docker.ask(*compose.words("config"), stdin=compose.stdin).text
    former = name_of(text, run.request.web, run.request.assets)
    if not (directory / former).is_dir():
        return
    for prefix in ("mounts-", "served-", ""):
        path: Path = directory / f"{prefix}{former}"
        if path.exists():
            path.rename(directory / f"{prefix}{name}")
    if read_line(directory / "assets") == former:
        (directory / "assets").write_text(f"{name}\n")


def name_of(config: str, web: str, assets: Assets) -> str:
    """The former name. config: as `docker compose config` prints it, in YAML of one shape."""
    lines = [*_settings(config.splitlines(), web), str(assets.source), "\n".join(assets.paths), *assets.precompile]
    return f"assets-{hashlib.sha256(''.join(f'{line}{chr(10)}' for line in lines).encode()).hexdigest()[:12]}"


def _settings(lines: Sequence[str], web: str) -> Iterator[str]:
    """The lines of the web service, but for that of its image."""
    in_services, service = False, ""
    for line in lines:
        if not line.startswith(" "):
            in_services = line.startswith("services:")
        if line.startswith("  ") and not line.startswith("   "):
            service = line.strip().partition(":")[0].strip('"')
        if in_services and service == web and not line.startswith("    image:"):
            yield line
