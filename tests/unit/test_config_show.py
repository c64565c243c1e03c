"""./releve config show: all that holds, and where each value comes from, without a server and without secrets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from configuration.effective import effective
from configuration.keys import keys
from configuration.written import Leaf, Node, leaves, lines, plain
from operations import stack as stacks
from operations.__main__ import releve
from tests.unit.test_configuration import HOST_KEY, loaded
from tests.unit.test_preset import of_a_lab

pytestmark = pytest.mark.unit

SECURE = {"secure": "AAABAFZmPrSgEhK7hunter2"}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project without a state, on a machine without pulumi."""
    monkeypatch.setattr(stacks, "PROJECT", tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


def shown(project: Path, configuration: dict[str, Any], *options: str, **document: Any) -> Result:
    config = {f"releve:{key}": value for key, value in configuration.items()}
    (project / "Pulumi.lab.yaml").write_text(yaml.safe_dump({"config": config, **document}))
    return CliRunner().invoke(releve, ["config", "show", "-s", "lab", *options])


def origins(configuration: dict[str, Any]) -> dict[str, str]:
    found = effective(loaded(configuration), configuration, "Pulumi.lab.yaml")
    return {path: leaf.remark for path, leaf in leaves(found)}


def test_each_value_says_whether_it_is_of_the_stack_file_of_the_preset_or_a_default() -> None:
    found = origins(of_a_lab(app={"directory": "/srv/fab", "stepTimeouts": {"pull": 60}}))
    assert found["app.directory"] == found["app.stepTimeouts.pull"] == found["servers[0].host"] == "Pulumi.lab.yaml"
    assert found["app.services"] == found["app.stepTimeouts.precompile"] == "preset fabmanager"
    assert found["image.smokeTest.paths[0].contains"] == "preset fabmanager"
    assert found["app.port"] == found["servers[0].port"] == "default"
    assert found["registry.username"] == "default: what `docker login` has stored"


def test_a_list_of_the_stacks_own_hides_the_presets_and_null_is_the_stack_files() -> None:
    image = {"repository": "ghcr.io/lab/fabmanager", "smokeTest": {"paths": ["/"]}}
    assert origins(of_a_lab(image=image))["image.smokeTest.paths[0].contains"] != "preset fabmanager"
    image["smokeTest"] = None  # type: ignore[assignment]
    assert origins(of_a_lab(image=image))["image.smokeTest"] == "Pulumi.lab.yaml"


def test_what_is_printed_is_yaml_of_every_key_and_reads_back_as_the_same_configuration(project: Path) -> None:
    done = shown(project, of_a_lab())
    assert done.exit_code == 0, done.output
    printed = yaml.safe_load(done.output)
    assert set(printed) == {key.path for key in keys() if "." not in key.path}
    # Null stands for what is not set; groups and maps may hold nothing.
    given = without_null(printed)
    assert loaded(given) == loaded(of_a_lab())


def without_null(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_null(part) for key, part in value.items() if part is not None}
    return [without_null(part) for part in value] if isinstance(value, list) else value


def test_no_secret_is_shown_and_none_is_needed(project: Path) -> None:
    configuration = of_a_lab(
        registry={"username": "lab", "password": SECURE}, env={"SECRET_KEY_BASE": SECURE, "PLAIN": "but-hidden-too"}
    )
    configuration["servers"][0]["privateKey"] = SECURE
    configuration["notify"] = {"urls": [SECURE]}
    done = shown(project, configuration, encryptionsalt="v1:hunter2")
    assert done.exit_code == 0, done.output
    assert "hunter2" not in done.output
    assert "but-hidden-too" not in done.output
    printed = yaml.safe_load(done.output)
    assert printed["registry"]["password"] == printed["servers"][0]["privateKey"] == "[secret]"
    assert printed["env"] == {"SECRET_KEY_BASE": "[secret]", "PLAIN": "[secret]"}
    assert printed["notify"]["urls"] == ["[secret]"]


def test_json_has_the_values_and_their_origins(project: Path) -> None:
    told = json.loads(shown(project, of_a_lab(), "--json").output)
    assert told["stack"] == "lab"
    assert told["values"]["app"]["services"] == ["fabmanager"]
    assert told["from"]["app.services"] == "preset fabmanager"
    assert told["from"]["servers[0].hostKey"] == "Pulumi.lab.yaml"
    assert told["values"]["servers"][0]["hostKey"] == HOST_KEY


def test_what_cannot_be_used_is_said_as_a_preview_says_it(project: Path) -> None:
    done = shown(project, of_a_lab(tga="1"))
    assert done.exit_code == 1
    assert "tga: is not a key" in done.output


@pytest.mark.parametrize("more", [{"registry": {"username": SECURE, "password": SECURE, "tga": 1}}, {"notify": SECURE}])
def test_where_only_the_true_values_tell_pulumi_is_asked(project: Path, more: dict[str, Any]) -> None:
    assert "there is no command `pulumi`" in shown(project, of_a_lab(**more)).output


def test_values_of_an_environment_elsewhere_are_asked_of_pulumi(project: Path) -> None:
    assert "there is no command `pulumi`" in shown(project, of_a_lab(), environment=["lab"]).output


def test_what_pulumi_is_asked_for_is_shown_with_its_secrets_hidden(project: Path) -> None:
    configuration = of_a_lab(tag=SECURE)
    entries = {f"releve:{key}": {"objectValue": value} for key, value in configuration.items()}
    entries |= {"releve:tag": {"value": "6.5.10-lab"}, "releve:preset": {"value": "fabmanager"}}
    pulumi = project / "pulumi"
    pulumi.write_text(f"#!/bin/sh\n/bin/cat <<'EOF'\n{json.dumps(entries)}\nEOF\n")
    pulumi.chmod(0o755)
    # An address of a server that only pulumi can tell.
    configuration["servers"][0]["host"] = SECURE
    done = shown(project, configuration)
    assert done.exit_code == 0, done.output
    assert yaml.safe_load(done.output)["servers"][0]["host"] == "[secret]"


@pytest.mark.parametrize("value", ["1.10", "no", "a: b", "# x", "", None, True, ["a", {"b": "c"}], "é\"'"])
def test_every_value_is_written_as_yaml_that_reads_back(value: Any) -> None:
    node: dict[str, Node] = {
        "on": Leaf(value, "remark"),
        "list": [{"a": Leaf(value), "b": [Leaf(value)]}, Leaf(value, "x")],
    }
    assert yaml.safe_load("\n".join(lines(node))) == plain(node)
