import json
from pathlib import Path
from typing import Any

import pytest

from configuration.tree import SmokeTestPath, SmokeTestSettings
from errors import ReleaseError
from release import smoke_model
from release.smoke_test import Request, host_of, listening, problem_of
from server.answers import Answer

pytestmark = pytest.mark.unit

IMAGE = f"ghcr.io/fablab/app:build-0123456789ab@sha256:{'0' * 64}"


def settings(**values: Any) -> SmokeTestSettings:
    return SmokeTestSettings.model_validate(values)


def generated(**values: Any) -> Any:
    return smoke_model.generated(IMAGE, settings(**values)).published(8080, "linux/arm64")["services"]


def test_the_application_runs_by_digest_on_a_free_port_of_this_machine_alone_and_is_not_started_again() -> None:
    application = generated()["app"]
    assert application["image"] == IMAGE
    assert application["ports"] == ["127.0.0.1::8080"]
    assert application["platform"] == "linux/arm64"
    assert application["restart"] == "no"


def test_a_value_with_a_dollar_sign_reaches_the_application_as_it_is() -> None:
    # Compose would take $b for a variable of its own.
    assert generated(env={"A": "a$b${c}"})["app"]["environment"] == {"A": "a$$b$${c}"}


def test_the_application_starts_once_what_it_needs_is_ready_where_that_can_be_known() -> None:
    services = generated(
        needs={"db": "localhost:5000/postgres:15@sha256:abc", "redis": "redis", "mail": "axllent/mailpit"}
    )
    assert services["app"]["depends_on"] == {
        "db": {"condition": "service_healthy"},
        "redis": {"condition": "service_healthy"},
        "mail": {"condition": "service_started"},
    }
    assert services["db"]["healthcheck"]["test"][:2] == ["CMD", "pg_isready"]
    assert services["redis"]["healthcheck"]["test"] == ["CMD", "redis-cli", "ping"]
    assert "healthcheck" not in services["mail"]
    assert services["db"]["environment"]["POSTGRES_PASSWORD"] == smoke_model.THROWAWAY_PASSWORD


def test_a_limit_of_memory_allows_no_swap_beside_it() -> None:
    application = generated(memory="512m")["app"]
    assert (application["mem_limit"], application["memswap_limit"]) == ("512m", "512m")


def test_the_first_service_of_the_candidate_in_a_compose_file_is_the_one_that_is_asked(tmp_path: Path) -> None:
    file = tmp_path / "smoke.yml"
    file.write_text(
        "services:\n  zdb: {image: postgres:15}\n  web: {image: '${IMAGE:?}'}\n  app: {image: $IMAGE}\n",
        encoding="utf-8",
    )
    assert smoke_model.application_in(file) == "web"


def test_a_compose_file_may_say_all_that_compose_understands(tmp_path: Path) -> None:
    file = tmp_path / "smoke.yml"
    file.write_bytes("\ufeffservices:\n  web:\n    ports: !reset []\n    image:\t${IMAGE}\n".encode())
    assert smoke_model.application_in(file) == "web"


def test_the_profiles_of_the_service_that_is_asked_are_active_and_no_others(tmp_path: Path) -> None:
    file = tmp_path / "smoke.yml"
    file.write_text("services:\n  web: {image: $IMAGE, profiles: [smoke]}\n  tool: {image: x, profiles: [tools]}\n")
    model = smoke_model.from_file(PlainCompose(), IMAGE, file)  # type: ignore[arg-type] # reads the file, no more
    assert model.published(80, "linux/amd64")["services"] == {
        "web": {"image": IMAGE, "restart": "no", "platform": "linux/amd64", "ports": ["127.0.0.1::80"]}
    }


class PlainCompose:
    """Stands for a Throwaway: resolves a file with `docker compose config`."""

    def compose(self, *arguments: str, environment: dict[str, str], timeout: float) -> str:
        assert timeout
        assert arguments[2:] == ("--profile", "smoke", "config", "--format", "json")
        return json.dumps({"services": {"web": {"image": environment["IMAGE"], "profiles": ["smoke"]}}})


@pytest.mark.parametrize(
    "text", ["services: {web: {image: '${IMAGES}'}}", "services: [web]", "{}", "services: {web:", "services: {web: }"]
)
def test_a_compose_file_without_the_candidate_is_refused_by_its_key(tmp_path: Path, text: str) -> None:
    file = tmp_path / "smoke.yml"
    file.write_text(text)
    with pytest.raises(ReleaseError, match="image.smokeTest.composeFile"):
        smoke_model.application_in(file)


def test_a_missing_compose_file_is_refused_by_its_key(tmp_path: Path) -> None:
    with pytest.raises(ReleaseError, match="image.smokeTest.composeFile: cannot read"):
        smoke_model.application_in(tmp_path / "missing.yml")


@pytest.mark.parametrize("how", [None, {}, {"env": {"A": "secret"}, "paths": ["/", {"path": "/h", "contains": ["x"]}]}])
def test_a_request_arrives_as_it_was_sent(how: dict[str, Any] | None) -> None:
    request = Request(IMAGE, "linux/amd64", None if how is None else settings(**how))
    assert Request.load(request.dump()) == request


def test_a_request_is_shown_without_its_secrets_and_sent_with_them() -> None:
    request = Request(IMAGE, "linux/amd64", settings(env={"A": "hunter2"}))
    assert "hunter2" not in repr(request)
    assert json.loads(request.dump())["smokeTest"]["env"] == {"A": "hunter2"}


def test_who_listens_where_is_read_from_the_kernels_tables() -> None:
    tables = """
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:0BB9 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 1 1 0 100 0 0 10 0
   1: 0B00007F:9C4F 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 2 1 0 100 0 0 10 0
   2: 020013AC:0BBA 010013AC:D431 01 00000000:00000000 00:00000000 00000000  1000        0 3 1 0 100 0 0 10 0
  sl  local_address                         remote_address                        st
   0: 00000000000000000000000000000000:1F90 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000
   1: 00000000000000000000000001000000:1F91 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000
"""
    assert list(listening(tables)) == [(3001, True), (8080, False), (8081, True)]


def answered(status: int, text: str = "", location: str = "") -> Answer:
    return Answer("http://127.0.0.1:1/", status, location, is_html=True, text=text)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (answered(500), "answers 500, not 200"),
        (answered(302, location="/login"), "answers 302, with a redirect to /login, not 200"),
        (answered(301, location="https://localhost/"), "give the path headers: {X-Forwarded-Proto: https}"),
        (answered(200, "status: ko"), "answers 200, but without 'status: ok'"),
    ],
)
def test_a_wrong_answer_is_described(answer: Answer, words: str) -> None:
    problem = problem_of(answer, SmokeTestPath(path="/", contains=("status: ok",)))
    assert problem
    assert words in problem


def test_an_answer_with_the_status_and_the_strings_wanted_is_right() -> None:
    assert problem_of(answered(204, "a b"), SmokeTestPath(path="/", status=204, contains=("a", "b"))) is None


def test_the_application_is_called_localhost_unless_the_headers_say_otherwise() -> None:
    assert host_of({"X-A": "b"}) == "localhost"
    assert host_of({"host": "lab.example.org"}) == "lab.example.org"
