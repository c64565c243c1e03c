"""The plan of an update: which steps run and why, from the state and the configuration alone."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from configuration.keys import specification, specified
from configuration.load import load
from configuration.tree import Settings
from release import plan
from release.plan import Past, Plan, ServerPlan, Target

pytestmark = pytest.mark.unit

OLD, NEW = ("sha256:" + digit * 64 for digit in "12")
PROGRAM = "f" * 64
ENV = ("env LOCALE aaa", "env SECRET bbb")
STEPS = ("pull", "precompile", "up", "purge")


def configured(tag: str = "1.0", **app: Any) -> Settings:
    directory = {"directory": "/apps/shop", "services": ["web"], "assets": ["/app/public"]}
    values = {
        "releve:tag": tag,
        "releve:image": '{"repository": "registry.example/shop"}',
        "releve:app": json.dumps(directory | app),
        "releve:servers": '[{"name": "s1", "host": "192.0.2.1", "user": "deploy", "url": "https://shop.example", '
        '"hostKey": "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAINu5pkMrBSN8gnPn/7sTgGhLLboSgEWsYkUlT74qIPeM"}]',
    }
    return load(values, Path("Pulumi.test.yaml"))


def target(settings: Settings | None = None, *, digest: str | None = OLD, **fields: Any) -> Target:
    settings = settings or configured()
    server = settings.servers[0]
    base: dict[str, Any] = {
        "settings": settings,
        "server": server,
        "digest": digest,
        "made_of": "commit abc of shop",
        "specification": specification(settings, server, None),
        "environment": ENV,
        "program": PROGRAM,
        "others": (),
    }
    return Target(**(base | fields))


def state(of: Target, *, kept: str = "", stdout: dict[str, str] | None = None) -> dict[str, Any]:
    """The resources that a finished rollout of `of` has left, by URN, with words of the preview's in the triggers."""
    start = "urn:pulumi:prod::releve::releve:index:ComposeRollout"
    settings = of.settings
    triggers = [settings.tag, str(of.digest), of.specification, *of.environment]
    said = {"purge": f"purge: kept: {kept} (0.1 s)", **(stdout or {})}
    resources: dict[str, Any] = {
        f"{start}$command:remote:Command::s1-install": {
            "outputs": {"triggers": [of.program, of.server.host, settings.app.directory], "stdout": ""}
        },
        f"{start}::s1": {
            "outputs": {
                "release": f"registry.example/shop:{settings.tag}@{of.digest}",
                "specified": specified(settings, of.server),
            }
        },
    }
    for step in STEPS:
        had = [f"{it}: a change compiles the assets again" if step == "precompile" and it.startswith("env") else it
               for it in triggers]  # fmt: skip
        resources[f"{start}$command:remote:Command::s1-{step}"] = {
            "outputs": {"triggers": [*had, "id of the step before"], "stdout": said.get(step, "")}
        }
    return resources


def made(wanted: Target, resources: dict[str, Any]) -> Plan:
    return plan.make("prod", [(wanted, Past.of("s1", resources))])


def only(plan_: Plan) -> ServerPlan:
    (server,) = plan_.servers
    return server


def test_where_nothing_has_changed_nothing_is_done_and_one_line_says_so() -> None:
    unchanged = made(target(), state(target()))
    assert only(unchanged).steps == ()
    assert unchanged.text() == "s1: nothing to do, it runs 1.0 (sha256:111111111111…)"


def test_a_source_that_has_changed_under_a_released_tag_is_no_reason_to_do_anything() -> None:
    assert only(made(target(made_of="commit def of shop"), state(target()))).steps == ()


def test_a_first_release_runs_everything() -> None:
    first = only(made(target(), {}))
    assert first.steps == ("install", *STEPS)
    assert first.reasons == ("nothing was released here before",)


def test_a_new_tag_that_is_yet_to_be_built_names_its_commit() -> None:
    new = made(target(configured("1.1"), digest=None), state(target()))
    assert only(new).steps == ("build", "check", "smoke-test", "publish", *STEPS)
    assert only(new).reasons == ("tag 1.0 → 1.1",)
    assert "will run    1.1, built from commit abc of shop" in new.text()


@pytest.mark.parametrize(
    ("kept", "origin"),
    [("1.1-222222222222 1.0-111111111111", "kept on the server: nothing is pulled"),
     ("1.0-111111111111", "released already: nothing is built")],
)  # fmt: skip
def test_a_release_that_exists_is_kept_on_the_server_or_pulled(kept: str, origin: str) -> None:
    back = only(made(target(configured("1.1"), digest=NEW), state(target(), kept=kept)))
    assert (back.steps, back.origin) == (STEPS, origin)


def test_a_changed_variable_is_named_without_its_value() -> None:
    changed = made(target(environment=("env ADDED new", "env LOCALE ccc", "env SECRET bbb")), state(target()))
    assert only(changed).steps == STEPS
    assert only(changed).reasons == ("env changed: ADDED, LOCALE; the assets are compiled again",)
    assert "ccc" not in changed.text()


def test_a_changed_key_is_named_with_both_values() -> None:
    changed = only(made(target(configured(strategy="rolling")), state(target())))
    assert changed.reasons == ('strategy "staged" → "rolling"',)
    assert changed.steps == STEPS


def test_a_retry_goes_on_with_the_step_that_failed_and_a_revert_runs_all() -> None:
    new = target(configured("1.1"), digest=NEW)
    failed = state(target()) | {urn: it for urn, it in state(new).items() if urn.endswith(("-pull", "-precompile"))}
    assert only(made(new, failed)).steps == ("up", "purge")
    back = only(made(target(), failed))
    assert (back.steps, back.reasons) == (STEPS, ("the rollout of 1.1 has not come to its end",))


def test_a_new_program_alone_is_no_release() -> None:
    renewed = made(target(program="0" * 64), state(target()))
    assert only(renewed).steps == ("install",)
    assert "Relève's own program there is renewed" in renewed.text()
    assert "because" not in renewed.text()


def test_the_usual_downtime_and_who_else_is_interrupted_are_those_of_the_last_rollout() -> None:
    said = {"up": "up: usual here: 1.7 s (median of 5) (0.0 s)\n",
            "pull": "pull: notice: nginx will be recreated, too: volumes_from web (0.0 s)\n"}  # fmt: skip
    new = target(configured("1.1"), digest=NEW)
    text = made(new, state(target(), stdout=said)).text()
    assert "downtime    about 1.7 s, as the last times here" in text
    assert "interrupts  nginx, too" in text
    # Of another strategy nothing is known.
    other = target(configured("1.1", strategy="in-place"), digest=NEW)
    assert "not known yet" in made(other, state(target(), stdout=said)).text()


CHANGES = {
    "another tag": target(configured("1.2"), digest=NEW),
    "another digest": target(configured("1.1"), digest="sha256:" + "3" * 64),
    "another step": target(configured("1.1", afterUp=[["rails", "task"]]), digest=NEW),
    "another server": target(configured("1.1"), digest=NEW, specification="of another host"),
    "another value in env": target(configured("1.1"), digest=NEW, environment=("env LOCALE ddd", "env SECRET bbb")),
}


def test_the_fingerprint_changes_with_what_is_done_and_with_the_state_and_not_with_times() -> None:
    new, before = target(configured("1.1"), digest=NEW), state(target())
    approved = made(new, before).fingerprint
    assert made(new, state(target(), stdout={"up": "up: usual here: 9.9 s (median of 2)"})).fingerprint == approved
    others = {name: made(other, before).fingerprint for name, other in CHANGES.items()}
    others["another state"] = made(new, state(target(configured("0.9"), digest="sha256:" + "9" * 64))).fingerprint
    assert len({approved, *others.values()}) == 1 + len(others), others


def test_a_plan_is_as_short_as_what_it_says() -> None:
    new = made(target(configured("1.1"), digest=NEW), state(target()))
    assert len(new.text().splitlines()) <= 10


def test_what_the_state_of_an_older_version_lacks_is_said_in_general() -> None:
    resources = state(target())
    for urn in resources:
        if urn.endswith("::s1"):
            resources[urn]["outputs"].pop("specified")
    changed = dataclasses.replace(target(configured(port=4000, strategy="rolling")), specification="another")
    assert only(made(changed, resources)).reasons == ("the configuration changed",)


def test_the_tags_that_a_server_runs_or_keeps_are_known_from_the_state() -> None:
    kept = f"0.9-rc-{'a' * 12} 1.0-{'1' * 12} found-20261126T101112Z"
    assert Past.of("s1", state(target(), kept=kept)).tags == ("1.0", "0.9-rc")
    assert Past.of("s1", {}).tags == ()


def test_what_runs_is_what_the_last_up_brought_though_its_rollout_has_not_ended() -> None:
    new = target(configured("1.1"), digest=NEW)
    after_up = state(target()) | {urn: it for urn, it in state(new).items() if urn.endswith(("-pull", "-up"))}
    assert str(Past.of("s1", after_up).live("registry.example/shop")) == f"registry.example/shop:1.1@{NEW}"
    ended = Past.of("s1", state(target())).live("another.example/shop")
    assert str(ended) == f"registry.example/shop:1.0@{OLD}"
    assert Past.of("s1", {}).live("registry.example/shop") is None


PLANS = {
    "first": (target(configured("1.1", strategy="rolling", afterUp=[["rails", "x"]]), digest=None), {}),
    "changed": (
        target(configured("1.1"), environment=("env LOCALE ddd", "env SECRET bbb")),
        state(target(), stdout={"up": "up: usual here: 1.7 s (median of 5)"}),
    ),
    "unchanged": (target(), state(target())),
    "renewed": (target(program="0" * 64), state(target())),
}


@pytest.mark.parametrize("name", PLANS)
def test_the_fingerprint_and_what_is_known_of_a_plan_are_the_same_in_every_language(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    english = made(*PLANS[name])
    monkeypatch.setenv("RELEVE_LANG", "fr")
    french = made(*PLANS[name])
    assert french == english


def test_a_plan_is_told_in_english_and_in_french(monkeypatch: pytest.MonkeyPatch) -> None:
    changed = made(*PLANS["changed"])
    end = f"{changed.fingerprint}   (RELEVE_APPROVED={changed.fingerprint} pulumi up)"
    assert (
        changed.text()
        == f"""\
s1 (https://shop.example)
  runs        1.0 (sha256:111111111111…)
  will run    1.1 (sha256:111111111111…), released already: nothing is built
  because     tag 1.0 → 1.1; env changed: LOCALE; the assets are compiled again
  steps       pull, precompile, up, purge   (strategy staged)
  migrations  bundle exec rails db:migrate, after a dump, where the release has some that are pending
  downtime    about 1.7 s, as the last times here
fingerprint   {end}"""
    )
    monkeypatch.setenv("RELEVE_LANG", "fr")
    assert (
        changed.text().replace("\N{NO-BREAK SPACE}", " ").replace("\N{NARROW NO-BREAK SPACE}", " ")
        == f"""\
s1 (https://shop.example)
  en service  1.0 (sha256:111111111111…)
  prévue      1.1 (sha256:111111111111…), déjà publiée : rien n’est construit
  parce que   tag 1.0 → 1.1; env a changé : LOCALE ; les assets sont compilés à nouveau
  étapes      pull, precompile, up, purge   (stratégie staged)
  migrations  bundle exec rails db:migrate, après une sauvegarde, si la version en a en attente
  arrêt       environ 1,7 s, comme les dernières fois ici
empreinte     {end}"""
    )
