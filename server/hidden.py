"""What no message may show: the values of `env`, which Compose and applications quote in theirs.

Words like `production` and short values stay: without them a message says nothing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace

from server.request import Request
from server.run import Run

SHORTEST = 6
"""Characters of a value that is hidden, where its variable's name says that it is a secret."""
SHORTEST_OF_OTHERS = 8
_SECRET_NAME = re.compile(r"PASS|SECRET|TOKEN|KEY|PRIVATE|CREDENTIAL|SALT|AUTH|DSN", re.IGNORECASE)
_WORD = re.compile(r"[a-z]+|[A-Z]+")
_NUMBER = re.compile(r"[0-9.]+")
# As release/environment.py writes them: in one line each.
_ENTRY = re.compile(r"""^([A-Za-z_][A-Za-z0-9_.]*)=(?:'([^'\n]*)'|"((?:\\.|[^"\\\n])*)")$""", re.MULTILINE)
_ESCAPED = re.compile(r"\\(0134|.)")
_ESCAPES = {"n": "\n", "r": "\r", "0134": "\\"}


@dataclass(frozen=True)
class Hidden:
    """Texts that are not shown, each with what stands in its place."""

    texts: Mapping[str, str]

    def without(self, text: str) -> str:
        """The text with every hidden one replaced."""
        if not self.texts:
            return text
        # The longest first: one may be a part of another.
        sorted_texts = sorted(self.texts, key=len, reverse=True)
        return re.sub("|".join(map(_pattern, sorted_texts)), lambda found: self.texts[found[0]], text)


def _pattern(text: str) -> str:
    # A word is not looked for inside others.
    return rf"\b{text}\b" if _WORD.fullmatch(text) else re.escape(text)


def hidden_in(environments: Iterable[str], public: str) -> Hidden:
    """The values in these texts of .env. public: a value that is in there is no secret."""
    texts: dict[str, str] = {}
    for environment in environments:
        for name, value, written in _entries(environment):
            if _is_hidden(name, value, public):
                # Go quotes as JSON does; of a value on many lines a message may hold a few.
                lines = [line for line in value.splitlines() if len(line) >= SHORTEST_OF_OTHERS]
                for text in (value, written, *lines):
                    texts.update(dict.fromkeys((text, json.dumps(text, ensure_ascii=False)[1:-1]), f"[env.{name}]"))
    return Hidden(texts)


def _entries(environment: str) -> Iterator[tuple[str, str, str]]:
    """Name, value, and the value as it is written."""
    for name, plain, escaped in _ENTRY.findall(environment):
        yield name, plain or _ESCAPED.sub(lambda found: _ESCAPES.get(found[1], found[1]), escaped), plain or escaped


def _is_hidden(name: str, value: str, public: str) -> bool:
    if _SECRET_NAME.search(name):
        return len(value) >= SHORTEST and value not in public
    tells = not _WORD.fullmatch(value) and not _NUMBER.fullmatch(value)
    return len(value) >= SHORTEST_OF_OTHERS and tells and value not in public


def hide_values(run: Run) -> None:
    """Of this release's environment, and of the one that is in place, in all that the run says from now on."""
    asked, environments = run.request, []
    if asked.delivery is not None:
        environments.append(asked.delivery.environment or "")
    elif asked.image is not None:
        with suppress(OSError, ValueError):
            kept = json.loads((run.state / "releases" / asked.image.release / "delivery.json").read_text())
            environments.append(kept.get("environment") or "")
    with suppress(OSError):
        environments.append((run.state / "current" / "env").read_text(errors="surrogateescape"))
    run.output.hide(hidden_in(environments, _public(asked)).without)


def _public(asked: Request) -> str:
    return repr(replace(asked, delivery=None, registry_login=None))
