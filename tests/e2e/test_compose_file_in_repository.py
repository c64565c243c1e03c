"""app.composeFile: the Compose file in the repository is the source of truth, and the server gets it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from tests.e2e.conftest import Deployment
from tests.e2e.harness import Project, steps_run

pytestmark = pytest.mark.e2e

FILE = "compose.production.yml"


def released_from_repository(deployment: Deployment) -> Deployment:
    application, project = deployment
    if not (project.directory / FILE).exists():
        (project.directory / FILE).write_text(application.read())
        project.set("app.composeFile", FILE)
    project.release("1.0.0")
    return deployment


def comments(text: str) -> list[str]:
    return [line.partition("#")[2] for line in text.splitlines() if "#" in line]


def test_the_server_gets_the_file_with_the_image_set_and_the_comments_kept(deployment: Deployment) -> None:
    application, project = released_from_repository(deployment)
    kept = (project.directory / FILE).read_text()
    on_server = application.read()
    digest = application.sandbox.manifests(application.repository)["1.0.0"]
    assert on_server != kept
    assert comments(on_server) == comments(kept)
    assert f"{application.repository}:1.0.0@{digest}" in on_server
    assert "1.0.0" in application.page()
    assert project.is_unchanged()
    # People write passwords into Compose files: the text is in the state, but not in clear.
    assert all(comment.strip() not in project.state() for comment in comments(kept) if len(comment) > 20)


@contextmanager
def edited(project: Project, edit: Callable[[str], str]) -> Iterator[None]:
    """The file in the repository, edited for a while."""
    file = project.directory / FILE
    text = file.read_text()
    file.write_text(edit(text))
    try:
        yield
    finally:
        file.write_text(text)


def test_a_change_of_the_file_is_a_rollout_under_the_same_tag(deployment: Deployment) -> None:
    application, project = released_from_repository(deployment)
    try:
        with edited(project, lambda text: f"{text}\n# Reviewed by Lucie.\n"):
            done = project.up()
            assert done.succeeded, done.output
            assert steps_run(done)[0] == "pull"
            assert "# Reviewed by Lucie." in application.read()
    finally:
        project.release("1.0.0")
    assert "# Reviewed by Lucie." not in application.read()


def test_what_is_interrupted_besides_is_named_in_the_preview(deployment: Deployment) -> None:
    _, project = released_from_repository(deployment)
    with edited(project, lambda text: text.replace("  nginx:\n", "  nginx:\n    volumes_from: [fabmanager]\n", 1)):
        preview = project.preview()
    assert preview.succeeded, preview.output
    assert "nginx will be recreated, too: volumes_from fabmanager" in preview.output


def test_a_file_that_no_release_can_be_set_in_fails_the_preview(deployment: Deployment) -> None:
    _, project = released_from_repository(deployment)
    with edited(project, lambda text: f"include: [other.yml]\n{text}"):
        preview = project.preview()
    assert not preview.succeeded
    assert "takes parts from elsewhere (include)" in preview.output
