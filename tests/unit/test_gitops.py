"""Releases by pull request: comments, approvals, the drift issue, workflows. Rollouts are in tests/engine."""

from __future__ import annotations

import base64
import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from configuration.load import load
from configuration.tree import DEFAULT_TIMEOUTS
from errors import ReleaseError
from gitops import changes, install, picture, report, run, sticky
from gitops.artefacts import Artefacts, Preview
from gitops.forge import Job, job
from operations.locks import Holder
from server.request import StepName
from tests.unit.forge_server import ForgeServer, serving

pytestmark = pytest.mark.unit

TEMPLATES = Path(__file__).parents[2] / "templates/gitops"
WORKFLOWS = sorted((TEMPLATES / "github/.github/workflows").glob("*.yml"))
COMMIT, FINGERPRINT = "c0ffee", "0123456789ab"


def previewed(**changes: Any) -> Preview:
    given = {"stack": "staging", "succeeded": True, "fingerprint": FINGERPRINT, "text": "runs 1.0", "log": "+ create"}
    return Preview(**{**given, "is_empty": False, "waits": False, **changes})


@pytest.fixture
def forge() -> Iterator[ForgeServer]:
    with serving() as running:
        yield running


@pytest.fixture(params=["github", "gitlab"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def job_of(forge: ForgeServer, kind: str, directory: Path, request: int | None = None) -> Job:
    return job(forge.github(directory, COMMIT, request) if kind == "github" else forge.gitlab(COMMIT, request))


def test_a_stacks_comment_is_edited_not_repeated_and_those_of_other_people_are_left_alone(
    forge: ForgeServer, kind: str, tmp_path: Path
) -> None:
    forged = report.markdown(previewed(fingerprint="f" * 12))
    forge.said_by("mallory", 5, forged)
    forge.said_by("alice", 5, "looks good")
    mine = job_of(forge, kind, tmp_path, 5)
    sticky.comment(mine, "staging", report.markdown(previewed(fingerprint="a" * 12), COMMIT))
    sticky.comment(mine, "prod", report.markdown(previewed(stack="prod"), COMMIT))
    sticky.comment(mine, "staging", report.markdown(previewed(), COMMIT))
    found = forge.bodies(5)
    assert found[:2] == [forged, "looks good"]
    assert len(found) == 4
    assert found[2].startswith(f"<!-- releve-preview stack=staging fingerprint={FINGERPRINT} commit={COMMIT} -->")
    assert found[3].startswith("<!-- releve-preview stack=prod")


def test_what_was_approved_is_what_our_own_comment_on_the_merged_request_shows(
    forge: ForgeServer, kind: str, tmp_path: Path
) -> None:
    forge.said_by("mallory", 5, report.markdown(previewed(fingerprint="f" * 12)))
    sticky.comment(job_of(forge, kind, tmp_path, 5), "staging", report.markdown(previewed(), COMMIT))
    merged = job_of(forge, kind, tmp_path)
    with pytest.raises(ReleaseError, match="c0ffee is of no merged pull request"):
        sticky.approved(merged, "staging")
    forge.merged[COMMIT] = 5
    assert sticky.approved(merged, "staging") == FINGERPRINT
    with pytest.raises(ReleaseError, match="the pull request 5 shows no plan of prod"):
        sticky.approved(merged, "prod")


@pytest.mark.parametrize("state", [{"succeeded": False}, {"is_empty": True}])
def test_a_preview_that_failed_or_does_nothing_is_nothing_to_approve(state: dict[str, bool]) -> None:
    body = report.markdown(previewed(**state))
    assert report.is_of("staging", body)
    assert report.fingerprint_in(body) == ""
    assert "approves" not in body


def test_one_issue_is_kept_open_while_a_stack_has_drifted_and_closed_when_it_has_not(
    forge: ForgeServer, kind: str, tmp_path: Path
) -> None:
    mine = job_of(forge, kind, tmp_path)
    for stack, found in (("prod", "disk"), ("staging", "image"), ("prod", "image\n```\n@everyone")):
        sticky.keep_issue(mine.forge, stack, found, mine.run)
    titles = [issue["title"] for issue in forge.issues]
    assert titles == ["prod is not as it was released", "staging is not as it was released"]
    text = forge.issues[0].get("body") or forge.issues[0]["description"]
    assert text.count("```") == 2
    assert mine.run in text
    sticky.keep_issue(mine.forge, "prod", "", mine.run)
    assert [issue["state"] for issue in forge.issues] == ["closed", "open"]
    assert forge.bodies(forge.issues[0]["number"]) == [f"It is as it was released again: {mine.run}"]
    sticky.keep_issue(mine.forge, "prod", "", mine.run)
    assert len(forge.issues) == 2


def test_what_could_not_be_looked_at_is_no_drift_and_not_the_absence_of_one(tmp_path: Path) -> None:
    artefacts = Artefacts(tmp_path / "prod")
    with pytest.raises(ReleaseError, match="what differs is not known: ./releve drift ended with not run"):
        artefacts.read_drift()
    artefacts.write_drift(1, "")
    with pytest.raises(ReleaseError, match="ended with 1"):
        artefacts.read_drift()
    artefacts.write_drift(2, "image: another")
    assert artefacts.read_drift() == "image: another"
    artefacts.write_drift(0, "server1  as it was released")
    assert artefacts.read_drift() == ""


def test_a_refusal_of_the_forge_says_what_was_asked_and_where_to_look(forge: ForgeServer, tmp_path: Path) -> None:
    variables = {**forge.github(tmp_path, COMMIT, 5), "GITHUB_TOKEN": "another"}
    with pytest.raises(ReleaseError, match=r"comments was refused with status 401.*\n?.*") as refused:
        sticky.comment(job(variables), "staging", "x")
    assert "another" not in str(refused.value)
    with pytest.raises(ReleaseError, match="RELEVE_GITLAB_TOKEN is not set"):
        job({**forge.gitlab(COMMIT), "RELEVE_GITLAB_TOKEN": ""})
    with pytest.raises(ReleaseError, match="this is no job of GitHub Actions or GitLab CI"):
        job({})


def test_a_long_log_is_shortened_and_nothing_in_it_is_read_as_markdown() -> None:
    body = report.markdown(previewed(log="```\n<b>@all</b>\n" + "x" * 200_000 + "\nthe end"))
    assert len(body) < 65_536
    assert "the end" in body
    assert "\n````text\n```\n<b>" in body


def preview_in(directory: Path, log: str, plan: dict[str, Any] | None = None, *, succeeded: bool = True) -> Preview:
    artefacts = Artefacts(directory)
    artefacts.clear()
    artefacts.log.write_text(log)
    if plan:
        artefacts.plan.write_text(json.dumps(plan))
    if succeeded:
        artefacts.write_widget()
    return Preview.read("prod", artefacts)


def test_gitlabs_widget_counts_what_the_preview_sums_up(tmp_path: Path) -> None:
    preview_in(tmp_path, "Resources:\n    + 2 to create\n    ~ 1 to update\n    +-5 to replace\n    8 changes\n")
    assert json.loads((tmp_path / "tfplan.json").read_text()) == {"create": 2, "update": 6, "delete": 0}


def test_a_preview_leaves_nothing_of_the_one_before(tmp_path: Path) -> None:
    preview_in(tmp_path, "", {"fingerprint": FINGERPRINT, "text": "", "empty": False})
    failed = preview_in(tmp_path, "error", succeeded=False)
    assert (failed.succeeded, failed.fingerprint, failed.waits) == (False, "", False)


HOLDER = Holder("deploy", "another-machine", 7, "2026-01-01T00:00:00Z")


def test_a_deploy_waits_for_a_lock_says_who_holds_it_and_goes_on(capsys: pytest.CaptureFixture[str]) -> None:
    answers = iter([(HOLDER,), (HOLDER,), ()])
    pauses: list[float] = []
    run.await_lock("prod", 3600, lambda _: next(answers), pauses.append)
    assert len(pauses) == 2
    assert capsys.readouterr().out.count("locked by deploy@another-machine (process 7) since 2026") == 1


def test_a_deploy_does_not_wait_longer_than_it_was_told() -> None:
    with pytest.raises(ReleaseError, match=r"(?s)locked by deploy@another-machine.*make unlock STACK=prod"):
        run.await_lock("prod", 0, lambda _: (HOLDER,))


PULUMI = """#!/bin/sh
# Stands for pulumi: notes what it was asked, and makes a plan as the program does.
case "$*" in
    *nowhere*) echo "error: no stack named 'nowhere' found" >&2; exit 1 ;;
    "stack init"*) echo init ;;
    *) echo "$1" ;;
esac >>"$CALLS"
[ "$1" != preview ] || printf '%s' "$PLAN" >"$RELEVE_PLAN_FILE"
"""


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What a pulumi was asked that plans the fingerprint 0123456789ab."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/pulumi").write_text(PULUMI)
    (tmp_path / "bin/pulumi").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:/usr/bin:/bin")
    monkeypatch.setenv("CALLS", str(tmp_path / "calls"))
    monkeypatch.setenv("PLAN", json.dumps({"fingerprint": FINGERPRINT, "text": "plan", "empty": False}))
    monkeypatch.setattr(run, "PROJECT", tmp_path)
    return tmp_path / "calls"


@pytest.mark.parametrize(
    ("approved", "why"),
    [("", "nothing was approved (RELEVE_APPROVED is not set)"), ("f" * 12, "what was approved is ffffffffffff")],
)
def test_without_the_approval_of_just_this_plan_nothing_is_deployed(calls: Path, approved: str, why: str) -> None:
    with pytest.raises(ReleaseError, match=re.escape(f"nothing was deployed: {why}, and the plan is {FINGERPRINT}")):
        run.deploy("prod", approved, wait=0)
    assert calls.read_text().split() == ["stack", "init", "preview"]


def test_what_was_approved_is_rolled_out(calls: Path) -> None:
    assert run.deploy("prod", FINGERPRINT, wait=0) == 0
    assert calls.read_text().split() == ["stack", "init", "preview", "up"]


def test_who_holds_the_lock_of_a_stack_that_is_not_there_is_not_asked_which_would_make_it(calls: Path) -> None:
    with pytest.raises(ReleaseError, match="the stack nowhere cannot be read: no stack named 'nowhere' found"):
        run.deploy("nowhere", FINGERPRINT, wait=0)
    assert "init" not in calls.read_text()


def test_an_empty_plan_needs_no_approval_and_rolls_nothing_out(calls: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLAN", json.dumps({"fingerprint": FINGERPRINT, "text": "plan", "empty": True}))
    assert run.deploy("prod", "", wait=0) == 0
    assert calls.read_text().split() == ["stack", "init", "preview"]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A repository with two stacks and a commit tagged `base`."""
    for name in ("Pulumi.staging.yaml", "Pulumi.prod.yaml", "release/steps.py", "docs/gitops.md"):
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.write_text("a: 1\n")
    git(tmp_path, "init", "--quiet")
    commit(tmp_path)
    git(tmp_path, "tag", "base")
    return tmp_path


def git(directory: Path, *words: str) -> None:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    subprocess.run(["git", "-C", directory, *identity, *words], check=True)


def commit(directory: Path) -> None:
    git(directory, "add", "--all")
    git(directory, "commit", "--quiet", "--message", "x")


@pytest.mark.parametrize(
    ("name", "stacks"),
    [
        ("Pulumi.prod.yaml", ["prod"]),
        ("release/steps.py", ["prod", "staging"]),
        ("docs/gitops.md", []),
        ("source", ["prod", "staging"]),
    ],
)
def test_a_change_touches_its_own_stack_or_all(checkout: Path, name: str, stacks: list[str]) -> None:
    (checkout / name).write_text("a: 2\n")
    commit(checkout)
    assert changes.touched("base", checkout) == stacks


def test_a_commit_that_is_not_there_is_said(checkout: Path) -> None:
    with pytest.raises(ReleaseError, match="what has changed since nowhere is not known"):
        changes.touched("nowhere", checkout)


STACK_FILE = """\
config:
  releve:tag: "1.10"
  releve:image: {repository: registry.example/shop/app}
  releve:registry: {username: me, password: {secure: AAAB}}
  releve:app: {directory: /apps/shop, services: [web]}
  releve:env: {NAME: {secure: AAAB}, OTHER: plain}
  releve:notify: {urls: [{secure: AAAB}]}
  releve:servers:
    - {name: one, host: shop.example.org, user: deploy, hostKey: HOST_KEY, privateKey: {secure: AAAB}}
"""


def test_a_stack_file_is_checked_without_the_passphrase_of_its_secrets(tmp_path: Path) -> None:
    host_key = b"\0\0\0\x0bssh-ed25519\0\0\0\x20" + bytes(32)
    file = tmp_path / "Pulumi.prod.yaml"
    file.write_text(STACK_FILE.replace("HOST_KEY", f"ssh-ed25519 {base64.b64encode(host_key).decode()}"))
    checked = load(changes.configuration_in(file), file)
    assert checked.tag == "1.10"
    assert checked.env is not None
    assert checked.env["OTHER"].get_secret_value() == "plain"
    file.write_text(file.read_text().replace("releve:notify", "releve:notifi"))
    with pytest.raises(ReleaseError, match="notifi: is not a key"):
        load(changes.configuration_in(file), file)


def test_templates_are_put_in_place_once_and_never_over_something_else(kind: str, tmp_path: Path) -> None:
    written = install.install(kind, tmp_path)
    assert {str(name) for name in written} == {
        str(file.relative_to(TEMPLATES / kind)) for file in (TEMPLATES / kind).rglob("*") if file.is_file()
    }
    assert install.install(kind, tmp_path) == []
    (tmp_path / written[0]).write_text("mine")
    with pytest.raises(ReleaseError, match=re.escape(str(written[0]))):
        install.install(kind, tmp_path)
    assert (tmp_path / written[0]).read_text() == "mine"


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda file: file.name)
def test_a_workflow_may_nothing_that_a_job_does_not_ask_for_and_its_actions_are_pinned(file: Path) -> None:
    workflow = yaml.safe_load(file.read_text())
    assert workflow["permissions"] == {}
    for name, described in workflow["jobs"].items():
        assert described["permissions"], name
        assert described["timeout-minutes"], name
        used = [step["uses"] for step in described["steps"] if "uses" in step]
        assert all(re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}", action) for action in used), name
        for step in described["steps"]:
            if step.get("uses", "").startswith("actions/checkout@"):
                assert step["with"]["persist-credentials"] is False, name
            # What others may write is no part of a script.
            assert "${{ github.event" not in step.get("run", ""), name
            assert "${{ inputs" not in step.get("run", ""), name


def test_what_a_forks_pull_request_runs_knows_no_secret() -> None:
    (file,) = [file for file in WORKFLOWS if file.name == "releve-preview.yml"]
    workflow = yaml.safe_load(file.read_text())
    assert "pull_request" in workflow[True]  # what YAML reads `on` as
    for name, described in workflow["jobs"].items():
        if "secrets." in json.dumps(described):
            assert "head.repo.full_name == github.repository" in described["if"], name


def longest_rollout() -> float:
    """Minutes that all steps on a server may take together, each with its default."""
    no_part_of_it = {StepName.FACTS, StepName.REHEARSE}
    return sum(seconds for step, seconds in DEFAULT_TIMEOUTS.items() if step not in no_part_of_it) / 60


def test_a_deploy_has_more_time_than_its_steps_is_alone_on_its_stack_and_is_not_cancelled_for_the_next() -> None:
    (file,) = [file for file in WORKFLOWS if file.name == "releve-deploy.yml"]
    jobs = yaml.safe_load(file.read_text())["jobs"]
    for stack in ("staging", "prod"):
        assert jobs[stack]["timeout-minutes"] > longest_rollout() + 60
        assert jobs[stack]["concurrency"] == {"group": f"releve-{stack}", "cancel-in-progress": False}
        assert jobs[stack]["environment"] == stack
    gitlab = yaml.safe_load((TEMPLATES / "gitlab/.gitlab-ci.yml").read_text())
    hours, minutes = re.findall(r"\d+", gitlab[".deploy"]["timeout"])
    assert int(hours) * 60 + int(minutes) > longest_rollout() + 60
    for stack in ("staging", "prod"):
        described = gitlab[f"deploy:{stack}"]
        assert described["resource_group"] == f"releve-{stack}"
        assert described.get("interruptible", gitlab["default"]["interruptible"]) is False
    assert all(rule["when"] == "manual" and rule["allow_failure"] is False for rule in gitlab["deploy:prod"]["rules"])


def test_the_picture_is_as_the_command_draws_it() -> None:
    assert picture.FILE.read_text() == picture.svg(), "draw it again: make reference"
