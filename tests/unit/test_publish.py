import io

import pytest

from errors import ReleaseError
from release.publish import main, publish
from release.reference import ImageReference
from release.registry import Manifest, Registry
from tests.unit.registry_server import INDEX, MANIFEST, RegistryServer

pytestmark = pytest.mark.unit

CONTENT = b'{"schemaVersion": 2,  "odd": "spacing"}'


@pytest.mark.parametrize("media_type", [MANIFEST, INDEX])
def test_the_release_tag_holds_the_candidates_manifest_byte_for_byte(
    registry_server: RegistryServer, media_type: str, capsys: pytest.CaptureFixture[str]
) -> None:
    digest = registry_server.hold("fab/manager", "build-0123", CONTENT, media_type)
    assert main([f"{registry_server.host}/fab/manager:1.0.0", digest]) == 0
    assert registry_server.manifests["fab/manager:1.0.0"] == (CONTENT, media_type)
    assert capsys.readouterr().out == f"{digest}\n"


def test_publishing_the_same_candidate_again_writes_nothing(registry_server: RegistryServer) -> None:
    digest = registry_server.hold("fab/manager", "build-0123", CONTENT)
    registry_server.hold("fab/manager", "1.0.0", CONTENT)
    assert main([f"{registry_server.host}/fab/manager:1.0.0", digest]) == 0
    assert not [request for request in registry_server.requests if request.startswith("PUT")]


def test_a_tag_that_somebody_else_pushed_meanwhile_is_not_overwritten(
    registry_server: RegistryServer, capsys: pytest.CaptureFixture[str]
) -> None:
    digest = registry_server.hold("fab/manager", "build-0123", CONTENT)
    registry_server.hold("fab/manager", "1.0.0", b'{"other": 1}')
    assert main([f"{registry_server.host}/fab/manager:1.0.0", digest]) == 1
    assert registry_server.manifests["fab/manager:1.0.0"][0] == b'{"other": 1}'
    assert "choose another tag" in capsys.readouterr().err


def test_a_candidate_that_is_gone_is_not_published(registry_server: RegistryServer) -> None:
    image = ImageReference(f"{registry_server.host}/fab/manager", "1.0.0", "sha256:" + "0" * 64)
    with pytest.raises(ReleaseError, match="not in the registry any more"):
        publish(image, Registry(image.registry))


def test_the_account_comes_by_standard_input(
    registry_server: RegistryServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    registry_server.account = "fablab:s3cret"
    digest = registry_server.hold("fab/manager", "build-0123", CONTENT)
    arguments = ["--account-follows", f"{registry_server.host}/fab/manager:1.0.0", digest]
    monkeypatch.setattr("sys.stdin", io.StringIO('{"username": "fablab", "password": "wrong"}'))
    assert main(arguments) == 1
    assert "refuses the account fablab" in capsys.readouterr().err
    assert "fab/manager:1.0.0" not in registry_server.manifests
    monkeypatch.setattr("sys.stdin", io.StringIO('{"username": "fablab", "password": "s3cret"}'))
    assert main(arguments) == 0
    assert registry_server.manifests["fab/manager:1.0.0"] == (CONTENT, MANIFEST)


def test_losing_a_race_at_the_very_moment_of_writing_is_noticed() -> None:
    class Raced(Registry):
        """Answers as a registry where somebody else's push arrives right after ours."""

        tag: Manifest | None = None

        def manifest(self, image: ImageReference) -> Manifest | None:
            return Manifest(CONTENT, MANIFEST) if image.digest else self.tag

        def put_manifest(self, image: ImageReference, manifest: Manifest) -> None:
            self.tag = Manifest(b"{}", MANIFEST)

    image = ImageReference("localhost:5000/fab", "1.0.0", Manifest(CONTENT, MANIFEST).digest)
    with pytest.raises(ReleaseError, match="pushed by somebody else"):
        publish(image, Raced("localhost:5000"))
