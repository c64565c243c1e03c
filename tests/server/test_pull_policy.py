"""Services that want a registry asked, or an image built, whenever a container is made: after `pull` nothing is."""

from __future__ import annotations

import pytest

from server.request import Assets, Database, Strategy
from tests.server import test_rolling
from tests.server.server import MakeServer, Server, compiling

STEPS = {
    Strategy.IN_PLACE: ("pull", "stop", "purge-assets", "precompile", "up", "verify"),
    Strategy.STAGED: ("pull", "precompile", "up", "after-up", "purge"),
    Strategy.ROLLING: ("pull", "precompile", "up"),
}


def asking(server: Server, policy: str) -> Server:
    server.add_worker()
    text = server.compose_file.read_text()
    for service in ("web", "worker"):
        text = text.replace(f"  {service}:\n", f"  {service}:\n    build: .\n    pull_policy: {policy}\n")
    server.compose_file.write_text(f"{text}  nginx:\n    image: nginx:1\n    pull_policy: {policy}\n")
    server.answer("running", "sha256:old")
    server.settings["database"] = Database(migrate=("rails", "db:migrate"), pending=("rails", "pending"))
    server.settings["after_up"] = (("rails", "task"),)
    return server


@pytest.fixture
def server(new_server: MakeServer) -> Server:
    return new_server(addresses=test_rolling.ADDRESSES)


@pytest.mark.parametrize("policy", ["always", "build"])
@pytest.mark.parametrize("strategy", list(Strategy))
def test_no_registry_is_asked_and_nothing_built_after_pull(server: Server, strategy: Strategy, policy: str) -> None:
    asking(server, policy)
    if strategy is Strategy.ROLLING:
        test_rolling.prepare(server)
    else:
        server.behave('case "$*" in *-compile*) touch .releve/staging/0/app.js ;; esac')
    for step in STEPS[strategy]:
        result = server.run(step, strategy=strategy, assets=compiling("/app/public/packs"))
        assert result.status == 0, result
    made = [call for call in server.docker_calls("compose") if {"up", "create"} & set(call) and "run" not in call]
    assert len(made) >= 2
    for call in made:
        assert call[call.index("--pull") + 1] == "missing", call
    one_offs = [call for call in server.docker_calls("compose") if "run" in call]
    assert len(one_offs) >= 2
    for call in one_offs:
        assert str(server.state / "tmp" / "pull-policy.json") in call[: call.index("run")], call


def test_what_holds_for_the_other_services_is_said(server: Server) -> None:
    result = asking(server, "always").run("pull", assets=Assets())
    assert result.status == 0, result
    assert "notice: a release pulls or builds no newer image of nginx, whatever its pull_policy says" in result.output


@pytest.mark.parametrize("policy", ["missing", "never", "if_not_present"])
def test_where_no_service_wants_it_nothing_is_added(server: Server, policy: str) -> None:
    asking(server, policy)
    for step in STEPS[Strategy.IN_PLACE]:
        assert server.run(step).status == 0
    assert not [call for call in server.docker_calls("compose") if "--pull" in call or "pull-policy.json" in str(call)]
