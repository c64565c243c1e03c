"""What is said in another language: that its catalogue has everything, and that English is what it was."""

from __future__ import annotations

import ast
import copy
import re
from collections.abc import Iterator
from pathlib import Path

import polib
import pytest

import language
from language import ON_SERVERS, TRANSLATIONS, Message, _, decimal, for_servers, said

pytestmark = pytest.mark.unit

PROJECT = Path(__file__).resolve().parents[2]
CATALOGUES = sorted(TRANSLATIONS.glob("*.po"))
HERE = ("components", "configuration", "operations", "release")
Key = tuple[str | None, str]
"""A message's context and its text."""


def used() -> dict[Key, str]:
    """Every message that the code says → where."""
    files = [file for name in HERE for file in (PROJECT / name).rglob("*.py")]
    found: dict[Key, str] = {(None, "."): "language.decimal"}
    found |= {(None, text): where for file in files for text, where in said_in(file, "_", "Message")}
    for file in (PROJECT / "server").rglob("*.py"):
        found |= {(ON_SERVERS, text): where for text, where in said_in(file, "tell")}
    return found


def said_in(file: Path, *names: str) -> Iterator[tuple[str, str]]:
    """The first arguments of calls of these functions and methods, which must be literals, and where they are."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Call) and node.args:
            function = node.func
            name = function.id if isinstance(function, ast.Name) else getattr(function, "attr", "")
            if name not in names or (name == "tell" and ast.unparse(function) != "run.tell"):
                continue
            given = node.args[0]
            for text in (given.body, given.orelse) if isinstance(given, ast.IfExp) else (given,):
                where = f"{file.relative_to(PROJECT)}:{node.lineno}"
                assert isinstance(text, ast.Constant), f"{where}: a message that no catalogue can hold"
                yield str(text.value), where


def fields(text: str) -> list[str]:
    return sorted(re.findall(r"\{(\w+)\}", text))


@pytest.fixture(params=CATALOGUES, ids=lambda path: path.stem)
def catalogue(request: pytest.FixtureRequest) -> polib.POFile:
    return polib.pofile(str(request.param), check_for_duplicates=True)


@pytest.fixture
def french(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RELEVE_LANG", "fr")


def test_there_is_a_catalogue_in_french() -> None:
    assert [path.stem for path in CATALOGUES] == ["fr"]


def test_every_message_is_translated_and_none_is_that_nobody_says(catalogue: polib.POFile) -> None:
    known = {(entry.msgctxt, entry.msgid) for entry in catalogue if entry.translated()}
    wanted = used()
    missing = {where: text for (context, text), where in wanted.items() if (context, text) not in known}
    assert not missing
    assert not {(entry.msgctxt, entry.msgid) for entry in catalogue} - set(wanted)
    assert not [entry.msgid for entry in catalogue if entry.fuzzy or entry.obsolete]


def test_a_translation_has_the_fields_and_the_commands_of_its_message(catalogue: polib.POFile) -> None:
    for entry in catalogue:
        assert fields(entry.msgstr) == fields(entry.msgid), entry.msgid
        marks = r"\[/?\w+\]|--[a-z]+|\./releve [a-z]+|pulumi [a-z]+|RELEVE_[A-Z]+"
        assert sorted(re.findall(marks, entry.msgstr)) == sorted(re.findall(marks, entry.msgid)), entry.msgid


def test_french_has_a_space_that_does_not_break_before_what_wants_one() -> None:
    for entry in polib.pofile(str(TRANSLATIONS / "fr.po")):
        # Not in commands, addresses and keys: there a blank would follow, or no letter precedes.
        assert not re.search(r"[^\W\d_)}»][:;?!](?= |\n|$)| [:;?!](?= |\n|$)", entry.msgstr), entry.msgstr
        assert "'" not in re.sub(r"'[^' ]+'", "", entry.msgstr), f"an apostrophe is ’: {entry.msgstr}"


@pytest.mark.parametrize(
    ("variables", "wanted"),
    [
        ({}, "en"),
        ({"LANG": "fr_FR.UTF-8"}, "fr"),
        ({"LANG": "fr_CH@euro", "LC_MESSAGES": "en_GB.UTF-8"}, "en"),
        ({"LANG": "en_US.UTF-8", "LC_ALL": "fr"}, "fr"),
        ({"LC_ALL": "fr_FR.UTF-8", "RELEVE_LANG": "en"}, "en"),
        ({"LC_ALL": "C.UTF-8", "LANG": "fr_FR"}, "en"),
        ({"LC_ALL": "", "LANG": "fr_FR"}, "fr"),
        ({"RELEVE_LANG": "FR"}, "fr"),
        ({"RELEVE_LANG": "de"}, "en"),
        ({"RELEVE_LANG": "french"}, "en"),
        ({"RELEVE_LANG": "../../etc"}, "en"),
    ],
)
def test_the_language_is_our_own_variable_or_the_first_of_posix(
    variables: dict[str, str], wanted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in language.VARIABLES:
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert language.language() == wanted


def test_a_message_has_its_values_in_both_languages(monkeypatch: pytest.MonkeyPatch) -> None:
    # Braces in a value are the value's own.
    assert _("{server} serves {tag} at {address}", server="s", tag="{1}", address="a") == "s serves {1} at a"
    monkeypatch.setenv("RELEVE_LANG", "fr")
    assert (
        _("{server} serves {tag} at {address}", server="s", tag="{1}", address="a")
        == "{1} est en service sur s, à l’adresse a"
    )
    assert _("nobody says this: {tag}", tag="1") == "nobody says this: 1"


def test_a_message_that_is_said_later_is_its_english_text_until_then(french: None) -> None:
    message = Message("built from {source}", source='commit abc of {"shop"}')
    assert message == 'built from commit abc of {"shop"}'
    assert copy.deepcopy(message) == message
    assert said(copy.deepcopy(message)) == 'construite depuis commit abc of {"shop"}'
    assert said("any other text") == "any other text"


def test_numbers_have_the_languages_decimal_separator(monkeypatch: pytest.MonkeyPatch) -> None:
    assert decimal(1.25) == "1.2"
    monkeypatch.setenv("RELEVE_LANG", "fr")
    assert decimal(1.25) == "1,2"


def test_a_server_is_sent_what_it_says_and_nothing_for_english(monkeypatch: pytest.MonkeyPatch) -> None:
    assert for_servers() == {}
    monkeypatch.setenv("RELEVE_LANG", "fr")
    assert set(for_servers()) == {text for context, text in used() if context == ON_SERVERS}
