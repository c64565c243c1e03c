"""What volunteers are told by ./releve and at the end of a release, in English and in French."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import click
import pytest
from click.testing import CliRunner

from components import notices
from operations import restore, rollback, status
from operations import server as connection
from operations import stack as stacks
from operations.command import confirm
from operations.stack import Stack
from release import notification
from release.reference import ImageReference
from server.facts import Backup, Facts, Machine
from server.request import StepName
from tests.unit.test_plan import configured

pytestmark = pytest.mark.unit

DIGEST = "sha256:" + "1" * 64
LIVE, OLD = f"1.0-{'1' * 12}", f"0.9-{'2' * 12}"
MACHINE = Machine("3.11", "29", "2.40", 0, 100 << 30, 40 << 30, 1, 1)
STACK = Stack("prod", configured(), ImageReference("registry.example/shop", "1.0", DIGEST))


def facts(**changes: Any) -> Facts:
    now = datetime.now(UTC)
    base: dict[str, Any] = {
        "directory": "/apps/shop", "project": "shop", "release": LIVE, "image": str(STACK.released),
        "since": (now - timedelta(minutes=5)).isoformat(), "previous": OLD, "kept": (LIVE, OLD), "busy": "",
        "interrupted": False, "problem": "", "public": 200, "containers": (),
        "history": ('{"result": "released", "downtime": 1.25, "release": "1.0"}',),
        "backups": (Backup("a.dump", 5, (now - timedelta(days=3)).isoformat()),), "machine": MACHINE,
        "differences": None, "database": "", "databases": (), "restoring": "", "refused": "",
        "unrollable": (), "advice": (),
    }  # fmt: skip
    return Facts(**(base | changes))


def plain(text: str) -> str:
    """With spaces that break, for comparing."""
    return text.replace("\N{NO-BREAK SPACE}", " ").replace("\N{NARROW NO-BREAK SPACE}", " ")


@pytest.fixture
def french(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RELEVE_LANG", "fr")


@pytest.fixture
def shop(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """The stack and its server, whatever it is asked; what pulumi and the server are told to do is recorded."""
    told: list[tuple[str, ...]] = []

    def pulumi(*words: str) -> Any:
        told.append(words)
        return type("Done", (), {"returncode": 0, "stderr": ""})

    def run(*words: str) -> int:
        told.append(words)
        return 0

    monkeypatch.setattr(stacks, "load", lambda _name: STACK)
    monkeypatch.setattr(stacks, "pulumi", pulumi)
    monkeypatch.setattr(stacks, "run_pulumi", run)
    monkeypatch.setattr(connection, "ask", lambda *_: facts())
    monkeypatch.setattr(connection, "run_step", lambda _host, step, asked: run(step, asked.backup))
    return told


ENGLISH_STATUS = [
    ("wanted", "1.0  sha256:111111111111…"),
    ("running", f"{LIVE}, for 5 min"),
    ("health", "answers as it should"),
    ("public", "answers 200"),
    ("last downtime", "1.2 s (1.0)"),
    ("can go back to", OLD),
    ("disk", "40 GiB of 100 GiB free"),
    ("last backup", "a.dump, 3 days ago"),
]
FRENCH_STATUS = [
    ("voulue", "1.0  sha256:111111111111…"),
    ("en service", f"{LIVE}, depuis 5 min"),
    ("santé", "répond comme il faut"),
    ("adresse publique", "répond 200"),
    ("dernier arrêt", "1,2 s (1.0)"),
    ("retour possible à", OLD),
    ("disque", "40 GiB libres sur 100 GiB"),
    ("dernière sauvegarde", "a.dump, il y a 3 jours"),
]


def test_status_is_said_in_english_and_in_french(monkeypatch: pytest.MonkeyPatch) -> None:
    assert status._rows(STACK, facts()) == ENGLISH_STATUS
    assert status._rows(STACK, facts(restoring="a.dump"))[-1] == (
        "restore", "[red]was interrupted; go on with  ./releve restore a.dump[/red]"
    )  # fmt: skip
    monkeypatch.setenv("RELEVE_LANG", "fr")
    assert status._rows(STACK, facts()) == FRENCH_STATUS


def test_the_end_of_a_release_is_said_in_english_and_in_french(monkeypatch: pytest.MonkeyPatch) -> None:
    back = "pulumi config set tag 1.0 -s prod && pulumi up -s prod"
    assert notices.end("s1", "1.1", "https://shop.example", away="1.2 s", back=back) == (
        f"s1 serves 1.1 at https://shop.example\ntime without an answer: 1.2 s\nto go back: {back}"
    )
    monkeypatch.setenv("RELEVE_LANG", "fr")
    assert plain(notices.end("s1", "1.1", "https://shop.example", away="1,2 s", back=back)) == (
        "1.1 est en service sur s1, à l’adresse https://shop.example\ndurée sans réponse : 1,2 s\n"
        f"pour revenir en arrière : {back}"
    )


def test_that_a_release_was_put_back_is_found_out_and_told_in_french(french: None) -> None:
    told = notification.failed("prod", "s1", "1.1", "up", "up: it failed\nThe release 1.0 was put back and serves.")
    assert plain(told.title) == "prod : 1.1 a été annulée"
    assert told.text == "1.1 a échoué sur s1. up: it failed\nL’ancienne version est de nouveau en service."


@pytest.mark.parametrize(
    ("answer", "default", "wanted"),
    [("o", False, True), ("Oui", False, True), ("y", False, True), ("n", True, False), ("non", True, False),
     ("", True, True), ("", False, False), ("peut-être\no", False, True)],
)  # fmt: skip
def test_a_question_takes_the_words_of_the_readers_language(
    answer: str, default: bool, wanted: bool, french: None
) -> None:
    assert ask(lambda: confirm("Le faire", default=default), answer)[0] is wanted


@pytest.mark.parametrize("default", [True, False])
@pytest.mark.parametrize("answer", ["y", "YES", "n", "no", "", "maybe\ny"])
def test_in_english_a_question_is_the_one_of_click(answer: str, default: bool) -> None:
    ours = ask(lambda: confirm("Do it", default=default), answer)
    assert ours == ask(lambda: click.confirm("Do it", default=default), answer)


def ask(question: Callable[[], bool], answer: str) -> tuple[bool | None, str]:
    """What a question answered so has returned, and all that was shown."""
    answered: list[bool] = []
    shown = CliRunner().invoke(click.command()(lambda: answered.append(question())), input=f"{answer}\n").output
    return next(iter(answered), None), shown


def test_a_rollback_asks_in_french_and_goes_back(shop: list[tuple[str, ...]], french: None) -> None:
    done = CliRunner().invoke(rollback.rollback, [], input="\no\n")
    assert "retour de 1.0 à 0.9, que le serveur a conservée" in done.output, done.output
    assert "Écrire ce tag dans Pulumi.prod.yaml, et faire un aperçu [O/n]" in done.output
    assert shop[0][:4] == ("config", "set", "tag", "0.9")
    assert [words[0] for words in shop[1:]] == ["preview", "up"]


def test_a_rollback_that_is_not_wanted_leaves_the_tag(shop: list[tuple[str, ...]], french: None) -> None:
    done = CliRunner().invoke(rollback.rollback, [], input="\nnon\n")
    assert done.exit_code == 1
    assert "Pulumi.prod.yaml indique de nouveau 1.0." in done.output
    assert shop[-1][:4] == ("config", "set", "tag", "1.0")


def test_a_restore_asks_in_french_for_the_tag(shop: list[tuple[str, ...]], french: None) -> None:
    refused = CliRunner().invoke(restore.restore, ["a.dump"], input="oui\n")
    assert refused.exit_code == 1
    assert shop == []
    done = CliRunner().invoke(restore.restore, ["a.dump"], input="1.0\n")
    assert done.exit_code == 0, done.output
    assert "la base de données de 1.0 sur s1 redevient ce qu’elle était dans a.dump." in done.output
    assert shop == [(StepName.RESTORE, "a.dump")]
