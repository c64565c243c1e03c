"""What `make new-app` gives: a Dockerfile that makes an image fit for production, a Compose file and an nginx site."""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.harness import CHECKOUT

pytestmark = pytest.mark.e2e

HERE = Path(__file__).parent / "templates"
TEMPLATES = CHECKOUT / "templates/rails"
TAG = f"releve-tests-templates:{os.getpid()}"
SECRET = "s3cret-of-the-developer"


def run(*command: str, cwd: Path = CHECKOUT) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}{done.stderr}"
    return done.stdout.strip()


def base_image(name: str) -> str:
    return run("sandbox/build-images", name)


@pytest.fixture(scope="module")
def application(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout of a Rails application, with what a developer leaves lying around, and the templates."""
    directory = tmp_path_factory.mktemp("new-app")
    for name, text in {
        "Gemfile": "",
        "Gemfile.lock": "",
        "package.json": "{}",
        "package-lock.json": "{}",
        "config/puma.rb": "",
        "config/master.key": SECRET,
        "app/models/visit.rb": "class Visit; end\n",
        ".env": f"SECRET_KEY_BASE={SECRET}\n",
        "node_modules/left-pad/index.js": SECRET,
        "log/development.log": SECRET,
        "tmp/cache": SECRET,
    }.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text(text)
    run("make", "new-app", f"DIR={directory}")
    return directory


@pytest.fixture(scope="module")
def image(application: Path) -> Iterator[str]:
    """The image that the template's Dockerfile makes of it, on bases that stand for those of Ruby and Node.js."""
    run("sandbox/build-images")
    bases = {stage: f"{TAG}-{stage}" for stage in ("node", "ruby")}
    try:
        for stage, name in bases.items():
            debian = f"DEBIAN={base_image('debian')}"
            run("docker", "build", "--tag", name, "--target", stage, "--build-arg", debian, str(HERE))
        run("docker", "build", "--tag", TAG, *build_arguments(), str(application))
        yield TAG
    finally:
        for name in (TAG, *bases.values()):
            subprocess.run(["docker", "rmi", "--force", name], capture_output=True, check=False)


def build_arguments() -> list[str]:
    arguments = {
        "BASE_IMAGE": f"{TAG}-ruby",
        "NODE_IMAGE": f"{TAG}-node",
        "PACKAGES": "curl",
        "BUILD_PACKAGES": "make",
    }
    return [word for name, value in arguments.items() for word in ("--build-arg", f"{name}={value}")]


def inspected(image: str) -> Any:
    return json.loads(run("docker", "image", "inspect", image))[0]["Config"]


def test_the_image_runs_production_as_a_user_that_is_not_root_by_a_command_in_exec_form(image: str) -> None:
    config = inspected(image)
    assert {"RAILS_ENV=production", "RACK_ENV=production", "NODE_ENV=production"} <= set(config["Env"])
    assert config["User"] == "app"
    assert config["Cmd"] == ["bundle", "exec", "puma", "-C", "config/puma.rb"]
    assert run("docker", "run", "--rm", "--entrypoint", "id", image, "-u") == "1000"


def test_the_image_holds_the_application_its_gems_and_its_assets_and_nothing_else(image: str) -> None:
    listed = run("docker", "run", "--rm", "--entrypoint", "find", image, "/app", "/usr/local/bundle", "/opt")
    found = set(listed.splitlines())
    assert "/app/app/models/visit.rb" in found
    assert "/app/public/assets/application-0123.css" in found
    assert "/usr/local/bundle/ruby/3.3.0/gems/rack" in found
    assert not [
        path
        for path in found
        if any(part in path for part in (".env", ".key", "node_modules", "cache", "yarn", "Dockerfile", ".log"))
    ]


def test_no_layer_and_no_line_of_the_history_holds_a_secret(image: str, tmp_path: Path) -> None:
    assert "SECRET_KEY_BASE=" in (TEMPLATES / "Dockerfile").read_text()
    run("docker", "save", "--output", str(tmp_path / "image.tar"), image)
    run("tar", "-xf", "image.tar", cwd=tmp_path)
    layers = [path for path in tmp_path.rglob("*") if path.is_file() and path.name != "image.tar"]
    unpacked = [path.read_bytes() for path in layers]
    assert any(b"application-0123.css" in content for content in unpacked)
    assert not any(SECRET.encode() in content for content in unpacked)
    # The throwaway key was written into log/production.log by what stands for Rails.
    assert not any(b"production.log" in content for content in unpacked)


def test_the_container_becomes_healthy_and_stops_at_once(image: str) -> None:
    container = run("docker", "run", "--detach", "--rm", "--health-interval", "1s", image)
    try:
        deadline = time.monotonic() + 60
        while run("docker", "inspect", "--format", "{{.State.Health.Status}}", container) != "healthy":
            assert time.monotonic() < deadline
            time.sleep(0.2)
    finally:
        subprocess.run(["docker", "rm", "--force", container], capture_output=True, check=False)


def test_a_build_with_only_application_code_changed_reuses_what_was_installed(application: Path, image: str) -> None:
    (application / "app/models/visit.rb").write_text(f"# {time.time_ns()}\n")
    again = subprocess.run(
        ["docker", "build", "--progress=plain", "--tag", image, *build_arguments(), str(application)],
        capture_output=True, text=True, check=True,
    ).stderr  # fmt: skip
    steps = dict(re.findall(r"^(#\d+) \[build +\d+/\d+\] (.+)$", again, re.MULTILINE))
    reused = {step: f"{number} CACHED" in again.splitlines() for number, step in steps.items()}
    dependencies = [step for step in steps.values() if re.match("RUN (apt-get|bundle install|if )", step)]
    assert len(dependencies) == 3
    assert all(reused[step] for step in dependencies)
    assert not reused["COPY . ."]


def test_the_compose_file_is_valid_and_its_services_can_run_twice(application: Path) -> None:
    for key in ("SECRET_KEY_BASE", "POSTGRES_PASSWORD"):
        with (application / ".env").open("a") as file:
            file.write(f"{key}=x\n")
    config = json.loads(run("docker", "compose", "config", "--format", "json", cwd=application))
    web, worker = config["services"]["web"], config["services"]["worker"]
    assert web["image"] == worker["image"]
    assert not {"container_name", "ports"} & web.keys()
    assert "web" not in json.dumps(config["services"]["nginx"].get("depends_on", {}))
    assert all(":latest" not in service["image"] and ":" in service["image"] for service in config["services"].values())


def test_nginx_accepts_the_site(application: Path) -> None:
    run("sandbox/build-images")
    site = f"{application}/nginx.conf:/etc/nginx/conf.d/default.conf:ro"
    run("docker", "run", "--rm", "--volume", site, base_image("nginx"), "nginx", "-t")


def test_new_app_never_overwrites_a_file(application: Path, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM mine\n")
    (tmp_path / ".dockerignore").symlink_to("elsewhere")
    said = subprocess.run(
        ["make", "new-app", f"DIR={tmp_path}"], cwd=CHECKOUT, capture_output=True, text=True, check=True
    )
    assert (tmp_path / "Dockerfile").read_text() == "FROM mine\n"
    assert not (tmp_path / "elsewhere").exists()
    assert said.stderr.count("left as it is") == 2
    assert (tmp_path / "nginx.conf").read_bytes() == (TEMPLATES / "nginx.conf").read_bytes()
    again = subprocess.run(["make", "new-app"], cwd=CHECKOUT, capture_output=True, text=True, check=False)
    assert again.returncode != 0
    assert "make new-app DIR=" in again.stderr
