"""What an upgrade asks for, by the application's changelog."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from operations.upgrade import upgrade
from release.upgrade.changelog import items, versions
from server.request import ItemKind as Kind
from server.upgrade import Leg, path, version_of, written

pytestmark = pytest.mark.unit

SHARED = Path(__file__).resolve().parents[3] / "shared/fabmanager"
FAB_MANAGER = ("2.8.3", "3.1.2", "4.0.4", "4.4.6", "4.7.13")

CHANGELOG = """\
# Changelog

## Next release
- [TODO DEPLOY] `rails not:released`

## v1.10.0 2026 July 1
- A feature
- [TODO DEPLOY] `rails shop:index`
- [TODO DEPLOY] -> (only dev) `bundle install` then (all) `rake shop:seed`

## v1.9.0 2026 June 1
- [TODO DEPLOY] upgrade to v1.8.0 BEFORE upgrading to v1.9.0 !!!
- [TODO DEPLOY] `rails shop:index` THEN `rails shop:images[2026,1]`
- [TODO DEPLOY] add `MAX_SIZE=10` and `LOCALE` environment variables (see the manual)
- [TODO DEPLOY] `shop:clean`
- [TODO DEPLOY] `rails db:migrate`

## v1.8.0 2026 May 1
- [TODO DEPLOY] before running the database migration (db:migrate), run: `rails shop:chain`
- [TODO DEPLOY] `rails shop:fix` only if you had orders before 2020
- [TODO DEPLOY] `\\curl -sSL https://example.org/scripts/mount-files.sh | bash`
- [TODO DEPLOY] -> (only dev) yarn install
"""


def commands(leg: Leg) -> tuple[list[str], list[str]]:
    return [task.command for task in leg.before], [task.command for task in leg.after]


def test_the_kinds_of_items_are_told_apart() -> None:
    kinds = {(written(item.version), item.line): item.kind for item in items(CHANGELOG)}
    assert list(kinds.values()) == [
        Kind.POST, Kind.POST, Kind.GATE, Kind.POST, Kind.ENVIRONMENT, Kind.POST, Kind.POST,
        Kind.PRE, Kind.UNKNOWN, Kind.SCRIPT, Kind.DEV,
    ]  # fmt: skip


def test_versions_are_numbers_and_what_is_not_released_is_none() -> None:
    assert version_of("1.10.0") > version_of("v1.9.0-lab")
    assert versions(CHANGELOG) == [(1, 10, 0), (1, 9, 0), (1, 8, 0)]
    with pytest.raises(ValueError, match="'latest' is no version"):
        version_of("latest")


def test_a_version_that_must_not_be_skipped_is_a_leg_of_its_own() -> None:
    way = path(items(CHANGELOG), version_of("1.7.0"), version_of("1.10.0"))
    assert way.stops == ((1, 8, 0),)
    assert commands(way.legs[0]) == (["rails shop:chain"], [])
    assert path(items(CHANGELOG), version_of("1.8.0"), version_of("1.10.0")).stops == ()


def test_a_task_runs_once_a_leg_at_its_last_place_and_what_every_release_runs_is_not_listed() -> None:
    (leg,) = path(items(CHANGELOG), version_of("1.8.0"), version_of("1.10.0")).legs
    assert commands(leg)[1] == ["rails shop:images[2026,1]", "rails shop:clean", "rails shop:index", "rails shop:seed"]
    assert [name for name, _ in leg.variables] == ["MAX_SIZE", "LOCALE"]


def test_what_a_person_must_read_is_acknowledged_by_version_and_line() -> None:
    way = path(items(CHANGELOG), version_of("1.7.0"), version_of("1.8.0"))
    unread = [item.place for item in way.unread([])]
    assert len(unread) == 2
    assert all(place.startswith("1.8.0:") for place in unread)
    assert way.unread(unread) == []


@pytest.mark.parametrize("end", ["1.8.0", "1.7.0"])
def test_the_same_version_or_an_older_one_is_no_upgrade(end: str) -> None:
    with pytest.raises(ValueError, match="is not newer than"):
        path(items(CHANGELOG), version_of("1.8.0"), version_of(end))


def test_the_command_prints_the_way_without_a_stack_and_names_what_is_wrong(tmp_path: Path) -> None:
    file = tmp_path / "CHANGELOG.md"
    file.write_text(CHANGELOG)
    asked = ["plan", "--from", "1.7.0", "--to", "1.9.0", "--changelog", str(file)]
    said = CliRunner().invoke(upgrade, asked)
    assert said.exit_code == 0, said.output
    assert "Not to be skipped: 1.8.0." in said.output
    assert "set      MAX_SIZE   (1.9.0:14)" in said.output
    legs = json.loads(CliRunner().invoke(upgrade, [*asked, "--json"]).output)
    assert [leg["to"] for leg in legs] == ["1.8.0", "1.9.0"]
    missing = CliRunner().invoke(upgrade, [*asked[:-1], str(tmp_path / "none")])
    assert missing.exit_code == 1
    assert "cannot be read" in missing.output


# ------------------------------------------------------------------------------------------ Fab-manager's own changelog


@pytest.fixture(scope="module")
def changelog() -> str:
    if not SHARED.is_dir():
        pytest.skip("Fab-manager's CHANGELOG.md is not beside this checkout")
    return (SHARED / "CHANGELOG.md").read_text()


def test_every_item_of_fab_managers_changelog_is_of_a_kind(changelog: str) -> None:
    counts = Counter(str(item.kind) for item in items(changelog))
    assert counts == {"post": 131, "env": 25, "unknown": 22, "dev": 20, "script": 11, "pre": 3, "gate": 1}
    assert len({item.version for item in items(changelog)}) == 104
    assert len(versions(changelog)) == 311


UPGRADES = ("5.9.1->6.5.10", "6.3.42->6.5.10", "6.2.0->6.3.0")


@pytest.mark.parametrize("upgrade", UPGRADES)
def test_upgrades_of_fab_manager_are_as_worked_out_by_hand(upgrade: str, changelog: str) -> None:
    expected: Any = json.loads((SHARED / "expected.json").read_text())["upgrades"][upgrade]
    start, _, end = upgrade.partition("->")
    way = path(items(changelog), version_of(start), version_of(end), FAB_MANAGER)
    assert [written(stop) for stop in way.stops] == expected["gates"]
    for leg, wanted in zip(way.legs, expected["legs"], strict=True):
        assert (written(leg.start), written(leg.end)) == (wanted["from"], wanted["to"])
        assert len(leg.items) == wanted["todo_lines"]
        told = [{"command": it.command, "version": written(it.item.version), "line": it.item.line} for it in leg.after]
        assert told == wanted["post"]
        assert [task.command for task in leg.before] == [task["command"] for task in wanted["pre"]]
        counts = Counter(str(item.kind) for item in leg.items)
        assert {kind: counts[kind] for kind in wanted["by_kind"]} == wanted["by_kind"]
        assert [name for name, _ in leg.variables] == [it["name"] for it in wanted["env"]]
    assert [item.place for item in way.unread([])] == expected["needs_ack"]
