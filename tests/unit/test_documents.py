"""What people read: that it stays short, and that its links lead somewhere."""

import re
from pathlib import Path

import pytest

from configuration.rules import DEFAULT_LEVELS

pytestmark = pytest.mark.unit

PROJECT = Path(__file__).resolve().parents[2]
DOCUMENTS = [PROJECT / "README.md", *sorted((PROJECT / "docs").rglob("*.md"))]


def anchors(document: Path) -> set[str]:
    """Of its headings, as GitHub names them."""
    headings = re.findall(r"(?m)^#+ (.+)$", document.read_text())
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_rule_for_images_is_described_with_its_default_level() -> None:
    rows = re.findall(r"(?m)^\| (`[^|]+) \| (error|warn|off) \|", (PROJECT / "docs" / "image.md").read_text())
    described = {rule: level for rules, level in rows for rule in re.findall(r"`([^`]+)`", rules)}
    assert described == {str(rule): str(level) for rule, level in DEFAULT_LEVELS.items()}


def test_the_readme_is_short() -> None:
    assert len((PROJECT / "README.md").read_text().splitlines()) < 180


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(PROJECT)))
def test_every_link_to_a_file_or_a_heading_leads_there(document: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", document.read_text()):
        if "://" in target:
            continue
        name, _, anchor = target.partition("#")
        linked = document.parent / name if name else document
        assert linked.exists(), target
        assert not anchor or anchor in anchors(linked), target


@pytest.mark.parametrize(
    "document", [PROJECT / "README.md", *(PROJECT / "docs").glob("*.md")], ids=lambda path: path.name
)
def test_every_command_of_make_that_is_named_is_there(document: Path) -> None:
    targets = re.findall(r"(?m)^([a-z-]+):", (PROJECT / "Makefile").read_text())
    named = re.findall(r"(?:`|^ {4})make ([a-z-]+)", document.read_text(), re.MULTILINE)
    assert set(named) <= set(targets)
