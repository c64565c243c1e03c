"""What `docker compose config` makes of Compose files, as far as the script looks at it: merged, sorted, one shape.

As a program it reads the files named as arguments and prints the normal form; tests/e2e compares with Compose itself.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

import yaml


def normal_form(*texts: str) -> str:
    """The normal form of Compose files, later ones on top; raises yaml.YAMLError where there is no YAML."""
    merged: dict[str, object] = {"name": "shop"}
    for text in texts:
        document = yaml.safe_load(text)
        if not isinstance(document, dict):
            raise yaml.YAMLError("top-level object must be a mapping")
        merged = _merge(merged, document)
    return yaml.dump(merged, Dumper=_Dumper, allow_unicode=True, width=4096)


def _merge(below: Mapping[str, object], above: Mapping[str, object]) -> dict[str, object]:
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        merged[key] = _merge(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return merged


class _Dumper(yaml.SafeDumper):
    """Lists are indented and anchors written out, as Compose does it."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, indentless=False)

    def ignore_aliases(self, data: object) -> bool:
        return True


if __name__ == "__main__":
    try:
        sys.stdout.write(normal_form(*(Path(name).read_text(encoding="utf-8") for name in sys.argv[1:])))
    except yaml.YAMLError as error:
        sys.exit(f"yaml: {error}")
