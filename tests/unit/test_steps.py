import shlex

import pytest

from release import steps
from release.reference import ImageReference
from settings import AppSettings, HealthSettings, ServerSettings, StepName

pytestmark = pytest.mark.unit

IMAGE = ImageReference("ghcr.io/fablab/fabmanager", "1.1.0", "sha256:" + "0" * 64)
SCRIPT = steps.Script("#!/bin/sh\n")
SERVER = ServerSettings.model_construct(
    name="server1", host="192.0.2.1", user="deploy", host_key="", url="https://fab.example.org"
)
HEALTH = HealthSettings.model_validate(
    {"path": "/health", "contains": ['"postgresql":true'], "headers": {"X-A": "b c"}}
)


def app(**changes: object) -> AppSettings:
    settings = {"directory": "/apps/fabmanager", "services": ["fabmanager", "worker"], "assets": ["/srv/public/packs"]}
    return AppSettings.model_validate(settings | changes)


def commands(settings: AppSettings) -> dict[str, list[str]]:
    planned = steps.plan(settings, HEALTH, SERVER)
    return {step.name: shlex.split(steps.step_command(step, SCRIPT, settings, IMAGE)) for step in planned}


def test_in_place_follows_the_guides_order() -> None:
    assert list(commands(app())) == ["pull", "stop", "purge-assets", "precompile", "up", "verify"]


@pytest.mark.parametrize("without", [{"assets": []}, {"precompile": []}])
def test_without_assets_or_a_command_to_compile_them_nothing_is_purged_or_compiled(without: dict[str, object]) -> None:
    planned = commands(app(**without))
    assert list(planned) == ["pull", "stop", "up", "verify"]
    # Nor does the image need the command.
    assert "--" not in planned["pull"]


def test_every_step_names_the_release_the_services_and_its_time_limit() -> None:
    for name, words in commands(app(stepTimeouts={"up": 7})).items():
        assert words[:3] == ["sh", f"/apps/fabmanager/.releve/bin/{SCRIPT.name}", name]
        assert words[words.index("--image") + 1] == str(IMAGE)
        assert [words[i + 1] for i, word in enumerate(words) if word == "--service"] == ["fabmanager", "worker"]
        limit = int(words[words.index("--timeout") + 1])
        assert limit == {"up": 7, "verify": HEALTH.timeout}.get(name) or limit == steps.DEFAULT_TIMEOUTS[StepName(name)]


def test_the_command_comes_after_a_double_dash_in_the_steps_that_need_it() -> None:
    with_command = {name for name, words in commands(app()).items() if words[-5:] == ["--", *app().precompile]}
    assert with_command == {"pull", "precompile"}


def test_the_compose_file_of_the_repository_goes_to_the_steps_that_check_and_write_it() -> None:
    planned = commands(app(composeFile="compose.yml"))
    assert {name for name, words in planned.items() if "--input-follows" in words} == {"pull", "stop"}


def test_the_health_gate_is_passed_on_whole() -> None:
    words = commands(app(port=8080))["verify"]
    tail = words[words.index("--port") :]
    assert tail == [
        *("--port", "8080", "--path", "/health", "--status", "200", "--contains", '"postgresql":true'),
        *("--header", "X-A: b c", "--url", "https://fab.example.org"),
    ]


@pytest.mark.parametrize(
    "word", ["a b", "$(reboot)", "`id`", "; rm -rf /", "it's", '"', "*", "a\\b", "é", "--flag", "$HOME"]
)
def test_whatever_a_value_holds_it_stays_one_word(word: str) -> None:
    planned = commands(app(directory=f"/apps/{word}", precompile=["run", word], assets=[f"/srv/{word}"]))
    assert planned[StepName.PRECOMPILE][-2:] == ["run", word]
    assert planned[StepName.PULL][planned[StepName.PULL].index("--directory") + 1] == f"/apps/{word}"
    assert planned[StepName.PURGE_ASSETS][-1] == f"/srv/{word}"


def test_another_script_has_another_name() -> None:
    assert steps.Script("a").name != steps.Script("b").name
    assert SCRIPT.name.startswith("rollout-")
