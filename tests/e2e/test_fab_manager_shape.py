"""Fab-manager's own shape: nginx with volumes_from the application, whose image has an anonymous volume on /public."""

from __future__ import annotations

import pytest

from tests.e2e.conftest import Deployment

pytestmark = pytest.mark.e2e

VARIANT = "fab-manager"


def released(deployment: Deployment, tag: str) -> Deployment:
    application, project = deployment
    project.set("image.source.target", "fab-manager")
    project.set("image.checks", {"non-root-user": "warn"})
    project.set("app.services", ["fabmanager"])
    project.set("app.assets", ["/usr/src/app/public/packs"])
    if tag not in application.sandbox.manifests(application.repository) and tag != "1.0.0":
        application.new_version(tag)
    project.release(tag)
    return deployment


def test_a_release_serves_and_names_what_else_it_recreates(deployment: Deployment) -> None:
    application, _ = released(deployment, "1.0.0")
    containers = application.containers()
    application, project = released(deployment, "1.1.0")
    assert "1.1.0" in application.page()
    now = application.containers()
    assert now["postgres"] == containers["postgres"]
    assert now["nginx"] != containers["nginx"]
    assert "nginx" in project.state()
    assert project.is_unchanged()


def test_assets_in_the_anonymous_volume_are_refused_with_the_line_to_add(
    deployment: Deployment, put_back: None
) -> None:
    application, project = released(deployment, "1.0.0")
    before = application.read(), application.containers()
    project.set("app.assets", ["/usr/src/app/public/packs", "/usr/src/app/public/assets"])
    done = project.up()
    assert not done.succeeded
    assert "/usr/src/app/public/assets is on the anonymous volume /usr/src/app/public" in done.output
    assert "./assets:/usr/src/app/public/assets" in done.output
    assert (application.read(), application.containers()) == before
