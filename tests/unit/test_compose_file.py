"""To add a case, add a folder below compose/: before.yml with after.yml, or with refusal.txt, a part of the error."""

from pathlib import Path

import pytest

from errors import ReleaseError
from release import compose_file
from release.compose_file import ComposeFile

pytestmark = pytest.mark.unit

CASES = sorted((Path(__file__).parent / "compose").iterdir())
IMAGE = "ghcr.io/fablab/fabmanager:1.1.0@sha256:" + "0" * 64
SERVICES = ("fabmanager", "worker")


@pytest.mark.parametrize("case", [case for case in CASES if (case / "after.yml").exists()], ids=lambda case: case.name)
def test_the_image_is_set_and_every_other_byte_stays(case: Path) -> None:
    before = compose_file.read(case, "before.yml")
    after = (case / "after.yml").read_bytes().decode()
    assert before.with_image(SERVICES, IMAGE) == after
    assert ComposeFile("after.yml", after).with_image(SERVICES, IMAGE) == after


@pytest.mark.parametrize(
    "case", [case for case in CASES if (case / "refusal.txt").exists()], ids=lambda case: case.name
)
def test_a_file_in_which_the_image_cannot_be_set_alone_is_refused_with_the_reason(case: Path) -> None:
    with pytest.raises(ReleaseError) as caught:
        compose_file.read(case, "before.yml").with_image(SERVICES, IMAGE)
    message = str(caught.value)
    assert message.startswith("app.composeFile: before.yml cannot be used. ")
    assert (case / "refusal.txt").read_text().strip() in message


def test_a_file_that_cannot_be_read_is_refused_with_its_key(tmp_path: Path) -> None:
    with pytest.raises(ReleaseError, match=r"app.composeFile: cannot read compose.yml"):
        compose_file.read(tmp_path, "compose.yml")


@pytest.mark.parametrize(
    ("tie", "sentence"),
    [
        ("volumes_from: [fabmanager]", "nginx will be recreated, too: volumes_from fabmanager"),
        ("volumes_from: ['worker:ro']", "nginx will be recreated, too: volumes_from worker"),
        ("links: ['fabmanager:app']", "nginx will be recreated, too: links fabmanager"),
        ("network_mode: service:fabmanager", "nginx will be recreated, too: network_mode fabmanager"),
        (
            "depends_on: {fabmanager: {condition: service_started, restart: true}}",
            "nginx will be restarted, too: depends_on fabmanager with restart",
        ),
    ],
)
def test_services_that_compose_recreates_with_the_application_are_found(tie: str, sentence: str) -> None:
    text = f"services:\n  fabmanager: {{image: a}}\n  worker: {{image: a}}\n  nginx:\n    image: nginx\n    {tie}\n"
    assert ComposeFile("compose.yml", text).dependants(SERVICES) == [sentence]


def test_a_service_that_merely_starts_after_the_application_is_no_dependant() -> None:
    nginx = "{image: nginx, depends_on: [fabmanager], volumes_from: ['container:x']}"
    text = f"services:\n  fabmanager: {{image: a}}\n  nginx: {nginx}\n"
    assert ComposeFile("compose.yml", text).dependants(SERVICES) == []


@pytest.mark.parametrize(
    ("web", "nginx", "reason"),
    [
        ("container_name: shop", "", "it has a container_name"),
        ("ports: ['80:3000']", "", "it publishes a port"),
        ("network_mode: host", "", "it has the network_mode host"),
        ("deploy: {replicas: 2}", "", "it has a number of replicas"),
        ("scale: 2", "", "it has a number of replicas"),
        ("networks: {default: {ipv4_address: 10.0.0.9}}", "", "it has a fixed address"),
        ("", "volumes_from: ['fabmanager:ro']", "nginx will be recreated, too: volumes_from fabmanager"),
        ("", "links: [worker]", "nginx will be recreated, too: links worker"),
    ],
)
def test_what_cannot_run_twice_is_refused_for_rolling_with_the_remedy(web: str, nginx: str, reason: str) -> None:
    text = (
        f"services:\n  fabmanager:\n    image: a\n    {web}\n  worker: {{image: a, container_name: one}}\n"
        f"  nginx:\n    image: nginx\n    {nginx}\n"
    )
    with pytest.raises(ReleaseError) as caught:
        ComposeFile("compose.yml", text).check_rolling(SERVICES)
    message = str(caught.value)
    assert message.startswith(f"app.strategy: the service 'fabmanager' in compose.yml cannot be rolled: {reason}")
    assert message.endswith("Or set app.strategy to staged.")


def test_a_service_that_can_run_twice_may_be_rolled() -> None:
    networks = "networks: [default, other]"
    text = f"services:\n  fabmanager: {{image: a, {networks}, deploy: {{replicas: 1}}}}\n  nginx: {{image: nginx}}\n"
    ComposeFile("compose.yml", text).check_rolling(SERVICES)
