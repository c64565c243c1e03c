import pytest

from release.reference import ImageReference

pytestmark = pytest.mark.unit

DIGEST = "sha256:" + "ab" * 32


@pytest.mark.parametrize(
    ("repository", "registry", "path"),
    [
        ("ghcr.io/fablab/fabmanager", "ghcr.io", "fablab/fabmanager"),
        ("localhost:5000/fabmanager", "localhost:5000", "fabmanager"),
        ("localhost/fabmanager", "localhost", "fabmanager"),
        ("registry:5000/a/b/c", "registry:5000", "a/b/c"),
        ("moncomptegh/fabmanager-tps", "docker.io", "moncomptegh/fabmanager-tps"),
        ("docker.io/moncomptegh/fabmanager", "docker.io", "moncomptegh/fabmanager"),
        ("nginx", "docker.io", "library/nginx"),
    ],
)
def test_a_repository_is_found_where_docker_pull_would_look_for_it(repository: str, registry: str, path: str) -> None:
    image = ImageReference(repository, "1.0.0")
    assert (image.registry, image.path) == (registry, path)


def test_a_reference_is_written_as_docker_and_compose_write_it() -> None:
    image = ImageReference("ghcr.io/fablab/fabmanager", "1.10")
    assert str(image) == "ghcr.io/fablab/fabmanager:1.10"
    assert str(image.with_digest(DIGEST)) == f"ghcr.io/fablab/fabmanager:1.10@{DIGEST}"


def test_a_candidate_is_named_by_what_it_is_made_of_and_carries_no_digest() -> None:
    image = ImageReference("ghcr.io/fablab/fabmanager", "1.10", DIGEST)
    assert str(image.candidate("0123456789abcdef")) == "ghcr.io/fablab/fabmanager:build-0123456789ab"


@pytest.mark.parametrize(
    "tag", ["", "latest", "a b", "a;b", "$(id)", "a\nb", "-x", ".x", "a/b", "é", "x" * 129, "1.0\n"]
)
def test_a_tag_that_docker_refuses_or_that_moves_is_refused(tag: str) -> None:
    with pytest.raises(ValueError, match="tag|moves"):
        ImageReference("ghcr.io/fablab/fabmanager", tag)


@pytest.mark.parametrize(
    "repository",
    ["", "Fab/Manager", "ghcr.io/fab manager", "ghcr.io/a:1", f"ghcr.io/a@{DIGEST}", "ghcr.io//a", "a/$(id)"],
)
def test_a_repository_that_is_not_one_name_is_refused(repository: str) -> None:
    with pytest.raises(ValueError, match="expected registry/path|repository alone"):
        ImageReference(repository)


def test_a_digest_is_sha256_in_full() -> None:
    with pytest.raises(ValueError, match="is not a digest"):
        ImageReference("ghcr.io/a", "1", "sha256:abc")
