"""A changelog read: its versions, and what each asks of who deploys it, as items of kinds that are told apart by words.

The words are those of Fab-manager's CHANGELOG.md: sections `## v6.5.10 …`, items `- [TODO DEPLOY] …`. What becomes of
them is in server/upgrade.py: a server decides that, too.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from server.request import Item, ItemKind, Version
from server.upgrade import version_of

MARKER = "[TODO DEPLOY]"
"""What the items begin with that ask for something."""

_SECTION = re.compile(r"## v?(\d+(?:\.\d+)+)\b")
_GATE = re.compile(r"upgrade to v?(\d+(?:\.\d+)+) before\b", re.IGNORECASE)
_ONLY_DEV = re.compile(r"\(only dev\)", re.IGNORECASE)
_FOR_ALL = re.compile(r"\bthen \(all\)", re.IGNORECASE)
_SCRIPT = re.compile(r"curl\b.*\|\s*(?:ba)?sh\b")
_SCRIPT_NAME = re.compile(r"([\w-]+)\.sh\b")
_ENVIRONMENT = re.compile(r"\b(?:add|configure)\b.*\benvironment variables?\b", re.IGNORECASE)
_BEFORE_MIGRATING = re.compile(r"\bbefore\b.*\bmigrations?\b", re.IGNORECASE)
_QUOTED = re.compile(r"`([^`]*)`")
_NAME = re.compile(r"\b[A-Z][A-Z0-9_]+\b")
_CONNECTORS = re.compile(r"(?:\s|,|->|&&|\bthen\b|\band\b)*", re.IGNORECASE)
_TASK = re.compile(r"(?:bundle exec )?(?:rails|rake) (.+)|([a-z_]+(?::[a-z_]+)+(?:\[[^\]]*\])?)")
_IMPLIED = ("db:migrate", "assets:precompile")
"""Run by every release."""


def versions(text: str) -> list[Version]:
    """Those that a changelog has sections of, in its order."""
    return [version_of(found[1]) for found in map(_SECTION.match, text.splitlines()) if found]


def items(text: str, marker: str = MARKER) -> Iterator[Item]:
    """All that the changelog asks for, in its order. marker: what these items begin with."""
    version: Version = ()
    asking = re.compile(rf"- {re.escape(marker)}\s*(.*)")
    for number, line in enumerate(text.splitlines(), 1):
        if section := _SECTION.match(line):
            version = version_of(section[1])
        elif line.startswith("## "):
            version = ()  # of what is not released yet
        elif version and (item := asking.match(line)):
            yield _item(version, number, item[1].strip())


def _item(version: Version, line: int, text: str) -> Item:
    """In this order: what is for developers may look like anything, and what has conditions like a command."""
    if gate := _GATE.search(text):
        return Item(version, line, ItemKind.GATE, text, names=(gate[1],))
    if _ONLY_DEV.search(text):
        for_all = _FOR_ALL.search(text)
        if not for_all:
            return Item(version, line, ItemKind.DEV, text)
        text = text[for_all.end() :].strip()
    if _SCRIPT.search(text):
        return Item(version, line, ItemKind.SCRIPT, text, names=tuple(_SCRIPT_NAME.findall(text)[-1:]))
    if _ENVIRONMENT.search(text):
        names = [name for quoted in _QUOTED.findall(text) for name in _NAME.findall(quoted.partition("=")[0])]
        return Item(version, line, ItemKind.ENVIRONMENT, text, names=tuple(dict.fromkeys(names)))
    kind, commands = _of_commands(text)
    return Item(version, line, kind, text, commands)


def _of_commands(text: str) -> tuple[ItemKind, tuple[str, ...]]:
    """What is left: commands and nothing else, or something that a person is to read."""
    found = [task for quoted in _QUOTED.findall(text) for task in _tasks(quoted)]
    kept = tuple(task for task in found if task and task.removeprefix("rails ") not in _IMPLIED)
    if _BEFORE_MIGRATING.search(text):
        return ItemKind.PRE, kept
    if not found or not all(found) or not _CONNECTORS.fullmatch(_QUOTED.sub("", text)):
        return ItemKind.UNKNOWN, ()
    return ItemKind.PRE if len(found) > 1 and found[-1] == "rails db:migrate" else ItemKind.POST, kept


def _tasks(quoted: str) -> Iterator[str | None]:
    """The application's commands in a quotation, as `rails …`; None for what is none."""
    for part in quoted.split("&&"):
        found = _TASK.fullmatch(part.strip())
        yield f"rails {found[1] or found[2]}" if found else None
