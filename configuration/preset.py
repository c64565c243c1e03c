"""Presets: configurations of applications that many run alike, each a file of configuration/presets.

A stack that names one (`preset: fabmanager`) writes only what is its own. Both are merged before anything is checked:
the same values make the same rollout, wherever they are written.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

DIRECTORY = Path(__file__).resolve().parent / "presets"
"""NAME.yaml: the keys of a stack file, without the prefix."""


def names() -> list[str]:
    """Those that there are."""
    return sorted(file.stem for file in DIRECTORY.glob("*.yaml"))


def check_name(name: str) -> None:
    """Raises ValueError where there is no preset of this name."""
    if name not in names():
        raise ValueError(f"there is no such preset; there are: {', '.join(names())}")


def read(name: object) -> dict[str, Any]:
    """The keys of a preset, as a stack file would hold them; none of one that does not exist, or of no name."""
    if name not in names():
        return {}
    content: dict[str, Any] = yaml.safe_load((DIRECTORY / f"{name}.yaml").read_text(encoding="utf-8"))
    return content


def merged(preset: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """A stack's own keys over those of its preset.

    Maps are merged key by key, everything else replaces what the preset has, lists as a whole; null takes it away.
    """
    values = {**preset}
    for key, value in own.items():
        if value is None and key in preset:
            del values[key]
        elif isinstance(value, Mapping) and isinstance(preset.get(key), Mapping):
            values[key] = merged(preset[key], value)
        else:
            values[key] = value
    return values
