"""A changelog read: its versions, and what each asks of who deploys it, as items of kinds that are told apart by words.

The words are those of Fab-manager's CHANGELOG.md: sections `## v6.5.10 …`, items `- [TODO DEPLOY] …`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

Version = tuple[int, ...]

_SECTION = re.compile(r"## v?(\d+(?:\.\d+)+)\b")
_ITEM = re.compile(r"- \[TODO DEPLOY\]\s*(.*)")
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


class Kind(StrEnum):
    """What an item asks for."""

    GATE = "gate"
    """Another version is to be released, and its tasks run, before this one."""
    DEV = "dev"
    """Nothing, of who deploys."""
    SCRIPT = "script"
    """A script from the internet is to be run on the server."""
    ENVIRONMENT = "env"
    """Variables are to be set."""
    PRE = "pre"
    """Commands are to be run before the migrations."""
    POST = "post"
    """Commands are to be run after the migrations."""
    UNKNOWN = "unknown"
    """A person is to read it: it has conditions, or is none of these."""


@dataclass(frozen=True)
class Item:
    """One thing that a version asks for.

    line:     in the changelog, from 1
    commands: of the application, each without those that every release runs
    names:    of variables, of a script, or the version of a gate
    """

    version: Version
    line: int
    kind: Kind
    text: str
    commands: tuple[str, ...] = ()
    names: tuple[str, ...] = ()

    @property
    def place(self) -> str:
        """As one acknowledges it: VERSION:LINE."""
        return f"{written(self.version)}:{self.line}"


def version_of(text: str) -> Version:
    """From "6.5.10" or "v6.5.10-lab": the numbers at its beginning. Raises ValueError where there are none."""
    found = re.match(r"v?(\d+(?:\.\d+)*)", text)
    if not found:
        raise ValueError(f"'{text}' is no version: expected numbers, for example 6.5.10")
    return tuple(int(number) for number in found[1].split("."))


def written(version: Version) -> str:
    """As people write it."""
    return ".".join(map(str, version))


def versions(text: str) -> list[Version]:
    """Those that a changelog has sections of, in its order."""
    return [version_of(found[1]) for found in map(_SECTION.match, text.splitlines()) if found]


def items(text: str) -> Iterator[Item]:
    """All that the changelog asks for, in its order."""
    version: Version = ()
    for number, line in enumerate(text.splitlines(), 1):
        if section := _SECTION.match(line):
            version = version_of(section[1])
        elif line.startswith("## "):
            version = ()  # of what is not released yet
        elif version and (item := _ITEM.match(line)):
            yield _item(version, number, item[1].strip())


def _item(version: Version, line: int, text: str) -> Item:
    """In this order: what is for developers may look like anything, and what has conditions like a command."""
    if gate := _GATE.search(text):
        return Item(version, line, Kind.GATE, text, names=(gate[1],))
    if _ONLY_DEV.search(text):
        for_all = _FOR_ALL.search(text)
        if not for_all:
            return Item(version, line, Kind.DEV, text)
        text = text[for_all.end() :].strip()
    if _SCRIPT.search(text):
        return Item(version, line, Kind.SCRIPT, text, names=tuple(_SCRIPT_NAME.findall(text)[-1:]))
    if _ENVIRONMENT.search(text):
        names = [name for quoted in _QUOTED.findall(text) for name in _NAME.findall(quoted.partition("=")[0])]
        return Item(version, line, Kind.ENVIRONMENT, text, names=tuple(dict.fromkeys(names)))
    kind, commands = _of_commands(text)
    return Item(version, line, kind, text, commands)


def _of_commands(text: str) -> tuple[Kind, tuple[str, ...]]:
    """What is left: commands and nothing else, or something that a person is to read."""
    found = [task for quoted in _QUOTED.findall(text) for task in _tasks(quoted)]
    kept = tuple(task for task in found if task and task.removeprefix("rails ") not in _IMPLIED)
    if _BEFORE_MIGRATING.search(text):
        return Kind.PRE, kept
    if not found or not all(found) or not _CONNECTORS.fullmatch(_QUOTED.sub("", text)):
        return Kind.UNKNOWN, ()
    return Kind.PRE if len(found) > 1 and found[-1] == "rails db:migrate" else Kind.POST, kept


def _tasks(quoted: str) -> Iterator[str | None]:
    """The application's commands in a quotation, as `rails …`; None for what is none."""
    for part in quoted.split("&&"):
        found = _TASK.fullmatch(part.strip())
        yield f"rails {found[1] or found[2]}" if found else None
