"""docs/runbook.md: each of its commands, run as it stands there, one section after the other."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.commands import commands
from tests.e2e.conftest import Deployment
from tests.e2e.harness import Project, Result

pytestmark = pytest.mark.e2e

RUNBOOK = Path(__file__).resolve().parents[2] / "docs/runbook.md"


def run(project: Project, command: str, *options: str, **replaced: str) -> Result:
    """Runs a command of the runbook, for this stack. options: more of them; replaced: words that stand for others."""
    return project.run_as_written(command, {"prod": project.stack, **replaced}, *options)


def test_every_command_of_the_runbook_does_what_it_is_for(deployment: Deployment, put_back: None) -> None:
    application, project = deployment
    sections = commands(RUNBOOK)
    project.release("1.0.0")
    project.set("tag", version := application.fresh_version())
    project.set("app.beforeUp", [["false"]])
    assert not project.up().succeeded
    project.set("app.beforeUp", None)

    said = {command: run(project, command) for command in (*sections.pop(""), *sections.pop("A rollout failed"))}
    assert "-task" in said["./releve logs --rollout -s prod"].output
    assert "restored" in said["./releve history -s prod"].output
    assert said["pulumi up --yes -s prod"].succeeded, said
    assert f"from {version} back to 1.0.0" in said["./releve rollback --yes -s prod"].output, said
    assert said["./releve drift -s prod"].succeeded, said
    assert application.serves("1.0.0")
    project.config["releve:tag"] = "1.0.0"

    (unlock,) = sections.pop('"the stack is currently locked"')
    assert run(project, unlock).succeeded

    backups, restore = sections.pop("The database is ahead of the release")
    assert run(project, "./releve backup -s prod").succeeded
    (name,) = [it["name"] for it in json.loads(run(project, f"{backups} --json").output)]
    assert name in run(project, backups).output
    restored = run(project, restore, BACKUP=name)
    assert restored.succeeded, restored.output
    (rehearse,) = sections.pop("Restoring the database")
    assert "0 migrations were pending" in run(project, rehearse).output

    full = [run(project, command) for command in sections.pop("The disk of the server is full")]
    assert all(done.succeeded for done in full), full
    assert "free on the disk" in full[0].output

    key = project.config["releve:servers"][0]["hostKey"]
    set_key, again = sections.pop("Another key")
    assert run(project, set_key, **{"ssh-ed25519 AAAA…": key}).succeeded
    assert run(project, again).succeeded

    remove, adopt, make, up = sections.pop("The passphrase, or the state, is lost")
    assert run(project, remove).succeeded
    # The sandbox has several projects, behind a port of its own; the file is not lost.
    server = project.config["releve:servers"][0]
    options = ["--port", str(server["port"]), "--directory", application.directory, "--yes", "--dry-run"]
    adopted = run(project, adopt, *options, HOST=server["host"])
    assert 'releve:tag: "1.0.0"' in adopted.output, adopted.output
    assert f"releve:image:\n    repository: {application.repository}\n" in adopted.output
    assert run(project, make).succeeded
    done = run(project, up)
    assert done.succeeded, done.output
    assert "is here already" in done.output
    assert application.serves("1.0.0")
    assert not sections, "a section that this test does not know"
