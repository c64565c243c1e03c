"""What is written into .env, and what a release is tried with before it is, with the real Docker Compose as judge."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from release import environment
from server import compose_file
from server.containers import Compose

pytestmark = pytest.mark.e2e

PARTS = ("", "a", "\\", "'", '"', "$", "$$", "${A}", "\n", "\r\n", " ", "\t", "#", " #", "\\n", "\\0134", "é", "`id`")
VALUES = [f"{first}{second}{last}" for first in PARTS for second in ("", "b", "'", "\n") for last in PARTS]


def test_every_value_is_read_by_compose_as_it_is(tmp_path: Path) -> None:
    values = {f"N{number}": value for number, value in enumerate(VALUES)}
    (tmp_path / ".env").write_text(environment.env_file(values), newline="")
    filled_in = {f"F{name}": f"${{{name}}}" for name in values}
    service = {"image": "x", "env_file": ".env", "environment": filled_in}
    (tmp_path / "docker-compose.yml").write_text(json.dumps({"services": {"web": service}}))
    resolved = configured(Compose(tmp_path))
    read = {name: value.replace("$$", "$") for name, value in resolved["services"]["web"]["environment"].items()}
    assert read == {**values, **{f"F{name}": value for name, value in values.items()}}


def configured(compose: Compose) -> Any:
    command = ["docker", *compose.words("config", "--format", "json")]
    done = subprocess.run(command, cwd=compose.directory, input=compose.stdin, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


COMPOSE_FILE = """\
name: "${NAME:-none}"
x-files: &files
  - .env
  - more.env
x-base: &base
  image: x
  env_file: *files
services:
  web:
    <<: *base
    volumes: ["./.env:/app/.env:ro", "./uploads:/app/uploads", {type: bind, source: .env, target: /env}]
    environment: {FILLED: "${A}"}
  worker:
    <<: *base
    env_file: ./.env
  other:
    image: x
    env_file: [{path: &path .env, required: false}]
  last: {image: x, env_file: [more.env, {path: *path}], profiles: [last]}
  none: {image: "x:${A}", env_file: config/.env}
"""
OVERRIDE = "services:\n  web:\n    env_file: $PWD/.env\n"


def test_a_release_is_tried_as_it_will_be_once_its_environment_is_in_place(tmp_path: Path) -> None:
    project, scratch = tmp_path / "project", tmp_path / "scratch"
    for directory in (project / "config", scratch):
        directory.mkdir(parents=True)
    (project / "docker-compose.yml").write_text(COMPOSE_FILE)
    (project / "docker-compose.override.yml").write_text(OVERRIDE.replace("$PWD", str(project)))
    (project / ".env").write_text("A=old\nGONE=1\nNAME=old\n")
    (project / "more.env").write_text("B=more\n")
    (project / "config/.env").write_text("C=other\n")
    new = scratch / ".env"
    new.write_text(environment.env_file({"A": "new", "NAME": "name", "COMPOSE_PROFILES": "last"}))
    own, trials = str(project / ".env"), []
    for file in (project / "docker-compose.yml", project / "docker-compose.override.yml"):
        text = compose_file.with_path(file.read_text(), lambda path: os.path.normpath(project / path) == own, str(new))
        trials.append(scratch / file.name)
        trials[-1].write_text(text)
    tried = configured(Compose(project, trials[0], (trials[1],), new))
    (project / ".env").write_bytes(new.read_bytes())
    in_place = configured(Compose(project))
    for resolved in (tried, in_place):
        for extension in ("x-files", "x-base"):
            del resolved[extension]
    assert json.loads(json.dumps(tried).replace(str(new), str(project / ".env"))) == in_place
    assert in_place["name"] == "name"
    assert "GONE" not in json.dumps(in_place)
