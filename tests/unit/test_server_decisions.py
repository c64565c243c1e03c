"""What the server's program decides, from facts alone: no Docker, no files."""

from __future__ import annotations

import json

import pytest

from release.environment import env_file
from server.containers import Mount, containers_from, mount_option
from server.errors import Refusal
from server.former import name_of
from server.hidden import hidden_in
from server.migrations import State, migrated, state_of
from server.one_shots import COMPLETED
from server.output import fit
from server.project import Project, Service, settings_hash
from server.public import down
from server.pull import asset_mount
from server.rehearse import database_address
from server.request import Assets

pytestmark = pytest.mark.unit

UP, DOWN = "   up     20240101000000  Create visits\n", "  down    20240701000000  Add note\n"
NEWER = "   up     20240801000000  ********** NO FILE **********\n"
OLDER = "   up     20160906145713  ********** NO FILE **********\n"
DATABASE = (
    "\ndatabase: {}\n\n Status   Migration ID    Migration Name\n--------------------------------------------------\n"
)
SHOP, QUEUE = DATABASE.format("shop_production"), DATABASE.format("shop_queue")
NOISE = (
    "Waiting for database: postgres\n\x1b[1m\x1b[36mSchemaMigration Load (0.3ms)\x1b[0m  SELECT version\n"
    "D, [2026-01-01T00:00:00 #7] DEBUG -- :   up and down 20240901000000\r\n"
)


@pytest.mark.parametrize(
    ("said", "state"),
    [
        (UP, State.NONE),
        (UP + DOWN, State.PENDING),
        (UP + NEWER, State.AHEAD),
        (UP + DOWN + NEWER, State.AHEAD),
        (SHOP + OLDER + UP, State.NONE),
        (SHOP + OLDER + UP + DOWN, State.PENDING),
        (f"{NOISE}{SHOP}{NOISE}{UP}{NOISE}", State.NONE),
        (f"{NOISE}{SHOP}{UP}{NOISE}\x1b[33m{DOWN}\x1b[0m", State.PENDING),
        (f"{SHOP}{UP}{QUEUE}{UP}{DOWN}", State.PENDING),
        (f"{SHOP}{UP}{DOWN}{QUEUE}{UP}", State.PENDING),
        (f"{SHOP}{UP}{QUEUE}{UP}{NEWER}", State.AHEAD),
        # A database whose tables a schema file makes: no migration of it has a file.
        (f"{SHOP}{UP}{QUEUE}   up     001             ********** NO FILE **********\n", State.NONE),
        # One database under two names of the configuration, each with migrations of its own.
        (f"{SHOP}{UP}{NEWER}{SHOP}   up     20240801000000  Of the other directory\n", State.NONE),
        (SHOP, State.NONE),
        (NOISE, State.UNKNOWN),
        ("", State.UNKNOWN),
    ],
)
def test_what_rails_says_of_the_migrations_of_each_database_is_understood(said: str, state: State) -> None:
    assert state_of(migrated(said), lacking=False, compatible=False) is state


def test_where_a_release_may_be_older_than_its_database_what_is_pending_is_run() -> None:
    def state(said: str, *, lacking: bool = False) -> State:
        return state_of(migrated(said), lacking=lacking, compatible=True)

    assert state(UP + NEWER) is State.AHEAD
    assert state(UP + DOWN + NEWER) is State.PENDING
    assert state(f"{SHOP}{UP}{NEWER}{QUEUE}{UP}{DOWN}") is State.PENDING


def test_a_database_without_a_table_of_migrations_hides_nothing_of_the_others() -> None:
    def state(said: str) -> State:
        return state_of(migrated(said), lacking=True, compatible=False)

    assert state("") is State.NO_TABLES
    assert state(f"{SHOP}{UP}{DOWN}") is State.PENDING
    assert state(f"{SHOP}{UP}") is State.PENDING, "those of the other one"
    assert state(f"{SHOP}{UP}{NEWER}") is State.AHEAD


def test_the_databases_have_the_names_that_rails_gives_them() -> None:
    said = f"{NOISE}{SHOP}{UP}{NOISE}{QUEUE}{UP}database: of a later message\n"
    assert [database.name for database in migrated(said)] == ["shop_production", "shop_queue"]


def test_the_site_ceases_to_answer_and_answers_again_in_the_middle_between_two_questions() -> None:
    assert down([(1.0, True), (2.0, False), (2.1, False), (2.2, True)], end=3.0) == pytest.approx(0.65)
    assert down([(1.0, True), (1.5, False)], end=3.0) == pytest.approx(1.75)
    assert down([(1.5, False), (1.0, False), (2.0, True), (3.0, True)], end=3.0) == pytest.approx(0.75)
    assert down([(1.0, True), (2.0, False), (2.2, True), (3.2, False), (3.4, True)], end=4) == pytest.approx(1.2)
    assert down([(1.0, True)], end=3.0) == 0
    assert down([], end=3.0) == 0


def mount(target: str, *, kind: str = "bind", source: str = "/srv/x", writable: bool = True) -> Mount:
    return Mount(kind, source, target, writable, "")


def test_an_asset_path_is_on_the_deepest_mount_above_it() -> None:
    deep = mount("/app/public")
    assert asset_mount("web", "/app/public/packs", [mount("/app"), deep, mount("/app/public/packs/js")]) is deep


@pytest.mark.parametrize(
    ("mounts", "reason"),
    [
        ([], "is on no volume"),
        ([mount("/app/public/pack")], "is on no volume"),
        ([mount("/app", kind="tmpfs")], "is on no volume"),
        ([mount("/app", kind="volume", source="a1" * 32)], "is on the anonymous volume"),
        ([mount("/app", writable=False)], "is mounted read-only"),
    ],
)
def test_an_asset_path_whose_files_would_be_lost_is_refused(mounts: list[Mount], reason: str) -> None:
    with pytest.raises(Refusal, match=reason):
        asset_mount("web", "/app/public/packs", mounts)


def project(**services: dict[str, str]) -> Project:
    """Service → what it depends on, and how."""
    return Project("shop", {name: Service("image", needs) for name, needs in services.items()})


def test_a_service_is_brought_up_before_the_whole_where_others_depend_on_it() -> None:
    shop = project(web={"db": "service_healthy"}, worker={}, cron={}, nginx={"worker": "service_started"}, db={})
    assert shop.needed_workers(("web", "worker", "cron")) == ["worker"]
    assert shop.needed_by(["web"], ("web", "worker")) == ["db"]


def test_what_runs_once_before_the_web_service_is_left_to_compose() -> None:
    shop = project(web={"setup": COMPLETED}, setup={})
    assert shop.needed_by(["web"], ("web",)) == []
    assert not shop.starts_at_once(("web",))
    assert project(web={"db": "service_healthy"}, db={}).starts_at_once(("web",))


def test_settings_are_the_same_whatever_the_image() -> None:
    def resolved(image: str, **more: str) -> dict[str, object]:
        return {"services": {"web": {"image": image, **more}, "other": {"image": image}}}

    assert settings_hash(resolved("a:1"), ["web"]) == settings_hash(resolved("a:2"), ["web"])
    assert settings_hash(resolved("a:1"), ["web"]) != settings_hash(resolved("a:1", user="root"), ["web"])


def test_assets_of_the_former_program_have_the_name_that_it_gave_them() -> None:
    """Recorded from the program in sh, on this project."""
    config = (
        "name: shop\nservices:\n  nginx:\n    image: nginx:1\n  web:\n    image: registry.example:5000/shop/app:1.0\n"
    )
    assets = Assets(paths=("/app/public/packs",), precompile=("rails", "assets:precompile"))
    assert name_of(config, "web", assets) == "assets-a7a53052c200"


def test_a_line_of_an_error_is_cut_and_has_no_control_characters() -> None:
    text = "\x1b[31mred\x1b[0m \x07\x9bé" + "x" * 600
    (line,) = fit(text)
    assert line.startswith("red é")
    assert len(line.encode()) <= 500


def test_a_mount_is_written_as_csv_whatever_its_name() -> None:
    assert mount_option("bind", '/srv/my "shop", packs', "/app") == (
        'type=bind,"source=/srv/my ""shop"", packs","target=/app"'
    )
    assert mount_option("volume", "v", "/app", subpath="for/packs", read_only=True) == (
        'type=volume,"source=v","target=/app","volume-subpath=for/packs",readonly'
    )


def test_what_docker_does_not_say_of_a_container_is_empty() -> None:
    (container,) = containers_from(
        '[{"Id": "1", "Name": "/shop-web-1", "NetworkSettings": {"Networks": {"none": {}}}}]'
    )
    assert container.name == "shop-web-1"
    assert container.addresses == []


VALUES = {
    "PASSWORD": "sesame",
    "SECRET": 'it\'s \\ "1$x"',
    "PLAIN": "Wd7-x/9Q",
    "CERTIFICATE": "-----BEGIN-----\nMIIBiQKBgQC\n-----END-----",
    "RAILS_ENV": "production",
    "PORT": "3000",
    "SHORT_KEY": "abc",
    "EMPTY": "",
    "DIRECTORY_KEY": "/apps/shop",
    "LAST": "a-last-one\\",
}


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("no sesame here, sesames there", "no [env.PASSWORD] here, sesames there"),
        (VALUES["SECRET"], "[env.SECRET]"),
        (env_file({"A": VALUES["SECRET"]}), 'A="[env.SECRET]"\n'),
        (json.dumps(env_file({"A": VALUES["SECRET"], "B": VALUES["LAST"]})),
         '"A=\\"[env.SECRET]\\"\\nB=\\"[env.LAST]\\"\\n"'),
        ("postgres://u:Wd7-x/9Q@db", "postgres://u:[env.PLAIN]@db"),
        (f"{VALUES['CERTIFICATE']}\n", "[env.CERTIFICATE]\n"),
        ("…\nMIIBiQKBgQC\n", "…\n[env.CERTIFICATE]\n"),
        ("production 3000 abc /apps/shop/docker-compose.yml", "production 3000 abc /apps/shop/docker-compose.yml"),
    ],
)  # fmt: skip
def test_values_of_env_are_hidden_in_whatever_form_they_are_said_and_words_are_not(said: str, shown: str) -> None:
    assert hidden_in([env_file(VALUES)], "directory='/apps/shop'").without(said) == shown


def test_the_copy_of_a_database_is_reached_as_the_database_is() -> None:
    assert database_address("", "copy") == "postgresql:///copy"
    given = "postgresql://user:p%40ss@postgres:5432/shop?pool=5"
    assert database_address(given, "copy") == "postgresql://user:p%40ss@postgres:5432/copy?pool=5"
