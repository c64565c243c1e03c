"""The commands of a document, for tests that run them, or look whether there are such ones."""

from __future__ import annotations

import re
from pathlib import Path

_COMMAND = re.compile(r"(?:[A-Z_]+=\S+ )?(?:\./releve|pulumi|git|make|tools/[a-z-]+)(?: |$)")
_INDENTED = re.compile(r"(?: {4}| {6})\S")


def commands(document: Path) -> dict[str, list[str]]:
    """Heading of a section → its commands, without the remarks behind them; "" before the first heading.

    A command is a line of a block ```sh, which holds nothing else, or one that is indented like code outside a block.
    """
    sections: dict[str, list[str]] = {}
    heading, fence = "", ""
    for line in document.read_text().splitlines():
        text = re.split(r" {2,}#", line.strip())[0].rstrip()
        if text.startswith("```"):
            fence = "" if fence else text
        elif not fence and re.match("##+ ", line):
            heading = line.lstrip("# ")
        elif fence == "```sh" or (not fence and _INDENTED.match(line)):
            if _COMMAND.match(text):
                sections.setdefault(heading, []).append(text)
            else:
                assert not fence, f"{document.name}: a line that tests do not know to be a command: {text}"
    return sections


def blocks(document: Path, language: str) -> list[str]:
    """The content of each fenced block of a language."""
    return re.findall(rf"(?ms)^```{language}\n(.*?)^```$", document.read_text())
