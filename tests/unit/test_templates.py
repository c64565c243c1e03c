"""The templates are held to the rules that every image is."""

import shutil
import subprocess
from pathlib import Path

import pytest

from configuration.tree import SourceSettings
from release import dockerfile, source

pytestmark = pytest.mark.unit

TEMPLATES = Path(__file__).parents[2] / "templates/rails"


def test_an_application_from_the_templates_passes_every_check_of_its_source(tmp_path: Path) -> None:
    shutil.copytree(TEMPLATES, tmp_path / "app")
    for arguments in (
        ["init", "--quiet"],
        ["add", "--all"],
        ["-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "--quiet", "--message", "new"],
    ):
        subprocess.run(["git", "-C", tmp_path / "app", *arguments], check=True)
    settings = SourceSettings(path="app")
    read = source.read(settings, "linux/amd64", "1.0.0", tmp_path)
    assert dockerfile.check_source(read) == []
