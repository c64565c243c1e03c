"""The hash of what is compiled into the assets."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from server.asset_inputs import content_hash
from server.errors import Refusal

pytestmark = pytest.mark.unit


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A project with plugins."""
    plugin = tmp_path / "project/plugins/badge"
    plugin.mkdir(parents=True)
    (plugin / "badge.js").write_text("1")
    (plugin / "latest.js").symlink_to("badge.js")
    (plugin / ".git").mkdir()
    return tmp_path / "project"


def hashed(directory: Path) -> str:
    return content_hash(directory, ["plugins"])


def lead_elsewhere(link: Path) -> None:
    link.unlink()
    link.symlink_to("other.js")


def change(what: str) -> Callable[[Path], object]:
    changes: dict[str, Callable[[Path], object]] = {
        "content": lambda plugin: (plugin / "badge.js").write_text("2"),
        "name": lambda plugin: (plugin / "badge.js").rename(plugin / "other.js"),
        "mode": lambda plugin: (plugin / "badge.js").chmod(0o755),
        "a new file": lambda plugin: (plugin / "new.js").touch(),
        "a new directory": lambda plugin: (plugin / "new").mkdir(),
        "a link": lambda plugin: lead_elsewhere(plugin / "latest.js"),
    }
    return changes[what]


@pytest.mark.parametrize("what", ["content", "name", "mode", "a new file", "a new directory", "a link"])
def test_the_hash_changes_with_all_that_is_compiled(directory: Path, what: str) -> None:
    before = hashed(directory)
    change(what)(directory / "plugins/badge")
    assert hashed(directory) != before


def test_the_hash_stays_with_dates_other_places_and_what_git_keeps_beside(directory: Path, tmp_path: Path) -> None:
    before = hashed(directory)
    os.utime(directory / "plugins/badge/badge.js", (0, 0))
    (directory / "plugins/badge/.git/FETCH_HEAD").touch()
    assert hashed(directory) == before
    shutil.move(directory / "plugins", tmp_path / "elsewhere")
    (directory / "plugins").symlink_to(tmp_path / "elsewhere")
    assert hashed(directory) == before


def test_a_single_file_is_an_input_too(directory: Path) -> None:
    (directory / "theme.css").write_text("a")
    before = content_hash(directory, ["theme.css"])
    (directory / "theme.css").write_text("b")
    assert content_hash(directory, ["theme.css"]) != before


def test_what_is_not_there_or_cannot_be_read_is_refused_by_name(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(Refusal, match="There is no .*/project/themes, which app.assetInputs says"):
        content_hash(directory, ["themes"])

    def refuse(path: Path) -> list[Path]:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(Refusal, match=r"/project/plugins, which .* cannot be read: Permission denied"):
        hashed(directory)
