import json
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from configuration.tree import RegistrySettings
from release.reference import ImageReference
from release.registry import (
    Absent,
    Credentials,
    Present,
    Registry,
    RegistryError,
    Unreachable,
    connect,
    docker_configuration,
    docker_login,
    newest_after,
    probe,
)
from tests.unit.registry_server import INDEX, RegistryServer, serving

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


BEARER, BASIC = 'Bearer realm="{realm}",service="test",scope="*"', 'Basic realm="Gitea, \\"the\\" registry"'


@pytest.mark.parametrize(
    "offers",
    [
        (BEARER, BASIC),
        (BASIC, BEARER),
        (f"{BEARER}, {BASIC}",),
        (f"{BASIC} , {BEARER}",),
        ("Negotiate", BASIC, BEARER),
        (BEARER, "Basic"),
        ("Basic", BEARER),
    ],
)
def test_a_registry_that_offers_several_ways_is_asked_with_a_token(
    registry_server: RegistryServer, offers: tuple[str, ...]
) -> None:
    """As Gitea's does: in headers of their own or in one, in either order."""
    registry_server.account, registry_server.tokens, registry_server.offers = "fablab:s3cret", True, offers
    digest = registry_server.hold("fab/manager", "1.0.0", b"{}")
    assert probe(image(registry_server), connect(registry_server.host, ACCOUNT, Path())) == Present(digest)


@pytest.mark.parametrize("offers", [(BASIC,), ("Negotiate", BASIC), ("Bearer", BASIC), ("basic realm=test",)])
def test_a_registry_that_offers_no_token_gets_the_account_itself(
    registry_server: RegistryServer, offers: tuple[str, ...]
) -> None:
    registry_server.account, registry_server.offers = "fablab:s3cret", offers
    digest = registry_server.hold("fab/manager", "1.0.0", b"{}")
    assert probe(image(registry_server), connect(registry_server.host, ACCOUNT, Path())) == Present(digest)


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


ACCOUNT = RegistrySettings.model_validate({"username": "fablab", "password": "s3cret"})


@pytest.mark.parametrize("tokens", [False, True])
def test_the_account_of_the_configuration_goes_before_that_of_docker_login(
    registry_server: RegistryServer, no_docker_login: Path, tokens: bool
) -> None:
    registry_server.account, registry_server.tokens = "fablab:s3cret", tokens
    no_docker_login.write_text(json.dumps({"auths": {registry_server.host: {"auth": "bWU6b3RoZXI="}}}))
    digest = registry_server.hold("fab/manager", "1.0.0", b"{}")
    assert probe(image(registry_server), connect(registry_server.host, ACCOUNT, Path())) == Present(digest)


def test_a_refusal_says_whether_an_account_was_missing_or_wrong(registry_server: RegistryServer) -> None:
    registry_server.account = "fablab:s3cret"
    missing = probe(image(registry_server), Registry(registry_server.host, lambda: None))
    wrong = probe(image(registry_server), Registry(registry_server.host, lambda: Credentials("fablab", "other")))
    assert isinstance(missing, Unreachable)
    assert isinstance(wrong, Unreachable)
    assert "to nobody without an account" in missing.reason
    assert "set registry.username" in missing.reason
    assert "refuses the account fablab" in wrong.reason


def test_what_a_registry_hides_from_strangers_is_asked_for_with_the_account(registry_server: RegistryServer) -> None:
    registry_server.account, registry_server.hides = "fablab:s3cret", True
    digest = registry_server.hold("fab/manager", "1.0.0", b"{}")
    assert probe(image(registry_server), connect(registry_server.host, ACCOUNT, Path())) == Present(digest)


@pytest.mark.parametrize("known", [None, Credentials("fablab", "s3cret")])
def test_an_absent_tag_comes_with_whether_the_registry_knew_who_asked(
    registry_server: RegistryServer, known: Credentials | None
) -> None:
    state = probe(image(registry_server), Registry(registry_server.host, lambda: known))
    assert isinstance(state, Absent)
    assert state.anonymous is (known is None)


def test_all_pages_of_a_list_of_tags_are_read(registry_server: RegistryServer) -> None:
    registry_server.account, registry_server.tokens = "fablab:s3cret", True
    tags = [f"1.{number}" for number in range(5)]
    for tag in tags:
        registry_server.hold("fab/manager", tag, b"{}")
    assert connect(registry_server.host, ACCOUNT, Path()).tags(image(registry_server)) == tags


@pytest.mark.parametrize(
    ("tag", "released", "newest"),
    [
        ("6.5.9-lab", ["6.5.10-lab", "6.5.11-lab", "build-0123456789ab", "main"], "6.5.11-lab"),
        ("6.5.12-lab", ["6.5.10-lab", "6.5.11-lab"], None),
        ("v1.9", ["v1.10"], "v1.10"),
        ("1.0", ["1.0-rc1", "1.0rc2"], None),
        ("main", ["2.0"], None),
        ("1.0", [], None),
    ],
)
def test_the_newest_tag_is_known_where_it_is_newer_than_the_one_that_is_absent(
    registry_server: RegistryServer, tag: str, released: list[str], newest: str | None
) -> None:
    for name in released:
        registry_server.hold("fab/manager", name, b"{}")
    assert newest_after(image(registry_server, tag), connect(registry_server.host, ACCOUNT, Path())) == newest


def test_where_a_registry_has_lost_all_tags_or_lists_none_those_that_are_known_count(
    registry_server: RegistryServer,
) -> None:
    for status in (None, 405):
        registry_server.status = status
        connected = connect(registry_server.host, ACCOUNT, Path())
        assert newest_after(image(registry_server), connected) is None
        assert newest_after(image(registry_server), connected, ["1.1.0", "0.9"]) == "1.1.0"


def test_an_account_is_not_sent_in_clear_to_where_a_registry_points(registry_server: RegistryServer) -> None:
    registry_server.account, registry_server.tokens = "fablab:s3cret", True
    registry_server.realm = "http://tokens.example.org/token"
    state = probe(image(registry_server), connect(registry_server.host, ACCOUNT, Path()))
    assert isinstance(state, Unreachable)
    assert "http://tokens.example.org/token, which is not safe" in state.reason


@pytest.mark.parametrize(
    ("configuration", "words"),
    [
        ({"credsStore": "that-is-not-installed"}, "the credential helper for reg.example fails"),
        ({"auths": {"reg.example": {"identitytoken": "t"}}}, "an identity token for reg.example"),
    ],
)
@pytest.mark.filterwarnings("ignore:docker-credential-")
def test_a_login_that_cannot_be_used_is_said_to_be_so(
    no_docker_login: Path, configuration: dict[str, object], words: str
) -> None:
    no_docker_login.write_text(json.dumps(configuration))
    with pytest.raises(RegistryError, match=words):
        docker_login("reg.example")


@pytest.mark.parametrize("host", ["ghcr.io", "localhost:5000", "docker.io"])
def test_the_configuration_for_a_docker_client_is_one_that_docker_reads(no_docker_login: Path, host: str) -> None:
    no_docker_login.write_text(docker_configuration(host, Credentials("fablab", "s3:cret é")))
    assert docker_login(host) == Credentials("fablab", "s3:cret é")


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def tls_registry(authority: trustme.CA) -> Iterator[RegistryServer]:
    """A registry with a certificate of an authority that nobody knows."""
    certificate = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(certificate)
    with serving(certificate) as registry:
        yield registry


def test_an_unknown_certificate_never_reads_as_absent_nor_sends_the_password_in_clear(
    tls_registry: RegistryServer,
) -> None:
    state = probe(image(tls_registry), connect(tls_registry.host, ACCOUNT, Path()))
    assert isinstance(state, Unreachable)
    assert f"registry {tls_registry.host} is not trusted" in state.reason
    assert "set registry.caFile" in state.reason
    assert tls_registry.requests == []


def test_with_the_authoritys_certificate_the_registry_is_trusted(
    tls_registry: RegistryServer, authority: trustme.CA, tmp_path: Path
) -> None:
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    tls_registry.account = "fablab:s3cret"
    digest = tls_registry.hold("fab/manager", "1.0.0", b"{}")
    settings = RegistrySettings.model_validate({"username": "fablab", "password": "s3cret", "caFile": "ca.pem"})
    assert probe(image(tls_registry), connect(tls_registry.host, settings, tmp_path)) == Present(digest)


@pytest.mark.parametrize("content", [None, "no certificate"])
def test_a_ca_file_that_cannot_be_used_is_refused_with_its_key(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "ca.pem").write_text(content)
    with pytest.raises(RegistryError, match="registry.caFile: .*ca.pem is no file of certificates"):
        connect("ghcr.io", RegistrySettings.model_validate({"caFile": "ca.pem"}), tmp_path)
