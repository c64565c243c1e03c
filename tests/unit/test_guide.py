"""docs/guide.fr.md: that what it names is there. tests/e2e/test_guide.py runs its commands."""

from __future__ import annotations

import copy
import json
import re
import shlex
from pathlib import Path
from typing import Any

import click
import polib
import pytest
import yaml

from configuration.load import load
from operations.__main__ import Commands, releve
from tests.commands import blocks, commands

pytestmark = pytest.mark.unit

PROJECT = Path(__file__).resolve().parents[2]
GUIDE = PROJECT / "docs/guide.fr.md"
COMMANDS = [command for section in commands(GUIDE).values() for command in section]
INLINE = re.findall(r"`((?:\./releve|pulumi|make|tools/\S+|sandbox/\S+) ?[^`\n]*)`", GUIDE.read_text())
PULUMI = {
    "up": {"-s"},
    "preview": {"-s"},
    "stack init": set[str](),
    "config set": {"-s", "--path", "--type", "--secret"},
}
"""The commands of Pulumi that the guide uses, and the options that it uses of them; the end-to-end test runs each."""
SETTINGS: dict[str, Any] = {
    "tag": "1.0.0",
    "image": {"repository": "example.org/app", "source": {"path": "app"}},
    "app": {"directory": "/apps/app", "services": ["web"]},
    "servers": [{"name": "s", "host": "192.0.2.1", "user": "deploy",
                 "hostKey": "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHJycnJycnJycnJycnJycnJycnJycnJycnJycnJycnJy"}],
}  # fmt: skip


def settings_with(*changes: dict[str, Any]) -> None:
    """Validates the configuration with these changes in it. Raises ConfigurationError."""
    configuration = copy.deepcopy(SETTINGS)
    for change in changes:
        for name, value in change.items():
            whole = {**configuration.get(name, {}), **value} if isinstance(value, dict) else value
            configuration[name] = whole
    values = {f"releve:{name}": value if name == "tag" else json.dumps(value) for name, value in configuration.items()}
    load(values, Path("Pulumi.test.yaml"))


def set_by(words: list[str]) -> dict[str, Any]:
    """What `pulumi config set` with these words would set."""
    options = {"--type": 1, "-s": 1}
    operands, skip = list[str](), 0
    for word in words:
        if skip:
            skip -= 1
        elif word.startswith("-"):
            skip = options.get(word, 0)
        else:
            operands.append(word)
    key, given = operands[0], (operands[1:] or ["some-secret"])[0]
    value: Any = int(given) if given.isdigit() and "--type" not in words else given
    for name in reversed(key.split(".")):
        value = {name: value}
    return dict(value)


def of(program: str) -> list[list[str]]:
    """The words of each command of a program, in blocks and in the text, behind its name, where there are any."""
    lines = [re.sub(r"^[A-Z_]+=\S+ ", "", line) for line in [*COMMANDS, *INLINE]]
    split = [shlex.split(line) for line in lines]
    return [words[1:] for words in split if words[0] == program and words[1:]]


def test_every_section_of_the_manual_guide_is_there() -> None:
    headings = [heading.lower() for heading in re.findall(r"(?m)^##+ (.+)$", GUIDE.read_text())]
    for wanted in (
        "objectif", "prérequis", "dockerfile", ".dockerignore", "construire", "tester", "pousser", "déployer",
        "vérifier", "sauvegardes", "temps d’arrêt", "retour en arrière", "secrets", "tests",
    ):  # fmt: skip
        assert any(wanted in heading for heading in headings), wanted


def test_every_command_of_releve_and_each_of_its_options_is_there() -> None:
    assert of("./releve")
    assert isinstance(releve, Commands)
    for line in of("./releve"):
        words = line
        command: click.Command | None = releve
        while isinstance(command, click.Group):
            command, words = command.get_command(click.Context(command), words[0]), words[1:]
        assert command, words
        # Parsed, and not run: an unknown option, or one argument too many, is refused here.
        command.make_context("./releve", words)


def test_every_command_of_pulumi_is_one_that_is_run_by_the_test_of_the_guide() -> None:
    for words in of("pulumi"):
        name = next((name for name in PULUMI if words[: len(name.split())] == name.split()), None)
        assert name, words
        assert {word for word in words if word.startswith("-")} <= PULUMI[name], words


def test_what_the_guide_sets_is_a_key_that_takes_this_value() -> None:
    changes = [set_by(words[2:]) for words in of("pulumi") if words[:2] == ["config", "set"]]
    assert len(changes) > 5
    for change in changes:
        # An account is a name and a password.
        account = {"registry": {"username": "x", "password": "y", **change["registry"]}} if "registry" in change else {}
        settings_with(change, account)


def test_what_the_guide_writes_into_the_stack_file_is_valid() -> None:
    (written,) = blocks(GUIDE, "yaml")
    settings_with({key.removeprefix("releve:"): value for key, value in yaml.safe_load(written).items()})


def test_every_other_program_is_there() -> None:
    targets = re.findall(r"(?m)^([a-z-]+):", (PROJECT / "Makefile").read_text())
    assert {words[0] for words in of("make")} <= set(targets)
    for line in [*COMMANDS, *INLINE]:
        if line.startswith(("tools/", "sandbox/")):
            assert (PROJECT / line.split()[0]).exists(), line


def test_the_dockerignore_is_the_one_of_the_template() -> None:
    (shown,) = blocks(GUIDE, "dockerignore")
    template = (PROJECT / "templates/rails/.dockerignore").read_text()
    assert shown.splitlines()[1:] == template.splitlines()[1:]


def test_the_plan_that_is_shown_has_the_words_of_a_plan() -> None:
    (shown,) = blocks(GUIDE, "text")
    said = {entry.msgstr for entry in polib.pofile(str(PROJECT / "translations/fr.po"))}
    names = [re.split(r" {2,}", line.strip())[0] for line in shown.splitlines()[1:]]
    assert len(names) == 7
    assert set(names) <= said
