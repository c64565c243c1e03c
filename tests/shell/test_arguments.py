"""What arrives is words, never shell: each value is used as it is, or refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.shell.server import DIGEST, IMAGE, SCRIPT, Server, side_by_side

HOSTILE = [
    "nginx; touch WITNESS",
    "$(touch WITNESS)",
    "`touch WITNESS`",
    "a' && touch WITNESS '",
    'a" && touch WITNESS "',
    "a | touch WITNESS",
    "a\ntouch WITNESS",
    "--privileged",
    "*",
    "../..",
    "",
]


def witnesses(server: Server) -> list[Path]:
    return list(server.home.rglob("WITNESS"))


OPTIONS = ["--service", "--release", "--image", "--timeout", "--directory"]


@pytest.mark.parametrize("option", OPTIONS)
def test_a_value_that_is_not_of_its_form_is_refused_before_anything_is_done(server: Server, option: str) -> None:
    results = side_by_side(lambda value: server.run_exactly([*server.command("stop"), option, value]), HOSTILE)
    for value, result in results.items():
        assert result.status == 2, (value, result)
        assert option in result.errors, (value, result)
    assert server.calls() == []
    assert not witnesses(server)


@pytest.mark.parametrize(
    "name", ["two words", "it's", 'say "so"', "$(touch WITNESS)", "a;touch WITNESS", "-x", "é*[a]"]
)
def test_a_directory_of_any_name_works(tmp_path: Path, name: str) -> None:
    server = Server(tmp_path, name=name)
    assert server.run("stop").status == 0
    result = server.run("precompile", command=("rails", "x"))
    assert result.status == 0, result
    assert IMAGE in server.compose_file.read_text()
    assert server.run("up").status == 0
    assert not witnesses(server)


@pytest.mark.parametrize(
    "command",
    [
        ("sh", "-c", "echo 'a b' > \"$HOME\"; touch WITNESS"),
        ("two words", "", "a\nb", "*", "$(touch WITNESS)", "--rm", "'\""),
    ],
)
def test_the_words_of_a_command_arrive_as_they_are(server: Server, command: tuple[str, ...]) -> None:
    server.run("pull", command=command)
    server.run("stop")
    server.run("precompile", command=command)
    runs = [call for call in server.docker_calls("compose") if "run" in call]
    assert [tuple(call[-len(command) :]) for call in runs] == [command, command]
    assert not witnesses(server)


def test_asset_paths_are_arguments_of_the_containers_shell_not_part_of_its_program(server: Server) -> None:
    path = "/app/public/$(touch WITNESS) 'a b'"
    server.run("stop")
    assert server.run("purge-assets", "--asset", path, "--asset", "/app/x/").status == 0
    (run,) = [call for call in server.docker_calls("compose") if "run" in call]
    program = run[run.index("-c") + 1]
    assert "WITNESS" not in program
    assert run[run.index("-c") + 2 :] == ["sh", path, "/app/x"]
    assert not witnesses(server)


@pytest.mark.parametrize("path", ["public", "/", "//", "/app/../etc", "/app/..", "/./app", "/app\nx", ""])
def test_an_asset_path_that_could_be_another_one_is_refused(server: Server, path: str) -> None:
    result = server.run("purge-assets", "--asset", path)
    assert result.status == 2
    assert server.calls() == []


@pytest.mark.parametrize(
    "image",
    [
        "registry.example/app:2.0",
        f"registry.example/app@{DIGEST}",
        f"registry.example:5000/app@{DIGEST}",
        f"registry.example/app:2.0@{DIGEST}0",
        f"registry.example/app:2.0@{DIGEST.upper()}",
        f"registry.example/app:2.0@sha256:{'g' * 64}",
        f":2.0@{DIGEST}",
        f"-app:2.0@{DIGEST}",
    ],
)
def test_an_image_without_tag_or_digest_is_refused(server: Server, image: str) -> None:
    result = server.run_exactly([*server.command("stop"), "--image", image])
    assert result.status == 2
    assert "is not REPOSITORY:TAG@sha256:DIGEST" in result.errors


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "'' is not a step"),
        (["deploy"], "'deploy' is not a step"),
        (["stop", "--force"], "'--force' is unknown, or has no value"),
        (["stop", "--force", "yes"], "unknown option '--force'"),
        (["stop", "now", "x"], "unknown option 'now'"),
        (["stop", "--directory", "apps", "--timeout", "9", "--service", "web"], "is not an absolute path"),
        (["stop", "--directory", "/apps", "--timeout", "9"], "--service is missing"),
        (["stop", "--directory", "/apps", "--service", "web"], "--timeout: '' is not a whole number above 0"),
    ],
)
def test_wrong_usage_is_named_and_ends_with_status_2(server: Server, arguments: list[str], message: str) -> None:
    result = server.run_exactly(["sh", str(SCRIPT), *arguments])
    assert result.status == 2
    assert message in result.errors
    assert server.calls() == []


@pytest.mark.parametrize(
    ("step", "options", "command", "message"),
    [
        ("precompile", (), (), "precompile: the command is missing"),
        ("precompile", ("--strategy", "staged"), (), "precompile: the command is missing"),
        ("precompile", (), ("-x",), "begins with -"),
        ("purge-assets", (), (), "purge-assets: --asset is missing"),
        ("up", (), ("rails",), "up takes no command"),
        ("verify", (), (), "--port: ''"),
        ("verify", ("--port", "3000", "--path", "health", "--status", "200"), (), "--path: 'health'"),
        ("verify", ("--port", "3000", "--path", "/", "--status", "200", "--header", "x"), (), "--header: 'x'"),
        ("verify", ("--port", "3000", "--path", "/", "--status", "200", "--url", "ftp://a"), (), "--url: 'ftp://a'"),
    ],
)
def test_each_step_says_what_it_lacks(
    server: Server, step: str, options: tuple[str, ...], command: tuple[str, ...], message: str
) -> None:
    result = server.run(step, *options, command=command)
    assert result.status == 2
    assert message in result.errors
    assert server.calls() == []
