"""docs/guide.fr.md: each of its commands, run as it stands there, one section after the other, in French."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.commands import commands
from tests.e2e.conftest import Deployment
from tests.e2e.harness import Project, Result

pytestmark = pytest.mark.e2e

GUIDE = Path(__file__).resolve().parents[2] / "docs/guide.fr.md"
CHANGELOG = "# Changelog\n\n## v6.5.11 2026 November 26\n\n- [TODO DEPLOY] `rails fablab:setup:add`\n"


@pytest.fixture
def production(deployment: Deployment) -> Iterator[str]:
    """The name of a second stack, which has no source, on the same server; the guide makes it."""
    _, project = deployment
    config = copy.deepcopy(project.config)
    config["releve:image"].pop("source")
    name = f"{project.stack}-production"
    (project.directory / f"Pulumi.{name}.yaml").write_text(yaml.safe_dump({"config": config}))
    try:
        yield name
    finally:
        project.sandbox.pulumi(project.directory, "stack", "rm", "--yes", "--force", name)


def plain(done: Result) -> str:
    """What was printed, with spaces that break, once it has succeeded."""
    assert done.succeeded, done.output
    return done.output.replace("\N{NO-BREAK SPACE}", " ").replace("\N{NARROW NO-BREAK SPACE}", " ")


def test_every_command_of_the_guide_does_what_it_is_for(
    deployment: Deployment, production: str, put_back: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    application, project = deployment
    project.release("1.0.0")
    (application.source / "CHANGELOG.md").write_text(CHANGELOG)
    application.git("add", "CHANGELOG.md")
    version = application.fresh_version()
    application.git("tag", "v6.5.11")
    project.set("image.smokeTest", application.sandbox.config["releve:image"]["smokeTest"])
    # The guide makes the stack itself.
    assert project.sandbox.pulumi(
        project.directory, "stack", "rm", "--yes", "--force", "--preserve-config", project.stack
    ).succeeded
    monkeypatch.setenv("RELEVE_LANG", "fr")
    sections = commands(GUIDE)
    words = {
        "staging": project.stack, "prod": production, "6.5.11-lab": version, "../fab-manager": str(application.source),
        "../mon-application": str(tmp_path),
    }  # fmt: skip

    def run(section: str) -> list[str]:
        """What each command of a section has printed; all must succeed."""
        return [plain(project.run_as_written(command, words)) for command in sections.pop(section)]

    assert "SSH" in run("2. Prérequis")[-1]
    run("3.1. Le Dockerfile")
    assert (tmp_path / "Dockerfile").exists()
    assert "construite depuis le commit" in run("3.3. Construire")[-1]
    (asked,) = run("3.4. Ce que la version demande en plus")
    assert "6.3.1 → 6.5.11" in asked
    assert "rails fablab:setup:add" in asked
    (released,) = run("5. Pousser l’image vers le registre")
    assert f"{version} est en service sur {application.sandbox.server}, à l’adresse" in released
    assert application.serves(version)

    # The same server and directory: production takes over what it finds.
    done = run("6.1. Déployer")
    assert "rien n’a encore été déployé ici" in done[-2]
    assert "durée sans réponse" in done[-1]
    status, _, rollout, history, _ = run("6.2. Vérifier")
    assert "répond comme il faut" in status
    assert rollout
    assert version in history
    run("6.3. Si la mise à jour échoue")
    check_database(project, sections, words)

    file = project.directory / f"Pulumi.{production}.yaml"
    as_it_was = file.read_text()
    run("7.2. Temps d’arrêt")
    run("7.4. Secrets")
    check_what_was_set(file)
    file.write_text(as_it_was)

    (back,) = run("7.3. Retour en arrière")
    assert f"retour de {version} à 1.0.0, que le serveur a conservée" in back
    assert application.serves("1.0.0")

    check_approval(project, sections, words)
    assert application.serves(version)
    assert not sections, "a section that this test does not know"


def check_database(project: Project, sections: dict[str, list[str]], words: dict[str, str]) -> None:
    """The section on backups: one that is made can be restored."""
    backup, backups, rehearse, restore = sections.pop("7.1. Sauvegardes")
    assert "base de données « fabmanager_production » sauvegardée dans" in plain(project.run_as_written(backup, words))
    (made,) = json.loads(plain(project.run_as_written(f"{backups} --json", words)))
    assert made["name"] in plain(project.run_as_written(backups, words))
    assert "migrations en attente : 0 ;" in plain(project.run_as_written(rehearse, words))
    restored = plain(project.run_as_written(restore, {**words, "SAUVEGARDE": made["name"]}))
    assert "est en service sur ce qui a été restauré" in restored


def check_what_was_set(file: Path) -> None:
    """What the sections on downtime and secrets have written into the stack file."""
    config = yaml.safe_load(file.read_text())["config"]
    assert config["releve:app"] | {"downtimeBudget": 10, "strategy": "rolling"} == config["releve:app"]
    assert "secure" in config["releve:env"]["SECRET_KEY_BASE"]
    assert "secure" in config["releve:registry"]["password"]


def check_approval(project: Project, sections: dict[str, list[str]], words: dict[str, str]) -> None:
    """The section on reviews: what was approved is rolled out, and nothing else is."""
    tag, preview, approved = sections.pop("7.5. Tests")
    assert project.run_as_written(tag, words).succeeded
    plan = plain(project.run_as_written(preview, words))
    assert not project.run_as_written(approved, words).succeeded, "this fingerprint is only the guide's"
    (fingerprint,) = re.findall(r"(?m)^ *empreinte +([0-9a-f]{12})", plan)
    assert project.run_as_written(approved, {**words, "3b7e09c1d2f4": fingerprint}).succeeded
