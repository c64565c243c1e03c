"""docs/benchmark.md: a section for each benchmark, replaced when it has run again."""

from __future__ import annotations

import os
import platform
import re
from datetime import UTC, datetime
from pathlib import Path


def write(file: Path, title: str, text: str) -> None:
    """Prints a section, with the day and the machine, and puts it into `file` in the place of the one with its title.

    title: its heading in Markdown, for example "## Rollouts"
    """
    machine = f"{datetime.now(UTC):%Y-%m-%d}, {platform.system()} {platform.machine()}, {os.cpu_count()} cores."
    section = f"{title}\n\n{machine}\n\n{text}\n"
    print(section)
    before = file.read_text(encoding="utf-8") if file.exists() else "# Benchmarks\n\n"
    pattern = rf"^{re.escape(title)}\n.*?(?=^## |\Z)"
    after, replaced = re.subn(pattern, lambda _: f"{section}\n", before, flags=re.MULTILINE | re.DOTALL)
    file.write_text((after if replaced else f"{before.rstrip()}\n\n{section}").rstrip() + "\n", encoding="utf-8")
