"""Presets: what a stack that names one is left to write, and that it means the same as writing it all."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from configuration import preset
from configuration.keys import specification
from configuration.load import PREFIX
from configuration.tree import Settings
from release import smoke_model
from tests.unit.test_configuration import HOST_KEY, loaded, refusal

pytestmark = pytest.mark.unit

PROJECT = Path(__file__).resolve().parents[2]


def of_a_lab(**changes: Any) -> dict[str, Any]:
    """All that a lab needs to write."""
    server = {"name": "lab", "host": "fab.example.org", "user": "deploy", "hostKey": HOST_KEY}
    return {
        "tag": "6.5.10-lab",
        "preset": "fabmanager",
        "image": {"repository": "ghcr.io/lab/fabmanager"},
        "servers": [{**server, "url": "https://fab.example.org"}],
        **changes,
    }


def hashed(settings: Settings) -> str:
    return specification(settings, settings.servers[0], None)


def test_a_lab_writes_what_is_its_own_and_has_the_rest_of_the_preset() -> None:
    settings = loaded(of_a_lab())
    assert (settings.app.directory, settings.app.services) == ("/apps/fabmanager", ("fabmanager",))
    assert settings.app.assets == ("/usr/src/app/public/packs",)
    assert (settings.backup.database, settings.backup.restore_on_failure) == ("fablab_production", True)
    # A question to /health makes the application's connections anew, under its visitors.
    assert settings.health.path == "/"
    assert [check.path for check in settings.health.checks] == ["/health"]


@pytest.mark.parametrize("name", preset.names())
def test_a_preset_alone_leaves_open_only_what_differs_from_lab_to_lab(name: str) -> None:
    message = refusal({"preset": name})
    for key in ("tag", "image.repository", "servers"):
        assert f"\n  {key}: is missing" in message
    assert message.startswith("3 mistakes")


def test_a_value_of_the_labs_own_wins_key_by_key_and_a_list_as_a_whole() -> None:
    own = {"directory": "/srv/fab", "services": ["web", "worker"], "stepTimeouts": {"pull": 60}}
    settings = loaded(of_a_lab(app=own, health={"settle": 30}))
    assert (settings.app.directory, settings.app.services) == ("/srv/fab", ("web", "worker"))
    assert settings.app.step_timeouts["pull"] == 60  # type: ignore[index] # a Word is text
    assert settings.app.step_timeouts["precompile"] == 3600  # type: ignore[index]
    assert (settings.health.settle, settings.health.timeout) == (30, 300)


def test_null_takes_a_value_of_the_presets_away() -> None:
    settings = loaded(of_a_lab(image={"repository": "ghcr.io/lab/fabmanager", "smokeTest": None}))
    assert loaded(of_a_lab()).image.smoke_test is not None
    assert settings.image.smoke_test is None
    # And is no value of its own where there is none to take away.
    assert "app.logFiles" in refusal({**of_a_lab(app={"directory": "/a", "logFiles": None}), "preset": "x"})


def test_an_unknown_preset_is_refused_with_those_there_are() -> None:
    assert "preset: 'fabmanger': there is no such preset; there are: fabmanager" in refusal(
        of_a_lab(preset="fabmanger")
    )


def test_the_same_values_are_the_same_rollout_wherever_they_are_written() -> None:
    written_out = {key: value for key, value in of_a_lab().items() if key != "preset"}
    written_out = preset.merged(preset.read("fabmanager"), written_out)
    assert hashed(loaded(written_out)) == hashed(loaded(of_a_lab()))
    assert hashed(loaded(of_a_lab(app={"directory": "/srv/fab"}))) != hashed(loaded(of_a_lab()))


def test_merging_changes_neither_of_the_two() -> None:
    one, other = {"a": {"b": 1, "c": [1]}}, {"a": {"b": 2}}
    assert preset.merged(one, other) == {"a": {"b": 2, "c": [1]}}
    assert (one, other) == ({"a": {"b": 1, "c": [1]}}, {"a": {"b": 2}})


def test_a_preset_is_found_from_any_directory(tmp_path: Path) -> None:
    program = "from configuration import preset; print(preset.read('fabmanager')['app']['directory'])"
    environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout == "/apps/fabmanager\n"


def test_the_smoke_test_of_the_preset_has_a_service_for_the_candidate() -> None:
    smoke_test = loaded(of_a_lab()).image.smoke_test
    assert smoke_test
    assert smoke_test.compose_file
    assert smoke_model.application_in(PROJECT / smoke_test.compose_file) == "fabmanager"


@pytest.mark.parametrize("name", ["prod", "staging"])
def test_the_examples_are_of_the_preset_short_and_valid_but_for_the_host_key(name: str) -> None:
    text = (PROJECT / f"Pulumi.{name}.yaml").read_text()
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    assert len(lines) < 25
    config = {key.removeprefix(PREFIX): value for key, value in yaml.safe_load(text)["config"].items()}
    assert config["preset"] == "fabmanager"
    config["servers"][0]["hostKey"] = HOST_KEY
    assert loaded(config).app.services == ("fabmanager",)
