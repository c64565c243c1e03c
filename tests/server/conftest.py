"""Everything below tests/server is marked `server` and gets a server to run the program on."""

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.server.server import MakeServer, Server, making_servers

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.server)


@pytest.fixture
def new_server(tmp_path: Path) -> Iterator[MakeServer]:
    """Makes servers whose projects are in order."""
    numbers = itertools.count()

    def make_home() -> Path:
        home = tmp_path / str(next(numbers))
        home.mkdir()
        return home

    with making_servers(make_home) as make:
        yield make


@pytest.fixture
def server(new_server: MakeServer) -> Server:
    """A server whose project is in order."""
    return new_server()


@pytest.fixture(scope="module")
def table_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MakeServer]:
    """Makes servers for tables that are run once for all tests of a module."""
    with making_servers(lambda: tmp_path_factory.mktemp("server")) as make:
        yield make
