"""A release, the next one and the way back, on the Compose file that people write."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.e2e.conftest import Deployment
from tests.e2e.harness import Project, Sandbox, built, copy_checkout, steps_run

pytestmark = pytest.mark.e2e

STAGED = ["pull", "precompile", "up", "purge"]


def released(deployment: Deployment, tag: str) -> Deployment:
    """Brings the application to a release, whichever it has; builds it where it does not exist yet."""
    application, project = deployment
    known = application.sandbox.manifests(application.repository)
    for version in ("1.0.0", "1.1.0"):
        if version not in known:
            if version != "1.0.0":
                application.new_version(version)
            project.release(version)
    project.release(tag)
    return deployment


def test_a_release_serves_and_leaves_nothing_to_do(deployment: Deployment) -> None:
    application, project = released(deployment, "1.0.0")
    assert "1.0.0" in application.page()
    assert application.health()["version"] == "1.0.0"
    assert project.is_unchanged()
    digest = application.sandbox.manifests(application.repository)["1.0.0"]
    outputs = project.outputs()
    outputs.pop("downtimeSeconds", None)
    assert outputs == {"release": f"{application.repository}:1.0.0@{digest}", "url": application.url}


def test_an_up_with_nothing_to_do_opens_no_connection(deployment: Deployment, sandbox: Sandbox) -> None:
    _, project = released(deployment, "1.0.0")
    before = sandbox.connections()
    assert project.up().succeeded
    # This very question is asked without a login.
    assert sandbox.connections() == before


def test_the_preview_of_a_release_shows_old_and_new_tag_and_changes_nothing(deployment: Deployment) -> None:
    application, project = released(deployment, "1.0.0")
    compose_file, containers = application.read(), application.containers()
    manifests, connections = application.sandbox.manifests(application.repository), application.sandbox.connections()
    project.set("tag", "1.2.0-rc1")
    try:
        preview = project.preview("--diff")
        assert preview.succeeded, preview.output
        assert '"1.0.0" => "1.2.0-rc1"' in preview.output
        assert application.sandbox.connections() == connections
        assert application.sandbox.manifests(application.repository) == manifests
        assert (application.read(), application.containers()) == (compose_file, containers)
    finally:
        project.set("tag", "1.0.0")


def test_a_rollout_changes_the_image_lines_and_recreates_the_services_of_the_image_alone(
    deployment: Deployment,
) -> None:
    application, project = released(deployment, "1.0.0")
    compose_file, containers, files = application.read(), application.containers(), application.files()
    assert steps_run(project.release("1.1.0")) == STAGED

    assert "1.1.0" in application.page()
    digest = application.sandbox.manifests(application.repository)["1.1.0"]
    changed = [
        pair
        for pair in zip(compose_file.splitlines(), application.read().splitlines(), strict=True)
        if pair[0] != pair[1]
    ]
    assert changed
    for _, line in changed:
        assert f"{application.repository}:1.1.0@{digest}" in line
    now = application.containers()
    assert {service for service in now if now[service] != containers[service]} == {"fabmanager", "worker"}
    assert application.would_recreate() == ""
    assert {path for path in application.files() - files if "/public/" not in path} == set()


def test_rolling_back_and_forward_again_builds_and_pushes_nothing(deployment: Deployment) -> None:
    application, project = released(deployment, "1.1.0")
    manifests = application.sandbox.manifests(application.repository)
    for tag in ("1.0.0", "1.1.0"):
        done = project.release(tag)
        assert not built(done)
        assert tag in application.page()
        assert project.is_unchanged()
    assert application.sandbox.manifests(application.repository) == manifests


def test_a_rollback_ends_with_the_compose_file_as_it_was(deployment: Deployment) -> None:
    application, project = released(deployment, "1.0.0")
    compose_file = application.read()
    project.release("1.1.0")
    project.release("1.0.0")
    assert application.read() == compose_file


def test_a_source_that_changed_under_a_released_tag_is_named_and_nothing_is_built(deployment: Deployment) -> None:
    application, project = released(deployment, "1.1.0")
    manifests, containers = application.sandbox.manifests(application.repository), application.containers()
    (application.source / "README.md").write_text("Another source.\n")
    subprocess.run(["git", "-C", application.source, "commit", "--quiet", "--all", "--message", "change"], check=True)
    try:
        done = project.up()
        assert done.succeeded, done.output
        assert "is released already" in done.output
        assert application.sandbox.manifests(application.repository) == manifests
        assert application.containers() == containers
    finally:
        subprocess.run(["git", "-C", application.source, "reset", "--quiet", "--hard", "HEAD~1"], check=True)


def test_the_same_commit_in_another_checkout_is_no_change(deployment: Deployment, tmp_path: Path) -> None:
    application, project = released(deployment, "1.1.0")
    clone = tmp_path / "source"
    subprocess.run(["git", "clone", "--quiet", application.source, clone], check=True)
    elsewhere = Project.__new__(Project)
    elsewhere.__dict__ |= project.__dict__
    elsewhere.directory = tmp_path / "project"
    copy_checkout(elsewhere.directory)
    elsewhere.stack_file = elsewhere.directory / project.stack_file.name
    elsewhere.stack_file.write_text(project.stack_file.read_text().replace(str(application.source), str(clone)))
    preview = elsewhere.preview("--expect-no-changes", "--diff")
    assert preview.succeeded, preview.output


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("app.services", ["fabmanager"]),
        ("app.directory", "/apps/elsewhere"),
        ("app.assets", ["/usr/src/app/public/packs"]),
        ("app.precompile", ["bundle", "exec", "rake", "assets:precompile"]),
        ("app.assetsFrom", "image"),
    ],
)
def test_another_way_to_run_the_same_tag_is_a_rollout(
    deployment: Deployment, put_back: None, key: str, value: object
) -> None:
    _, project = released(deployment, "1.1.0")
    project.set(key, value)
    preview = project.preview()
    assert preview.succeeded, preview.output
    # Assets that the image holds are not compiled.
    expected = [step for step in STAGED if (value, step) != ("image", "precompile")]
    assert steps_run(preview)[-len(expected) :] == expected


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("health.timeout", 33),
        ("health.contains", ["another string"]),
        ("health.settle", 3),
        ("app.stepTimeouts", {"pull": 33}),
        ("servers.0.user", "somebody"),
        ("servers.0.privateKey", "-----BEGIN OPENSSH PRIVATE KEY-----\nx"),
    ],
)
def test_another_way_to_reach_or_to_watch_the_server_is_no_rollout(
    deployment: Deployment, put_back: None, key: str, value: object
) -> None:
    _, project = released(deployment, "1.1.0")
    project.set(key, value)
    assert project.is_unchanged()


def test_a_new_version_of_the_program_is_installed_and_is_no_rollout(deployment: Deployment) -> None:
    application, project = released(deployment, "1.1.0")
    programs = f"{application.directory}/.releve/bin"
    before = set(application.sandbox.on_server("ls", programs).split())
    file = project.directory / "server/run.py"
    text = file.read_text()
    file.write_text(f"{text}# another version\n")
    try:
        assert steps_run(project.up()) == ["install"]
    finally:
        file.write_text(text)
    (new,) = set(application.sandbox.on_server("ls", programs).split()) - before
    # With its bytecode: each step would make it otherwise.
    kept = application.sandbox.on_server("ls", f"{programs}/{new}/server/__pycache__")
    assert "request.cpython-" in kept
