"""The policy pack with the real engine: each rule violated once. What the project itself has is in test_gitops.py."""

from __future__ import annotations

import pytest

from tests.engine.harness import CHECKOUT, Outcome, Stack

pytestmark = pytest.mark.engine

PACK = ["--policy-pack", str(CHECKOUT / "policy/pack")]
DIGEST = "sha256:" + "7" * 64
IMAGE = {"repository": "registry.example/app", "tag": "1.0", "digest": DIGEST}

PROGRAM = """
import pulumi_docker as docker

def request(**image):
    return pulumi.Output.secret(json.dumps({"image": {**IMAGE, **image}, "health": {"contains": []}}))

def step(name, stdin=None, without="", connection=(), **changes):
    given = dict(create="python3 -I program pull", stdin=stdin or request(), triggers=["1.0"], **changes)
    server = {"host": "fab.example.org", "user": "deploy", "host_key": "ssh-ed25519 AAAA", **dict(connection)}
    for arguments in (given, server):
        arguments.pop(without, None)
    command.remote.Command(name, connection=server, **given)
"""

VIOLATIONS = """
docker.Image("latest-image", image_name="registry.example/app", build=docker.DockerBuildArgs(context="."))
command.local.Command("latest-named", create="docker run registry.example/app:latest")
step("latest-released", request(tag="latest"))
step("digest-none", request(digest=""))
command.remote.Command("digest-pulled", create="docker pull registry.example/app:1.0", triggers=["1.0"],
    connection={"host": "fab.example.org", "host_key": "ssh-ed25519 AAAA"})
step("remote-no-host-key", without="host_key")
step("remote-no-key-of-jump", connection={"proxy": {"host": "jump.example.org"}})
step("remote-no-triggers", without="triggers")
step("remote-delete", delete="true")
step("remote-update", update="true")
command.local.Command("secret-local", create=pulumi.Output.concat("login -p ", pulumi.Output.secret("hush")))
step("server1-install")
"""

RULES = {
    "latest": "no-latest",
    "digest": "image-by-digest",
    "remote": "remote-commands",
    "secret": "no-secret-in-command",
}


def violations(outcome: Outcome) -> dict[str, tuple[str, str]]:
    """Rule and level, by the resource's name."""
    found = [event["policyEvent"] for event in outcome.events if "policyEvent" in event]
    return {
        event["resourceUrn"].rpartition("::")[2]: (event["policyName"], event["enforcementLevel"]) for event in found
    }


def program(text: str) -> str:
    return f"IMAGE = {IMAGE!r}\n{PROGRAM}\n{text}"


def test_each_violation_is_found_by_its_rule_and_stops_the_preview(stack: Stack) -> None:
    (stack.directory / "Dockerfile").write_text("FROM scratch\n")
    outcome = stack.preview(program(VIOLATIONS), *PACK)
    assert not outcome.succeeded
    found = violations(outcome)
    assert found.pop("server1-install") == ("health-contains", "advisory")
    assert len(found) == VIOLATIONS.count("\nstep") + VIOLATIONS.count("\ncommand") + VIOLATIONS.count("\ndocker") - 1
    for name, violation in found.items():
        assert violation == (RULES[name.partition("-")[0]], "mandatory"), name


def test_what_passes_and_what_is_only_advised_stop_nothing(stack: Stack) -> None:
    outcome = stack.preview(program('step("server1-pull")\nstep("server1-install")'), *PACK)
    assert outcome.succeeded, outcome.messages
    assert violations(outcome) == {"server1-install": ("health-contains", "advisory")}


def test_a_violation_stops_an_update_before_anything_is_done(stack: Stack) -> None:
    outcome = stack.up("command.local.Command('step', create='touch ran; : registry.example/app:latest')", *PACK)
    assert not outcome.succeeded
    assert not (stack.directory / "ran").exists()
    assert not stack.holds("step")
