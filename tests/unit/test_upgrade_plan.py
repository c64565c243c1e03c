"""An upgrade planned before a server is asked: the label that carries the changelog, what the plan says and refuses."""

from __future__ import annotations

import base64
import hashlib
import json
import subprocess
import zlib
from pathlib import Path
from typing import Any

import pytest

from configuration.load import load
from configuration.tree import Settings, SourceSettings, UpgradeSettings
from errors import ReleaseError
from release import source, steps
from release.reference import ImageReference
from release.registry import Registry, RegistryError
from release.upgrade import label
from release.upgrade.plan import Planned
from server.request import Changes, StepName, Version, dump
from server.request import load as load_request
from server.upgrade import version_in, version_of
from tests.unit.registry_server import INDEX, RegistryServer
from tests.unit.test_plan import NEW, OLD, configured, made, state, target
from tests.unit.test_upgrade import CHANGELOG, FAB_MANAGER, SHARED

pytestmark = pytest.mark.unit

READS = UpgradeSettings(changelog="CHANGELOG.md")
CHANGES = label.changes_of(READS, CHANGELOG, '{"version": "1.10.0"}')


def settings(upgrade: dict[str, Any] | None = None, **app: Any) -> Settings:
    values = {
        "releve:tag": "1.10",
        "releve:image": '{"repository": "registry.example/shop"}',
        "releve:app": json.dumps({"directory": "/apps/shop", "services": ["web"], **app}),
        "releve:servers": '[{"name": "s1", "host": "192.0.2.1", "user": "deploy", '
        '"hostKey": "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAINu5pkMrBSN8gnPn/7sTgGhLLboSgEWsYkUlT74qIPeM"}]',
        "releve:upgrade": json.dumps({"changelog": "CHANGELOG.md", **(upgrade or {})}),
    }
    return load(values, Path("Pulumi.test.yaml"))


def planned(start: str | None, changes: Changes | None = CHANGES) -> Planned:
    return Planned(changes, version_of(start) if start else None)


# ---------------------------------------------------------------------------------------------------------- the label


def test_what_a_changelog_asks_for_is_the_same_after_its_way_through_a_label() -> None:
    assert label.load(label.dump(CHANGES)) == CHANGES


def test_a_label_holds_nothing_of_versions_after_the_one_that_was_built() -> None:
    older = label.changes_of(READS, CHANGELOG, '{"version": "1.8.0"}')
    assert {item.version for item in older.items} == {(1, 8, 0)}


def test_items_may_begin_with_other_words() -> None:
    marked = UpgradeSettings(changelog="CHANGELOG.md", marker="[DEPLOY]")
    text = CHANGELOG.replace("[TODO DEPLOY]", "[DEPLOY]")
    assert label.changes_of(marked, text, '{"version": "1.10.0"}').items == CHANGES.items
    assert label.changes_of(READS, text, '{"version": "1.10.0"}').items == ()


@pytest.mark.parametrize(
    ("file", "text", "version"),
    [
        ("package.json", '{"name": "shop", "version": "6.5.10"}', (6, 5, 10)),
        ("VERSION", "v1.2.3-lab\nmore\n", (1, 2, 3)),
    ],
)
def test_a_version_is_that_of_package_json_or_the_first_line(file: str, text: str, version: Version) -> None:
    assert version_in(file, text) == version


@pytest.mark.parametrize("text", ["{", "[]", '{"name": "shop"}', ""])
def test_a_file_without_a_version_is_refused(text: str) -> None:
    with pytest.raises(ReleaseError, match=r"upgrade.version: package.json in the source holds no version"):
        label.changes_of(READS, CHANGELOG, text)


def test_a_label_that_docker_could_not_read_is_refused() -> None:
    # What cannot be compressed: each task has another name.
    tasks = (hashlib.sha512(bytes([high, low])).hexdigest() for high in range(8) for low in range(256))
    text = "## v1.0.0\n" + "".join(f"- [TODO DEPLOY] `rails {task}`\n" for task in tasks)
    with pytest.raises(ReleaseError, match="Remove the items of versions that run nowhere any more"):
        label.dump(label.changes_of(READS, text, '{"version": "1.0.0"}'))


def test_a_label_of_another_version_of_releve_is_refused_with_what_to_do() -> None:
    other = base64.b64encode(zlib.compress(b'{"version": [1], "more": 1}')).decode()
    for value in ("no base64!", base64.b64encode(b"not compressed").decode(), other):
        with pytest.raises(ReleaseError, match="build the release again under a new tag"):
            label.load(value)


# --------------------------------------------------------------------------------------------------------- the source


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    app = tmp_path / "app"
    app.mkdir()
    (app / "Dockerfile").write_text("FROM scratch\n")
    (app / "CHANGELOG.md").write_text(CHANGELOG)
    (app / "package.json").write_text('{"version": "1.10.0"}')
    commit(app, "init", "--quiet")
    return app


def commit(app: Path, *first: str) -> None:
    identity = ("-c", "user.name=test", "-c", "user.email=test@example.org")
    for words in (first or ("status",), ("add", "--all"), ("commit", "--quiet", "--message", "change")):
        subprocess.run(["git", "-C", app, *identity, *words], check=True, capture_output=True)


def read(app: Path, upgrade: UpgradeSettings | None) -> source.Source:
    return source.read(SourceSettings(path=app.name), "linux/amd64", "1.10", app.parent, upgrade)


def test_the_image_is_labelled_with_what_is_committed_of_the_changelog(checkout: Path) -> None:
    (checkout / "CHANGELOG.md").write_text("# nothing\n")
    labelled = read(checkout, READS)
    assert label.load(labelled.labels[label.LABEL]) == CHANGES
    assert label.LABEL not in read(checkout, UpgradeSettings()).labels
    assert label.LABEL not in read(checkout, None).labels


@pytest.mark.parametrize(("key", "name"), [("upgrade.changelog", "CHANGELOG.md"), ("upgrade.version", "package.json")])
def test_a_changelog_or_version_that_is_not_committed_is_refused_with_its_key(
    checkout: Path, key: str, name: str
) -> None:
    (checkout / name).unlink()
    commit(checkout)
    with pytest.raises(ReleaseError, match=f"{key}: {name} is not in the last commit"):
        read(checkout, READS)


# ------------------------------------------------------------------------------------------------------- the registry


def hold_image(server: RegistryServer, tag: str, labels: dict[str, str] | None) -> str:
    configuration = json.dumps({"config": {"Labels": labels}}).encode()
    digest = f"sha256:{hashlib.sha256(configuration).hexdigest()}"
    server.blobs[f"shop@{digest}"] = configuration
    return server.hold("shop", tag, json.dumps({"config": {"digest": digest}}).encode())


def labels_of(server: RegistryServer, digest: str) -> dict[str, str] | None:
    return Registry(server.host, lambda: None).labels(
        ImageReference(f"{server.host}/shop", "1.0", digest), "linux/arm64"
    )


def test_labels_are_read_from_the_image_of_a_digest(registry_server: RegistryServer) -> None:
    assert labels_of(registry_server, hold_image(registry_server, "1.0", {"a": "b"})) == {"a": "b"}
    assert labels_of(registry_server, hold_image(registry_server, "1.1", None)) == {}
    assert labels_of(registry_server, NEW) is None


def test_of_an_index_the_labels_are_those_of_the_platform(registry_server: RegistryServer) -> None:
    entries = [
        {"platform": {"os": "linux", "architecture": name}, "digest": hold_image(registry_server, name, {"for": name})}
        for name in ("amd64", "arm64")
    ]
    index = registry_server.hold("shop", "1.0", json.dumps({"manifests": entries}).encode(), INDEX)
    assert labels_of(registry_server, index) == {"for": "arm64"}


def test_labels_that_are_not_those_of_the_digest_are_refused(registry_server: RegistryServer) -> None:
    digest = hold_image(registry_server, "1.0", {"a": "b"})
    for name in registry_server.blobs:
        registry_server.blobs[name] = b'{"config": {"Labels": {"a": "c"}}}'
    with pytest.raises(RegistryError, match="other labels"):
        labels_of(registry_server, digest)


# ----------------------------------------------------------------------------------------------------------- the plan


def test_the_plan_names_tasks_variables_and_what_was_read_with_their_lines() -> None:
    ready = settings({"acknowledged": ["1.9.0:13"]})
    assert planned("1.8.0").lines(ready) == (
        "1.8.0 → 1.10.0",
        "variable MAX_SIZE (1.9.0:14)",
        "variable LOCALE (1.9.0:14)",
        "after the switch: rails shop:clean (1.9.0:15)",
        "after the switch: rails shop:index (1.10.0:8)",
        "after the switch: rails shop:seed (1.10.0:9)",
        "acknowledged: 1.9.0:13",
    )
    assert planned("1.8.0").obstacles(ready) == ()


def test_a_version_that_would_be_skipped_is_refused_with_the_line_that_forbids_it() -> None:
    (obstacle,) = planned("1.7.0").obstacles(settings())
    assert obstacle.startswith("1.8.0 must not be skipped (CHANGELOG.md line 12 (1.9.0): upgrade to v1.8.0 BEFORE")
    assert obstacle.endswith("Release it first, with its tasks, then 1.10.0.")
    (configured_one,) = planned("1.8.0").obstacles(settings({"stops": ["1.9.0"]}))
    assert configured_one.startswith("1.9.0 must not be skipped (upgrade.stops).")


def test_what_nobody_has_acknowledged_is_refused_with_the_command_that_does() -> None:
    changes = label.changes_of(READS, CHANGELOG, '{"version": "1.8.0"}')
    condition, script = planned("1.7.0", changes).obstacles(settings())
    assert "CHANGELOG.md line 20 (1.8.0)" in condition
    assert "only if you had orders before 2020" in condition
    assert "pulumi config set --path 'upgrade.acknowledged[0]' 1.8.0:20" in condition
    assert "mount-files.sh" in script
    assert "pulumi config set --path 'upgrade.acknowledged[1]' 1.8.0:21" in script
    assert planned("1.7.0", changes).obstacles(settings({"acknowledged": ["1.8.0:20", "1.8.0:21"]})) == ()


def test_what_asks_for_a_variable_or_a_command_without_naming_it_is_to_be_read() -> None:
    asked = ("add the environment variables of the manual", "before the migration: wait")
    text = "## v2.0.0\n" + "".join(f"- [TODO DEPLOY] {words}\n" for words in asked)
    changes = label.changes_of(READS, text, '{"version": "2.0.0"}')
    assert len(planned("1.0.0", changes).obstacles(settings())) == 2


@pytest.mark.parametrize(
    ("app", "words"),
    [
        ({"strategy": "in-place"}, "`rails shop:chain`, and the strategy in-place runs none"),
        ({"strategy": "rolling"}, "`rails shop:chain` before the migrations, and with the strategy rolling"),
        ({"strategy": "rolling", "migrations": "compatible"}, None),
        ({"strategy": "staged"}, None),
    ],
)
def test_tasks_that_a_strategy_cannot_run_are_refused(app: dict[str, str], words: str | None) -> None:
    changes = label.changes_of(READS, CHANGELOG, '{"version": "1.8.0"}')
    ready = settings({"acknowledged": ["1.8.0:20", "1.8.0:21"]}, **app)
    found = planned("1.7.0", changes).obstacles(ready)
    assert (len(found) == 1 and words in found[0]) if words else found == ()


@pytest.mark.parametrize(
    ("upgrade", "words"),
    [
        (planned("1.10.0"), "1.10.0 → 1.10.0 asks for nothing"),
        (planned("2.0.0"), "2.0.0 → 1.10.0 asks for nothing"),
        (planned(None), "the server will say"),
        (planned("1.0.0", None), "built without upgrade.changelog: nothing is planned"),
    ],
)
def test_where_nothing_is_asked_for_or_known_the_plan_says_so_and_refuses_nothing(upgrade: Planned, words: str) -> None:
    assert words in upgrade.lines(settings())[0]
    assert upgrade.obstacles(settings()) == ()


def test_6_5_10_is_newer_than_6_5_9() -> None:
    text = "## v6.5.10\n- [TODO DEPLOY] `rails shop:index`\n"
    changes = label.changes_of(READS, text, '{"version": "6.5.10"}')
    assert "after the switch: rails shop:index (6.5.10:2)" in planned("6.5.9", changes).lines(settings())


def test_the_upgrade_is_in_the_plan_and_its_fingerprint_and_only_where_something_is_rolled_out() -> None:
    before = state(target())
    new = target(configured("1.1"), digest=NEW, upgrade=planned("1.8.0"))
    told = made(new, before)
    assert "  upgrade     1.8.0 → 1.10.0\n              variable MAX_SIZE (1.9.0:14)\n" in told.text()
    other = target(configured("1.1"), digest=NEW, upgrade=planned("1.9.0"))
    assert made(other, before).fingerprint != told.fingerprint
    assert "1.8.0 must not be skipped" in made(target(configured("1.1"), upgrade=planned("1.7.0")), before).obstacles[0]
    assert made(target(digest=OLD, upgrade=planned("1.7.0")), before).obstacles == ()


def test_pull_alone_is_told_what_the_changelog_asks_for_and_a_step_after_up_runs_it() -> None:
    ready = settings({"acknowledged": ["1.9.0:13"], "stops": ["1.0.0"], "version": "VERSION"})
    assert StepName.AFTER_UP in steps.plan(ready)
    told = planned("1.8.0").request(ready)
    assert told is not None
    assert (told.changes.stops, told.start, told.version_file) == (("1.0.0",), (1, 8, 0), "VERSION")
    image = ImageReference("registry.example/shop", "1.10", NEW)
    for step in (StepName.PULL, StepName.UP, StepName.AFTER_UP):
        asked = steps.request_of(step, ready, ready.servers[0], image=image, upgrade=told)
        assert asked.upgrade == (told if step is StepName.PULL else None)
        assert asked.acknowledged == ("1.9.0:13",)
        assert load_request(dump(asked)) == asked


# ------------------------------------------------------------------------------------------ Fab-manager's own changelog


def fab_manager(version: str) -> Changes:
    if not SHARED.is_dir():
        pytest.skip("Fab-manager's CHANGELOG.md is not beside this checkout")
    text = (SHARED / "CHANGELOG.md").read_text()
    reads = UpgradeSettings(changelog="CHANGELOG.md", stops=FAB_MANAGER)
    return label.changes_of(reads, text, json.dumps({"version": version}))


def test_fab_managers_changelog_fits_a_label_many_times() -> None:
    value = label.dump(fab_manager("6.5.10"))
    assert len(value) < label.LARGEST / 4
    assert len(label.load(value).items) == 213


def test_upgrades_of_fab_manager_are_refused_or_planned_as_its_changelog_says() -> None:
    (skipped,) = planned("5.9.1", fab_manager("6.5.10")).obstacles(settings())
    assert "6.2.0 must not be skipped (CHANGELOG.md line 434 (6.3.0)" in skipped
    (script,) = planned("5.9.1", fab_manager("6.2.0")).obstacles(settings())
    assert "pulumi config set --path 'upgrade.acknowledged[0]' 6.0.0:625" in script
    assert planned("5.9.1", fab_manager("6.2.0")).obstacles(settings({"acknowledged": ["6.0.0:625"]})) == ()
    way = planned("6.2.0", fab_manager("6.5.10"))
    assert way.obstacles(settings()) == ()
    assert way.lines(settings())[1] == "after the switch: rails fablab:fix:stripe_coupon_duration (6.3.7:379)"
    assert len(way.lines(settings())) == 7
