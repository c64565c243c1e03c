"""The strategy staged: what is asked of Docker, in which order, and what is put back when a part of it fails."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from server.request import Assets, AssetsFrom, Database, Delivery, Migrations, Strategy
from tests.server.http_server import NEVER, Asked, Pieces, response
from tests.server.server import DIGEST, IMAGE, RELEASE, Result, Server, compiling

NAME = RELEASE.release

# The compile writes a file, `rails db:migrate:status` and everything else answer as where all is well.
WRITES = 'case "$*" in *-compile*) touch .releve/staging/0/app.js ;; esac'

# The image holds assets.
HOLDS = 'case "$*" in "create "*) echo holder ;; "cp holder:/app/public/packs/. "*) touch "$3/app.js"; esac'


def run(server: Server, step: str, *, timeout: int = 9, **fields: Any) -> Result:
    common = {"strategy": Strategy.STAGED, "assets": compiling("/app/public/packs"), **server.settings}
    return server.run(step, timeout=timeout, **{**common, **fields})


def prepare(server: Server, **fields: Any) -> Server:
    """Everything up to `up`."""
    server.behave(WRITES)
    for step in ("pull", "precompile"):
        result = run(server, step, **fields)
        assert result.status == 0, result
    return server


@pytest.fixture
def prepared(server: Server) -> Server:
    return prepare(server)


def phases(server: Server) -> list[str]:
    """What was asked of Docker in `up`, in short: one-off containers by their name."""
    short = []
    for call in server.docker_calls():
        if "--name" in call:
            short.append(call[call.index("--name") + 1].rpartition("-")[2])
        elif call[0] == "compose" and call[1] in ("create", "up", "stop", "exec", "rm"):
            short.append(" ".join(word for word in call[1:] if word in (call[1], "--remove-orphans")))
        elif call[0] == "start":
            short.append("start")
    return short


UP = ("create", "start", "create --remove-orphans")
"""What `docker compose up` would do for the web service, and then for the whole."""


def history(server: Server) -> list[dict[str, object]]:
    return [json.loads(line) for line in (server.state / "history.jsonl").read_text().splitlines()]


def test_without_migrations_nothing_is_stopped_and_the_services_come_up_before_the_rest(prepared: Server) -> None:
    prepared.forget_calls()
    result = run(prepared, "up")
    assert result.status == 0, result
    assert phases(prepared) == ["publish", *UP]
    assert IMAGE in prepared.compose_file.read_text()
    assert (prepared.state / "current").resolve().name == NAME
    assert history(prepared)[-1]["result"] == "released"
    assert not (prepared.state / "transaction").exists()


MIGRATE = Database(migrate=("rails", "db:migrate"), service="db")
# PostgreSQL in the service db, where the container's variables name the database shop.
POSTGRES = (
    'sql() { case "$(cat)" in'
    ' *pg_database_size*) echo "1000|5|1|t|${10:-shop}" ;;'
    " *'SELECT datname'*) printf 'postgres\\nshop\\nshop_queue\\n' ;; esac; }\n"
    'case "$*" in *"sh -c # psql"*) sql "$@"; exit ;; *"# exec pg_dump"*) echo dump; exit ;; esac'
)
PENDING = (
    f"{WRITES}\n"
    'case "$*" in *-pending*)'
    " printf '   up     20240101000000  Create visits\\n  down    20240701000000  Add note\\n'; exit ;; esac\n"
    f"{POSTGRES}"
)


def migrating(**changes: Any) -> Database:
    return Database(**{**MIGRATE.__dict__, **changes})


def test_pending_migrations_are_dumped_for_with_the_services_stopped(prepared: Server) -> None:
    prepared.behave(PENDING)
    prepared.forget_calls()
    result = run(prepared, "up", database=MIGRATE)
    assert result.status == 0, result
    # Which migrations there are; then which databases, and what they are, and whether they can be read; then a
    # dump, and all of it is read.
    before, after = ["exec", "exec", "exec"], ["exec", "exec"]
    assert phases(prepared) == ["exec", "pending", *before, "stop", *after, "migrate", "publish", *UP]
    (dump,) = (prepared.state / "backups").iterdir()
    assert dump.read_text() == "dump\n"
    assert dump.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(("failing", "status"), [("", 0), ("-migrate", 1)], ids=["released", "put back"])
def test_a_maintenance_page_in_the_container_is_there_from_before_the_stop_until_the_site_is_back(
    prepared: Server, failing: str, status: int
) -> None:
    page = "/app/public/maintenance.html"
    (prepared.directory / "maintenance.html.template").write_text("back at noon")
    failure = f'\ncase "$*" in *{failing}*) exit 1 ;; esac' if failing else ""
    prepared.behave(
        f'case "$*" in "cp "*:{page}) cat "$2" >"$STUBS/page"; ls -l "$2" >"$STUBS/mode" ;; esac\n{PENDING}{failure}'
    )
    prepared.forget_calls()
    assert run(prepared, "up", database=MIGRATE, maintenance_page=page).status == status
    assert (prepared.stubs / "page").read_text() == "back at noon"
    assert (prepared.stubs / "mode").read_text().startswith("-rw-r--r--")
    calls = prepared.docker_calls()
    shown = next(number for number, call in enumerate(calls) if call[0] == "cp" and call[2] == f"web:{page}")
    hidden = calls.index(["exec", "--user", "0:0", "web", "rm", "-f", page])
    assert shown < calls.index(["compose", "stop", "web"])
    assert calls.index(["compose", "stop", "web"]) < hidden
    assert ["exec", "--user", "0:0", "web", "rm", "-f", page] not in calls[:shown]


def test_compatible_migrations_stop_nothing(prepared: Server) -> None:
    prepared.behave(PENDING)
    prepared.forget_calls()
    assert run(prepared, "up", database=migrating(migrations=Migrations.COMPATIBLE)).status == 0
    assert "stop" not in phases(prepared)
    assert "migrate" in phases(prepared)


STATUS_OF_RAILS = {
    "none": ("  up  20240101000000  Create visits\\n", 0, ["publish", *UP], ""),
    "ahead": (
        *("  up  20240101000000  Create visits\\n  up  20240701000000  ********** NO FILE **********\\n", 0),
        *([], "it is ahead of this release"),
    ),
    "not a word of it": ("hello\\n", 0, [], "Whether migrations are pending cannot be told"),
    "it failed": ("  up  20240101000000  Create visits\\n", 1, [], "Whether migrations are pending cannot be told"),
}


@pytest.mark.parametrize(
    ("service", "command"),
    [("nginx", '"compose exec -T nginx bin/dump --all"'), ("web", '*"--entrypoint sh web -c "*" bin/dump --all"')],
)
def test_another_database_is_dumped_in_its_own_container_or_in_one_of_the_application_which_is_stopped(
    prepared: Server, service: str, command: str
) -> None:
    prepared.behave(f'{PENDING}\ncase "$*" in {command}) echo all of it; exit ;; esac')
    result = run(prepared, "up", database=migrating(service=service, command=("bin/dump", "--all")))
    assert result.status == 0, result
    (dump,) = (prepared.state / "backups").iterdir()
    assert dump.read_text() == "all of it\n"
    assert not any("pg_restore" in call for call in prepared.docker_calls())


def test_an_empty_dump_is_none_and_nothing_is_migrated(prepared: Server) -> None:
    prepared.behave(PENDING)
    prepared.forget_calls()
    result = run(prepared, "up", database=migrating(service="web", command=("true",)))
    assert result.status == 1
    assert "The dump is empty (backup.command)" in result.errors
    assert "migrate" not in phases(prepared)
    assert list((prepared.state / "backups").iterdir()) == []


def test_a_dump_is_made_on_demand(server: Server) -> None:
    server.behave(PENDING)
    result = server.run("dump", strategy=Strategy.STAGED, database=MIGRATE)
    assert result.status == 0, result
    (dump,) = (server.state / "backups").iterdir()
    assert dump.name.endswith("-on-demand.dump")
    assert dump.read_text() == "dump\n"


@pytest.mark.parametrize("case", STATUS_OF_RAILS)
def test_what_rails_says_of_the_migrations_is_understood_before_anything_changes(prepared: Server, case: str) -> None:
    said, status, done, refusal = STATUS_OF_RAILS[case]
    prepared.behave(f'{WRITES}\ncase "$*" in "compose "*-pending*) printf \'{said}\'; exit {status} ;; esac')
    prepared.forget_calls()
    before = prepared.compose_file.read_bytes()
    result = run(prepared, "up", database=MIGRATE)
    assert [phase for phase in phases(prepared) if phase != "exec"] == ["pending", *done]
    assert refusal in result.errors
    if refusal:
        assert result.status == 1
        assert prepared.compose_file.read_bytes() == before
        assert history(prepared)[-1]["result"] == "failed"


def test_a_database_without_tables_is_left_to_the_application(prepared: Server) -> None:
    said = "Schema migrations table does not exist yet."
    prepared.behave(f'{WRITES}\ncase "$*" in "compose "*-pending*) echo "{said}" >&2; exit 1 ;; esac')
    result = run(prepared, "up", database=MIGRATE)
    assert result.status == 0, result
    assert "no tables yet" in result.output


TASKS = "rails db:migrate:status:cache   # Display\\nrails db:migrate:status:primary # Display\\n"


def test_a_first_database_without_tables_does_not_hide_what_is_pending_in_those_after_it(prepared: Server) -> None:
    prepared.behave(
        f"{PENDING.replace('*-pending*)', '*never*)')}\n"
        'case "$*" in *"--tasks db:migrate:status") '
        f"printf '{TASKS}'; exit ;; "
        "*db:migrate:status:primary) printf 'database: shop\\n\\n Status   Migration ID    Migration Name\\n"
        "  down    20240701000000  Add note\\n'; exit ;; "
        '*db:migrate:status*) echo "Schema migrations table does not exist yet." >&2; exit 1 ;; esac'
    )
    prepared.forget_calls()
    result = run(prepared, "up", database=MIGRATE)
    assert result.status == 0, result
    assert "migrate" in phases(prepared)
    assert phases(prepared).count("pending") == 4


@pytest.mark.parametrize(("status", "done"), [(0, False), (3, True), (1, None), (127, None)])
def test_a_command_says_by_its_status_whether_migrations_are_pending(
    prepared: Server, status: int, done: bool | None
) -> None:
    prepared.behave(f'{PENDING.replace("*-pending*)", "*never*)")}\ncase "$*" in *bin/pending) exit {status} ;; esac')
    prepared.forget_calls()
    result = run(prepared, "up", database=migrating(pending=("bin/pending",)))
    assert result.status == (1 if done is None else 0), result
    assert ("migrate" in phases(prepared)) is bool(done)


@pytest.mark.parametrize(
    ("part", "pattern", "message"),
    [
        ("stop", '"compose stop"*', "The services cannot be stopped"),
        ("dump", "*--format=custom*", "pg_dump of 'shop' fails"),
        ("dump", "*pg_restore*", "pg_restore cannot read the dump"),
        ("migrate", '*" run "*-migrate*', "The migrations fail"),
        ("task", '*" run "*-task*', "The task failed: bin/prepare"),
        ("publish", '"run "*-publish*', "The assets cannot be published"),
        ("up", '"compose create web"', "The service 'web' cannot be started"),
        ("up", '*"--remove-orphans"', "The project cannot be brought up as a whole"),
    ],
)
def test_whatever_fails_the_old_state_is_put_back_and_the_step_fails(
    server: Server, part: str, pattern: str, message: str
) -> None:
    server.answer("running", "sha256:old")
    prepare(server)
    before = server.compose_file.read_bytes()
    # The first time only: putting back uses the same commands.
    once = f'case "$*" in {pattern}) if [ ! -e "$STUBS/once" ]; then touch "$STUBS/once"; exit 1; fi ;; esac'
    server.behave(f"{once}\n{PENDING}")
    server.forget_calls()
    result = run(server, "up", database=MIGRATE, before_up=(("bin/prepare",),))
    assert result.status == 1, result
    assert message in result.errors
    assert "was put back; it runs and answers on its own address" in result.errors
    assert server.compose_file.read_bytes() == before
    # What the failed release has published goes, too.
    after = [*UP, "purge"] if part in ("publish", "up") else list(UP)
    assert phases(server)[-len(after) :] == after
    last = history(server)[-1]
    assert (last["result"], last["phase"]) == ("restored", part)
    assert not (server.state / "transaction").exists()
    assert ("The database was migrated, or partly" in result.errors) == (part in ("migrate", "task", "publish", "up"))


def roll_back(server: Server, behaviour: str) -> tuple[Result, list[list[str]]]:
    """A release over one that was found, which does not come up; what ran for its assets, as root."""
    server.answer("running", "sha256:old")
    prepare(server)
    (found,) = releases(server).glob("found-*")
    (found / "assets-found" / "0").mkdir(exist_ok=True)
    server.behave(
        f'{WRITES}\ncase "$*" in "compose create web") touch "$STUBS/broken-$(ls "$STUBS" | grep -c broken)"\n'
        f'[ -e "$STUBS/broken-1" ] || exit 1 ;; esac\n{behaviour}'
    )
    server.forget_calls()
    return run(server, "up"), server.docker_calls("run")


def programs(calls: list[list[str]]) -> list[str]:
    """What ran as root, and the images whose programs that were."""
    return [f"{call[call.index('--name') + 1].rpartition('-')[2]} {call[call.index('sh') + 1]}" for call in calls]


PINNED = RELEASE.pinned


def test_what_was_replaced_among_the_old_assets_is_put_back_with_the_old_releases_own_programs(server: Server) -> None:
    """The failed release's image may be gone, and whether its programs work nobody has seen."""
    result, calls = roll_back(server, "")
    assert "was put back; it runs and answers on its own address" in result.errors
    assert programs(calls) == [f"publish {PINNED}", "publish sha256:old", "purge sha256:old"]
    (new,), (found,) = (releases(server).glob(f"{name}/assets-*") for name in (NAME, "found-*"))
    assert mounts_of(calls[1])[:2] == [read_only(found / "0", "/releve/0"), read_only(new / "0", "/releve/over/0/0")]


def test_a_restore_does_without_the_images_that_are_gone(server: Server) -> None:
    """`docker system prune -af` has removed what no container runs."""
    gone = 'case "$*" in "image inspect --format {{.Id}} sha256:old") [ ! -e "$STUBS/broken-0" ] || exit 1 ;; esac'
    result, calls = roll_back(server, f"{gone}\nimage_of() {{ echo sha256:runs; }}")
    assert "was put back; it runs and answers on its own address" in result.errors
    assert programs(calls)[1:] == ["publish sha256:runs", "purge sha256:runs"]


@pytest.mark.parametrize(
    ("failing", "tried"),
    [
        # The program fails whenever it is tried; no image is left.
        ('"run "*-publish*', ["publish", "purge", "publish"]),
        ('"image inspect"*', []),
    ],
)
def test_where_the_old_assets_cannot_be_published_again_the_old_release_is_started_nevertheless(
    server: Server, failing: str, tried: list[str]
) -> None:
    result, calls = roll_back(server, f'case "$*" in {failing}) [ ! -e "$STUBS/broken-0" ] || exit 1 ;; esac')
    assert result.status == 1
    assert "could not be published again" in result.errors
    assert "was put back; it runs and answers on its own address" in result.errors
    assert [program.partition(" ")[0] for program in programs(calls)[1:]] == tried
    assert history(server)[-1]["result"] == "restored"


def test_assets_that_took_the_last_room_on_the_disk_make_room_for_the_old_ones_manifest(server: Server) -> None:
    for number in range(2):  # the containers start
        (server.stubs / f"broken-{number}").touch()
    full = 'case "$*" in *-purge*) touch "$STUBS/room" ;; "run "*-publish*) [ -e "$STUBS/room" ] || exit 1 ;; esac'
    result, calls = roll_back(server, full)
    assert "was put back; it runs and answers on its own address" in result.errors, result.errors
    assert "could not be published again" not in result.errors
    assert [program.partition(" ")[0] for program in programs(calls)] == ["publish", "publish", "purge", "publish"]


def test_a_full_disk_is_noticed_before_anything_changes(prepared: Server) -> None:
    """/dev/full stands for the disk: what is written there finds no room."""
    (prepared.state / "reserve").symlink_to("/dev/full")
    before = prepared.compose_file.read_bytes()
    prepared.forget_calls()
    result = run(prepared, "up")
    assert result.status == 1
    assert "There is no room on the disk" in result.errors
    assert phases(prepared) == []
    assert prepared.compose_file.read_bytes() == before


def test_what_was_not_changed_is_not_written_again_when_it_is_put_back(server: Server) -> None:
    server.answer("running", "sha256:old")
    prepare(server)
    inode = server.compose_file.stat().st_ino
    server.behave(f'{PENDING}\ncase "$*" in *-migrate*) exit 1 ;; esac')
    assert run(server, "up", database=MIGRATE).status == 1
    assert server.compose_file.stat().st_ino == inode


def test_where_nothing_ran_before_the_new_containers_are_removed_again(server: Server) -> None:
    server.answer("project", "nginx running 1234\n")
    prepare(server)
    before = server.compose_file.read_bytes()
    result = run(server, "up")
    assert result.status == 1
    assert "has no container" in result.errors
    assert ["compose", "rm", "--stop", "--force", "web"] in server.docker_calls("compose", "rm")
    assert server.compose_file.read_bytes() == before


def test_what_cannot_be_put_back_is_no_put_back(server: Server) -> None:
    server.answer("running", "sha256:old")
    prepare(server)
    server.behave(f'{WRITES}\ncase "$*" in "compose create"*) exit 1 ;; esac')
    result = run(server, "up")
    assert result.status == 1
    assert "It could not be put back" in result.errors
    assert history(server)[-1]["result"] == "failed"
    # The next run knows what was there before.
    assert (server.state / "transaction/compose.yml").exists()
    server.behave(WRITES)
    server.answer("running", "sha256:wanted")
    assert run(server, "up").status == 0
    assert not (server.state / "transaction").exists()


def test_what_was_wrong_with_the_old_release_is_not_said_of_the_new_one(prepared: Server) -> None:
    def answer(_: Asked) -> Pieces:
        is_new = "@sha256:777" in prepared.compose_file.read_text()
        return NEVER if is_new else response(500, "", reason="Oops")

    prepared.application.answer = answer
    result = run(prepared, "up", timeout=3)
    assert result.status == 1
    assert "'web' does not answer as it should: no answer from" in result.errors
    assert "answers 500" not in result.errors


def test_a_release_that_another_run_has_prepared_since_is_not_switched_to(prepared: Server) -> None:
    (prepared.state / "prepared").write_text("3.0-0123456789ab\n")
    result = run(prepared, "up")
    assert result.status == 1
    assert "prepared for 3.0-0123456789ab" in result.errors
    assert IMAGE not in prepared.compose_file.read_text()


def test_assets_that_were_not_compiled_are_noticed_and_nothing_is_published(server: Server) -> None:
    assert run(server, "pull").status == 0
    result = run(server, "precompile")  # whose command succeeds, and writes nothing
    assert result.status == 1
    assert "There is nothing in /app/public/packs after the compilation" in result.errors
    assert IMAGE not in server.compose_file.read_text()


def test_assets_are_compiled_once_for_the_same_settings(prepared: Server) -> None:
    prepared.forget_calls()
    result = run(prepared, "precompile")
    assert "are here already" in result.output
    assert phases(prepared) == []
    # The packs of Fab-manager depend on the instance's environment.
    text = prepared.compose_file.read_text()
    prepared.compose_file.write_text(text.replace("app:1.0\n", "app:1.0\n    environment:\n      LOCALE: fr\n"))
    result = run(prepared, "precompile")
    assert result.status == 0, result
    assert phases(prepared) == ["probe", "compile"]


def set_user(server: Server, line: str) -> None:
    text = server.compose_file.read_text().replace("    user: '12345:12345'\n", "")
    server.compose_file.write_text(text.replace("  web:\n", f"  web:\n{line}"))


@pytest.mark.parametrize("source", list(AssetsFrom))
def test_after_an_edit_of_the_servers_compose_file_the_step_that_failed_goes_on(
    server: Server, source: AssetsFrom
) -> None:
    compiles = source is AssetsFrom.COMPILE
    server.settings["assets"] = compiling("/app/public/packs") if compiles else Assets(("/app/public/packs",), source)
    set_user(server, "    user: '12345:12345'\n")
    server.behave(f'{HOLDS}\ncase "$*" in *-compile*) echo "Permission denied" >&2; exit 1 ;; esac')
    assert run(server, "pull").status == 0
    if compiles:
        assert "Permission denied" in run(server, "precompile").errors
    # The cause is mended, `pulumi up` is run again: it goes on at the step that has failed.
    set_user(server, "")
    server.behave(f"{WRITES}\n{HOLDS}")
    server.answer("mounts", "bind||true|/app/public|/srv/elsewhere\n")
    for step in ("precompile", "up") if compiles else ("up",):
        result = run(server, step)
        assert result.status == 0, result
    assert "user:" not in server.compose_file.read_text()
    publish = server.docker_calls("run")[-1]
    assert 'type=bind,"source=/srv/elsewhere","target=/app/public"' in publish


def test_assets_made_before_an_edit_are_to_be_made_again_and_the_one_line_that_does_is_said(prepared: Server) -> None:
    set_user(prepared, "    user: '12345:12345'\n")
    result = run(prepared, "up")
    assert result.status == 1
    assert "with other settings of 'web'" in result.errors
    assert result.errors.splitlines()[-1] == "Make them:  pulumi up --replace '**-pull'"


def test_assets_are_compiled_again_where_what_is_compiled_in_has_changed(server: Server) -> None:
    (server.directory / "plugins").mkdir()
    (server.directory / "plugins/badge.js").write_text("1")
    server.settings["assets"] = compiling("/app/public/packs", inputs=("plugins",))
    prepare(server)
    server.forget_calls()
    assert "are here already" in run(server, "precompile").output
    (server.directory / "plugins/badge.js").write_text("2")
    result = run(server, "up")
    assert result.status == 1
    assert "Make them:  pulumi up --replace '**-pull'" in result.errors
    assert run(server, "pull").status == 0
    assert run(server, "precompile").status == 0
    assert "compile" in phases(server)
    assert run(server, "up").status == 0


def test_what_is_to_be_compiled_in_and_is_not_there_is_refused_before_anything_happens(server: Server) -> None:
    result = run(server, "pull", assets=compiling("/app/public/packs", inputs=("plugins",)))
    assert result.status == 1
    assert f"There is no {server.directory}/plugins, which app.assetInputs says" in result.errors
    assert server.docker_calls("pull") == []


def from_image(server: Server, step: str) -> Result:
    return run(server, step, assets=Assets(paths=("/app/public/packs",), source=AssetsFrom.IMAGE))


def test_assets_that_the_image_holds_are_taken_once_when_it_is_pulled(server: Server) -> None:
    server.behave(HOLDS)
    result = from_image(server, "pull")
    assert result.status == 0, result
    assert "took the assets that the image holds" in result.output
    (taken,) = (server.state / "releases" / NAME).glob("assets-*/0/app.js")
    server.forget_calls()
    assert from_image(server, "pull").status == 0
    assert server.docker_calls("cp") == []
    assert from_image(server, "up").status == 0
    assert phases(server) == ["publish", *UP]
    assert taken.exists()


def test_an_image_without_the_assets_is_noticed_when_it_is_pulled(server: Server) -> None:
    server.behave('case "$*" in "create "*) echo holder ;; "cp "*) exit 1 ;; esac')
    result = from_image(server, "pull")
    assert result.status == 1
    assert "The image has no directory /app/public/packs (app.assets, app.assetsFrom: image)." in result.errors
    assert from_image(server, "up").status == 1, "nothing was prepared"


def test_compiling_gives_way_to_the_running_release_and_its_memory_can_be_limited(server: Server) -> None:
    server.behave(WRITES + '\ncase "$*" in *-compile*) cp "$(echo .releve/tmp/staging.json)" "$STUBS/overlay" ;; esac')
    assets = compiling("/app/public/packs", memory="512m")
    assert run(server, "pull", assets=assets).status == 0
    assert run(server, "precompile", assets=assets).status == 0
    service = json.loads((server.stubs / "overlay").read_text())["services"]["web"]
    assert service["cpu_shares"] == 256, "a quarter of what the running release gets"
    assert service["mem_limit"] == "512m"
    assert service["volumes"] == [
        {"type": "bind", "source": f"{server.directory}/.releve/staging/0", "target": "/app/public/packs"}
    ]


def test_a_task_runs_once_a_release(prepared: Server) -> None:
    tasks = (("bin/prepare", "a b"),)
    assert run(prepared, "up", before_up=tasks).status == 0
    (call,) = [call for call in prepared.docker_calls("compose") if any(word.endswith("-task") for word in call)]
    assert call[-2:] == ["bin/prepare", "a b"]
    assert run(prepared, "up", before_up=tasks).status == 0
    assert len([call for call in prepared.docker_calls("compose") if any(w.endswith("-task") for w in call)]) == 1


@pytest.mark.parametrize(
    ("entrypoint", "words"),
    [
        (None, ["web", "bin/prepare now", "a b"]),
        ((), ["--entrypoint", "'bin/prepare now'", "web", "a b"]),
        (("tini", "-s"), ["--entrypoint", "tini -s", "web", "bin/prepare now", "a b"]),
    ],
)
def test_commands_of_the_application_are_given_to_the_configured_entrypoint(
    server: Server, entrypoint: tuple[str, ...] | None, words: list[str]
) -> None:
    command = ("bin/prepare now", "a b")
    server.settings |= {"entrypoint": entrypoint, "assets": compiling("/app/public/packs", command=command)}
    prepare(server)
    server.behave(f'case "$*" in *" run "*-pending*) exit 3 ;; esac\n{PENDING}')
    asked = migrating(migrate=command, pending=command)
    result = run(server, "up", database=asked, before_up=(command,))
    assert result.status == 0, result
    calls = [call for call in server.docker_calls("compose") if "--rm" in call]
    assert len(calls) == 4  # compile, pending, migrate, task
    assert all(call[-len(words) :] == words for call in calls), calls
    assert ("--entrypoint" in calls[0]) == (entrypoint is not None)


def test_a_killed_run_is_in_the_history(prepared: Server) -> None:
    scratch = prepared.state / "tmp"
    scratch.mkdir()
    (scratch / "step").write_text("up\n")
    assert run(prepared, "up").status == 0
    assert [(line["result"], line["step"]) for line in history(prepared)] == [("interrupted", "up"), ("released", "up")]


def test_an_environment_that_lacks_names_of_the_file_made_by_hand_is_refused(server: Server) -> None:
    (server.directory / ".env").write_text("A=1\nexport B_2 = x\n# C=3\n")
    result = run(server, "pull", delivery=Delivery(environment="A='1'\n"))
    assert result.status == 1
    assert "has names that the configuration lacks: B_2" in result.errors
    assert (server.directory / ".env").read_text().startswith("A=1\n")


def test_the_environment_is_tried_beside_the_one_that_is_in_place(server: Server) -> None:
    (server.directory / ".env").write_text("A=1\n")
    server.compose_file.write_text(f"{server.compose_file.read_text()}    env_file: [./.env, more.env]\n")
    server.behave(
        WRITES
        + '\ncase "$*" in *-compile*) cp "$5" "$STUBS/tried"; cat >"$STUBS/file"; echo "$*" >"$STUBS/words" ;; esac'
    )
    server.settings["delivery"] = Delivery(environment="A='2'\n")
    for step in ("pull", "precompile"):
        result = run(server, step)
        assert result.status == 0, result
    tried = server.state / "tmp/.env"
    assert (server.stubs / "tried").read_text() == "A='2'\n"
    # In the directory itself: what is mounted there, and what a command writes there, is what will be.
    assert (
        f"compose --project-directory {server.directory} --env-file {tried} -f - "
        in (server.stubs / "words").read_text()
    )
    assert f'env_file: ["{tried}", more.env]\n' in (server.stubs / "file").read_text()
    assert (server.directory / ".env").read_text() == "A=1\n"
    result = run(server, "up")
    assert result.status == 0, result
    assert (server.directory / ".env").read_text() == "A='2'\n"
    assert (server.directory / ".env").stat().st_mode & 0o777 == 0o600
    assert "env_file: [./.env, more.env]\n" in server.compose_file.read_text()


FIRST = f"""\
name: shop
services:
  web:
    image: {IMAGE}
    env_file: .env
    depends_on:
      - db
  db:
    image: postgres:15
"""


@pytest.fixture
def empty(server: Server) -> Server:
    """A server without a Compose file, which gets one that needs a database; containers appear with `compose up`."""
    server.compose_file.unlink()
    (server.stubs / "project.answer").touch()
    server.settings |= {
        "delivery": Delivery(compose_file=FIRST, environment="A='1'\n"),
        "keeps_compose_file": True,
        "database": Database(migrate=("rails", "db:migrate"), pending=("rails", "pending")),
    }
    return server


STARTS = (
    f'{WRITES}\ncase "$*" in *" up -d --no-recreate --wait db") cp docker-compose.yml .env "$STUBS"; '
    '[ ! -e "$STUBS/fails" ] || exit 1; echo "db running 2" >>"$STUBS/project.answer" ;; '
    '"compose create web") echo "web created 1" >>"$STUBS/project.answer" ;; '
    '"start 1") sed -i s/created/running/ "$STUBS/project.answer" ;; esac'
)


@pytest.mark.parametrize("step", ["precompile", "up"])
def test_on_an_empty_server_the_database_starts_first_with_the_releases_compose_file_and_environment(
    empty: Server, step: str
) -> None:
    empty.behave(STARTS)
    steps, assets = (
        (("pull", "up"), Assets()) if step == "up" else (("pull", "precompile", "up"), compiling("/app/public"))
    )
    for name in steps:
        result = run(empty, name, assets=assets)
        assert result.status == 0, result
        assert ("started db" in result.output) == (name == step)
    assert (empty.stubs / "docker-compose.yml").read_text() == FIRST
    assert (empty.stubs / ".env").read_text() == "A='1'\n"
    assert ["compose", "up", "-d", "--no-recreate", "--wait", "db"] in empty.docker_calls("compose")


def test_a_database_that_does_not_start_the_first_time_is_removed_and_started_anew_the_next_time(empty: Server) -> None:
    (empty.stubs / "fails").touch()
    empty.behave(f'case "$*" in *" logs "*) echo "POSTGRES_PASSWORD is not set" ;; esac\n{STARTS}')
    assert run(empty, "pull").status == 0
    result = run(empty, "precompile")
    assert result.status == 1
    assert "POSTGRES_PASSWORD is not set" in result.errors
    assert ["compose", "rm", "--stop", "--force", "db"] in empty.docker_calls("compose")
    # A name that is not wanted any more was no one's but the configuration's.
    empty.settings["delivery"] = Delivery(compose_file=FIRST, environment="B='1'\n")
    (empty.stubs / "fails").unlink()
    for step in ("pull", "precompile"):
        result = run(empty, step)
        assert result.status == 0, result
    assert "started db" in result.output


def test_what_a_release_needs_for_the_first_time_starts_as_the_release_wants_it_beside_the_old_one(
    server: Server,
) -> None:
    server.answer("project", "web running 1\n")
    server.settings |= {"delivery": Delivery(compose_file=FIRST, environment="A='1'\n"), "keeps_compose_file": True}
    before = server.compose_file.read_bytes()
    server.behave(f'case "$*" in *" --wait db") cat >"$STUBS/file" ;; esac\n{WRITES}')
    for step in ("pull", "precompile"):
        result = run(server, step)
        assert result.status == 0, result
    assert "started db" in result.output
    assert f'env_file: "{server.state / "tmp" / ".env"}"' in (server.stubs / "file").read_text()
    assert server.compose_file.read_bytes() == before
    assert not (server.directory / ".env").exists()


def test_a_first_release_on_an_empty_server_that_fails_is_put_back(empty: Server) -> None:
    empty.behave(STARTS)
    for step in ("pull", "precompile"):
        assert run(empty, step).status == 0
    empty.behave(f'{STARTS}\ncase "$*" in "compose create"*) exit 1 ;; esac')
    result = run(empty, "up")
    assert result.status == 1
    assert "What was there before was put back; nothing served." in result.errors
    assert ["compose", "rm", "--stop", "--force", "web"] in empty.docker_calls("compose", "rm")


def releases(server: Server) -> Path:
    return server.state / "releases"


def test_releases_beyond_those_kept_are_removed_with_the_images_that_no_other_needs(prepared: Server) -> None:
    assert run(prepared, "up").status == 0
    for number in range(3):
        old = releases(prepared) / f"1.{number}-aaaaaaaaaaa{number}"
        old.mkdir()
        digest = f"sha256:{number}" if number else DIGEST
        (old / "image").write_text(f"registry.example:5000/shop/app:1.{number}@{digest}\n")
    prepared.forget_calls()
    result = run(prepared, "purge", keep_releases=1)
    assert result.status == 0, result
    # The one before it stays, too: its assets are still served.
    assert {path.name.partition("-")[0] for path in releases(prepared).iterdir()} == {"2.0", "found"}
    removed = {call[1] for call in prepared.docker_calls("rmi")}
    assert removed == {
        "registry.example:5000/shop/app:1.1",
        "registry.example:5000/shop/app@sha256:1",
        "registry.example:5000/shop/app:1.2",
        "registry.example:5000/shop/app@sha256:2",
    }


@pytest.mark.parametrize(("depends_on", "alone"), [("web", ["web"]), ("worker", ["web", "worker"])])
def test_a_service_comes_up_before_the_whole_where_others_would_be_recreated_with_it(
    server: Server, depends_on: str, alone: list[str]
) -> None:
    server.services = ("web", "worker")
    image = "registry.example:5000/shop/app:1.0"
    server.compose_file.write_text(
        "name: shop\nservices:\n"
        f"  nginx:\n    depends_on:\n      {depends_on}:\n        condition: service_started\n    image: nginx:1\n"
        f"  web:\n    image: {image}\n  worker:\n    image: {image}\n"
    )
    prepare(server)
    server.forget_calls()
    result = run(server, "up")
    assert result.status == 0, result
    ups = [call[2:] for call in server.docker_calls("compose", "create")]
    assert ups == [*([name] for name in alone), ["--remove-orphans"]]


COMPLETED = "condition: service_completed_successfully"


@pytest.mark.parametrize(
    ("compose_file", "created"),
    [
        ("  web:\n    image: {image}\n    post_start:\n      - command: x\n", ""),
        (f"  web:\n    depends_on:\n      job:\n        {COMPLETED}\n    image: {{image}}\n", ""),
        ("  web:\n    image: {image}\n", "database created 1234"),
    ],
)
def test_what_has_to_be_done_between_making_and_starting_is_left_to_compose(
    server: Server, compose_file: str, created: str
) -> None:
    image = "registry.example:5000/shop/app:1.0"
    job = "  job:\n    image: busybox\n" if "job" in compose_file else ""
    server.compose_file.write_text(f"name: shop\nservices:\n{job}{compose_file.format(image=image)}")
    prepare(server)
    if created:
        server.answer("project", f"web running web\n{created}\n")
    server.forget_calls()
    result = run(server, "up")
    assert result.status == 0, result
    assert [call[3:] for call in server.docker_calls("compose", "up")] == [["web"], ["--remove-orphans"]]


def test_services_stopped_for_migrations_are_not_started_in_their_old_version(server: Server) -> None:
    server.add_worker()
    prepare(server)
    # The worker's old container is there, stopped, until Compose looks at the whole.
    worker = 'if [ -e "$STUBS/whole" ]; then echo worker running new-worker; else echo worker exited old-worker; fi'
    server.behave(
        'case "$*" in *--remove-orphans*) touch "$STUBS/whole" ;; esac\n'
        f'containers() {{ echo "web $(listed_state web) web"; {worker}; }}\n{PENDING}'
    )
    result = run(server, "up", database=MIGRATE)
    assert result.status == 0, result
    assert ["start", "web"] in server.docker_calls("start")
    assert not any("old-worker" in call for call in server.docker_calls("start"))


def mounts_of(call: list[str]) -> list[str]:
    return [call[at + 1] for at, word in enumerate(call) if word == "--mount"]


@pytest.mark.parametrize(
    ("deepest", "mount"),
    [
        (
            'bind||true|/app/public/packs|/srv/my "shop", packs',
            'type=bind,"source=/srv/my ""shop"", packs","target=/app/public/packs"',
        ),
        (
            "volume|shop_packs|true|/app/public/packs|/var/lib/x",
            'type=volume,"source=shop_packs","target=/app/public/packs"',
        ),
        (
            "volume|shop_all|true|/app/public/packs|/var/lib/x",
            'type=volume,"source=shop_all","target=/app/public/packs","volume-subpath=for/packs"',
        ),
    ],
)
def test_assets_are_published_on_what_the_containers_of_the_service_have_and_on_nothing_else(
    server: Server, deepest: str, mount: str
) -> None:
    server.answer(
        "mounts",
        f"volume|shop_public|true|/app/public|/var/lib/docker/volumes/shop_public/_data\n{deepest}\n"
        "bind||true|/var/run/docker.sock|/var/run/docker.sock\n",
    )
    if "subpath" in mount:
        server.answer("subpaths", "/app/public|\n/app/public/packs|for/packs\n")
    prepare(server)
    server.forget_calls()
    assert run(server, "up").status == 0
    [publish] = server.docker_calls("run")
    (assets,) = (releases(server) / NAME).glob("assets-*")
    assert mounts_of(publish) == [f'type=bind,"source={assets}/0","target=/releve/0",readonly', mount]
    assert publish[publish.index("--network") + 1] == "none"
    assert "--volumes-from" not in publish
    assert "--privileged" not in publish


def keep_release(server: Server, name: str, *paths: str, live: bool = True) -> Path:
    """A release that was published, on these asset paths; its assets."""
    assets = releases(server) / name / "assets-0123456789ab"
    for number in range(len(paths)):
        (assets / str(number)).mkdir(parents=True)
    assets.with_name(f"published-{assets.name}").write_text("".join(f"{path}\n" for path in paths))
    assets.with_name("assets").write_text(f"{assets.name}\n")
    if live:
        assets.with_name("live").touch()
    return assets


def read_only(source: Path, target: str) -> str:
    return f'type=bind,"source={source}","target={target}",readonly'


def test_purging_sees_what_retired_releases_have_published_and_what_the_kept_ones_consist_of(server: Server) -> None:
    server.answer("running", "sha256:old")
    server.behave(WRITES)
    assert run(server, "pull").status == 0
    (found,) = releases(server).glob("found-*/assets-found")
    (found / "0").mkdir(exist_ok=True)
    prepare(server)
    failed = keep_release(server, "1.9-aaaaaaaaaaaa", "/app/public/packs", live=False)
    other = keep_release(server, "1.8-aaaaaaaaaaaa", "/app/other", "/app/public/packs")
    never = keep_release(server, "1.7-aaaaaaaaaaaa", "/app/public/packs", live=False)
    for name in ("assets", f"published-{never.name}"):
        never.with_name(name).unlink()
    assert run(server, "up").status == 0
    server.forget_calls()
    result = run(server, "purge")
    assert result.status == 0, result
    [purge] = server.docker_calls("run")
    (assets,) = (releases(server) / NAME).glob("assets-*")
    assert mounts_of(purge) == [
        read_only(assets / "0", "/releve/kept/0/0"),
        read_only(found / "0", "/releve/kept/1/0"),
        # By path: this one had another one before it.
        read_only(other / "1", "/releve/retired/0/0"),
        read_only(failed / "0", "/releve/retired/1/0"),
        'type=bind,"source=/srv/public","target=/app/public"',
    ]


def test_of_what_runs_before_the_first_release_the_asset_paths_are_kept_and_no_volume_inside_them(
    server: Server,
) -> None:
    """Uploads are often on a volume of their own below public/, and may be large."""
    server.answer("running", "sha256:old")
    inside = "volume|shop_system|true|/app/public/packs/system|/x\ntmpfs||true|/app/tmp|"
    server.answer("mounts", f"bind||true|/app/public|/srv/public\n{inside}\n")
    server.behave(WRITES)
    assert run(server, "pull", assets=compiling("/app/public/packs", "/app/public/assets")).status == 0
    (found,) = releases(server).glob("found-*/assets-found")
    (adopt,) = [call for call in server.docker_calls("run") if any(word.endswith("-adopt") for word in call)]
    assert mounts_of(adopt) == [
        read_only(Path("/srv/public"), "/app/public"),
        f'type=bind,"source={found}","target=/releve"',
    ]
    assert adopt[adopt.index("sh") + 1] == "sha256:old"
    assert "--volumes-from" not in adopt


def test_what_was_there_before_the_first_release_is_never_purged(server: Server) -> None:
    """It is of unknown origin: where uploads are in the same directory, they are among it."""
    server.answer("running", "sha256:old")
    prepare(server)
    assert run(server, "up").status == 0
    kept = keep_release(server, "1.9-aaaaaaaaaaaa", "/app/public/packs")
    (server.state / "previous").unlink()
    (server.state / "previous").symlink_to(f"releases/{kept.parent.name}")
    server.forget_calls()
    assert run(server, "purge").status == 0
    assert server.docker_calls("run") == []


def test_no_program_of_the_image_gets_more_of_the_server_than_its_assets(server: Server) -> None:
    """In no step: neither the server's root, nor all that is kept of the project, nor power over the network."""
    server.answer("running", "sha256:old")
    prepare(server)
    for step in ("up", "purge"):
        assert run(server, step).status == 0
    for call in server.docker_calls():
        for mount in mounts_of(call):
            fields = {field.strip('"') for field in mount.split(",")}
            assert not fields & {"source=/", f"source={server.directory}", f"source={server.state}"}, call
        assert "NET_ADMIN" not in call
        assert "--privileged" not in call
