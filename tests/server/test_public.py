"""Looks at the site as visitors get it: what was so before is no failure, and nothing is claimed that nobody saw."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from server.request import Strategy
from tests.server.http_server import Answer, Asked, Pieces, response
from tests.server.server import Result, Server
from tests.server.test_proxies import NGINX
from tests.server.test_rolling import LITERAL
from tests.server.test_staged import WRITES, history, prepare, run

PAGE = '<link rel="stylesheet" href="/app.css"><img src="/logo.png"><script src="/app.js"></script>'
HTML = "Content-Type: text/html"


def site(**answers: int) -> Callable[[Asked], Pieces]:
    """A site whose pages and files answer with these statuses: health, home, app.css (as css), logo.png (as png)."""
    names = {"/health": "health", "/": "home", "/app.css": "css", "/logo.png": "png", "/app.js": "js"}

    def answer(asked: Asked) -> Pieces:
        return response(answers.get(names[asked.target], 200), PAGE if asked.target == "/" else "", HTML)

    return answer


def release(server: Server, before: Answer, after: Answer, **health: Any) -> Result:
    """Rolls out over an old release; what visitors get before and after the Compose file names the new one."""
    server.answer("running", "sha256:old")
    prepare(server)
    server.forget_calls()

    def answer(asked: Asked) -> Pieces:
        current = after if "@sha256:777" in server.compose_file.read_text() else before
        return current(asked) if callable(current) else current

    server.public.answer = answer
    return run(server, "up", timeout=5, health=server.health(url=server.public.url, **health))


def test_a_release_that_visitors_get_serves(server: Server) -> None:
    result = release(server, site(), site())
    assert result.status == 0, result
    assert "2.0-777777777777 serves; the site did not answer for" in result.output


NOTICES = [
    ({"png": 404}, {"png": 404}, "notice: as before, 1 files that"),
    ({"health": 403}, {"health": 403}, "/health answers 403, not 200, as before"),
    ({"health": 404}, {"health": 404}, "/health answers 404, not 200, as before"),
    ({"health": 503}, {"health": 503}, "/health answers 503, not 200, as before"),
    ({"health": 403}, {"health": 404}, "/health answers 404, not 200"),
    ({"home": 401}, {"home": 401}, "/ answers 401, so no assets were looked at"),
]


@pytest.mark.parametrize(("before", "after", "notice"), NOTICES)
def test_what_was_so_before_is_a_notice(
    server: Server, before: dict[str, int], after: dict[str, int], notice: str
) -> None:
    result = release(server, site(**before), site(**after))
    assert result.status == 0, result
    assert notice in result.output
    assert "2.0-777777777777 serves" in result.output


FAILURES = [
    ({}, {"png": 404}, "names /logo.png, which answers 404"),
    ({"png": 404}, {"png": 404, "css": 404}, "names /app.css, which answers 404"),
    ({}, {"health": 403}, "/health answers 403, not 200"),
    ({"health": 403}, {"health": 502}, "/health answers 502, not 200"),
    ({"health": 502}, {"health": 502}, "/health answers 502, not 200"),
    ({}, {"home": 404}, "/ answers 404"),
    ({"home": 500}, {"home": 502}, "/ answers 502"),
]


@pytest.mark.parametrize(("before", "after", "message"), FAILURES)
def test_what_has_become_worse_is_a_failure_and_the_old_release_is_put_back(
    server: Server, before: dict[str, int], after: dict[str, int], message: str
) -> None:
    result = release(server, site(**before), site(**after))
    assert result.status == 1, result
    assert message in result.errors


def test_an_old_release_that_is_put_back_serves_when_visitors_get_it(server: Server) -> None:
    result = release(server, site(), site(css=404))
    assert result.status == 1
    assert "was put back and serves" in result.errors
    assert history(server)[-1]["result"] == "restored"


def test_an_old_release_that_visitors_do_not_get_was_not_put_back(server: Server) -> None:
    lost: list[Asked] = []

    def after(asked: Asked) -> Pieces:
        lost.append(asked)
        return response(502, "Bad Gateway")

    result = release(server, lambda asked: after(asked) if lost else site()(asked), after)
    assert result.status == 1
    assert "/health answers 502, not 200" in result.errors
    assert "and serves" not in result.errors
    assert "It could not be put back" in result.errors
    assert history(server)[-1]["result"] == "failed"


def test_of_a_first_release_only_its_own_files_must_be_there(server: Server) -> None:
    server.public.answer = site(home=502, health=502)
    prepare(server)
    server.answer("running", "sha256:old")

    def answer(asked: Asked) -> Pieces:
        is_new = "@sha256:777" in server.compose_file.read_text()
        return (site(png=404, health=403) if is_new else site(home=502, health=502))(asked)

    server.public.answer = answer
    result = run(server, "up", timeout=3, health=server.health(url=server.public.url))
    assert result.status == 0, result
    assert "notice: 1 files that" in result.output


def test_a_release_that_nobody_has_looked_at_through_a_proxy_is_not_said_to_serve(server: Server) -> None:
    prepare(server)
    result = run(server, "up")
    assert result.status == 0, result
    assert "runs and answers on its own address, but was not seen through a proxy; the site did not" in result.output


def behind_nginx(server: Server) -> None:
    """Without a public address, an nginx passes requests to the application: it listens where `public` does."""
    server.answer("running", "sha256:old")
    prepare(server)
    (server.stubs / "nginx.conf").write_text(LITERAL.replace("server {", f"server {{ listen {server.public.port};"))
    server.behave(f"{WRITES}\n{NGINX}")


def test_without_a_public_address_a_release_is_looked_at_through_the_nginx_that_was_found(server: Server) -> None:
    behind_nginx(server)
    result = run(server, "up")
    assert result.status == 0, result
    assert "'web' answers 200 on /health through its proxy" in result.output
    assert "2.0-777777777777 serves; the site did not answer for" in result.output


def test_without_a_public_address_a_release_that_its_nginx_does_not_find_fails(server: Server) -> None:
    behind_nginx(server)

    def answer(_: Asked) -> Pieces:
        return response(502 if "@sha256:777" in server.compose_file.read_text() else 200)

    server.public.answer = answer
    result = run(server, "up", timeout=3)
    assert result.status == 1
    assert "answers on its own address, but no more through its proxy: shop-edge-1" in result.errors
    assert "was put back and serves" in result.errors


@pytest.mark.parametrize(
    ("answer", "status", "said"),
    [
        (200, 0, "2.0-777777777777 serves"),
        (403, 0, "was not seen through a proxy"),
        (502, 1, "/health answers 502, not 200"),
    ],
)
def test_in_place_the_release_is_looked_at_through_the_public_address_as_well(
    server: Server, answer: int, status: int, said: str
) -> None:
    for step in ("pull", "stop", "up"):
        assert server.run(step).status == 0
    server.public.answer = response(answer)
    health = server.health(url=server.public.url)
    result = server.run("verify", strategy=Strategy.IN_PLACE, timeout=3, health=health)
    assert result.status == status, result
    assert said in result.output + result.errors
