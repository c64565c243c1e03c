"""Of each key of the configuration: what is written about it, and whether its change is a rollout."""

import copy
import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fastjsonschema
import pytest
import yaml

from configuration import reference
from configuration.keys import Key, keys, specification
from configuration.load import load
from configuration.tree import Rollout, Settings
from configuration.values import Called

pytestmark = pytest.mark.unit

PROJECT = Path(__file__).resolve().parents[2]
HOST_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHJycnJycnJycnJycnJycnJycnJycnJycnJycnJycnJy"
OTHER_HOST_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHNzc3Nzc3Nzc3Nzc3Nzc3Nzc3Nzc3Nzc3Nzc3Nzc3Nz"

CONFIGURATION: dict[str, Any] = {
    "tag": "1.0.0",
    "image": {"repository": "example.org/app", "source": {"path": "app"}, "smokeTest": {"paths": [{"path": "/"}]}},
    "registry": {"username": "someone", "password": "some-password"},
    "app": {"directory": "/apps/app", "services": ["web"]},
    "health": {"checks": [{"path": "/other"}]},
    "servers": [
        {
            "name": "server1",
            "host": "192.0.2.1",
            "user": "root",
            "hostKey": HOST_KEY,
            "jump": {"host": "192.0.2.2", "user": "root", "hostKey": HOST_KEY},
        }
    ],
}
VALUES = [key for key in keys() if not key.kind.group or key.kind.mark(Called)]
OF_THEIR_OWN = [key for key in VALUES if key.path != "preset"]
"""The keys that a value is written for."""
NOT_IN_THE_REFERENCE = {"registry.password": "another", "servers[].privateKey": "-----BEGIN OPENSSH PRIVATE KEY-----\n"}
"""Secrets have no example."""


def changed(key: Key) -> dict[str, Any]:
    """The configuration, with one key set to the example that the reference gives for it."""
    value = NOT_IN_THE_REFERENCE[key.path] if key.path in NOT_IN_THE_REFERENCE else key.field.examples[0]  # type: ignore[index] # each has one
    configuration = copy.deepcopy(CONFIGURATION)
    target: Any = configuration
    *groups, name = key.path.split(".")
    for group in groups:
        target = target.setdefault(group.removesuffix("[]"), {})
        target = target[0] if group.endswith("[]") else target
    target[name] = OTHER_HOST_KEY if value == "ssh-ed25519 AAAA…" else value
    return configuration


def loaded(configuration: dict[str, Any]) -> Settings:
    delivered = {f"releve:{k}": v if isinstance(v, str) else json.dumps(v) for k, v in configuration.items()}
    return load(delivered, Path("Pulumi.test.yaml"))


def hashed(configuration: dict[str, Any], compose_file: str | None = None) -> str:
    settings = loaded(configuration)
    return specification(settings, settings.servers[0], compose_file)


@pytest.fixture(scope="module")
def checked() -> Callable[[Any], Any]:
    """The committed schema, as a function that raises what a document has that it must not."""
    compiled: Callable[[Any], Any] = fastjsonschema.compile(json.loads(reference.SCHEMA.read_text()))
    return compiled


def document(configuration: dict[str, Any]) -> dict[str, Any]:
    return {"config": {f"releve:{key}": value for key, value in configuration.items()}}


# ----------------------------------------------------------------------------------------------------------- rollouts


@pytest.mark.parametrize("key", OF_THEIR_OWN, ids=lambda key: key.path)
def test_a_change_of_a_key_changes_the_specification_if_it_is_marked_so_and_otherwise_not(key: Key) -> None:
    mark = key.kind.mark(Rollout)
    is_specified = mark is not None and mark.otherwise is None
    assert loaded(changed(key)) != loaded(CONFIGURATION)
    assert (hashed(changed(key)) != hashed(CONFIGURATION)) is is_specified


def test_these_keys_make_a_rollout_and_no_other() -> None:
    assert {key.path for key in VALUES if key.kind.mark(Rollout)} == {
        "tag", "image.repository", "servers[].name", "servers[].host", "app.directory", "app.services",
        "app.composeFile", "app.strategy", "app.assets", "app.assetInputs", "app.assetsFrom", "app.precompile",
        "app.entrypoint", "app.oneShots", "env", "preset",
    }  # fmt: skip


def test_the_text_of_the_compose_file_is_part_of_the_specification() -> None:
    assert len({hashed(CONFIGURATION, text) for text in (None, "services: {}", "services: {web: {}}")}) == 3


def test_the_specification_is_the_one_of_earlier_versions() -> None:
    # Another one would make a rollout of everybody's update of Relève.
    specified = {
        "repository": "example.org/app",
        "host": "192.0.2.1",
        "directory": "/apps/app",
        "services": ["web"],
        "strategy": "staged",
        "composeFile": "services: {}",
        "assets": [],
        "assetsFrom": "compile",
        "precompile": ["bundle", "exec", "rails", "assets:precompile"],
    }
    text = json.dumps(specified, sort_keys=True)
    assert hashed(CONFIGURATION, "services: {}") == hashlib.sha256(text.encode()).hexdigest()


# ------------------------------------------------------------------------------------------- what is written of a key


def test_the_committed_reference_and_schema_are_what_the_tree_says() -> None:
    assert reference.MARKDOWN.read_text() == reference.markdown(), "run: make reference"
    assert reference.SCHEMA.read_text() == reference.schema(), "run: make reference"


@pytest.mark.parametrize("key", VALUES, ids=lambda key: key.path)
def test_every_key_is_described_with_a_command_that_sets_it(key: Key) -> None:
    assert key.field.description
    row = next(row for row in reference.markdown().splitlines() if row.startswith(f"| `{key.path}` |"))
    assert re.search(r"\| `(--\S+ )*'?[a-zA-Z][^|]*\|$", row)
    assert f"{key.path.replace('[]', '[0]')}" in row.rpartition("| `")[2]


def test_pulumi_yaml_declares_keys_of_the_tree() -> None:
    declared = yaml.safe_load((PROJECT / "Pulumi.yaml").read_text())["config"]
    assert set(declared) <= {key.path for key in keys()}


@pytest.mark.parametrize("name", ["Pulumi.prod.yaml", "Pulumi.staging.yaml", "sandbox/stack.yaml"])
def test_the_schema_accepts_the_stack_files_which_name_it(name: str, checked: Callable[[Any], Any]) -> None:
    text = (PROJECT / name).read_text()
    assert text.startswith("# yaml-language-server: $schema=docs/stack.schema.json\n")
    checked(yaml.safe_load(text.replace("@SSH_PORT@", "22").replace("@URL@", "http://x").replace("@HOST_KEY@", HOST_KEY)
                           .replace("@APPLICATION@", "app").replace("@REGISTRY@", "localhost:5000")))  # fmt: skip


@pytest.mark.parametrize("key", VALUES, ids=lambda key: key.path)
def test_the_schema_accepts_every_key(key: Key, checked: Callable[[Any], Any]) -> None:
    checked(document(changed(key)))


def test_the_schema_accepts_what_pulumi_writes_besides(checked: Callable[[Any], Any]) -> None:
    secure = {"secure": "v1:AAAA:BBBB"}
    configuration = copy.deepcopy(CONFIGURATION) | {"keepReleases": "5", "env": {"A": secure, "B": "text"}}
    configuration["registry"]["password"] = configuration["servers"][0]["privateKey"] = secure
    configuration["image"]["smokeTest"]["env"] = {"A": secure}
    written = document(configuration) | {"encryptionsalt": "v1:AAAA", "environment": ["lab"]}
    written["config"]["docker:host"] = "unix:///var/run/docker.sock"
    checked(written)


@pytest.mark.parametrize("group", ["releve:app", "releve:image"])
def test_the_schema_asks_for_what_a_preset_has_only_of_a_stack_without_one(
    group: str, checked: Callable[[Any], Any]
) -> None:
    configuration = document(copy.deepcopy(CONFIGURATION) | {"preset": "fabmanager"})
    configuration["config"]["releve:image"]["smokeTest"] = None
    del configuration["config"]["releve:app"]
    checked(configuration)
    configuration = document(copy.deepcopy(CONFIGURATION))
    del configuration["config"][group]
    with pytest.raises(fastjsonschema.JsonSchemaException):
        checked(configuration)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("releve:tga",), "1.0.0"),
        (("releve:tag",), 1.1),
        (("releve:tag",), "latest"),
        (("releve:tag",), "build-0123"),
        (("releve:image", "sauce"), {}),
        (("releve:image", "source", "arg"), {}),
        (("releve:image", "source", "args"), {"A": 1}),
        (("releve:image", "smokeTest", "paths", 0, "contain"), ["a"]),
        (("releve:image", "checks"), {"no-root": "warn"}),
        (("releve:image", "checks"), {"env-file": "maybe"}),
        (("releve:app", "port"), "3000"),
        (("releve:app", "directory"), "apps"),
        (("releve:app", "services"), []),
        (("releve:app", "services"), ["-x"]),
        (("releve:app", "stepTimeouts"), {"gate": 3}),
        (("releve:app", "stepTimeouts"), {"pul": 3}),
        (("releve:env",), {"A B": "c"}),
        (("releve:servers",), []),
        (("releve:servers", 0, "hostkey"), HOST_KEY),
        (("releve:servers", 0, "hostKey"), "ssh-rsa AAAA"),
        (("releve:servers", 0, "jump", "prt"), 22),
    ],
)
def test_the_schema_refuses_unknown_keys_and_values_that_cannot_be_meant(
    path: tuple[Any, ...], value: object, checked: Callable[[Any], Any]
) -> None:
    written = document(copy.deepcopy(CONFIGURATION))
    checked(written)
    target: Any = written["config"]
    for key in path[:-1]:
        target = target[key]
    target[path[-1]] = value
    with pytest.raises(fastjsonschema.JsonSchemaException):
        checked(written)
