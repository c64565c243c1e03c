import pytest

from configuration.rules import DEFAULT_LEVELS, Level, Rule
from release.checks import Finding, check_file, report

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("path", "rule", "place"),
    [
        (".env", Rule.ENV_FILE, ".env"),
        ("srv/app/.env.production", Rule.ENV_FILE, "srv/app/.env.production"),
        ("srv/app/.git/HEAD", Rule.GIT_DIRECTORY, "srv/app/.git"),
        ("srv/app/config/master.key", Rule.CREDENTIALS, "srv/app/config/master.key"),
        ("srv/app/config/credentials/production.key", Rule.CREDENTIALS, "srv/app/config/credentials/production.key"),
        ("root/.netrc", Rule.CREDENTIALS, "root/.netrc"),
        ("root/.docker/config.json", Rule.CREDENTIALS, "root/.docker/config.json"),
        ("home/app/.ssh/id_ed25519", Rule.CREDENTIALS, "home/app/.ssh/id_ed25519"),
        ("srv/app/log/production.log", Rule.LEFTOVERS, "srv/app/log"),
        ("srv/app/node_modules/a/b.js", Rule.LEFTOVERS, "srv/app/node_modules"),
    ],
)
def test_a_file_that_does_not_belong_is_found(path: str, rule: Rule, place: str) -> None:
    finding = check_file(path, "srv/app")
    assert finding
    assert (finding.rule, finding.place) == (rule, place)


@pytest.mark.parametrize(
    "path",
    [".env.example", "srv/app/.env.sample", "srv/app/.gitignore", "srv/app/log/.keep", "tmp/x", "var/log/dpkg.log",
     "srv/app/app/models/log/entry.rb", "srv/app/config/credentials.yml.enc", "srv/app/public/environment.env"],
)  # fmt: skip
def test_a_file_that_only_looks_like_it_is_none(path: str) -> None:
    assert check_file(path, "srv/app") is None


def found(rule: Rule, place: str) -> Finding:
    return Finding(rule, place, "why", "remedy")


def test_findings_go_by_level_and_say_rule_place_reason_and_remedy() -> None:
    result = report(
        [found(Rule.ENV_FILE, ".env"), found(Rule.EXEC_FORM, "Dockerfile:3"), found(Rule.NON_ROOT_USER, "the image")],
        {Rule.NON_ROOT_USER: Level.OFF},
    )
    assert result.errors == "  env-file: .env: why\n      remedy"
    assert result.warnings == "  exec-form: Dockerfile:3: why\n      remedy"


def test_many_places_of_one_rule_are_counted() -> None:
    result = report([found(Rule.ENV_FILE, f"{i}/.env") for i in range(5)], {})
    assert result.errors == "  env-file: 0/.env, 1/.env, 2/.env and 2 more: why\n      remedy"


def test_every_rule_has_a_default_level_and_any_can_be_set() -> None:
    assert set(DEFAULT_LEVELS) == set(Rule)
    for rule in Rule:
        for level in Level:
            result = report([found(rule, "here")], {rule: level})
            assert (bool(result.errors), bool(result.warnings)) == (level is Level.ERROR, level is Level.WARN)


def test_a_name_that_is_no_utf_8_can_be_printed() -> None:
    finding = Finding(Rule.ENV_FILE, "caf\udce9/.env", "why", "remedy")
    assert r"caf\xe9/.env" in report([finding], {}).errors
