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
from release.compose_file import ComposeFile
from release.reference import ImageReference
from server.request import (
    Assets,
    AssetsFrom,
    Check,
    Database,
    Delivery,
    Health,
    Image,
    Migrations,
    Request,
    StepName,
    Strategy,
    dump,
    load,
)

pytestmark = pytest.mark.unit

DIGEST = "sha256:" + "0" * 64
IMAGE = ImageReference("ghcr.io/fablab/fabmanager", "1.1.0", DIGEST)
SERVER = ServerSettings.model_construct(
    name="server1", host="192.0.2.1", user="deploy", host_key="", url="https://fab.example.org"
)
HEALTH = HealthSettings.model_validate(
    {"path": "/health", "contains": ['"postgresql":true'], "headers": {"X-A": "b c"}, "timeout": 90, "interval": 5}
    | {"checks": [{"path": "/status", "status": 204, "contains": ["ok"], "headers": {"X-B": "c"}}]}
)
COMPILE = ("bundle", "exec", "rails", "assets:precompile")


def settings(backup: object = None, env: object = None, registry: object = None, **app: object) -> Settings:
    base = {"directory": "/apps/fabmanager", "services": ["fabmanager", "worker"], "assets": ["/srv/public/packs"]}
    return Settings.model_construct(
        tag=str(IMAGE.tag),
        image=ImageSettings(repository=IMAGE.repository),
        servers=(SERVER,),
        app=AppSettings.model_validate(base | {"strategy": "in-place"} | app),
        health=HEALTH,
        backup=BackupSettings.model_validate(backup or {}),
        env=TypeAdapter(dict[str, SecretStr] | None).validate_python(env),
        keep_releases=4,
        registry=RegistrySettings.model_validate(registry or {}),
    )


def requests(of: Settings, compose_file: ComposeFile | None = None) -> dict[str, Request]:
    """Step → what it is asked, as it arrives on the server."""
    delivery = steps.delivery_of(of, compose_file, IMAGE)
    return {
        str(step): load(dump(steps.request_of(step, of, SERVER, image=IMAGE, delivery=delivery, actor="ada@laptop")))
        for step in steps.plan(of)
    }


def asked(of: Settings) -> Request:
    """What the last step is asked."""
    return list(requests(of).values())[-1]


# ---------------------------------------------------------------------------------------------------------- which steps

IN_PLACE = ["pull", "stop", "purge-assets", "precompile", "up", "verify"]
STAGED = ["pull", "precompile", "up", "purge"]


@pytest.mark.parametrize(
    ("strategy", "app", "planned"),
    [
        ("in-place", {}, IN_PLACE),  # the guide's order
        ("in-place", {"assets": []}, ["pull", "stop", "up", "verify"]),
        ("in-place", {"precompile": []}, ["pull", "stop", "up", "verify"]),
        ("staged", {}, STAGED),
        ("staged", {"assets": []}, ["pull", "up", "purge"]),
        ("staged", {"precompile": []}, ["pull", "up", "purge"]),
        ("staged", {"assetsFrom": "image"}, ["pull", "up", "purge"]),
        ("staged", {"afterUp": [["echo"]]}, ["pull", "precompile", "up", "after-up", "purge"]),
        ("staged", {"beforeUp": [["echo"]]}, STAGED),
        ("rolling", {}, STAGED),
    ],
)
def test_the_strategy_decides_which_steps_there_are(strategy: str, app: dict[str, object], planned: list[str]) -> None:
    assert list(requests(settings(strategy=strategy, **app))) == planned


# -------------------------------------------------------------------------------------------------- what they are asked


@pytest.mark.parametrize("strategy", ["in-place", "staged", "rolling"])
def test_every_step_is_told_of_the_release_the_services_and_who_rolls_out(strategy: str) -> None:
    of = settings(strategy=strategy)
    for asked in requests(of).values():
        assert asked.image == Image(IMAGE.repository, "1.1.0", DIGEST)
        assert (asked.web, asked.workers) == ("fabmanager", ("worker",))
        assert (asked.directory, asked.strategy) == ("/apps/fabmanager", Strategy(strategy))
        assert (asked.actor, asked.keep_releases) == ("ada@laptop", 4)


def test_every_step_and_every_part_of_one_has_a_time_of_its_own() -> None:
    limits = asked(settings(stepTimeouts={"up": 7, "task": 8})).limits
    changed = {"up": 7, "task": 8, "after-up": 8, "gate": HEALTH.timeout, "verify": HEALTH.timeout}
    assert limits == {str(step): seconds for step, seconds in DEFAULT_TIMEOUTS.items()} | changed
    assert set(limits) == {str(step) for step in StepName}


@pytest.mark.parametrize(
    ("strategy", "app", "assets"),
    [
        ("in-place", {}, Assets(("/srv/public/packs",), AssetsFrom.COMPILE, COMPILE)),
        ("in-place", {"precompile": []}, Assets(("/srv/public/packs",))),
        ("in-place", {"assets": []}, Assets()),
        ("staged", {}, Assets(("/srv/public/packs",), AssetsFrom.COMPILE, COMPILE)),
        # Nothing makes them.
        ("staged", {"precompile": []}, Assets()),
        ("staged", {"assets": []}, Assets()),
        # The image holds them: nothing is compiled.
        ("staged", {"assetsFrom": "image"}, Assets(("/srv/public/packs",), AssetsFrom.IMAGE)),
        ("staged", {"assetsFrom": "image", "precompile": []}, Assets(("/srv/public/packs",), AssetsFrom.IMAGE)),
        ("rolling", {"assets": ["/a/", "/b"]}, Assets(("/a", "/b"), AssetsFrom.COMPILE, COMPILE)),
        (
            *("staged", {"assetInputs": ["plugins"]}),
            Assets(("/srv/public/packs",), precompile=COMPILE, inputs=("plugins",)),
        ),
        (
            "staged",
            {"assetInputs": ["plugins"], "assetsFrom": "image"},
            Assets(("/srv/public/packs",), AssetsFrom.IMAGE),
        ),
        ("staged", {"precompileMemory": "512m"}, Assets(("/srv/public/packs",), precompile=COMPILE, memory="512m")),
    ],
)
def test_assets_are_asked_for_where_something_makes_them(strategy: str, app: dict[str, object], assets: Assets) -> None:
    for asked in requests(settings(strategy=strategy, **app)).values():
        assert asked.assets == assets


def test_the_health_gate_is_passed_on_whole() -> None:
    assert asked(settings(port=8080, logFiles=["/var/log/app.log"])).health == Health(
        port=8080,
        path="/health",
        contains=('"postgresql":true',),
        headers={"X-A": "b c"},
        url="https://fab.example.org",
        settle=10,
        interval=5,
        checks=(Check("/status", 204, ("ok",), {"X-B": "c"}),),
        log_files=("/var/log/app.log",),
    )


def test_migrations_and_the_dump_are_described_as_configured() -> None:
    backup = {"service": "db", "database": "fab", "user": "me", "keep": 9, "restoreOnFailure": True, "command": ["x"]}
    app = {"migrate": ["bin/migrate"], "pending": ["bin/pending"], "migrations": "compatible"}
    assert asked(settings(strategy="staged", backup=backup, **app)).database == Database(
        migrate=("bin/migrate",),
        pending=("bin/pending",),
        migrations=Migrations.COMPATIBLE,
        service="db",
        name="fab",
        user="me",
        command=("x",),
        keep=9,
        restore_on_failure=True,
    )


def test_commands_keep_their_words_apart() -> None:
    tasks = [["rails", "a b"], ["touch", "1:2"]]
    told = asked(settings(strategy="rolling", beforeUp=tasks, afterUp=tasks, workerQuiet=["kill", "-TSTP", "1"]))
    assert told.before_up == told.after_up == (("rails", "a b"), ("touch", "1:2"))
    assert told.worker_quiet == ("kill", "-TSTP", "1")


@pytest.mark.parametrize(("given", "told"), [({}, None), ({"entrypoint": []}, ()), ({"entrypoint": ["x"]}, ("x",))])
def test_no_entrypoint_is_another_one_than_the_images_own(given: dict[str, object], told: tuple[str, ...]) -> None:
    assert asked(settings(**given)).entrypoint == told


def test_what_is_said_and_shown_of_an_interruption_is_as_configured() -> None:
    told = asked(settings(strategy="staged", maintenancePage="public/maintenance.html", downtimeBudget=5))
    assert (told.maintenance_page, told.downtime_budget) == ("public/maintenance.html", 5)


@pytest.mark.parametrize(
    "word", ["a b", "$(reboot)", "`id`", "; rm -rf /tmp", "it's", '"', "*", "a\\b", "é", "--flag", "$HOME", "!1"]
)
def test_whatever_a_value_holds_it_stays_one_word(word: str) -> None:
    told = asked(settings(directory=f"/apps/{word}", precompile=["run", word], assets=[f"/srv/{word}"]))
    assert told.directory == f"/apps/{word}"
    assert told.assets.precompile == ("run", word)
    assert told.assets.paths == (f"/srv/{word}",)


# ---------------------------------------------------------------------------------------------- what goes to pull alone

TEXT = "services:\n  fabmanager:\n    image: a\n  worker:\n    image: a\n"


@pytest.mark.parametrize("strategy", ["in-place", "staged", "rolling"])
def test_compose_file_and_environment_go_to_pull_alone_and_the_others_know_which_they_are(strategy: str) -> None:
    of = settings(strategy=strategy, env={"SECRET_KEY_BASE": "s3cret"}, composeFile="compose.yml")
    planned = requests(of, ComposeFile("compose.yml", TEXT))
    delivery = Delivery(TEXT.replace("image: a", f"image: {IMAGE}"), "SECRET_KEY_BASE='s3cret'\n")
    assert planned.pop("pull").delivery == delivery
    assert planned
    for told in planned.values():
        assert told.delivery is None
        assert told.delivered == delivery.sha256
        assert told.keeps_compose_file
        assert told.keeps_environment
        assert "s3cret" not in dump(told)


def test_the_servers_own_files_are_left_alone_where_the_stack_has_none() -> None:
    planned = requests(settings())
    assert planned["pull"].delivery == Delivery()
    assert {told.delivered for told in planned.values()} == {Delivery().sha256}
    assert not planned["pull"].keeps_compose_file
    assert not planned["pull"].keeps_environment


@pytest.mark.parametrize("strategy", ["in-place", "staged"])
def test_the_registrys_account_goes_to_pull_alone(strategy: str) -> None:
    account = {"username": "fablab", "password": "s3cret"}
    planned = requests(settings(strategy=strategy, registry=account))
    assert '"ghcr.io"' in (planned["pull"].registry_login or "")
    assert [name for name, told in planned.items() if told.registry_login] == ["pull"]
    assert not any(told.registry_login for told in requests(settings(strategy=strategy)).values())


# ----------------------------------------------------------------------------------------------------- about no release


@pytest.mark.parametrize("step", [StepName.INSTALL, StepName.DUMP])
def test_a_step_about_no_release_knows_no_image_and_no_secret(step: StepName) -> None:
    of = settings(env={"A": "s3cret"}, registry={"username": "fablab", "password": "s3cret"}, composeFile="c.yml")
    told = steps.request_of(step, of, SERVER, actor="ada@laptop")
    assert told.image is None
    assert told.keeps_compose_file
    assert told.keeps_environment
    assert "s3cret" not in dump(told)


@pytest.mark.parametrize("image", [IMAGE.with_tag("1.1.0"), ImageReference(IMAGE.repository, digest=DIGEST)])
def test_an_image_without_tag_or_digest_is_no_release(image: ImageReference) -> None:
    with pytest.raises(ValueError, match="it is no release"):
        steps.request_of(StepName.PULL, settings(), SERVER, image=image)


def test_the_downtime_is_read_from_what_the_step_printed() -> None:
    said = "up: the project is up (1.0 s)\nup: 1.1.0-abc serves; the site did not answer for 1.4 s, more than (0.0 s)\n"
    assert steps.downtime_of(said) == 1.4
    assert steps.downtime_of("up: 1.1.0-abc serves; nothing served before (0.1 s)") is None
