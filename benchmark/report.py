"""Documents of what was measured: a section for each measurement, which replaces what the same one wrote before."""

from __future__ import annotations

import os
import platform
import re
from datetime import UTC, datetime
from pathlib import Path


def write(file: Path, title: str, body: str, *, heading: str = "# Benchmarks") -> None:
    """Prints a section, with the date and the machine, and puts it into `file` in place of the one of that title.

    title:   as in the file, for example "## Builds and previews"
    heading: that of a file which is not there yet
    """
    machine = f"{datetime.now(UTC):%Y-%m-%d}, {platform.system()} {platform.machine()}, {os.cpu_count()} cores"
    section = f"{title}\n\n{machine}.\n\n{body.strip()}\n"
    print(section)
    text = file.read_text(encoding="utf-8") if file.exists() else f"{heading}\n"
    pattern = re.compile(rf"^{re.escape(title)}\n.*?(?=^## |\Z)", re.MULTILINE | re.DOTALL)
    others = pattern.sub("", text).rstrip()
    file.write_text(f"{others}\n\n{section}", encoding="utf-8")
