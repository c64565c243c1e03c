"""What visitors get: the public address asked from the server, and for how long it did not answer."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial

from server import page, sockets
from server.answers import Answer, NoAnswer, get, problem_of
from server.commands import Docker
from server.health import failure_with_logs, pause_until
from server.questions import AGAIN, Questions
from server.run import Run

QUESTION = 10.0
"""Seconds that an answer of the public address may take."""
REDIRECTIONS = 3
MOST_ASSETS = 200
"""Of a page: more are not asked for."""
TICK = 0.1
"""Seconds between two looks whether the site answers, or whether its application still listens."""
PATIENCE, SHORTEST_PATIENCE = 2.0, 1.0
"""Seconds that an answer may take: as long as the site answers, and from then on, unless it has taken longer before."""
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


@dataclass(frozen=True)
class Target:
    """One of those who are asked whether the site answers.

    whom:     as Questions knows them
    question: asks, within so many seconds; raises NoAnswer
    """

    whom: Hashable
    question: Callable[[float], Answer]

    @classmethod
    def at(cls, url: str) -> Target:
        """Whoever answers there."""
        return cls(url, lambda timeout: get(url, {}, timeout, largest=1))


@dataclass(frozen=True)
class Measured:
    """What is asked to know whether the site answers: one answer is enough.

    processes: of the containers that serve, where this server shows them
    port:      where they listen
    """

    targets: Sequence[Target] = ()
    processes: Sequence[int] = ()
    port: int = 0

    def listens(self) -> bool | None:
        """Whether somebody listens in the containers; None: this server does not show it."""
        if not self.processes:
            return None
        return any(sockets.someone_listens(process, self.port) for process in self.processes)


class Downtime:
    """Measures for how long visitors get no answer.

    As long as the site answers it is asked once every `interval` seconds, and ten times a second it is looked whether
    the application still listens, which costs it nothing. When that or the site's answer fails, the site is asked ten
    times a second, and once a second where the application itself answers with an error.
    measured: anew each time
    """

    def __init__(self, questions: Questions, interval: float, measured: Callable[[], Measured]) -> None:
        self._questions = questions
        self._interval = interval
        self._measured = measured
        self._probes: list[tuple[float, bool]] = []
        self._seen: dict[Hashable, float] = {}
        self._patience = SHORTEST_PATIENCE
        self._over = threading.Event()
        threading.Thread(target=self._measure, daemon=True).start()

    @property
    def _is_up(self) -> bool:
        return not self._probes or self._probes[-1][1]

    def _measure(self) -> None:
        listened, looked = None, time.monotonic()
        while not self._over.is_set():
            measured, now = self._measured(), time.monotonic()
            listens = measured.listens()
            if listened and listens is False and self._is_up:
                self._probes += [(looked, True), (now, False)]
            listened, looked = listens, now
            found = self._ask(measured.targets)
            # What was just asked when it was over would change the figure by little.
            if found and not self._over.is_set():
                self._probes.append(found)
            pause_until(now + TICK)

    def _ask(self, targets: Sequence[Target]) -> tuple[float, bool] | None:
        """When the site was asked, and whether it answered; None where nothing was said since the last time."""
        now, nothing_new = time.monotonic(), False
        for target in targets:
            patience = PATIENCE if self._is_up else self._patience
            try:
                interval = self._interval if self._is_up else AGAIN
                said = self._questions.ask(target.whom, interval, partial(target.question, patience))
            except NoAnswer:
                continue
            is_new = said.asked != self._seen.get(target.whom)
            self._seen[target.whom] = said.asked
            if said.answer.status < 500 or said.wait:  # noqa: PLR2004
                if is_new and not said.wait:
                    self._patience = max(SHORTEST_PATIENCE, min(2 * (time.monotonic() - now), PATIENCE))
                    return said.asked, True
                nothing_new = True
        return None if nothing_new else (now, False)

    def stop(self) -> float:
        """Seconds without an answer, to half a second or so. May be called again."""
        if not self._over.is_set():
            self._over.set()
            # It may have answered since, and its end is what is wanted.
            if not self._is_up and any_serves(self._measured().targets):
                self._probes.append((time.monotonic(), True))
            self._end = time.monotonic()
        return down(self._probes, self._end)


def down(probes: Sequence[tuple[float, bool]], end: float) -> float:
    """Seconds without an answer, in all.

    The site ceased to answer in the middle between an answered question and the next one that was not, and the other
    way round.
    probes: when it was asked, and whether answered
    """
    seconds, since = 0.0, None
    before = None
    for asked, answered in sorted(probes):
        between = asked if before is None else (before + asked) / 2
        if answered and since is not None:
            seconds, since = seconds + between - since, None
        elif not answered and since is None:
            since = between
        before = asked
    return seconds + (max(end - since, 0.0) if since is not None else 0.0)


def any_serves(targets: Iterable[Target]) -> bool:
    """Whether one of them gives an answer that is none of a broken server, and not the proxy's regret."""
    for target in targets:
        try:
            if target.question(PATIENCE).status < 500:  # noqa: PLR2004
                return True
        except NoAnswer:
            continue
    return False
