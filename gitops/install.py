"""Puts the templates for a forge into a repository."""

from __future__ import annotations

import filecmp
import shutil
from pathlib import Path

from errors import ReleaseError
from operations.stack import PROJECT

TEMPLATES = PROJECT / "templates/gitops"


def install(forge: str, target: Path) -> list[Path]:
    """Copies the templates of a forge ("github" or "gitlab").

    Returns the files that were written, relative to `target`: none for those that are there already as they would be.
    Raises ReleaseError, before anything is written, where another file is in the way.
    """
    source = TEMPLATES / forge
    names = [file.relative_to(source) for file in sorted(source.rglob("*")) if file.is_file()]
    missing = [name for name in names if not (target / name).exists()]
    others = [
        str(name)
        for name in names
        if name not in missing and not filecmp.cmp(source / name, target / name, shallow=False)
    ]
    if others:
        raise ReleaseError(
            f"there is something else already in {', '.join(others)}. Nothing was written. Move it away, or compare it "
            f"with what is in {source.relative_to(PROJECT)}"
        )
    for name in missing:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source / name, target / name)
    return missing
