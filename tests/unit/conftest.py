from collections.abc import Iterator

import pytest

from tests.unit.registry_server import RegistryServer, serving


@pytest.fixture
def registry_server() -> Iterator[RegistryServer]:
    with serving() as registry:
        yield registry
