"""The guide's order: what each step asks of Docker, word for word."""

from typing import Any

import pytest

from tests.server.server import DIGEST, IMAGE, Server, compiling

CHANGING = ("run", "up", "stop", "rm", "pull", "tag", "start", "restart", "down", "kill", "create")


def changes(server: Server) -> list[str]:
    """The calls that change something, in short: `docker` left out, options of one-off containers too."""
    short = []
    for call in server.docker_calls():
        words = [word for word in call if word in CHANGING or word in {"web", "worker", "-d", "--remove-orphans"}]
        if words and words[0] in CHANGING:
            short.append(" ".join(words))
    return short


ASSETS = compiling("/app/public", command=("bundle", "exec", "rails", "assets:precompile"))


def rollout(server: Server) -> None:
    server.settings["assets"] = ASSETS
    for step in ("pull", "stop", "purge-assets", "precompile", "up", "verify"):
        result = server.run(step)
        assert result.status == 0, (step, result)


def test_a_rollout_asks_docker_for_the_guides_order(server: Server) -> None:
    server.services = ("web", "worker")
    server.compose_file.write_text(server.compose_file.read_text() + "  worker:\n    image: shop/app:1.0\n")
    rollout(server)
    assert changes(server) == [
        "tag",
        "run -d web",  # looks at mounts and command
        "stop web worker",
        "run web",  # removes the assets
        "run web",  # compiles them
        "up -d web worker",
        "up -d --remove-orphans",
    ]


def test_the_services_are_recreated_before_the_whole_project_so_that_nginx_is_not(server: Server) -> None:
    for step in ("pull", "stop", "up"):
        server.run(step)
    ups = [call for call in server.docker_calls("compose") if "up" in call]
    assert ups == [["compose", "up", "-d", "web"], ["compose", "up", "-d", "--remove-orphans"]]


def test_the_image_is_pulled_by_digest_and_keeps_its_tag(server: Server) -> None:
    server.behave('case "$*" in "image inspect"*) exit 1 ;; esac')
    result = server.run("pull")
    assert result.status == 0, result
    assert server.docker_calls("pull") == [["pull", IMAGE]]
    tag = ["tag", f"registry.example:5000/shop/app@{DIGEST}", "registry.example:5000/shop/app:2.0"]
    assert server.docker_calls("tag") == [tag]


def test_an_image_that_is_there_is_not_pulled_again(server: Server) -> None:
    assert server.run("pull").status == 0
    assert server.docker_calls("pull") == []


def test_a_one_off_container_touches_no_dependency_takes_no_terminal_and_can_be_found_again(server: Server) -> None:
    server.settings["assets"] = compiling("/app/public")
    for step in ("pull", "stop"):
        assert server.run(step).status == 0
    server.forget_calls()
    assert server.run("precompile").status == 0
    (run,) = [call for call in server.docker_calls("compose") if "run" in call]
    assert run[2:5] == ["-T", "--rm", "--no-deps"]
    assert run[run.index("--name") + 1].endswith("-precompile")
    assert f"releve.project={server.directory}" in run
    assert "releve.release=2.0" in run
    assert run[-3:] == ["web", "rails", "assets:precompile"]


def test_pull_changes_no_file_of_the_project(server: Server) -> None:
    before = server.compose_file.read_bytes()
    server.run("pull", assets=compiling("/app/public"))
    assert server.compose_file.read_bytes() == before
    assert sorted(path.name for path in server.directory.iterdir()) == [".releve", "docker-compose.yml"]


@pytest.mark.parametrize("step", ["purge-assets", "precompile", "up", "verify"])
def test_a_step_refuses_when_the_compose_file_names_another_release(server: Server, step: str) -> None:
    server.settings["assets"] = compiling("/app/public")
    result = server.run(step)
    assert result.status == 1
    assert f"no longer names {IMAGE}" in result.errors
    assert changes(server) == []


def test_a_failed_precompile_fails_the_step_and_says_what_state_the_server_is_in(server: Server) -> None:
    server.settings["assets"] = ASSETS
    for step in ("pull", "stop"):
        assert server.run(step).status == 0
    server.behave('case "$*" in *assets:precompile) echo "SassError: line 3"; exit 7 ;; esac')
    result = server.run("precompile")
    assert result.status == 1
    assert "The command failed: bundle exec rails assets:precompile" in result.errors
    assert "SassError: line 3" in result.errors
    assert "The services are stopped" in result.errors


def periods(server: Server) -> list[str]:
    """Of the purges so far: when it was that what they remove was compiled."""
    purges = [call for call in server.docker_calls("compose") if any(word.endswith("purge-assets") for word in call)]
    return [call[call.index("-c") + 1].partition("\n")[0] for call in purges]


def test_only_what_was_compiled_by_a_rollout_is_removed_by_the_next(server: Server) -> None:
    """Not uploads in the same directory, nor what is there that nobody has seen being made."""
    rollout(server)
    server.behave('case "$*" in *assets:precompile) exit 7 ;; esac')
    for step in ("pull", "stop", "precompile"):
        server.run(step)
    server.behave("")
    rollout(server)
    rollout(server)
    first, second, third = periods(server)
    assert first == "periods=''"
    assert len(second.split()) == 2, "the one that failed has left something, too"
    assert len(third.split()) == 1


def test_every_step_may_be_entered_again(server: Server) -> None:
    rollout(server)
    rollout(server)
    assert IMAGE in server.compose_file.read_text()


DEPENDS = "    depends_on:\n      {service}:\n        condition: {condition}\n"


def depend_on(server: Server, service: str, condition: str = "service_started") -> None:
    """Lets the web service depend on one that is not in the Compose file's list of containers."""
    depends = DEPENDS.format(service=service, condition=condition)
    server.compose_file.write_text(f"{server.compose_file.read_text()}{depends}")


def stop_with(server: Server, **settings: Any) -> None:
    server.settings |= settings
    for step in ("pull", "stop"):
        result = server.run(step)
        assert result.status == 0, result


def test_the_first_release_starts_the_services_it_depends_on_and_recreates_none(server: Server) -> None:
    depend_on(server, "postgres")
    stop_with(server)
    result = server.run("precompile", assets=compiling("/app/public"))
    assert result.status == 0, result
    ups = [call for call in server.docker_calls("compose") if "up" in call]
    assert ups == [["compose", "up", "-d", "--no-recreate", "--wait", "postgres"]]


@pytest.mark.parametrize("step", ["pull", "precompile"])
def test_a_dependency_that_was_stopped_is_named_and_not_started(server: Server, step: str) -> None:
    depend_on(server, "postgres")
    stop_with(server)
    server.answer("project", "postgres exited 1234\n")
    server.forget_calls()
    result = server.run(step, assets=compiling("/app/public"))
    assert result.status == 1
    assert "'postgres', on which 'web' depends, is not running" in result.errors
    assert "docker compose up -d --no-recreate postgres" in result.errors
    assert [call for call in server.docker_calls("compose") if "up" in call or "run" in call] == []


def test_a_dependency_that_runs_once_need_not_be_running(server: Server) -> None:
    depend_on(server, "setup", "service_completed_successfully")
    stop_with(server)
    server.answer("project", "setup exited 1234\n")
    assert server.run("precompile", assets=compiling("/app/public")).status == 0
