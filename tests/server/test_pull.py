"""pull: what could only be noticed with the site down is noticed before."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest

from release.registry import Credentials, docker_configuration
from server.output import Output
from server.pulling import Pull
from tests.server.server import DIGEST, IMAGE, RELEASE, Result, Server, compiling

ANONYMOUS = "a1" * 32
LOGIN = docker_configuration("registry.example:5000", Credentials("fablab", "s3cret"))


def pull(server: Server, mounts: str, *assets: str) -> Result:
    server.answer("mounts", mounts + "\n")
    return server.run("pull", assets=compiling(*assets, command=("rails",)))


@pytest.mark.parametrize(
    "mounts",
    [
        "bind||true|/app/public/packs",
        "bind||true|/app/public",
        "bind||true|/app/public/packs\nbind||false|/app/public",
        "volume|shop_packs|true|/app/public/packs",
        f"volume|shop_packs|true|/app/public\nvolume|{ANONYMOUS}|true|/app",
        f"bind||true|/app/public/packs\nvolume|{ANONYMOUS}|true|/app/public/packs/inside",
    ],
)
def test_assets_on_a_bind_mount_or_a_named_volume_are_fine(server: Server, mounts: str) -> None:
    result = pull(server, mounts, "/app/public/packs")
    assert result.status == 0, result


@pytest.mark.parametrize(
    ("mounts", "message"),
    [
        ("", "is on no volume of 'web'"),
        ("bind||true|/app/public/pack", "is on no volume of 'web'"),
        ("bind||true|/app/public/packs/js", "is on no volume of 'web'"),
        ("bind||true|/app/public/packs2", "is on no volume of 'web'"),
        ("tmpfs||true|/app/public", "is on no volume of 'web'"),
        (f"volume|{ANONYMOUS}|true|/app/public/packs", "is on the anonymous volume /app/public/packs"),
        (f"bind||true|/app\nvolume|{ANONYMOUS}|true|/app/public", "is on the anonymous volume /app/public"),
        ("bind||true|/app\nbind||false|/app/public", "is mounted read-only"),
    ],
)
def test_assets_that_would_be_lost_are_refused_before_anything_stops(server: Server, mounts: str, message: str) -> None:
    before = server.compose_file.read_bytes()
    result = pull(server, mounts, "/app/public/packs")
    assert result.status == 1
    assert message in result.errors
    assert "./packs:/app/public/packs" in result.errors or "Remove :ro" in result.errors
    assert server.compose_file.read_bytes() == before
    assert not [call for call in server.docker_calls("compose") if "stop" in call]


def test_other_anonymous_volumes_are_named(server: Server) -> None:
    result = pull(server, f"bind||true|/app/packs\nvolume|{ANONYMOUS}|true|/public\nvolume|db|true|/db", "/app/packs")
    assert result.status == 0
    assert "notice: /public is an anonymous volume" in result.output
    assert "/db is" not in result.output


def test_a_missing_command_is_refused_before_anything_stops(server: Server) -> None:
    server.answer("wait", "42\n")
    result = server.run("pull", assets=compiling("/app/public", command=("bundle", "exec", "rails")))
    assert result.status == 1
    assert "has no command 'bundle' (app.precompile)" in result.errors


def test_an_image_without_a_shell_is_fine_as_long_as_nothing_is_compiled(server: Server) -> None:
    server.behave('case "$*" in *" run "*) exit 1 ;; esac')
    assert server.run("pull").status == 0
    result = server.run("pull", assets=compiling("/app/public", command=("rails",)))
    assert result.status == 1
    assert "`sh` does not run" in result.errors


def test_an_image_that_cannot_be_pulled_is_refused_with_dockers_words(server: Server) -> None:
    server.behave(
        'case "$*" in "image inspect"*) exit 1 ;; pull*) echo "unauthorized: authentication required"; exit 1 ;; esac'
    )
    result = server.run("pull")
    assert result.status == 1
    assert "unauthorized: authentication required" in result.errors


@pytest.mark.parametrize(
    ("lines", "named"),
    [
        ("    volumes_from:\n      - web\n", "notice: nginx will be recreated, too: volumes_from web"),
        ("    volumes_from:\n      - web:ro\n", "notice: nginx will be recreated, too: volumes_from web"),
        ("    links:\n      - web:app\n", "notice: nginx will be recreated, too: links web"),
        ("    network_mode: service:web\n", "notice: nginx will be recreated, too: network_mode web"),
        ("    volumes_from:\n      - data\n    network_mode: host\n    links:\n      - web2:web\n", ""),
        ("    depends_on:\n      web:\n        condition: service_started\n", ""),
    ],
)
def test_services_that_are_recreated_with_the_application_are_named(server: Server, lines: str, named: str) -> None:
    text = server.compose_file.read_text().replace("    image: nginx:1\n", f"    image: nginx:1\n{lines}")
    server.compose_file.write_text(text)
    result = server.run("pull")
    assert result.status == 0, result
    assert [line.rsplit(" (")[0] for line in result.output.splitlines() if "recreated" in line] == (
        [f"pull: {named}"] if named else []
    )


def test_the_container_that_was_looked_at_is_removed_also_when_the_image_is_refused(server: Server) -> None:
    server.behave('case "$*" in "ps "*label=releve.project=*) echo deadbeef; exit ;; esac')
    pull(server, "", "/app/packs")
    assert ["rm", "-f", "-v", "deadbeef"] in server.docker_calls("rm")
    assert server.docker_calls()[-1] == ["rm", "-f", "-v", "deadbeef"]


OTHER = "sha256:" + "1" * 64


def history(server: Server, *lines: str) -> None:
    (server.state / "history.jsonl").write_text("".join(f"{line}\n" for line in lines))


def entry(result: str = "released", digest: str = OTHER, **fields: str) -> str:
    return json.dumps({"result": result, "release": RELEASE.tag, "digest": digest, **fields})


@pytest.mark.parametrize("fields", [{}, {"repository": RELEASE.repository}])
def test_a_tag_that_was_released_here_as_another_image_is_refused(server: Server, fields: dict[str, str]) -> None:
    """The registry had lost it, and the stack that builds has given it to the source of today."""
    history(server, entry(**fields), entry("failed", DIGEST), "{cut")
    result = server.run("pull")
    assert result.status == 1
    assert f"{RELEASE.tagged} was released on this server as {OTHER} and is {DIGEST} now" in result.errors
    assert "a released tag never moves" in result.errors
    again = f"{RELEASE.tagged}-again"
    assert f"docker tag {RELEASE.repository}@{OTHER} {again} && docker push {again}" in result.errors
    assert server.docker_calls("pull") == []


def test_a_way_back_is_only_named_where_the_former_image_is_still_here(server: Server) -> None:
    history(server, entry())
    server.behave('case "$*" in "image inspect"*) exit 1 ;; esac')
    result = server.run("pull")
    assert result.status == 1
    assert "docker push" not in result.errors


@pytest.mark.parametrize(
    "lines",
    [
        [entry(digest=DIGEST)],
        [entry("restored"), entry("failed"), entry("interrupted")],
        [entry(repository="another.example/shop/app")],
        [entry().replace(f'"{RELEASE.tag}"', '"1.0"'), "[]", "7", ""],
    ],
)
def test_a_tag_that_has_only_served_as_what_it_is_or_not_at_all_is_fine(server: Server, lines: list[str]) -> None:
    history(server, *lines)
    result = server.run("pull")
    assert result.status == 0, result


# As Docker 26.1 writes to a terminal: each line goes to where the layer's is.
PULLING = (
    "1: Pulling from shop\\r\\n\\r\\n\\033[1A\\033[2K\\r9fd9e214744c: Already exists \\r\\033[1B"
    "\\r\\n\\033[1A\\033[2K\\r11f7b6a90ea7: Pulling fs layer \\r\\033[1B"
    "\\r\\n\\033[1A\\033[2K\\r8f972b035535: Pulling fs layer \\r\\033[1B"
    "\\033[2A\\033[2K\\r11f7b6a90ea7: Downloading  542.7kB/60.02MB\\r\\033[2B"
    "\\033[2A\\033[2K\\r11f7b6a90ea7: Downloading  40.53MB/60.02MB\\r\\033[2B"
    "\\033[1A\\033[2K\\r8f972b035535: Downloading  1.611GB/2.401GB\\r\\033[1B"
)


def test_a_pull_says_how_much_of_it_is_here_while_it_goes_on_and_its_size_at_the_end(server: Server) -> None:
    server.behave(
        'case "$*" in "image inspect --format {{.Size}}"*) echo 2576980378; exit ;; "image inspect"*) exit 1 ;;\n'
        f"*'pull {IMAGE}') [ -t 1 ] || exit 9; printf '{PULLING}'; exec sleep 6 ;; esac"
    )
    result = server.run("pull", registry_login=LOGIN)
    assert result.status == 0, result
    assert re.search(r"^pull: pull, \d+ s so far: 1652 MB of 2461 MB$", result.output, re.MULTILINE), result
    assert re.search(rf"^pull: pulled {re.escape(IMAGE)}.*, 2457 MiB \(", result.output, re.MULTILINE)
    log = server.logs()[-1].read_text()
    assert log.count("11f7b6a90ea7: Downloading") == 1
    assert "\x1b" not in log


@pytest.mark.parametrize(
    ("lines", "far"),
    [
        ([], ""),
        (["11f7b6a90ea7: Waiting", "8f972b035535: Downloading  3.241MB/400.1MB"], "3 MB of at least 400 MB"),
        (["9fd9e214744c: Already exists", "8f972b035535: Downloading  3.2MB/400.1MB"], "3 MB of 400 MB"),
        (
            [
                "8f972b035535: Downloading  400MB/400.1MB",
                "8f972b035535: Extracting  9.2MB/400.1MB",
                "8f972b035535: Extracting 4 s",
            ],
            "400 MB are here, and unpacked",
        ),
        (["8f972b035535: Downloading  1.2.3MB/4MB", "nothing of a layer's", "8f972b035535: Downloading"], ""),
    ],
)
def test_how_far_a_pull_is_is_read_from_what_docker_says_of_its_layers(lines: list[str], far: str) -> None:
    pull = Pull(Output("pull", Path(os.devnull)))
    for line in lines:
        pull.hear(line)
    assert pull.far() == far
