import shlex

import pytest
from pydantic import SecretStr, TypeAdapter

from configuration.tree import (
    DEFAULT_TIMEOUTS,
    AppSettings,
    BackupSettings,
    HealthSettings,
    ImageSettings,
    RegistrySettings,
    ServerSettings,
    Settings,
)
from release import steps
from release.reference import ImageReference
from server.request import StepName

pytestmark = pytest.mark.unit

IMAGE = ImageReference("ghcr.io/fablab/fabmanager", "1.1.0", "sha256:" + "0" * 64)
SCRIPT = steps.Script("#!/bin/sh\n")
SERVER = ServerSettings.model_construct(
    name="server1", host="192.0.2.1", user="deploy", host_key="", url="https://fab.example.org"
)
HEALTH = HealthSettings.model_validate(
    {"path": "/health", "contains": ['"postgresql":true'], "headers": {"X-A": "b c"}}
)


def settings(backup: object = None, env: object = None, **app: object) -> Settings:
    base = {"directory": "/apps/fabmanager", "services": ["fabmanager", "worker"], "assets": ["/srv/public/packs"]}
    return Settings.model_construct(
        tag=str(IMAGE.tag),
        image=ImageSettings(repository=IMAGE.repository),
        servers=(SERVER,),
        app=AppSettings.model_validate(base | {"strategy": "in-place"} | app),
        health=HEALTH,
        backup=BackupSettings.model_validate(backup or {}),
        env=TypeAdapter(dict[str, SecretStr] | None).validate_python(env),
        keep_releases=3,
        registry=RegistrySettings(),
    )


def commands(of: Settings) -> dict[str, list[str]]:
    planned = steps.plan(of, SERVER)
    return {step.name: shlex.split(steps.step_command(step, SCRIPT, of, IMAGE, "ada@laptop")) for step in planned}


def values(words: list[str], option: str) -> list[str]:
    return [words[i + 1] for i, word in enumerate(words) if word == option]


def test_in_place_follows_the_guides_order() -> None:
    assert list(commands(settings())) == ["pull", "stop", "purge-assets", "precompile", "up", "verify"]


@pytest.mark.parametrize("without", [{"assets": []}, {"precompile": []}])
def test_without_assets_or_a_command_to_compile_them_nothing_is_purged_or_compiled(without: dict[str, object]) -> None:
    planned = commands(settings(**without))
    assert list(planned) == ["pull", "stop", "up", "verify"]
    # Nor does the image need the command.
    assert "--" not in planned["pull"]


def test_every_step_names_the_release_the_services_and_its_time_limit() -> None:
    for name, words in commands(settings(stepTimeouts={"up": 7})).items():
        assert words[:3] == ["sh", f"/apps/fabmanager/.releve/bin/{SCRIPT.name}", name]
        assert words[words.index("--image") + 1] == str(IMAGE)
        assert [words[i + 1] for i, word in enumerate(words) if word == "--service"] == ["fabmanager", "worker"]
        limit = int(words[words.index("--timeout") + 1])
        assert limit == {"up": 7, "verify": HEALTH.timeout}.get(name) or limit == DEFAULT_TIMEOUTS[StepName(name)]


def test_the_command_comes_after_a_double_dash_in_the_steps_that_need_it() -> None:
    with_command = {
        name for name, words in commands(settings()).items() if words[-5:] == ["--", *settings().app.precompile]
    }
    assert with_command == {"pull", "precompile"}


def test_the_compose_file_of_the_repository_goes_to_the_steps_that_check_and_write_it() -> None:
    planned = commands(settings(composeFile="compose.yml"))
    assert {name for name, words in planned.items() if "--input-follows" in words} == {"pull", "stop"}


STAGED = ["pull", "precompile", "up", "purge"]


def test_staged_compiles_beside_the_running_release_and_switches_in_one_step() -> None:
    assert list(commands(settings(strategy="staged"))) == STAGED


@pytest.mark.parametrize("without", [{"assets": []}, {"precompile": []}])
def test_staged_has_nothing_to_precompile_without_assets_or_a_command(without: dict[str, object]) -> None:
    planned = commands(settings(strategy="staged", **without))
    assert list(planned) == ["pull", "up", "purge"]
    assert "--asset" not in planned["up"]


def test_assets_of_the_image_are_taken_when_it_is_pulled() -> None:
    planned = commands(settings(strategy="staged", assetsFrom="image"))
    assert list(planned) == ["pull", "up", "purge"]
    assert values(planned["pull"], "--assets-from") == ["image"]
    assert "--asset" in planned["pull"]
    assert all("--" not in words for words in planned.values())


def test_every_staged_step_that_looks_for_the_assets_knows_what_made_them() -> None:
    planned = commands(settings(strategy="staged"))
    del planned["purge"]  # looks at what was published
    assert all(words[-5:] == ["--", *settings().app.precompile] for words in planned.values())


def test_each_part_of_the_transaction_has_a_time_of_its_own() -> None:
    limits = values(commands(settings(strategy="staged", stepTimeouts={"migrate": 7}))["up"], "--limit")
    assert {limit.partition("=")[0] for limit in limits} >= {
        "pending",
        "stop",
        "dump",
        "migrate",
        "publish",
        "up",
        "gate",
    }
    assert "migrate=7" in limits


def test_rolling_has_the_steps_of_staged_and_knows_how_to_quiet_the_workers() -> None:
    rolling = commands(settings(strategy="rolling", workerQuiet=["kill", "-TSTP", "1"]))
    assert list(rolling) == list(commands(settings(strategy="staged")))
    assert values(rolling["up"], "--worker-quiet") == ["kill", "-TSTP", "1"]
    assert {value for words in rolling.values() for value in values(words, "--strategy")} == {"rolling"}


def test_commands_of_tasks_keep_their_words_apart() -> None:
    tasks = [["rails", "a b"], ["touch", "1:2"]]
    planned = commands(settings(strategy="staged", beforeUp=tasks, afterUp=tasks))
    assert list(planned) == ["pull", "precompile", "up", "after-up", "purge"]
    for step, option in (("up", "--before-up"), ("after-up", "--after-up")):
        assert values(planned[step], option) == ["1:rails", "1:a b", "2:touch", "2:1:2"]


def test_the_environment_goes_to_the_steps_that_need_it_and_never_into_an_argument() -> None:
    planned = commands(settings(strategy="staged", env={"SECRET_KEY_BASE": "s3cret"}))
    assert [step for step, words in planned.items() if "--input-follows" in words] == ["pull", "precompile", "up"]
    assert "s3cret" not in str(planned)


def test_the_dump_is_described_as_configured() -> None:
    backup = {
        "service": "db",
        "database": "fab",
        "user": "me",
        "keep": 9,
        "restoreOnFailure": True,
        "command": ["x", "y"],
    }
    words = commands(settings(strategy="staged", backup=backup))["up"]
    found = {name: values(words, f"--{name}") for name in ("backup-service", "backup-command", "backup-keep")}
    assert found == {"backup-service": ["db"], "backup-command": ["x", "y"], "backup-keep": ["9"]}
    assert values(words, "--restore-on-failure") == ["yes"]


def test_the_downtime_is_read_from_what_the_step_printed() -> None:
    said = "up: the project is up (1.0 s)\nup: 1.1.0-abc serves; the site did not answer for 1.4 s, more than (0.0 s)\n"
    assert steps.downtime_of(said) == 1.4
    assert steps.downtime_of("up: 1.1.0-abc serves; nothing served before (0.1 s)") is None


@pytest.mark.parametrize("strategy", ["in-place", "staged"])
def test_the_registrys_account_goes_to_pull_alone_and_stays_out_of_every_command_line(strategy: str) -> None:
    account = {"username": "fablab", "password": "s3cret"}
    whole = settings(strategy=strategy)
    planned = commands(whole.model_copy(update={"registry": RegistrySettings.model_validate(account)}))
    assert [name for name, words in planned.items() if "--input-follows" in words] == ["pull"]
    assert "s3cret" not in str(planned)
    assert not [name for name, words in commands(whole).items() if "--input-follows" in words]


def test_the_health_gate_is_passed_on_whole() -> None:
    words = commands(settings(port=8080))["verify"]
    tail = words[words.index("--port") :]
    assert tail == [
        *("--port", "8080", "--path", "/health", "--status", "200", "--contains", '"postgresql":true'),
        *("--header", "X-A: b c", "--url", "https://fab.example.org"),
    ]


@pytest.mark.parametrize(
    "word", ["a b", "$(reboot)", "`id`", "; rm -rf /", "it's", '"', "*", "a\\b", "é", "--flag", "$HOME"]
)
def test_whatever_a_value_holds_it_stays_one_word(word: str) -> None:
    planned = commands(settings(directory=f"/apps/{word}", precompile=["run", word], assets=[f"/srv/{word}"]))
    assert planned[StepName.PRECOMPILE][-2:] == ["run", word]
    assert planned[StepName.PULL][planned[StepName.PULL].index("--directory") + 1] == f"/apps/{word}"
    assert planned[StepName.PURGE_ASSETS][-1] == f"/srv/{word}"


def test_another_script_has_another_name() -> None:
    assert steps.Script("a").name != steps.Script("b").name
    assert SCRIPT.name.startswith("rollout-")
