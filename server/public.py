"""What visitors get: the public address asked from the server, and for how long it did not answer."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from server import page
from server.answers import Answer, NoAnswer, get, problem_of
from server.commands import Docker
from server.health import failure_with_logs, pause_until
from server.run import Run

QUESTION = 10.0
"""Seconds that an answer of the public address may take."""
REDIRECTIONS = 3
MOST_ASSETS = 200
"""Of a page: more are not asked for."""
INTERVAL = 0.1
"""Seconds between two questions whether the site answers."""
PATIENCE = 2.0
"""Seconds that each of them may take."""
NO_ANSWER = 0
"""The status of a page that did not answer."""


@dataclass(frozen=True)
class Public:
    """The public address, as it was before anything changed.

    url:    without a slash at the end; None: there is none, or this server cannot reach it
    status: of the home page
    """

    url: str | None
    status: int = NO_ANSWER


def look_before(run: Run, docker: Docker) -> Public:
    """What the public address answers before anything changes."""
    if not run.request.health.url:
        return Public(None)
    url = run.request.health.url.rstrip("/")
    answer = _visit(docker, f"{url}/")
    if answer is None:
        run.say(
            f"notice: {run.request.health.url} cannot be reached from this server, so the release is not looked at "
            f"through it"
        )
        return Public(None)
    return Public(url, answer.status)


def _visit(docker: Docker, url: str, headers: dict[str, str] | None = None) -> Answer | None:
    try:
        timeout = max(min(QUESTION, docker.phase.left), 0.01)
        return get(url, headers or {}, timeout, redirections=REDIRECTIONS)
    except NoAnswer:
        return None


def look(run: Run, docker: Docker, public: Public) -> None:
    """At the release as visitors get it. Raises Failure."""
    if public.url is None:
        return
    _look_at_health(run, docker, public.url)
    _look_at_home_page(run, docker, public)


def _look_at_health(run: Run, docker: Docker, url: str) -> None:
    """Until it is as wanted: a proxy may need a moment to see the new container."""
    health = run.request.health
    target = f"{url}{health.path}"
    while True:
        answer = _visit(docker, target, dict(health.headers))
        problem = problem_of(answer, health.status, health.contains) if answer else "does not answer"
        if problem is None:
            return
        if docker.phase.is_over:
            message = f"Through the public address the release does not answer: {target} {problem}."
            raise failure_with_logs(run, docker, message)
        time.sleep(0.2)


def _look_at_home_page(run: Run, docker: Docker, public: Public) -> None:
    """And at every file that it names."""
    target = f"{public.url}/"
    answer = _visit(docker, target)
    status = answer.status if answer else NO_ANSWER
    if answer is None or status // 100 != 2:  # noqa: PLR2004 - 2xx
        if status // 100 in (0, 5) or public.status // 100 == 2:  # noqa: PLR2004
            raise failure_with_logs(run, docker, f"{target} answers {status or 'nothing'}.")
        # As before: a site may ask for a password there, or have no page.
        run.say(f"notice: {target} answers {status}, so no assets were looked at")
        return
    origin = "/".join(answer.url.split("/")[:3])
    assets = page.asset_paths(answer.text, answer.url)[:MOST_ASSETS] if answer.is_html else []
    for path in assets:
        asset = _visit(docker, f"{origin}{path}")
        if asset is None or asset.status != 200:  # noqa: PLR2004
            found = asset.status if asset else "nothing"
            raise failure_with_logs(run, docker, f"The page {target} names {origin}{path}, which answers {found}.")
    run.say(f"{target} and its {len(assets)} assets answer")


class Downtime:
    """Measures, ten times a second, for how long visitors get no answer.

    targets: what is asked, anew each time: one answer is enough
    """

    def __init__(self, targets: Callable[[], Sequence[str]]) -> None:
        self._targets = targets
        self._probes: list[tuple[float, bool]] = []
        self._over = threading.Event()
        threading.Thread(target=self._measure, daemon=True).start()

    def _measure(self) -> None:
        while not self._over.is_set():
            asked = time.monotonic()
            answered = any_serves(self._targets())
            # What was just asked when it was over would change the figure by little.
            if not self._over.is_set():
                self._probes.append((asked, answered))
            pause_until(asked + INTERVAL)

    def stop(self) -> float:
        """Seconds without an answer, to a tenth or so. May be called again."""
        self._over.set()
        return down(list(self._probes), time.monotonic())


def down(probes: Sequence[tuple[float, bool]], end: float) -> float:
    """Seconds between an unanswered question and the next one, in all.

    probes: when it was asked, and whether answered.
    """
    moments = [asked for asked, _ in probes[1:]] + [end]
    # strict is of Python 3.10.
    return sum(until - asked for (asked, answered), until in zip(probes, moments) if not answered)


def any_serves(targets: Iterable[str]) -> bool:
    """Whether one of these addresses gives an answer that is none of a broken server, and not the proxy's regret."""
    for target in targets:
        try:
            if get(target, {}, PATIENCE, largest=1).status < 500:  # noqa: PLR2004
                return True
        except NoAnswer:
            continue
    return False
