"""./releve adopt on an installation made by hand: the file it writes, what it leaves alone, and the first release."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from tests.e2e.conftest import Deployment
from tests.e2e.harness import Application, Project, Result
from tests.e2e.test_operations import everything

pytestmark = pytest.mark.e2e

BY_HAND, NEXT = "1.0.0-by-hand", "1.0.1-by-hand"


@pytest.fixture(scope="module")
def by_hand(deployment: Deployment) -> Iterator[Deployment]:
    """The application as somebody has built and started it, and a project without a stack file."""
    application, project = deployment
    base = project.config["releve:image"]["source"]["args"]["BASE_IMAGE"]
    image = f"{application.repository}:{BY_HAND}"
    build = ["docker", "build", "--quiet", "--build-arg", f"BASE_IMAGE={base}", "--tag", image, str(application.source)]
    again = f"{application.repository}:{NEXT}"
    for command in (build, ["docker", "push", "-q", image], ["docker", "tag", image, again], ["docker", "push", again]):
        subprocess.run(command, check=True, capture_output=True)
    application.write(application.read().replace(f"{application.sandbox.registry}/fabmanager:none", image))
    script = """
        cd "$1"
        docker compose run --rm -T fabmanager bundle exec rails db:migrate assets:precompile
        docker compose up -d
        docker compose up -d --wait fabmanager
    """
    application.sandbox.on_server("sh", "-euc", script, "sh", application.directory)
    project.stack_file.unlink()
    yield application, project
    subprocess.run(["docker", "image", "rm", image, again], check=False, capture_output=True)


def adopt(application: Application, project: Project, *options: str) -> Result:
    server = application.sandbox.config["releve:servers"][0]
    return project.sandbox.run(
        project.directory,
        *("./releve", "adopt", server["host"], "--port", str(server["port"]), "--stack", project.stack, *options),
    )


def written(project: Project) -> dict[str, Any]:
    config: dict[str, Any] = yaml.safe_load(project.stack_file.read_text())["config"]
    return config


def test_the_file_it_writes_previews_and_nothing_changes_on_the_server_until_a_tag_is_set_and_released(
    by_hand: Deployment,
) -> None:
    application, project = by_hand
    server = application.sandbox.config["releve:servers"][0]
    before = everything(application)

    unasked = adopt(application, project)
    assert not unasked.succeeded
    assert re.search(r"shows the ed25519 key SHA256:\S{43}\n", unasked.output)
    assert not project.stack_file.exists()

    several = adopt(application, project, "--yes")
    assert f"--directory {application.directory} " in several.output
    done = adopt(application, project, "--yes", "--directory", application.directory)
    assert done.succeeded, done.output
    assert "Not known" not in done.output
    assert written(project) == {
        "releve:tag": BY_HAND,
        "releve:image": {"repository": application.repository},
        "releve:app": {
            "directory": application.directory,
            "services": ["fabmanager", "worker"],
            "assets": ["/usr/src/app/public/packs", "/usr/src/app/public/assets"],
        },
        "releve:servers": [
            {
                "name": application.name, "host": server["host"], "port": server["port"], "user": "deploy",
                "hostKey": server["hostKey"], "url": f"http://{server['host']}:{application.port}",
            }
        ],
    }  # fmt: skip

    project.config = written(project)
    preview = project.preview()
    assert preview.succeeded, preview.output
    shown = project.sandbox.run(project.directory, "./releve", "config", "show", "-s", project.stack)
    assert yaml.safe_load(shown.output)["app"]["directory"] == application.directory
    assert everything(application) == before

    project.set("servers.0.name", "server1")  # by which the harness knows the steps
    project.release(NEXT)
    assert application.serves("1.0.0")
    assert f"{application.repository}:{NEXT}@sha256:" in application.read()


def test_a_file_that_is_there_is_not_overwritten_unasked(by_hand: Deployment) -> None:
    application, project = by_hand
    project.stack_file.write_text(kept := "config: {}\n")
    done = adopt(application, project, "--yes", "--directory", application.directory)
    assert not done.succeeded
    assert f"{project.stack_file.name} is there already" in done.output
    assert project.stack_file.read_text() == kept
    project.write()
