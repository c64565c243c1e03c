"""Everything below tests/shell is marked `shell` and gets a server to run the script on."""

from pathlib import Path

import pytest

from tests.shell.server import Server

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.shell)


@pytest.fixture
def server(tmp_path: Path) -> Server:
    """A server whose project is in order."""
    return Server(tmp_path)
