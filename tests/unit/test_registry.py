import json
import socket
from pathlib import Path

import pytest

from release.reference import ImageReference
from release.registry import Absent, Credentials, Present, Registry, Unreachable, probe
from tests.unit.registry_server import INDEX, RegistryServer

pytestmark = pytest.mark.unit


@pytest.fixture(autouse=True)
def no_docker_login(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A Docker configuration of the test's own, without any account."""
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    return tmp_path / "config.json"


def image(server: RegistryServer, tag: str = "1.0.0") -> ImageReference:
    return ImageReference(f"{server.host}/fab/manager", tag)


def test_a_tag_that_the_registry_holds_is_present_with_the_digest_of_its_bytes(registry_server: RegistryServer) -> None:
    digest = registry_server.hold("fab/manager", "1.0.0", b'{"schemaVersion": 2}')
    assert probe(image(registry_server)) == Present(digest)


def test_an_index_is_present_with_its_own_digest_not_with_one_of_its_platforms(registry_server: RegistryServer) -> None:
    digest = registry_server.hold("fab/manager", "1.0.0", b'{"manifests": []}', INDEX)
    assert probe(image(registry_server)) == Present(digest)


def test_a_tag_that_the_registry_does_not_know_is_absent(registry_server: RegistryServer) -> None:
    assert probe(image(registry_server)) == Absent()


@pytest.mark.parametrize("status", [301, 404, 429, 500, 502])
def test_an_answer_that_is_no_registrys_never_reads_as_absent(registry_server: RegistryServer, status: int) -> None:
    registry_server.status = status
    state = probe(image(registry_server))
    assert isinstance(state, Unreachable)
    assert registry_server.host in state.reason


def test_a_page_in_place_of_a_manifest_never_reads_as_present(registry_server: RegistryServer) -> None:
    registry_server.status = 200
    state = probe(image(registry_server))
    assert isinstance(state, Unreachable)
    assert "not like a registry" in state.reason


def test_a_registry_that_is_down_is_unreachable_and_named() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        host = f"127.0.0.1:{unused.getsockname()[1]}"
    state = probe(ImageReference(f"{host}/fab/manager", "1.0.0"))
    assert isinstance(state, Unreachable)
    assert f"registry {host} does not answer" in state.reason


@pytest.mark.parametrize("tokens", [False, True])
def test_the_account_of_docker_login_is_used_when_the_registry_asks(
    registry_server: RegistryServer, no_docker_login: Path, tokens: bool
) -> None:
    registry_server.account, registry_server.tokens = "fablab:s3cret", tokens
    no_docker_login.write_text(json.dumps({"auths": {registry_server.host: {"auth": "ZmFibGFiOnMzY3JldA=="}}}))
    digest = registry_server.hold("fab/manager", "1.0.0", b"{}")
    assert probe(image(registry_server)) == Present(digest)


@pytest.mark.parametrize("tokens", [False, True])
@pytest.mark.parametrize("credentials", [None, Credentials("fablab", "wrong")])
def test_missing_and_wrong_credentials_never_read_as_absent_and_never_appear(
    registry_server: RegistryServer, tokens: bool, credentials: Credentials | None
) -> None:
    registry_server.account, registry_server.tokens = "fablab:s3cret", tokens
    state = probe(image(registry_server), Registry(registry_server.host, lambda: credentials))
    assert isinstance(state, Unreachable)
    assert f"docker login {registry_server.host}" in state.reason
    assert "wrong" not in state.reason.replace("wrong password", "")


def test_a_password_does_not_show_in_repr() -> None:
    assert "s3cret" not in repr(Credentials("fablab", "s3cret"))
