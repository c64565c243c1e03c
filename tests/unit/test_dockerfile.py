from pathlib import Path

import pytest

from configuration.rules import Rule
from errors import ReleaseError
from release import dockerfile
from release.checks import Finding

pytestmark = pytest.mark.unit

SOUND = 'FROM ruby:3.3-slim AS base\nENV RAILS_ENV=production\nUSER app\nCMD ["bundle", "exec", "puma"]\n'


def findings(text: str, target: str | None = None, **arguments: str) -> list[Finding]:
    return list(dockerfile.parse(text, "Dockerfile", arguments, target).findings())


def places(text: str, rule: Rule, target: str | None = None, **arguments: str) -> list[str]:
    return [finding.place for finding in findings(text, target, **arguments) if finding.rule is rule]


def test_nothing_is_objected_to_in_a_sound_dockerfile() -> None:
    assert findings(SOUND) == []


@pytest.mark.parametrize(
    "image",
    [
        "ruby",
        "ruby:latest",
        "localhost:5000/ruby",
        "ghcr.io/lab/ruby:latest",
        "$BASE",
        "${BASE}",
        "${BASE:-ruby}",
        "$NONE",
    ],
)
def test_a_base_image_that_moves_is_found_by_its_line(image: str) -> None:
    text = f"ARG BASE=ruby:latest\nARG NONE\nFROM {image}\nUSER app\n"
    assert places(text, Rule.BASE_IMAGE) == ["Dockerfile:3"]


@pytest.mark.parametrize(
    "image",
    ["ruby:3.3", "localhost:5000/ruby:3", f"ruby@sha256:{'0' * 64}", "scratch", "$BASE", "${NONE:-ruby:3}",
     "ruby:${VERSION}-slim", "${BASE:+ruby:3}"],
)  # fmt: skip
def test_a_base_image_with_a_version_is_pinned_wherever_that_comes_from(image: str) -> None:
    assert places(f"ARG BASE=ruby\nARG VERSION=3.3\nFROM {image}\nUSER app\n", Rule.BASE_IMAGE, BASE="ruby:3.3") == []


def test_stages_that_the_target_is_not_made_of_do_not_count() -> None:
    text = "FROM node AS assets\nFROM ruby:3 AS app\nUSER app\nFROM ruby AS dev\n"
    assert findings(text, "app") == []


@pytest.mark.parametrize("copy", ["COPY --from=assets /a /b", "COPY --from=0 /a /b"])
def test_stages_that_are_copied_from_do(copy: str) -> None:
    text = f"FROM node AS assets\nFROM ruby:3 AS app\n{copy}\nUSER app\n"
    assert places(text, Rule.BASE_IMAGE) == ["Dockerfile:1"]


def test_so_does_an_image_that_is_copied_from() -> None:
    assert places("FROM ruby:3\nCOPY --from=nginx /a /b\nUSER app\n", Rule.BASE_IMAGE) == ["Dockerfile:2"]


@pytest.mark.parametrize("user", ["root", "0", "0:0", "root:app"])
def test_root_is_found_under_every_name(user: str) -> None:
    assert places(f"{SOUND}USER {user}\n", Rule.NON_ROOT_USER) == ["Dockerfile:5"]


def test_a_user_of_an_earlier_stage_counts_when_the_target_starts_from_it_and_not_when_it_only_copies() -> None:
    assert places(f"{SOUND}FROM base\nRUN true\n", Rule.NON_ROOT_USER) == []
    assert places(f"{SOUND}FROM ruby:3\nCOPY --from=base /a /b\n", Rule.NON_ROOT_USER) == ["Dockerfile"]


def test_a_command_that_a_shell_runs_is_found_unless_the_shell_gives_way_to_it() -> None:
    assert places("FROM a:1\nUSER app\nCMD puma -p 1\n", Rule.EXEC_FORM) == ["Dockerfile:3"]
    assert places("FROM a:1\nUSER app\nENTRYPOINT bin/start\nCMD []\n", Rule.EXEC_FORM) == ["Dockerfile:3"]
    assert places("FROM a:1\nUSER app\nCMD exec puma -p $PORT\n", Rule.EXEC_FORM) == []
    assert places(f'{SOUND}CMD ["a"]\n', Rule.EXEC_FORM) == []


@pytest.mark.parametrize(
    "line",
    ["ARG NPM_TOKEN", "ARG DB_PASSWORD=x", 'ENV SECRET_KEY_BASE="abc"', "ENV A=1 API_KEY=2", "ENV OLD_PASSWORD form",
     "ENV DATABASE_URL=postgres://app:hunter2@db/app", "ARG AWS_SECRET_ACCESS_KEY"],
)  # fmt: skip
def test_a_secret_in_a_variable_is_found_without_being_shown(line: str) -> None:
    (finding,) = findings(f"{SOUND}{line}\n")
    assert (finding.rule, finding.place.endswith("(Dockerfile:5)")) == (Rule.SECRET_VARIABLE, True)
    assert "hunter2" not in str(finding)


@pytest.mark.parametrize(
    "line",
    ["ARG BUNDLE_JOBS=2", "ENV SECRET_KEY_BASE=", "ENV SECRET_KEY_BASE_DUMMY=1", "ENV PASSWORD_FILE=/run/secrets/p",
     "ENV DATABASE_URL=postgres://db/app", "RUN SECRET_KEY_BASE=x rails assets:precompile", "ENV MONKEY=1 KEYBOARD=fr"],
)  # fmt: skip
def test_what_only_looks_a_little_like_a_secret_is_none(line: str) -> None:
    assert findings(f"{SOUND}{line}\n") == []


def test_a_mode_that_is_not_production_is_found_and_an_unset_one_is_left_to_the_image() -> None:
    assert places(f"{SOUND}ENV NODE_ENV=development\n", Rule.PRODUCTION_ENV) == ["Dockerfile:5"]
    assert places(f"{SOUND}ENV NODE_ENV=development\nENV NODE_ENV production\n", Rule.PRODUCTION_ENV) == []


def test_what_is_written_in_a_here_document_is_no_instruction() -> None:
    assert findings(f"{SOUND}RUN <<END\nUSER root\nFROM ruby\nEND\n") == []


@pytest.mark.parametrize(("text", "words"), [("", "cannot be parsed"), ("RUN <<END\n", "cannot be parsed"),
                                             ("ARG A\n", "has no FROM")])  # fmt: skip
def test_what_is_no_dockerfile_is_refused(text: str, words: str) -> None:
    with pytest.raises(ReleaseError, match=words):
        findings(text)


def test_a_target_that_is_not_there_is_refused_with_those_that_are() -> None:
    with pytest.raises(ReleaseError, match="image.source.target: Dockerfile has no stage 'prod'; its stages: base"):
        findings(SOUND, "prod")


def test_the_build_sees_what_the_ignore_file_leaves() -> None:
    names = [".env", "web/.env", "log/a.log", "log/.keep", "a/b/node_modules/c/d.js", "keep/out", "keep/in", "app.rb"]
    ignore = "\ufeff# comment\n.env*\n\nlog/*\n!log/.keep\n**/node_modules\n/keep\n!keep/in\n"
    assert dockerfile.context_files(names, ignore) == ["web/.env", "log/.keep", "keep/in", "app.rb"]


def test_the_ignore_file_of_a_dockerfile_with_a_name_of_its_own_has_that_name() -> None:
    assert dockerfile.ignore_file_of("docker/Dockerfile") == ".dockerignore"
    assert dockerfile.ignore_file_of("docker/app.Dockerfile") == "app.Dockerfile.dockerignore"


def test_findings_about_the_context_name_each_place_once() -> None:
    names = ["node_modules/a.js", "node_modules/b.js", "tmp/.keep", "config/master.key", "spec/key.pem", "README.md"]
    found = [(f.rule, f.place) for f in dockerfile.check_context(names, ["spec/key.pem"])]
    assert found == [
        (Rule.LEFTOVERS, "node_modules"),
        (Rule.CREDENTIALS, "config/master.key"),
        (Rule.CREDENTIALS, "spec/key.pem"),
    ]


@pytest.mark.parametrize("directory", ["example", "templates/rails"])
def test_nothing_is_objected_to_in_what_this_repository_offers(directory: str) -> None:
    path = Path(__file__).parents[2] / directory
    files = [str(file.relative_to(path)) for file in path.rglob("*") if file.is_file()]
    context = dockerfile.context_files(files, (path / ".dockerignore").read_text())
    assert findings((path / "Dockerfile").read_text()) == []
    assert list(dockerfile.check_context(context, [])) == []
