"""What arrives is a typed document, and its values are words, never shell: each is used as it is, or refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from server.request import Strategy, dump
from tests.server.server import IMAGE, MakeServer, Result, Server, compiling


def witnesses(server: Server) -> list[Path]:
    return list(server.home.rglob("WITNESS"))


def send(server: Server, text: str, step: str = "stop") -> Result:
    return server.run_exactly(server.command(step), stdin=text)


def document(server: Server) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(dump(server.request("stop")))
    return found


def put(*path: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(of: dict[str, Any]) -> None:
        for part in path[:-1]:
            of = of[part]
        of[path[-1]] = value

    return change


def take(*path: str) -> Callable[[dict[str, Any]], None]:
    def change(of: dict[str, Any]) -> None:
        for part in path[:-1]:
            of = of[part]
        del of[path[-1]]

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (put("version", value=2), "version"),
        (put("version", value="1"), "version"),
        (take("version"), "version"),
        (put("force", value=True), "unknown: force"),
        (put("health", "patience", value=3), "health.unknown: patience"),
        (take("actor"), "missing: actor"),
        (take("image", "digest"), "image.missing: digest"),
        (put("directory", value=7), "directory"),
        (put("directory", value=None), "directory"),
        (put("services", value="web"), "services"),
        (put("services", value=["web", 3]), "services"),
        (put("limits", "stop", value="9"), "limits.stop"),
        (put("limits", "stop", value=True), "limits.stop"),
        (put("strategy", value="blue-green"), "strategy"),
        (put("assets", value=[]), "assets"),
        (put("assets", "source", value="nowhere"), "assets.source"),
        (put("database", "migrations", value="maybe"), "database.migrations"),
        (put("keep_releases", value=None), "keep_releases"),
        (put("before_up", value=["rails"]), "before_up"),
    ],
)
def test_a_document_that_is_not_understood_is_refused_by_its_field_before_anything_is_done(
    server: Server, change: Callable[[dict[str, Any]], None], message: str
) -> None:
    changed = document(server)
    change(changed)
    result = send(server, json.dumps(changed))
    assert result.status == 2
    assert message in result.errors
    assert server.calls() == []
    assert list(server.state.iterdir()) == []


@pytest.mark.parametrize("cut", ["", "{", '{"version": 1}', "[]", "null", "stop --force"])
def test_what_is_no_document_is_refused(server: Server, cut: str) -> None:
    result = send(server, cut)
    assert result.status == 2
    assert "does not understand the request" in result.errors
    assert server.calls() == []


def test_a_document_that_is_cut_anywhere_is_refused(server: Server) -> None:
    whole = dump(server.request("stop"))
    for length in range(0, len(whole) - 1, len(whole) // 7):
        assert send(server, whole[:length]).status == 2
    assert server.calls() == []


def test_no_value_of_a_document_that_is_not_understood_is_told(server: Server) -> None:
    changed = document(server) | {"registry_login": ["s3cret"], "actor": "s3cret"}
    result = send(server, json.dumps(changed))
    assert result.status == 2
    assert "s3cret" not in result.errors + result.output


@pytest.mark.parametrize("step", ["", "deploy", "gate", "--help"])
def test_a_step_that_there_is_not_is_named(server: Server, step: str) -> None:
    result = server.run_exactly(server.command(step), stdin=dump(server.request("stop")))
    assert result.status in (1, 2)
    assert step in result.errors
    assert server.docker_calls("compose") == []


@pytest.mark.parametrize(
    ("strategy", "step"),
    [
        (Strategy.STAGED, "stop"),
        (Strategy.STAGED, "verify"),
        (Strategy.ROLLING, "purge-assets"),
        (Strategy.IN_PLACE, "purge"),
    ],
)
def test_a_step_of_another_strategy_is_refused(server: Server, strategy: Strategy, step: str) -> None:
    result = server.run(step, strategy=strategy)
    assert result.status == 1
    assert f"The strategy {strategy} has no step {step}" in result.errors
    assert server.docker_calls("compose") == []


@pytest.mark.parametrize(
    "name", ["two words", "it's", 'say "so"', "$(touch WITNESS)", "a;touch WITNESS", "-x", "é*[a]", "a\nb"]
)
def test_a_directory_of_any_name_works(new_server: MakeServer, name: str) -> None:
    server = new_server(name=name)
    assert server.run("stop").status == 0
    result = server.run("precompile", assets=compiling("/app/public", command=("rails", "x")))
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
    assets = compiling("/app/public", command=command)
    for step in ("pull", "stop", "precompile"):
        assert server.run(step, assets=assets).status == 0
    runs = [call for call in server.docker_calls("compose") if "run" in call]
    assert [tuple(call[-len(command) :]) for call in runs] == [command, command]
    assert not witnesses(server)


def test_asset_paths_are_arguments_of_the_containers_shell_not_part_of_its_program(server: Server) -> None:
    path = "/app/public/$(touch WITNESS) 'a b'"
    server.run("stop")
    assert server.run("purge-assets", assets=compiling(path, "/app/x")).status == 0
    (run,) = [call for call in server.docker_calls("compose") if "run" in call]
    program = run[run.index("-c") + 1]
    assert "WITNESS" not in program
    assert run[run.index("-c") + 2 :] == ["sh", path, "/app/x"]
    assert not witnesses(server)
