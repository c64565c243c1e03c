"""The programs that publish and remove assets inside a container, run on directories of this machine."""

from __future__ import annotations

import subprocess
from pathlib import Path

from server.in_container import in_container

PUBLISH, PURGE, COPY, COMPILED = (in_container(name) for name in ("publish", "purge", "copy", "compiled"))


def run(program: str, *arguments: str | Path) -> None:
    """Runs one of the programs as a container would."""
    subprocess.run(["sh", "-c", program, "sh", *arguments], check=True)


def write(directory: Path, **files: str) -> Path:
    for name, text in files.items():
        file = directory / name.replace("__", "/").replace("_", ".")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return directory


def tree(directory: Path) -> dict[str, str]:
    return {str(p.relative_to(directory)): p.read_text() for p in sorted(directory.rglob("*")) if not p.is_dir()}


def test_new_files_go_beside_the_old_ones_and_a_manifest_of_a_fixed_name_is_replaced(tmp_path: Path) -> None:
    target = write(tmp_path / "target", a1_js="old", manifest_json="a1")
    write(tmp_path / "release/0", a2_js="new", js__b2_js="deep", manifest_json="a2")
    run(PUBLISH, tmp_path / "release", target)
    assert tree(target) == {"a1.js": "old", "a2.js": "new", "js/b2.js": "deep", "manifest.json": "a2"}


def test_a_manifest_of_a_random_name_is_replaced_and_not_doubled(tmp_path: Path) -> None:
    target, release = tmp_path / "target", tmp_path / "release/0"
    for directory, name in ((target, "aaaa"), (release, "bbbb")):
        directory.mkdir(parents=True)
        (directory / f".sprockets-manifest-{name}.json").write_text(name)
    run(PUBLISH, tmp_path / "release", target)
    assert tree(target) == {".sprockets-manifest-bbbb.json": "bbbb"}
    # And back, when the release is put back.
    (release / ".sprockets-manifest-bbbb.json").rename(release / ".sprockets-manifest-aaaa.json")
    run(PUBLISH, tmp_path / "release", target)
    assert list(tree(target)) == [".sprockets-manifest-aaaa.json"]


def test_a_file_that_is_there_already_is_not_written_again(tmp_path: Path) -> None:
    target = write(tmp_path / "target", same_js="x", other_js="y")
    write(tmp_path / "release/0", same_js="x", other_js="z")
    inode = (target / "same.js").stat().st_ino
    run(PUBLISH, tmp_path / "release", target)
    assert (target / "same.js").stat().st_ino == inode
    assert (target / "other.js").read_text() == "z"


def test_names_with_spaces_and_several_directories_are_published(tmp_path: Path) -> None:
    for number, name in enumerate(("two words.js", "-x.js")):
        (tmp_path / f"release/{number}").mkdir(parents=True)
        (tmp_path / f"release/{number}" / name).write_text(name)
    run(PUBLISH, tmp_path / "release", tmp_path / "a b", tmp_path / "c")
    assert tree(tmp_path / "a b") == {"two words.js": "two words.js"}
    assert tree(tmp_path / "c") == {"-x.js": "-x.js"}


def test_a_directory_for_which_a_release_has_nothing_is_left_alone(tmp_path: Path) -> None:
    target = write(tmp_path / "target", a_js="x")
    (tmp_path / "release").mkdir()
    run(PUBLISH, tmp_path / "release", target, tmp_path / "none")
    assert tree(target) == {"a.js": "x"}
    assert not (tmp_path / "none").exists()


def test_only_what_another_release_has_replaced_is_put_back(tmp_path: Path) -> None:
    """What was found at the beginning is all that was there: uploads that were changed or deleted since stay so."""
    target = write(tmp_path / "target", app_js="new", more_js="new", manifest_json="new", uploads__a_jpg="other")
    (target / ".sprockets-manifest-bbbb.json").write_text("new")
    old = write(tmp_path / "r/0", app_js="old", manifest_json="old", uploads__a_jpg="first", uploads__b_jpg="deleted")
    (old / ".sprockets-manifest-aaaa.json").write_text("old")
    write(old, more_js="old")
    write(tmp_path / "r/over/0/0", app_js="new", manifest_json="new")
    write(tmp_path / "r/over/1/0", more_js="of a run that was killed")
    run(PUBLISH, tmp_path / "r", target)
    assert tree(target) == {
        ".sprockets-manifest-aaaa.json": "old", "app.js": "old", "manifest.json": "old", "more.js": "old",
        "uploads/a.jpg": "other",
    }  # fmt: skip


def test_what_was_left_half_written_is_overwritten(tmp_path: Path) -> None:
    target = write(tmp_path / "target", a_js="hal")
    (target / "a.js.releve-new").write_text("ha")
    write(tmp_path / "release/0", a_js="whole")
    run(PUBLISH, tmp_path / "release", target)
    assert tree(target) == {"a.js": "whole"}


def test_what_a_retired_release_has_published_goes_unless_a_kept_one_has_it_too(tmp_path: Path) -> None:
    target = write(tmp_path / "target", a1_js="", a2_js="", a3_js="", deep__a1_js="", deep__a2_js="")
    write(tmp_path / "r/kept/0/0", a3_js="")
    write(tmp_path / "r/kept/1/0", a2_js="", deep__a2_js="")
    write(tmp_path / "r/retired/0/0", a1_js="", a2_js="", deep__a1_js="")
    write(tmp_path / "r/retired/1/0", deep__a2_js="", a0_js="")
    run(PURGE, tmp_path / "r", target)
    assert list(tree(target)) == ["a2.js", "a3.js", "deep/a2.js"]


def test_what_no_release_has_published_stays_whatever_it_is(tmp_path: Path) -> None:
    """Uploads, for one: also under the name of a retired release's file, or as a link where that had a file."""
    target = write(tmp_path / "target", uploads__photo_jpg="photo", logo_png="the lab's own", a1_js="x")
    (target / "link.js").symlink_to("uploads/photo.jpg")
    write(tmp_path / "r/retired/0/0", logo_png="the application's", a1_js="x", link_js="photo")
    (tmp_path / "r/kept").mkdir()
    run(PURGE, tmp_path / "r", target)
    assert list(tree(target)) == ["link.js", "logo.png", "uploads/photo.jpg"]


def test_links_and_half_written_files_of_a_retired_release_go_too(tmp_path: Path) -> None:
    target = write(tmp_path / "target", b_js="x")
    (target / "b.js.releve-new").write_text("hal")
    for directory in (target, write(tmp_path / "r/retired/0/0", b_js="x")):
        (directory / "now.js").symlink_to("b.js")
    run(PURGE, tmp_path / "r", target, tmp_path / "none")
    assert list(target.iterdir()) == []


def test_what_a_running_container_has_is_copied_and_a_directory_that_it_lacks_is_empty(tmp_path: Path) -> None:
    write(tmp_path / "a b", a1_js="x", deep__b_js="y")
    run(COPY, tmp_path / "found", tmp_path / "a b", tmp_path / "none")
    assert tree(tmp_path / "found") == {"0/a1.js": "x", "0/deep/b.js": "y"}
    assert (tmp_path / "found/1").is_dir()


def test_what_was_compiled_in_the_directory_itself_is_known_by_when_that_was(tmp_path: Path) -> None:
    target = write(tmp_path / "a b", a1_js="", deep__a2_js="", uploads__two_words_jpg="photo")
    (target / "now.js").symlink_to("a1.js")
    now = int((target / "now.js").lstat().st_ctime)
    for periods, left in (("", 4), (f"1-2 {now + 100}-{now + 200}", 4), (f"1-2 {now - 100}-{now + 100}", 0)):
        run(f"periods='{periods}'\n{COMPILED}", target, tmp_path / "none")
        assert len(tree_of_links(target)) == left


def tree_of_links(directory: Path) -> list[Path]:
    return [path for path in directory.rglob("*") if path.is_symlink() or not path.is_dir()]
