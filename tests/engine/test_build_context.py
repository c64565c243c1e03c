"""The digest of a build context, compared with what the vendor's algorithm gave for the same files."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.offline_plugins.build_context import digest
from tools.offline_plugins.ignore_file import IgnoreFile
from tools.offline_plugins.provider import StepError

pytestmark = pytest.mark.engine


def write(path: Path, text: str, mode: int = 0o644) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)


@pytest.fixture
def context(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A context with what makes a difference: modes, links, directories beside files that sort before them."""
    monkeypatch.chdir(tmp_path)
    context = Path("context")
    files = {"Dockerfile": 0o644, "a.b": 0o755, "a/z": 0o600, "a/b/c.log": 0o644, "log/kept.log": 0o4755, "é": 0o644}
    for name, mode in files.items():
        write(context / name, f"{name}\n", mode)
    (context / "a/link").symlink_to("../a.b")
    (context / "system").symlink_to("/")
    return context


def test_the_digest_is_the_vendors(context: Path) -> None:
    assert digest("context", "context/Dockerfile") == "2fbd4d40bae693b1e0fbc4434796e8ffa764187010f03b2c1b89a9b55787e2e2"
    write(context / ".dockerignore", "# logs\n**/*.log\n\n!log/kept.log\n/a/b\n")
    assert digest("context", "context/Dockerfile") == "4afd599b712a5aafa789f9f197f3ded148e9cd6d5f7965f00fcc87ee8658e0fa"


def test_a_dockerfile_with_a_name_of_its_own_has_an_ignore_file_of_its_own(context: Path) -> None:
    (context / "Dockerfile").rename("other.Dockerfile")
    write(context / ".dockerignore", "**\n")
    write(context / "other.Dockerfile.dockerignore", "a\n")
    assert digest("context", "other.Dockerfile") == "b5faebd2d6a823d7e4e2fb5b8a049269fcaf7cf4adb052b2019c2980447d0dfc"


def test_a_link_that_leads_nowhere_is_an_error_that_names_it(context: Path) -> None:
    (context / "broken").symlink_to("nothing")
    with pytest.raises(StepError, match="context/nothing: No such file"):
        digest("context", "context/Dockerfile")


@pytest.mark.parametrize(
    ("patterns", "path", "ignored"),
    [
        ("*.log", "a.log", True),
        ("*.log", "a/b.log", False),
        ("**/*.log", "a/b.log", True),
        ("**/*.log", "b.log", True),
        ("/a/", "a/b/c", True),
        ("a/**", "a", False),
        ("a/**", "a/b/c", True),
        ("a?c", "abc", True),
        ("a?c", "a/c", False),
        ("[ab].txt", "a.txt", True),
        ("a.c", "abc", False),
        ("a+(b)", "a+(b)", True),
        ("\\*", "*", True),
        ("\\*", "a", False),
        ("#a\na", "#a", False),
        ("*\n!a", "a", False),
        ("a\n!a/b", "a/b", False),
        ("!a\na", "a", True),
    ],
)
def test_patterns_match_as_dockers(patterns: str, path: str, *, ignored: bool) -> None:
    file = IgnoreFile.parse(patterns)
    above: tuple[bool, ...] = ()
    names = path.split("/")
    for depth in range(1, len(names) + 1):
        decision, above = file.judge("/".join(names[:depth]), above)
    assert decision is ignored
