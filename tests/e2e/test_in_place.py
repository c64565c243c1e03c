"""The strategy in-place: the manual guide's order, for servers too small to compile beside the running application."""

from __future__ import annotations

import pytest

from tests.e2e.conftest import Deployment
from tests.e2e.harness import LOOKS_UP_ONCE, steps_run

pytestmark = pytest.mark.e2e

IN_PLACE = ["pull", "stop", "purge-assets", "precompile", "up", "verify"]


def in_place(deployment: Deployment) -> Deployment:
    """Brings the application to release 1.0.0, behind an nginx that must be told where it is."""
    application, project = deployment
    project.set("app.strategy", "in-place")
    project.release("1.0.0")
    application.configure_nginx(LOOKS_UP_ONCE)
    return deployment


def test_it_follows_the_guides_order_and_recreates_the_services_of_the_image_alone(deployment: Deployment) -> None:
    application, project = in_place(deployment)
    application.move()
    containers = application.containers()
    application.new_version("1.1.0")
    assert steps_run(project.release("1.1.0")) == IN_PLACE
    assert application.serves("1.1.0")
    now = application.containers()
    assert {service for service in now if now[service] != containers[service]} == {"fabmanager", "worker"}
    assert application.would_recreate() == ""
    assert project.is_unchanged()


def test_after_a_failure_the_old_tag_brings_the_old_release_back(deployment: Deployment, put_back: None) -> None:
    application, project = in_place(deployment)
    compose_file = application.read()
    application.new_version("2.0.0", "--broken", "assets")
    project.set("tag", "2.0.0")
    failed = project.up()
    assert not failed.succeeded
    assert "precompile: " in failed.output
    assert "The services are stopped" in failed.output

    assert steps_run(project.release("1.0.0")) == IN_PLACE
    assert application.serves("1.0.0")
    assert application.read() == compose_file
    assert project.is_unchanged()


def test_another_strategy_under_the_same_tag_is_a_rollout_and_keeps_what_it_finds(
    deployment: Deployment, put_back: None
) -> None:
    application, project = in_place(deployment)
    project.set("app.strategy", "staged")
    done = project.up()
    assert done.succeeded, done.output
    assert "recorded what runs here as found-" in done.output
    assert application.serves("1.0.0")
    project.set("app.strategy", "in-place")
    assert project.up().succeeded
