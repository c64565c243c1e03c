"""The step `facts`: what a server says of a project, and that saying it leaves no trace."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from server import facts
from server.drift import Difference
from server.facts import Facts
from server.request import Delivery, Strategy
from server.run import timestamp
from tests.server.server import RELEASE, MakeServer, Result, Server

pytestmark = pytest.mark.server


@pytest.fixture
def server(new_server: MakeServer) -> Server:
    return new_server(settings={"strategy": Strategy.STAGED})


@pytest.fixture
def released(server: Server) -> Server:
    """A server with a release that is live."""
    for step in ("pull", "up"):
        result = server.run(step)
        assert result.status == 0, result
    return server


def told(result: Result) -> Facts:
    assert result.status == 0, result
    return facts.load(result.output)


def trace(directory: Path) -> list[tuple[str, int, int]]:
    return sorted((str(path), path.stat().st_mtime_ns, path.lstat().st_size) for path in directory.rglob("*"))


def test_a_project_that_releve_has_never_seen_is_told_of_and_left_as_it_is(server: Server) -> None:
    before = trace(server.directory)
    found = told(server.run("facts"))
    assert (found.project, found.release, found.differences) == ("shop", "", None)
    assert {container.service for container in found.containers} == {"nginx", "web"}
    assert trace(server.directory) == before


def test_a_release_is_told_of_with_its_image_and_its_rollouts(released: Server) -> None:
    before = trace(released.directory)
    found = told(released.run("facts"))
    assert (found.release, found.image) == (RELEASE.release, str(RELEASE))
    # What ran before is kept, too.
    assert [name.partition("-")[0] for name in found.kept] == ["2.0", "found"]
    assert len(found.history) == 1
    assert (found.problem, found.differences, found.interrupted) == ("", (), False)
    assert trace(released.directory) == before


def test_a_line_of_the_history_that_a_full_disk_has_cut_short_ends_nothing(released: Server) -> None:
    history = released.state / "history.jsonl"
    whole = history.read_text()
    history.write_text(f'{whole}{{"start": "2026-\n')
    assert released.run("up").status == 0
    assert len(told(released.run("facts")).history) == len(whole.splitlines()) + 1


def test_an_edited_compose_file_is_named_by_its_services(released: Server) -> None:
    text = released.compose_file.read_text()
    released.compose_file.write_text(text.replace("image: nginx:1", "image: nginx:2"))
    assert told(released.run("facts")).differences == (
        Difference("Compose file", "docker-compose.yml was edited: nginx"),
    )


@pytest.mark.parametrize(("ago", "named"), [(1, True), (60, False)])
def test_a_container_that_ends_again_and_again_is_restarting_also_while_it_runs(
    released: Server, ago: int, *, named: bool
) -> None:
    started = timestamp(time.time() - ago)
    released.answer("state", f"running 6 {started} sha256:wanted 0\n")
    what = [it.what for it in told(released.run("facts")).differences or ()]
    assert ("shop-nginx-1 is restarting, 6 times so far" in what) is named


def test_an_edited_environment_is_named_by_its_variables(server: Server) -> None:
    delivery = Delivery(environment="A='1'\nB='2'\n")
    for step in ("pull", "up"):
        assert server.run(step, delivery=delivery).status == 0
    (server.directory / ".env").write_text("A='1'\nB='secret'\nC='3'\n")
    assert told(server.run("facts", delivery=delivery)).differences == (
        Difference("environment", ".env was edited: B, C"),
    )


def test_who_works_there_is_told_without_waiting(released: Server) -> None:
    released.behave('case "$*" in "compose config"*) : ;; "version "*) : ;; esac')
    with (released.state / "lock").open("w") as lock:
        import fcntl  # noqa: PLC0415 - for this alone

        lock.write("process 7, step up, release 2.0, since today\n")
        lock.flush()
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert told(released.run("facts")).busy == "process 7, step up, release 2.0, since today"
    assert told(released.run("facts")).busy == ""


def test_what_would_be_refused_and_what_cannot_be_rolled_is_said(server: Server) -> None:
    server.compose_file.write_text(server.compose_file.read_text() + "    container_name: web\n")
    found = told(server.run("facts"))
    assert found.refused == ""
    assert ["container_name" in obstacle for obstacle in found.unrollable] == [True]
    assert [advice.partition(":")[0] for advice in found.advice] == ["'web' has no stop_grace_period"]


@pytest.mark.parametrize(
    ("behaviour", "said", "remedy"),
    [
        ('version*) echo "permission denied while trying to connect" >&2; exit 1 ;;', "may not use Docker", "usermod"),
        ("compose*' config '*) echo 'yaml: line 9: did not find' >&2; exit 1 ;;", "yaml: line 9", "Correct it"),
    ],
)
def test_what_cannot_be_told_is_explained_in_dockers_words_and_leaves_no_trace(
    server: Server, behaviour: str, said: str, remedy: str
) -> None:
    server.behave(f'case "$*" in {behaviour} esac')
    before = sorted(server.directory.rglob("*"))
    result = server.run("facts")
    assert result.status == 1
    assert said in result.errors
    assert remedy in result.errors
    assert sorted(server.directory.rglob("*")) == before


def test_a_release_in_place_is_told_of_and_compared_with_as_well(server: Server) -> None:
    for step in ("pull", "stop", "up", "verify"):
        assert server.run(step, strategy=Strategy.IN_PLACE).status == 0
    found = told(server.run("facts"))
    assert (found.release, found.image, found.previous) == (RELEASE.release, str(RELEASE), "")
    assert found.since
    assert found.differences == ()
    text = server.compose_file.read_text()
    server.compose_file.write_text(text.replace("image: nginx:1", "image: nginx:2"))
    assert [it.item for it in told(server.run("facts")).differences or ()] == ["Compose file"]


def test_a_release_in_place_is_no_longer_told_of_once_another_strategy_has_brought_one(server: Server) -> None:
    for step in ("pull", "stop", "up", "verify"):
        assert server.run(step, strategy=Strategy.IN_PLACE).status == 0
    for step in ("pull", "up"):
        assert server.run(step).status == 0
    assert not (server.state / "in-place").exists()
    assert told(server.run("facts")).release == RELEASE.release
