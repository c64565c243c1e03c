"""The language in which people are told things: English, or another one that has a catalogue in translations/.

A catalogue is gettext's .po file, read as it is: there is nothing to compile before the program can start.
"""

from __future__ import annotations

import functools
import gettext
import io
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

TRANSLATIONS = Path(__file__).resolve().parent / "translations"
VARIABLES = ("RELEVE_LANG", "LC_ALL", "LC_MESSAGES", "LANG")
"""What says the language, the first that is set: ours, then POSIX's in its own order (IEEE 1003.1, chapter 8.2)."""
ON_SERVERS = "server"
"""The context (msgctxt) of messages that the program on the server says."""


def language() -> str:
    """The code of the wanted language, for example "fr"; "en" where none is wanted, or where it has no catalogue."""
    wanted = next(filter(None, map(os.environ.get, VARIABLES)), "")
    found = re.match(r"[a-z]{2,3}(?![a-z])", wanted.lower())
    return found[0] if found and (TRANSLATIONS / f"{found[0]}.po").exists() else "en"


def _(message: str, /, **values: object) -> str:
    """A message in the wanted language, or in English where it has no translation. values: for its {fields}."""
    said = _catalogue(language()).gettext(message)
    return said.format(**values) if values else said


class Message(str):
    """An English text that `said` can say in another language: for what is compared, kept or hashed before it is said.

    template: the message, with {fields}; values: what is put into them
    """

    __slots__ = ("template", "values")
    template: str
    values: Mapping[str, object]

    def __new__(cls, template: str, /, **values: object) -> Message:
        """The English text."""
        made = super().__new__(cls, template.format(**values) if values else template)
        made.template, made.values = template, values
        return made

    def __deepcopy__(self, _memo: dict[int, Any]) -> Message:
        """Itself: nothing in it changes."""
        return self


def said(text: str) -> str:
    """A Message in the wanted language, with those among its values; any other text as it is."""
    if not isinstance(text, Message):
        return text
    return _(
        text.template, **{name: said(value) if isinstance(value, str) else value for name, value in text.values.items()}
    )


def decimal(value: float) -> str:
    """A number with one digit behind the decimal separator, which is French's comma in French."""
    return f"{value:.1f}".replace(".", _("."))


def for_servers() -> dict[str, str]:
    """What the program on the server says → how it is said in the wanted language; empty for English."""
    code = language()
    if code == "en":
        return {}
    return {entry.msgid: entry.msgstr for entry in _read(code) if entry.msgctxt == ON_SERVERS and entry.translated()}


@functools.cache
def _catalogue(code: str) -> gettext.NullTranslations:
    return gettext.NullTranslations() if code == "en" else gettext.GNUTranslations(io.BytesIO(_read(code).to_binary()))


def _read(code: str) -> Any:
    # Imported here: in English nobody needs it, and it takes 20 ms.
    import polib  # noqa: PLC0415

    return polib.pofile(str(TRANSLATIONS / f"{code}.po"))
