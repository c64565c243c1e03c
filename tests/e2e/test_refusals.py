"""What cannot be released safely is refused: a message that says why, and nothing changed."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.conftest import Deployment
from tests.e2e.harness import Application, Project

pytestmark = pytest.mark.e2e


def due(deployment: Deployment) -> Deployment:
    """An application with release 1.0.0, for which the same release under new settings is due."""
    application, project = deployment
    project.release("1.0.0")
    return deployment


def refused(application: Application, project: Project, words: str) -> None:
    """Asserts that `up` fails with these words, and leaves the Compose file, the containers and the registry alone."""
    compose_file, containers = application.read(), application.containers()
    manifests = application.sandbox.manifests(application.repository)
    done = project.up()
    assert not done.succeeded, done.output
    assert words in done.output
    assert application.read() == compose_file
    assert application.containers() == containers
    assert application.sandbox.manifests(application.repository) == manifests


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("tag", "latest", "`latest` moves"),
        ("tag", "$(touch /tmp/releve-was-here)", "a tag has 1 to 128"),
        ("healht", {}, "healht: is not a key"),
        ("servers.0.hostKey", None, "servers[0].hostKey: is missing"),
        ("image.source.path", "/nonexistent", "is no directory"),
        ("image.source.dockerfile", "Dockerfile.missing", "Dockerfile.missing is not in the last commit"),
        ("app.composeFile", "missing.yml", "app.composeFile: cannot read missing.yml"),
    ],
)
def test_a_mistake_in_the_configuration_is_refused_by_preview_and_up(
    deployment: Deployment, put_back: None, key: str, value: object, words: str
) -> None:
    application, project = deployment
    project.set(key, value)
    preview = project.preview()
    assert not preview.succeeded
    assert words in preview.output
    refused(application, project, words)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("app.directory", "/apps", "There is no Compose file in /apps"),
        ("app.directory", "/apps/nowhere", "/apps/nowhere"),
        ("app.services", ["fabmanager", "sidekiq"], "no service 'sidekiq'"),
        ("app.assets", ["/usr/src/app/tmp/nowhere"], "is on no volume of 'fabmanager'"),
        ("app.precompile", ["no-such-command"], "has no command 'no-such-command' (app.precompile)"),
    ],
)
def test_settings_that_do_not_fit_the_server_are_refused_before_anything_stops(
    deployment: Deployment, put_back: None, key: str, value: object, words: str
) -> None:
    application, project = due(deployment)
    project.set(key, value)
    refused(application, project, words)


WRONG_HOST_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHJycnJycnJycnJycnJycnJycnJycnJycnJycnJycnJy"


def test_a_server_with_another_host_key_is_not_spoken_to(deployment: Deployment, put_back: None) -> None:
    application, project = due(deployment)
    project.set("app.services", ["fabmanager"])
    project.set("servers.0.hostKey", WRONG_HOST_KEY)
    refused(application, project, "host key mismatch")


def test_a_user_who_may_not_use_docker_is_told_so(deployment: Deployment, put_back: None) -> None:
    application, project = due(deployment)
    sandbox = application.sandbox
    sandbox.as_root("gpasswd", "--delete", "deploy", "docker")
    try:
        # Another directory, so that `install` runs.
        project.set("app.directory", "/apps")
        done = project.up()
    finally:
        sandbox.as_root("gpasswd", "--add", "deploy", "docker")
    assert not done.succeeded
    assert "deploy may not use Docker" in done.output
    assert "usermod -aG docker deploy" in done.output


def with_anchor(text: str) -> str:
    services = text.index("services:")
    extra = "  console:\n    <<: *app\n"
    return text[: services + len("services:\n")] + extra + text[services + len("services:\n") :]


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda text: f"include:\n  - other.yml\n{text}", "takes parts from elsewhere"),
        (
            lambda text: text.replace("  worker:\n", "  worker:\n    extends: {service: fabmanager}\n"),
            "takes parts from elsewhere",
        ),
        (with_anchor, "console"),
        (lambda text: text.replace("services:", "services: ]"), ""),
    ],
    ids=["include", "extends", "an anchor that carries the image elsewhere", "invalid"],
)
def test_a_compose_file_that_cannot_be_edited_safely_is_refused_untouched(
    deployment: Deployment, put_back: None, edit: Callable[[str], str], words: str
) -> None:
    application, project = due(deployment)
    before = application.read()
    project.set("app.precompile", ["bundle", "exec", "rake", "assets:precompile"])  # a rollout is due
    application.write(edit(before))
    try:
        assert application.read() != before
        refused(application, project, words)
    finally:
        application.write(before)


def test_a_compose_file_behind_a_symbolic_link_is_refused(deployment: Deployment, put_back: None) -> None:
    application, project = due(deployment)
    file = f"{application.directory}/docker-compose.yml"
    application.sandbox.on_server("mv", file, f"{file}.real")
    application.sandbox.on_server("ln", "-s", "docker-compose.yml.real", file)
    project.set("app.precompile", ["bundle", "exec", "rake", "assets:precompile"])
    try:
        refused(application, project, "is a symbolic link")
    finally:
        application.sandbox.on_server("mv", "-T", f"{file}.real", file)


def test_a_source_with_submodules_is_refused(deployment: Deployment, put_back: None, tmp_path: Path) -> None:
    application, project = deployment
    clone = tmp_path / "source"
    subprocess.run(["git", "clone", "--quiet", application.source, clone], check=True)
    add = ["-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(application.source), "vendor/x"]
    subprocess.run(["git", "-C", clone, *add], check=True)
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    subprocess.run(["git", "-C", clone, *identity, "commit", "--quiet", "--message", "submodule"], check=True)
    project.set("image.source.path", str(clone))
    refused(application, project, "has submodules (vendor/x)")
