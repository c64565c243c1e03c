"""Images that no release may be: each is refused with the reason, gets no tag, and no server hears of it."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from tests.e2e.candidates import HANGS, Candidate, Workshop, rails, ruby, throwaways, workshop
from tests.e2e.harness import Sandbox

pytestmark = pytest.mark.e2e


@dataclass(frozen=True)
class Case:
    """A candidate, made for a sandbox, and words of the message that must refuse it."""

    candidate: Callable[[Sandbox], Candidate]
    words: tuple[str, ...]


CASES = {
    "exits at once": Case(
        lambda _: Candidate(ruby("abort 'SMTP_HOST is not set'"), {"paths": ["/"]}),
        ("it ended by itself, with exit status 1", "SMTP_HOST is not set"),
    ),
    "boots but answers 500": Case(
        lambda sandbox: Candidate("COPY broken.rb config/initializers/\n", rails(sandbox), {
            "broken.rb": "Rails.application.config.to_prepare { "
                         "VisitsController.define_method(:index) { raise 'no such fab lab' } }\n"
        }),
        ("GET / answers 500, not 200", "no such fab lab"),
    ),
    "misses assets": Case(
        lambda sandbox: Candidate("RUN find public/assets -name '*.css*' -delete\n", rails(sandbox)),
        ("GET / names files that the image does not serve: /assets/application-", ".css (404)"),
    ),
    "listens on another port": Case(
        lambda _: Candidate(ruby("server = TCPServer.new('0.0.0.0', 3001); loop { server.accept.close }"),
                            {"paths": ["/"]}),
        ("nothing listens on port 3000 of the container (image.smokeTest.port)", "something does on 3001"),
    ),
    "has a migration that raises at boot": Case(
        lambda sandbox: Candidate(
            "COPY 20990101000000_fail.rb db/migrate/\n"
            'CMD ["sh", "-c", "bundle exec rails db:migrate && exec bundle exec puma -C config/puma.rb"]\n',
            rails(sandbox),
            {"20990101000000_fail.rb": "class Fail < ActiveRecord::Migration[6.1]\n"
                                       "  def up; raise 'the column is not empty'; end\nend\n"},
        ),
        ("it ended by itself, with exit status 1", "the column is not empty"),
    ),
    "runs as root": Case(
        lambda _: Candidate("USER root\n", {"paths": ["/"]}),
        ("is not built", "non-root-user: Dockerfile:3: the image runs as root", "USER app"),
    ),
    "contains .env": Case(
        lambda _: Candidate("USER root\nRUN echo SECRET_KEY_BASE=1 >.env\nRUN rm .env\nUSER app\n", {"paths": ["/"]}),
        ("env-file: /usr/src/app/.env, in the layer of `echo SECRET_KEY_BASE=1 >.env`", "a later layer deletes it"),
    ),
    "has no command": Case(
        lambda sandbox: Candidate(f"FROM {sandbox.registry}/debian:bookworm-slim\nUSER nobody\n", {"paths": ["/"]}),
        ("command: the image: it has neither ENTRYPOINT nor CMD of its own",),
    ),
    "hangs": Case(
        lambda _: Candidate(HANGS, {"paths": ["/"], "timeout": 8}),
        ("it takes the request, and gives no answer", "after 8 s (image.smokeTest.timeout)"),
    ),
    "needs more memory than it may have": Case(
        lambda _: Candidate(ruby("kept = []; loop { kept << 'x' * 10_000_000 }"), {"paths": ["/"], "memory": "128m"}),
        ("it ran out of memory: it needs more than its limit of 128m",),
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def shop(sandbox: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workshop]:
    with workshop(sandbox, "refused", tmp_path_factory.mktemp("refused")) as shop:
        yield shop


@pytest.mark.parametrize("name", CASES)
def test_an_image_gets_no_tag_when_it(shop: Workshop, name: str) -> None:
    case = CASES[name]
    shop.commit(case.candidate(shop.sandbox))
    # A tag that a sandbox which is kept between runs does not have.
    shop.project.set("tag", f"1.0.0-{secrets.token_hex(4)}")
    manifests, connections = shop.sandbox.manifests(shop.repository), shop.sandbox.connections()
    done = shop.project.up()
    assert not done.succeeded, done.output
    for words in case.words:
        assert words in done.output, done.output

    now = shop.sandbox.manifests(shop.repository)
    assert {tag: now[tag] for tag in now if not tag.startswith("build-")} == {
        tag: manifests[tag] for tag in manifests if not tag.startswith("build-")
    }
    assert shop.sandbox.connections() == connections
    assert throwaways(shop.project.directory) == {}


def test_the_preview_says_what_is_wrong_with_what_would_be_built_as_far_as_a_rule_is_an_error(shop: Workshop) -> None:
    shop.commit(Candidate('USER root\nCMD ["puma"]\n', files={"master.key": "-----BEGIN RSA PRIVATE KEY-----\n"}))
    shop.project.set("tag", f"1.0.0-{secrets.token_hex(4)}")
    manifests = shop.sandbox.manifests(shop.repository)
    preview = shop.project.preview()
    assert not preview.succeeded, preview.output
    assert "non-root-user: Dockerfile:3: the image runs as root" in preview.output
    assert "credentials: master.key: whoever can pull the image has this key" in preview.output
    assert shop.sandbox.manifests(shop.repository) == manifests

    shop.project.set("image.checks", {"non-root-user": "warn", "credentials": "off"})
    try:
        preview = shop.project.preview()
    finally:
        shop.project.set("image.checks", None)
    assert preview.succeeded, preview.output
    assert "non-root-user: Dockerfile:3" in preview.output
    assert "credentials" not in preview.output
    assert "gets its tag without having been started once" in preview.output
