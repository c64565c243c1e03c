"""Rollouts that fail half way, and what the next `pulumi up` makes of them."""

from __future__ import annotations

import pytest

from tests.e2e.conftest import Deployment
from tests.e2e.harness import steps_run
from tests.unit.sinks import webhook

pytestmark = pytest.mark.e2e


def serving(deployment: Deployment) -> Deployment:
    """Brings the application to release 1.0.0."""
    application, project = deployment
    project.release("1.0.0")
    assert "1.0.0" in application.page()
    return deployment


def test_a_retry_resumes_at_the_step_that_failed(deployment: Deployment, put_back: None) -> None:
    application, project = serving(deployment)
    application.new_version("1.1.0")
    project.set("tag", "1.1.0")
    project.set("health.contains", ["this is not in the answer"])
    project.set("health.timeout", 40)  # enough to start, so that the answer is what fails
    failed = project.up()
    assert not failed.succeeded
    assert "without 'this is not in the answer'" in failed.output
    assert "health.timeout" in failed.output

    project.set("health.contains", ['"version":"1.1.0"'])
    project.set("health.timeout", 60)
    resumed = project.up()
    assert resumed.succeeded, resumed.output
    assert steps_run(resumed) == ["up", "purge"]
    assert application.serves("1.1.0")
    assert project.is_unchanged()
    project.set("health.contains", [])
    project.release("1.0.0")


@pytest.mark.parametrize(
    ("broken", "version", "step"),
    [("assets", "2.0.0", "precompile"), ("boot", "2.1.0", "up"), ("health", "2.2.0", "up")],
)
def test_a_broken_release_leaves_the_old_one_serving_and_reverting_the_tag_changes_nothing(
    deployment: Deployment, put_back: None, broken: str, version: str, step: str
) -> None:
    application, project = serving(deployment)
    compose_file, containers = application.read(), application.containers()
    application.new_version(version, "--broken", broken)
    project.set("tag", version)
    project.set("health.timeout", 20)
    failed = project.up()
    assert not failed.succeeded
    assert f"{step}: " in failed.output
    assert application.serves("1.0.0")
    assert application.read() == compose_file
    assert application.would_recreate() == ""
    if step == "up":
        assert "was put back and serves" in failed.output
        assert application.history()[-1]["result"] == "restored"
    else:
        assert application.containers() == containers

    before = application.containers()
    reverted = project.release("1.0.0")
    assert steps_run(reverted) == ["pull", "precompile", "up", "purge"]
    # What serves is what is wanted: going back interrupts nobody.
    assert application.containers() == before
    assert application.serves("1.0.0")
    assert project.is_unchanged()


def test_a_release_that_does_not_start_shows_the_end_of_its_log(deployment: Deployment, put_back: None) -> None:
    application, project = serving(deployment)
    application.new_version("2.3.0", "--broken", "boot")
    project.set("tag", "2.3.0")
    failed = project.up()
    assert not failed.succeeded
    # What the application itself said, taken from `docker compose logs`.
    assert "This version does not start." in failed.output
    project.release("1.0.0")


def test_a_build_that_fails_shows_its_last_lines_and_touches_no_server(deployment: Deployment, put_back: None) -> None:
    application, project = serving(deployment)
    manifests, connections = application.sandbox.manifests(application.repository), application.sandbox.connections()
    dockerfile = application.source / "Dockerfile"
    text = dockerfile.read_text()
    application.commit("Dockerfile", f"{text}RUN echo the-very-last-words && false\n")
    project.set("tag", "3.0.0")
    with webhook() as (port, posted):
        project.config["releve:notify"] = {"urls": [f"json://127.0.0.1:{port}/"]}
        project.write()
        try:
            failed = project.up()
        finally:
            application.commit("Dockerfile", text)
    assert not failed.succeeded
    assert "the-very-last-words" in failed.output
    (message,) = posted
    assert message["message"] == "3.0.0 was not released: its build failed. No server was touched."
    assert application.sandbox.manifests(application.repository) == manifests
    assert application.sandbox.connections() == connections


def test_a_paused_registry_changes_nothing_and_a_new_tag_is_refused(deployment: Deployment, put_back: None) -> None:
    application, project = serving(deployment)
    with application.sandbox.registry_paused():
        assert project.is_unchanged()
        project.set("tag", "4.0.0")
        for attempt in (project.preview(), project.up()):
            assert not attempt.succeeded
            assert "whether" in attempt.output
            assert "is released is not known" in attempt.output
    project.set("tag", "1.0.0")
    assert project.is_unchanged()


def test_a_server_that_is_down_fails_the_rollout_and_the_next_up_makes_it(
    deployment: Deployment, put_back: None
) -> None:
    application, project = serving(deployment)
    port = project.config["releve:servers"][0]["port"]
    project.set("app.services", ["fabmanager"])  # a rollout is due
    project.set("servers.0.port", 1)
    failed = project.up()
    assert not failed.succeeded
    assert "refused" in failed.output
    project.set("servers.0.port", port)
    done = project.up()
    assert done.succeeded, done.output
    project.set("app.services", ["fabmanager", "worker"])
    assert project.up().succeeded


def test_rolling_out_leaves_no_container_and_no_lock_behind(deployment: Deployment) -> None:
    application, project = serving(deployment)
    assert set(application.containers()) == {"fabmanager", "worker", "postgres", "nginx"}
    oneoffs = application.sandbox.on_server("docker", "ps", "-aq", "--filter", "label=releve.project")
    assert oneoffs.strip() == ""
    application.sandbox.on_server("flock", "--nonblock", f"{application.directory}/.releve/lock", "true")
