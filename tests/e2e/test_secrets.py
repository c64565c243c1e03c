"""No secret where it can be read."""

from __future__ import annotations

import re

import pytest

from tests.e2e.conftest import Deployment
from tests.e2e.harness import SANDBOX_DIRECTORY

pytestmark = pytest.mark.e2e


def test_a_private_key_in_the_configuration_logs_in_and_is_nowhere_in_clear(
    deployment: Deployment, put_back: None
) -> None:
    application, project = deployment
    key = (SANDBOX_DIRECTORY / "ssh/id_ed25519").read_text()
    body = key.splitlines()[1]
    project.set("servers.0.privateKey", key)
    project.set("tag", "1.0.0")
    done = project.up()
    assert done.succeeded, done.output
    assert body not in done.output
    assert body not in project.state()
    assert body not in project.preview("--diff").output


def test_the_applications_secrets_stay_out_of_logs_state_and_output(deployment: Deployment) -> None:
    application, project = deployment
    done = project.release("1.0.0")
    secrets = re.findall(r"^\w*(?:SECRET|PASSWORD)\w*=(.+)$", application.read(".env"), re.MULTILINE)
    assert secrets
    log = application.sandbox.as_root("sh", "-c", f"cat {application.directory}/.releve/log/*")
    for secret in secrets:
        assert secret not in done.output
        assert secret not in project.state()
        assert secret not in log


def test_what_releve_keeps_on_the_server_is_for_its_user_alone(deployment: Deployment) -> None:
    application, project = deployment
    project.release("1.0.0")
    kept = f"{application.directory}/.releve"
    assert application.sandbox.as_root("stat", "-c", "%a %U", kept).strip() == "700 deploy"
    # Compiled assets belong to whoever compiled them; nobody else gets as far as to them. Copies keep their mode.
    others = ["-path", "*/assets-*", "-prune", "-o", "-name", "compose.yml", "-o", "-perm", "/077", "-type"]
    for kind in ("f", "d"):
        assert application.sandbox.as_root("find", kept, *others, kind, "-print") == ""
