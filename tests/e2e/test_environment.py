"""What is written into .env, with the real Docker Compose as its reader."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from release import environment

pytestmark = pytest.mark.e2e

PARTS = ("", "a", "\\", "'", '"', "$", "$$", "${A}", "\n", "\r\n", " ", "\t", "#", " #", "\\n", "\\0134", "é", "`id`")
VALUES = [f"{first}{second}{last}" for first in PARTS for second in ("", "b", "'", "\n") for last in PARTS]


def test_every_value_is_read_by_compose_as_it_is(tmp_path: Path) -> None:
    values = {f"N{number}": value for number, value in enumerate(VALUES)}
    (tmp_path / ".env").write_text(environment.env_file(values), newline="")
    filled_in = {f"F{name}": f"${{{name}}}" for name in values}
    service = {"image": "x", "env_file": ".env", "environment": filled_in}
    (tmp_path / "docker-compose.yml").write_text(json.dumps({"services": {"web": service}}))
    words = ["docker", "compose", "config", "--format", "json"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    read = {
        name: value.replace("$$", "$")
        for name, value in json.loads(done.stdout)["services"]["web"]["environment"].items()
    }
    assert read == {**values, **{f"F{name}": value for name, value in values.items()}}
