"""./releve adopt: the key of the server, which a person confirms, and the file, which is not overwritten unasked."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

from operations import stack as stacks
from operations.__main__ import releve
from operations.host_key import fingerprint
from server.facts import ContainerFacts, Facts, Machine
from server.request import load
from server.survey import NOWHERE, Installation, Place, Survey
from tests.unit.test_adoption import fabmanager
from tests.unit.test_configuration import HOST_KEY

pytestmark = pytest.mark.unit

ASKED_FOR = (Place("app", "/apps/fabmanager", 3),)


WEB = ContainerFacts("fabmanager", "app-fabmanager-1", "running", 0, 0, "", "", "always", "x", "sha256:x")


def told(**changes: object) -> str:
    machine = Machine("3.11.2", "26.1.5", "2.26.1", 0, 1, 1, 1, 1)
    found = Facts(
        directory="/apps/fabmanager", project="app", release="", image="", since="", previous="", kept=(), busy="",
        interrupted=False, problem="", public=None, containers=(), history=(), backups=(), machine=machine,
        differences=None, database="", databases=(), restoring="", refused="", unrollable=(), advice=(),
    )  # fmt: skip
    return json.dumps(dataclasses.asdict(dataclasses.replace(found, **changes)))  # type: ignore[arg-type]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project without stack files, and an `ssh` that answers as a server with Fab-manager would."""
    (tmp_path / "server").symlink_to(stacks.PROJECT / "server")
    monkeypatch.setattr(stacks, "PROJECT", tmp_path)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    (tmp_path / "bin").mkdir()
    command(tmp_path, "ssh-keyscan", f"echo '# fab.example.org:22'; echo 'fab.example.org {HOST_KEY}'")
    answering(tmp_path, ASKED_FOR, fabmanager(), told())
    return tmp_path


def command(project: Path, name: str, script: str) -> None:
    file = project / "bin" / name
    file.write_text(f"#!/bin/sh\n{script}\n")
    file.chmod(0o755)


def answering(project: Path, places: tuple[Place, ...], installation: Installation, facts_: str) -> None:
    """By what is asked: the second line of standard input is the request."""
    for name, text in (
        ("places", json.dumps(dataclasses.asdict(Survey(places, None)))),
        ("installation", json.dumps(dataclasses.asdict(Survey(places, installation)))),
        ("facts", facts_),
    ):
        (project / name).write_text(text)
    script = f"""
        cat >{project}/input
        sed -n 2p {project}/input >>{project}/requests
        case $(tail -n 1 {project}/requests) in
            *'"directory": "{NOWHERE}"'*) cat {project}/places ;;
            *'"services": []'*) cat {project}/installation ;;
            *) cat {project}/facts ;;
        esac"""
    command(project, "ssh", script)


def adopted(project: Path, *options: str, answer: str = "") -> Result:
    return CliRunner().invoke(releve, ["adopt", "fab.example.org", *options], input=answer)


def config(project: Path) -> dict[str, object]:
    found: dict[str, object] = yaml.safe_load((project / "Pulumi.prod.yaml").read_text())["config"]
    return found


def test_whoever_confirms_the_servers_key_gets_a_stack_file(project: Path) -> None:
    done = adopted(project, answer="y\n")
    assert done.exit_code == 0, done.output
    assert f"shows the ed25519 key {fingerprint(HOST_KEY)}" in done.output
    assert config(project)["releve:preset"] == "fabmanager"
    assert "pulumi stack init prod" in done.output
    asked = [load(line) for line in (project / "requests").read_text().splitlines()]
    assert [(it.directory, it.services) for it in asked] == [
        (NOWHERE, ()), ("/apps/fabmanager", ()), ("/apps/fabmanager", ("fabmanager",)),
    ]  # fmt: skip


def test_a_key_that_nobody_confirms_ends_it_before_a_login(project: Path) -> None:
    for answer in ("n\n", ""):
        assert adopted(project, answer=answer).exit_code == 1
    assert not (project / "requests").exists()
    assert not (project / "Pulumi.prod.yaml").exists()


def test_a_key_that_is_given_is_not_asked_for(project: Path) -> None:
    command(project, "ssh-keyscan", "exit 1")
    assert adopted(project, "--host-key", HOST_KEY).exit_code == 0
    assert "expected the server's ed25519 host key" in adopted(project, "--host-key", "x", answer="y\n").output


@pytest.mark.parametrize("options", [["--port", "0"], ["--user", "a b"]])
def test_an_address_that_cannot_be_one_is_refused_before_anybody_is_asked(project: Path, options: list[str]) -> None:
    command(project, "ssh-keyscan", f"touch {project}/asked")
    done = adopted(project, *options)
    assert done.exit_code == 1
    assert f"{options[0].removeprefix('--')}: " in done.output
    assert not (project / "asked").exists()


def test_nobody_who_answers_is_said(project: Path) -> None:
    command(project, "ssh-keyscan", "exit 1")
    assert "no SSH server with an ed25519 key answers at fab.example.org, port 22" in adopted(project, "--yes").output


def test_a_file_that_is_there_is_replaced_only_when_somebody_says_so(project: Path) -> None:
    file = project / "Pulumi.prod.yaml"
    file.write_text(kept := "config: {}\nencryptionsalt: v1:salt\n")
    assert adopted(project, "--yes", answer="n\n").exit_code == 1
    assert adopted(project, "--yes").exit_code == 1
    assert file.read_text() == kept
    assert not (project / "requests").exists()
    assert adopted(project, "--yes", answer="y\n").exit_code == 0
    assert config(project)["releve:preset"] == "fabmanager"
    # By which the secrets of the stack's state are read.
    assert yaml.safe_load(file.read_text())["encryptionsalt"] == "v1:salt"


def test_a_dry_run_prints_the_file_and_writes_none(project: Path) -> None:
    done = adopted(project, "--yes", "--dry-run")
    assert done.exit_code == 0, done.output
    assert yaml.safe_load(done.stdout)["config"]["releve:preset"] == "fabmanager"
    assert not (project / "Pulumi.prod.yaml").exists()


def test_of_several_projects_one_is_to_be_named(project: Path) -> None:
    answering(project, (*ASKED_FOR, Place("b", "/srv/b", 0)), fabmanager(), told())
    done = adopted(project, "--yes")
    assert done.exit_code == 1
    assert "--directory /srv/b   (b, 0 containers run)" in done.output
    assert adopted(project, "--yes", "--directory", "/apps/fabmanager").exit_code == 0
    answering(project, (), fabmanager(), told())
    (project / "Pulumi.prod.yaml").unlink()
    assert "name the directory of the Compose file with --directory" in adopted(project, "--yes").output


def test_what_a_rollout_would_meet_there_is_said_with_what_is_not_known(project: Path) -> None:
    refused, problem = "Containers are of the Compose project 'x'.", "it answers 302 instead of 200"
    answering(
        project,
        ASKED_FOR,
        fabmanager(passing=(), postgres=()),
        told(refused=refused, problem=problem, containers=(WEB,)),
    )
    output = adopted(project, "--yes").output
    assert f"A rollout would be refused now: {refused}" in output
    assert problem in output
    assert "PostgreSQL runs in no service" in output
    assert "PostgreSQL runs in no service" in (project / "Pulumi.prod.yaml").read_text()


def test_a_fingerprint_is_what_ssh_keygen_prints() -> None:
    key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl"
    assert fingerprint(key) == "SHA256:+DiY3wvvV6TuJJhbpZisF/zLDA0zPMSvHdkr4UvCOqU"  # of github.com, as it publishes
