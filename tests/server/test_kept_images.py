"""What runs can be put back: its image is kept by a tag of Relève's own, whatever becomes of the others."""

from __future__ import annotations

import hashlib

import pytest

from server.request import Strategy
from tests.server.server import Result, Server

RUNNING = "sha256:" + "4" * 64


def pull(server: Server) -> Result:
    return server.run("pull", strategy=Strategy.STAGED)


def kept_tag(server: Server, repository: str = "registry.example:5000/shop/app") -> str:
    directory = hashlib.sha256(str(server.directory).encode()).hexdigest()[:12]
    return f"{repository}:releve-{directory}-kept-{'4' * 12}"


@pytest.fixture
def server(server: Server) -> Server:
    server.answer("running", f"{RUNNING}\n")
    return server


@pytest.mark.parametrize(
    ("image", "repository"),
    [
        ("registry.example:5000/shop/app:1.0", "registry.example:5000/shop/app"),
        ("other.example/shop@sha256:" + "1" * 64, "other.example/shop"),
        ("sha256:" + "1" * 64, "registry.example:5000/shop/app"),
        ("0123456789ab", "registry.example:5000/shop/app"),
    ],
)
def test_what_runs_gets_a_tag_in_its_own_repository_before_anything_is_pulled(
    server: Server, image: str, repository: str
) -> None:
    server.behave('case "$*" in "image inspect"*) exit 1 ;; esac')
    server.answer("image-name", f"{image}\n")
    assert pull(server).status == 0
    tag = ["tag", RUNNING, kept_tag(server, repository)]
    calls = server.docker_calls()
    assert calls.index(tag) < next(at for at, call in enumerate(calls) if call[0] == "pull")


def gone(server: Server, *, for_ever: bool) -> None:
    """The image of what runs, until it is pulled by its digest."""
    came_back = "false" if for_ever else '[ -e "$STUBS/here" ]'
    server.behave(
        f"""case "$*" in
            pull*@{RUNNING}) touch "$STUBS/here" ;;
            "tag {RUNNING}"*) {came_back} || {{ echo "No such image" >&2; exit 1; }} ;;
        esac"""
    )


def test_an_image_that_runs_and_is_gone_is_got_by_its_digest(server: Server) -> None:
    gone(server, for_ever=False)
    result = pull(server)
    assert result.status == 0, result
    assert ["pull", f"registry.example:5000/shop/app@{RUNNING}"] in server.docker_calls("pull")
    assert "the image that 'web' runs was no longer here; it is again" in result.output


def test_a_release_over_an_image_that_runs_and_is_gone_for_ever_is_refused_before_anything_stops(
    server: Server,
) -> None:
    gone(server, for_ever=True)
    result = pull(server)
    assert result.status == 1
    assert "The image that 'web' runs" in result.errors
    assert "what serves now could not be put back" in result.errors
    assert f"cd '{server.directory}' && docker compose up -d web" in result.errors
    assert not (server.state / "current").exists()


def test_purge_removes_the_tags_whose_images_no_release_needs(server: Server) -> None:
    assert pull(server).status == 0
    for step in ("up", "purge"):
        assert server.run(step, strategy=Strategy.STAGED).status == 0
    # The release that was found here is kept, to be put back.
    assert server.docker_calls("rmi") == []
    found = next(path for path in (server.state / "releases").glob("found-*"))
    (found / "images").write_text("web=sha256:other\n")
    assert server.run("purge", strategy=Strategy.STAGED).status == 0
    assert server.docker_calls("rmi") == [["rmi", kept_tag(server)]]
    server.forget_calls()
    assert server.run("purge", strategy=Strategy.STAGED).status == 0
    assert server.docker_calls("rmi") == []


def test_a_tag_that_docker_does_not_remove_is_tried_again(server: Server) -> None:
    assert pull(server).status == 0
    assert server.run("up", strategy=Strategy.STAGED).status == 0
    found = next(path for path in (server.state / "releases").glob("found-*"))
    (found / "images").write_text("web=sha256:other\n")
    server.behave('case "$*" in rmi*) exit 1 ;; esac')
    assert server.run("purge", strategy=Strategy.STAGED).status == 0
    server.behave("")
    server.forget_calls()
    assert server.run("purge", strategy=Strategy.STAGED).status == 0
    assert server.docker_calls("rmi") == [["rmi", kept_tag(server)]]
