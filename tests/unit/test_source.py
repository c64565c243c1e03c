import os
import shutil
import subprocess
from pathlib import Path

import pytest

from configuration.tree import SourceSettings
from errors import ReleaseError
from release import source
from release.source import Source

pytestmark = pytest.mark.unit


class Checkout:
    """A git checkout of a small application."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir()
        self.git("init", "--quiet", "--initial-branch=main")
        self.write("Dockerfile", "FROM scratch\n")
        self.write("app/main.rb", "puts 1\n")
        self.commit()

    def git(self, *arguments: str) -> None:
        identity = ["-c", "user.name=test", "-c", "user.email=test@example.org", "-c", "protocol.file.allow=always"]
        subprocess.run(["git", "-C", self.path, *identity, *arguments], check=True, capture_output=True)

    def write(self, name: str, text: str) -> None:
        file = self.path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def commit(self) -> None:
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", "change")

    def read(self, platform: str = "linux/amd64", tag: str = "1.0.0", **settings: object) -> Source:
        return source.read(
            SourceSettings.model_validate({"path": self.path.name, **settings}), platform, tag, self.path.parent
        )


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path / "app")


def test_the_fingerprint_is_the_same_in_every_clone_and_under_every_umask(checkout: Checkout, tmp_path: Path) -> None:
    checkout.git("clone", "--quiet", str(checkout.path), str(tmp_path / "clone"))
    clone = source.read(SourceSettings(path="clone"), "linux/amd64", "1.0.0", tmp_path)
    assert clone.fingerprint == checkout.read().fingerprint

    modes = []
    for umask, name in ((0o022, "open"), (0o077, "closed")):
        before = os.umask(umask)
        try:
            clone.export(tmp_path / name)
        finally:
            os.umask(before)
        modes.append({path.name: path.stat().st_mode for path in (tmp_path / name).rglob("*")})
    assert modes[0] == modes[1]


@pytest.mark.parametrize(
    "change",
    [{"args": {"A": "1"}}, {"target": "app"}, {"platform": "linux/arm64"}, {"context": "app", "dockerfile": "main.rb"}],
)
def test_the_fingerprint_changes_with_everything_the_image_is_made_from(
    checkout: Checkout, change: dict[str, object]
) -> None:
    assert checkout.read(**change).fingerprint != checkout.read().fingerprint  # type: ignore[arg-type]


def test_the_context_holds_what_is_committed_and_nothing_that_lies_around(checkout: Checkout, tmp_path: Path) -> None:
    checkout.write(".env", "SECRET=1")
    checkout.write("app/main.rb", "puts 2\n")
    read = checkout.read()
    read.export(tmp_path / "context")
    files = {
        str(path.relative_to(tmp_path / "context")) for path in (tmp_path / "context").rglob("*") if path.is_file()
    }
    assert files == {"Dockerfile", "app/main.rb"}
    assert (tmp_path / "context/app/main.rb").read_text() == "puts 1\n"
    assert any("not committed" in warning and ".env, app/main.rb" in _sorted(warning) for warning in read.warnings)


def _sorted(warning: str) -> str:
    head, _, names = warning.rpartition(": ")
    return f"{head}: {', '.join(sorted(names.split(', ')))}"


def test_a_context_that_holds_another_commit_is_replaced_as_a_whole(checkout: Checkout, tmp_path: Path) -> None:
    context = tmp_path / "context"
    checkout.read().export(context)
    (checkout.path / "app/main.rb").unlink()
    checkout.write("lib/new.rb", "")
    checkout.commit()
    checkout.read().export(context)
    assert not (context / "app").exists()
    assert (context / "lib/new.rb").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["app", "context", "context.fingerprint"]


def test_files_of_one_length_never_have_one_date_because_buildkit_would_take_the_one_for_the_other(
    checkout: Checkout, tmp_path: Path
) -> None:
    dates: list[int] = []
    for version in ("1.0.0", "1.1.0", "1.0.0"):
        checkout.write("VERSION", f"{version}\n")
        checkout.git("add", "--all")
        checkout.git("commit", "--quiet", "--allow-empty", "--amend", "--no-edit")
        checkout.read().export(tmp_path / f"context-{len(dates)}")
        dates.append((tmp_path / f"context-{len(dates)}/VERSION").stat().st_mtime_ns)
    assert dates[0] != dates[1]
    # The nanoseconds are the content's, the seconds the commit's.
    assert dates[0] % 10**9 == dates[2] % 10**9
    assert dates[2] // 10**9 == checkout.read().committed


def test_an_export_that_was_interrupted_is_made_again(checkout: Checkout, tmp_path: Path) -> None:
    context = tmp_path / "context"
    checkout.read().export(context)
    (tmp_path / "context.fingerprint").unlink()
    (context / "Dockerfile").unlink()
    checkout.read().export(context)
    assert (context / "Dockerfile").exists()


def test_a_source_in_a_directory_of_a_checkout_is_read_from_there(checkout: Checkout) -> None:
    checkout.write("web/Dockerfile", "FROM scratch\n")
    checkout.commit()
    read = source.read(SourceSettings(path="app/web"), "linux/amd64", "1.0.0", checkout.path.parent)
    assert read.tree == checkout.read(context="web").tree


def test_paths_that_git_archive_drops_are_named(checkout: Checkout) -> None:
    checkout.write(".gitattributes", "docs export-ignore\nsecret.rb export-ignore\n")
    checkout.write("secret.rb", "")
    checkout.commit()
    assert any("export-ignore" in warning and "secret.rb" in warning for warning in checkout.read().warnings)


def test_submodules_are_refused_by_name(checkout: Checkout, tmp_path: Path) -> None:
    Checkout(tmp_path / "library")
    checkout.git("submodule", "--quiet", "add", str(tmp_path / "library"), "vendor/library")
    checkout.commit()
    with pytest.raises(ReleaseError, match="submodules \\(vendor/library\\)"):
        checkout.read()


def test_files_in_git_lfs_are_refused_by_name(checkout: Checkout) -> None:
    checkout.write("logo.png", "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n")
    checkout.commit()
    with pytest.raises(ReleaseError, match="Git LFS \\(logo.png\\)"):
        checkout.read()


def test_a_source_that_is_not_there_or_not_in_git_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ReleaseError, match="is no directory"):
        source.read(SourceSettings(path="missing"), "linux/amd64", "1.0.0", tmp_path)
    (tmp_path / "plain").mkdir()
    with pytest.raises(ReleaseError, match="is not a git checkout"):
        source.read(SourceSettings(path="plain"), "linux/amd64", "1.0.0", tmp_path)


def test_a_checkout_without_a_commit_is_refused(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "--quiet", tmp_path / "empty"], check=True)
    with pytest.raises(ReleaseError, match="has no commit yet"):
        source.read(SourceSettings(path="empty"), "linux/amd64", "1.0.0", tmp_path)


def test_a_dockerfile_that_is_not_committed_is_refused_with_its_key(checkout: Checkout) -> None:
    checkout.write("Dockerfile.prod", "FROM scratch\n")
    with pytest.raises(ReleaseError, match=r"image.source.dockerfile: Dockerfile.prod is not in the last commit"):
        checkout.read(dockerfile="Dockerfile.prod")
    with pytest.raises(ReleaseError, match=r"image.source.context: web is no directory in the last commit"):
        checkout.read(context="web")


def test_the_usual_labels_say_where_the_image_comes_from_the_same_in_every_clone(checkout: Checkout) -> None:
    checkout.git("remote", "add", "origin", "https://me:token@git.example.org/fab/manager.git")
    when = {"GIT_COMMITTER_DATE": "2024-05-21T23:30:00-0200"}
    subprocess.run(
        ["git", "-C", checkout.path, "-c", "user.name=test", "-c", "user.email=t@example.org", "commit", "--quiet",
         "--allow-empty", "--message", "x"], check=True, env={**os.environ, **when},
    )  # fmt: skip
    head = subprocess.run(["git", "-C", checkout.path, "rev-parse", "HEAD"], check=True, capture_output=True, text=True)
    assert checkout.read(tag="6.5.10-lab").labels == {
        "org.opencontainers.image.source": "https://git.example.org/fab/manager",
        "org.opencontainers.image.revision": head.stdout.strip(),
        "org.opencontainers.image.version": "6.5.10-lab",
        "org.opencontainers.image.created": "2024-05-22T01:30:00Z",
    }


def test_the_operators_labels_win(checkout: Checkout) -> None:
    own = {"org.opencontainers.image.version": "six", "org.example.team": 'it\'s $HOME \\ "fab"'}
    labels = checkout.read(labels=own).labels
    assert {name: labels[name] for name in own} == own


@pytest.mark.parametrize(
    ("remote", "address"),
    [
        ("https://github.com/sleede/fab-manager.git", "https://github.com/sleede/fab-manager"),
        ("https://me:secret@github.com/sleede/fab-manager", "https://github.com/sleede/fab-manager"),
        ("http://git.lab:3000/a/b.git/", "http://git.lab:3000/a/b"),
        ("git@github.com:sleede/fab-manager.git", "https://github.com/sleede/fab-manager"),
        ("github.com:sleede/fab-manager", "https://github.com/sleede/fab-manager"),
        ("ssh://git@git.lab:2222/a/b.git", "https://git.lab/a/b"),
        ("/srv/git/a.git", None),
        ("../fab-manager", None),
        ("file:///srv/git/a.git", None),
        ("", None),
    ],
)
def test_a_clones_remote_becomes_the_address_people_open_without_an_account(remote: str, address: str | None) -> None:
    assert source.public_address(remote) == address


@pytest.mark.parametrize(
    "change",
    [
        {"tag": "1.0.1"},
        {"platform": "linux/arm64"},
        {"target": "app"},
        {"args": {"A": "1"}},
        {"cacheFrom": ["ghcr.io/fab/manager:1"]},
        {"labels": {"a": "b"}},
    ],
)
def test_whatever_goes_into_the_build_is_part_of_the_fingerprint(checkout: Checkout, change: dict[str, str]) -> None:
    assert checkout.read(**change).fingerprint != checkout.read().fingerprint


def test_the_exported_dockerfile_sets_the_labels_after_all_else_and_the_checkout_stays_as_it_is(
    checkout: Checkout, tmp_path: Path
) -> None:
    checkout.read(labels={"org.example.note": "it's $HOME"}).export(tmp_path / "context")
    lines = (tmp_path / "context/Dockerfile").read_text().splitlines()
    assert lines[0] == "FROM scratch"
    assert lines[-1] == """LABEL org.example.note='it'"'"'s $HOME'"""
    assert (checkout.path / "Dockerfile").read_text() == "FROM scratch\n"


def test_labels_of_a_target_go_to_a_stage_made_from_it(checkout: Checkout, tmp_path: Path) -> None:
    read = checkout.read(target="app")
    read.export(tmp_path / "context")
    assert f"FROM app AS {read.labelled_target}\nLABEL " in (tmp_path / "context/Dockerfile").read_text()


def test_another_release_of_the_same_tree_is_exported_with_its_own_labels(checkout: Checkout, tmp_path: Path) -> None:
    for tag in ("1.0.0", "1.0.1"):
        checkout.read(tag=tag).export(tmp_path / "context")
        assert f"version={tag}" in (tmp_path / "context/Dockerfile").read_text()


def test_a_dockerfile_that_is_a_symbolic_link_is_refused_and_nothing_is_written_through_it(checkout: Checkout) -> None:
    (checkout.path / "Dockerfile").unlink()
    (checkout.path / "Dockerfile").symlink_to("../elsewhere")
    checkout.commit()
    with pytest.raises(ReleaseError, match="image.source.dockerfile: Dockerfile is a symbolic link"):
        checkout.read()


def test_a_dockerfile_that_git_archive_drops_is_refused(checkout: Checkout, tmp_path: Path) -> None:
    checkout.write(".gitattributes", "Dockerfile export-ignore\n")
    checkout.commit()
    with pytest.raises(ReleaseError, match="Dockerfile is marked export-ignore"):
        checkout.read().export(tmp_path / "context")
    assert not (tmp_path / "context").exists()


LATIN_1 = os.fsdecode(b"caf\xe9.rb")


def test_names_that_are_no_utf_8_are_shown_and_exported(checkout: Checkout, tmp_path: Path) -> None:
    checkout.write(f"app/{LATIN_1}", "puts 1\n")
    (warning,) = checkout.read().warnings
    assert warning.endswith(r"not in the image: app/caf\xe9.rb")
    checkout.write(".gitattributes", "*.rb export-ignore\n")
    checkout.commit()
    assert any(r"app/caf\xe9.rb" in warning for warning in checkout.read().warnings)
    (checkout.path / ".gitattributes").unlink()
    checkout.commit()
    checkout.read().export(tmp_path / "context")
    assert (tmp_path / "context/app" / LATIN_1).read_text() == "puts 1\n"


def test_how_git_is_set_up_on_a_machine_is_no_part_of_the_context(
    checkout: Checkout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """core.autocrlf and the like: the fingerprint says nothing of them."""
    checkout.write("dos.bat", "exit\r\n")
    checkout.write(".gitattributes", "*.bat -text\n*.txt text eol=crlf\n")
    checkout.write("note.txt", "x\n")
    checkout.commit()
    (tmp_path / "attributes").write_text("*.rb eol=crlf\n* export-ignore\n")
    own = {"core.autocrlf": "true", "core.eol": "crlf", "core.attributesFile": str(tmp_path / "attributes")}
    for number, (key, value) in enumerate(own.items()):
        monkeypatch.setenv(f"GIT_CONFIG_KEY_{number}", key)
        monkeypatch.setenv(f"GIT_CONFIG_VALUE_{number}", value)
    monkeypatch.setenv("GIT_CONFIG_COUNT", str(len(own)))
    read = checkout.read()
    assert not any("export-ignore" in warning for warning in read.warnings)
    read.export(tmp_path / "context")
    files = {name: (tmp_path / "context" / name).read_bytes() for name in ("app/main.rb", "dos.bat", "note.txt")}
    # What the repository itself says of line ends holds.
    assert files == {"app/main.rb": b"puts 1\n", "dos.bat": b"exit\r\n", "note.txt": b"x\r\n"}


def test_a_hook_of_git_that_releases_reads_the_checkout_and_not_its_own_repository(
    checkout: Checkout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = checkout.read().tree
    monkeypatch.setenv("GIT_DIR", ".")
    monkeypatch.setenv("GIT_INDEX_FILE", str(tmp_path / "index"))
    read = checkout.read()
    read.export(tmp_path / "context")
    assert (read.tree, read.warnings) == (tree, ())


def test_files_that_a_filter_of_this_machine_changes_are_named(checkout: Checkout) -> None:
    checkout.write(".gitattributes", "*.rb filter=vault\n*.md filter=unknown\n")
    checkout.commit()
    assert checkout.read().warnings == ()
    checkout.git("config", "filter.vault.smudge", "cat")
    (warning,) = checkout.read().warnings
    assert "git filter 'vault' changes files" in warning
    assert warning.endswith("elsewhere the same release may have others: app/main.rb")


def test_a_checkout_of_another_user_is_refused_in_every_language_with_the_command_that_trusts_it(
    checkout: Checkout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    french = tmp_path / "bin/git"
    french.parent.mkdir()
    french.write_text(
        '#!/bin/sh\n[ "$LC_ALL" = C ] || { echo "fatal: propriété douteuse" >&2; exit 128; }\n'
        f'exec {shutil.which("git")} "$@"\n'
    )
    french.chmod(0o755)
    monkeypatch.setenv("PATH", f"{french.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("LC_ALL", "fr_FR.UTF-8")
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    with pytest.raises(ReleaseError, match="belongs to another user") as refused:
        checkout.read()
    assert str(refused.value).endswith(f"git config --global --add safe.directory {checkout.path}")
