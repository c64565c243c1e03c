"""A registry with TLS and a password: with the right account all works; without, nothing reads as an absent tag."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from configuration.tree import RegistrySettings
from release.reference import ImageReference
from release.registry import Absent, Present, TagState, connect, probe
from tests.e2e.conftest import PORTS
from tests.e2e.harness import SANDBOX_DIRECTORY, Application, Project, Sandbox, built, steps_run
from tests.e2e.tiny import tiny_application, tiny_project

pytestmark = pytest.mark.e2e

SECURE = SANDBOX_DIRECTORY / "secure-registry"
USER = "releve"


@dataclass(frozen=True)
class Deployment:
    """An application whose image lies in the secure registry, and the project that releases it."""

    application: Application
    project: Project
    address: str

    @property
    def password(self) -> str:
        return (SECURE / "password").read_text().strip()

    def state_of(self, tag: str) -> TagState:
        """What the registry holds, as one sees it who knows everything."""
        settings = RegistrySettings.model_validate(
            {"username": USER, "password": self.password, "caFile": str(SECURE / "ca.crt")}
        )
        return probe(ImageReference(self.application.repository, tag), connect(self.address, settings, Path()))

    def set_account(self, password: str) -> None:
        """As the README says it."""
        for arguments in (["registry.username", USER], ["--secret", "registry.password", password]):
            done = self.project.configure("--path", *arguments)
            assert done.succeeded, done.output
        self.project.config = yaml.safe_load(self.project.stack_file.read_text())["config"]
        assert password not in self.project.stack_file.read_text()


@pytest.fixture(scope="module")
def deployment(sandbox: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    address = sandbox.command("secure-registry").splitlines()[-1]
    with ExitStack() as stack:
        source = tmp_path_factory.mktemp("secure-source")
        application = stack.enter_context(
            tiny_application(sandbox, "secure", source, port=next(PORTS), registry=address)
        )
        project = stack.enter_context(tiny_project(application, tmp_path_factory.mktemp("secure-project")))
        project.config["releve:registry"] = {"caFile": str(SECURE / "ca.crt")}
        project.write()
        deployment = Deployment(application, project, address)
        deployment.set_account(deployment.password)
        yield deployment


@pytest.fixture(autouse=True)
def docker_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An operator's Docker configuration of the test's own, who has not logged in anywhere."""
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    return tmp_path / "config.json"


def test_with_the_account_the_image_is_built_pushed_released_and_pulled_and_the_password_stays_secret(
    deployment: Deployment,
) -> None:
    application, project, password = deployment.application, deployment.project, deployment.password
    done = project.release("1.0.0")
    assert built(done)
    assert "1.0.0" in application.page()
    assert isinstance(deployment.state_of("1.0.0"), Present)
    login = base64.b64encode(f"{USER}:{password}".encode()).decode()
    on_server = application.sandbox.as_root(
        "sh", "-c", f"cat /home/deploy/.docker/config.json; grep -rlF '{login}' /apps /tmp; :"
    )
    for place in (done.output, project.state(), project.preview("--diff").output, on_server):
        assert password not in place
        assert login not in place
    assert f"{application.directory}/" not in on_server


def test_another_password_alone_changes_nothing(deployment: Deployment) -> None:
    project = deployment.project
    project.release("1.0.0")
    kept = project.config["releve:registry"]["password"]
    project.set("registry.password", "another")
    try:
        assert project.is_unchanged()
    finally:
        project.set("registry.password", kept)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"password": "wrong"}, "refuses the account releve for secure-"),
        ({"username": None, "password": None}, "to nobody without an account"),
        ({"caFile": None}, "is not trusted"),
    ],
    ids=["wrong", "missing", "unknown certificate"],
)
def test_without_the_right_account_or_certificate_nothing_is_built_and_no_tag_reads_as_absent(
    deployment: Deployment, change: dict[str, str | None], words: str
) -> None:
    project = deployment.project
    kept = dict(project.config["releve:registry"])
    for key, value in change.items():
        project.set(f"registry.{key}", value)
    project.set("tag", "2.0.0")
    try:
        preview = project.preview()
    finally:
        project.config["releve:registry"] = kept
        project.set("tag", "1.0.0")
    assert not preview.succeeded
    assert words in preview.output
    assert "2.0.0 is released is not known, so nothing is built" in preview.output
    assert "is not in the registry" not in preview.output
    assert deployment.state_of("2.0.0") == Absent()


def test_what_docker_login_has_stored_serves_here_and_on_the_server(
    deployment: Deployment, docker_configuration: Path
) -> None:
    application, project, address = deployment.application, deployment.project, deployment.address
    login = json.dumps(
        {"auths": {address: {"auth": base64.b64encode(f"{USER}:{deployment.password}".encode()).decode()}}}
    )
    docker_configuration.write_text(login)
    for key in ("username", "password"):
        project.set(f"registry.{key}", None)
    application.commit("version", "1.1.0")
    project.set("tag", "1.1.0")
    try:
        refused = project.up()
        assert not refused.succeeded
        assert built(refused)
        assert isinstance(deployment.state_of("1.1.0"), Present)
        # The operator's own login is not sent to servers.
        assert f"`docker login {address}` on this server as deploy" in refused.output
        assert "1.1.0" not in application.page()
        application.sandbox.on_server(
            "sh", "-c", 'umask 077; mkdir -p .docker; printf %s "$1" >.docker/config.json', "sh", login
        )
        done = project.up()
        assert done.succeeded, done.output
        assert not built(done)
        assert steps_run(done)[0] == "pull"
        assert "1.1.0" in application.page()
    finally:
        application.sandbox.on_server("rm", "-rf", ".docker")
