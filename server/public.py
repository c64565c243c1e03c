"""What visitors get: the public address asked from the server, and for how long it did not answer."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product

from server import page, sockets
from server.answers import Answer, NoAnswer, get, problem_of
from server.commands import Docker
from server.health import failure_with_logs, forwarded_headers, pause_until
from server.proxies import Proxy
from server.questions import AGAIN, OF_PROXY, Questions, wait_of
from server.run import Run

QUESTION = 10.0
"""Seconds that an answer of the public address may take."""
LOOK = 60.0
"""Seconds for all that is looked at before anything changes."""
REDIRECTIONS = 3
MOST_ASSETS = 200
"""Of a page: more are not asked for."""
TICK = 0.1
"""Seconds between two looks whether the site answers, or whether its application still listens."""
PATIENCE, SHORTEST_PATIENCE = 2.0, 0.6
"""Seconds that an answer may take: as long as the site answers, and from then on, unless it has taken longer before."""
UNSEEN = "runs and answers on its own address, but was not seen through a proxy"
"""What is said of a release whose visitors may get something else."""
NO_ANSWER = 0
"""The status of a page that did not answer."""
ERRORS = 500
"""From this status on a server says that something is wrong with itself."""
MADE = (".css", ".js", ".mjs")
"""What a release itself makes, of the files that a page names."""


@dataclass(frozen=True)
class Public:
    """What visitors got before anything changed.

    url:      the public address, without a slash at the end; None: there is none, or this server cannot reach it
    status:   of the home page
    health:   the status of the health page
    was_well: whether that was answered as wanted, at the public address or, where there is none, through a proxy
    missing:  files that the home page named and that were not there
    """

    url: str | None
    status: int = NO_ANSWER
    health: int = NO_ANSWER
    was_well: bool = False
    missing: frozenset[str] = frozenset()


def look_before(run: Run, docker: Docker, proxies: Callable[[], Sequence[Proxy]]) -> Public:
    """What visitors get before anything changes. proxies: those that are known, asked where there is no address."""
    health = run.request.health
    docker = docker.during(docker.phase.lasting(LOOK))
    if health.url:
        url = health.url.rstrip("/")
        answer = _visit(docker, f"{url}{health.path}", health.headers)
        if answer:
            is_well = problem_of(answer, health.status, health.contains) is None
            home = _visit(docker, f"{url}/")
            missing = _look_at_assets(docker, home)[0] if home else {}
            return Public(url, home.status if home else NO_ANSWER, answer.status, is_well, frozenset(missing))
        run.say(f"notice: {health.url} cannot be reached from this server, so the release is not looked at through it")
    return Public(None, was_well=_is_well_through(run, docker, proxies()))


def unknown_before(run: Run, docker: Docker) -> Public:
    """The public address, where nobody has looked before anything changed."""
    url = run.request.health.url
    if url and _visit(docker, f"{url.rstrip('/')}{run.request.health.path}", run.request.health.headers):
        return Public(url.rstrip("/"))
    return Public(None)


def _visit(docker: Docker, url: str, headers: Mapping[str, str] | None = None) -> Answer | None:
    """What is answered there, after a while where it is asked to be left alone for one."""
    while True:
        try:
            answer = get(url, headers or {}, max(min(QUESTION, docker.phase.left), 0.01), redirections=REDIRECTIONS)
        except NoAnswer:
            return None
        wait = wait_of(answer)
        if not wait or docker.phase.left <= wait:
            return answer
        time.sleep(wait)


def _is_well_through(run: Run, docker: Docker, proxies: Iterable[Proxy]) -> bool:
    """Whether the health page is answered as wanted by one of the proxies, asked at its container's address."""
    health = run.request.health
    for proxy in proxies:
        for address, door in product(proxy.addresses, proxy.doors):
            headers = forwarded_headers(health)
            if door.host and not any(name.lower() == "host" for name in headers):
                headers = {**headers, "Host": door.host}
            answer = _visit(docker, f"http://{address}:{door.port}{health.path}", headers)
            if answer and problem_of(answer, health.status, health.contains) is None:
                return True
    return False


def look(run: Run, docker: Docker, public: Public, proxies: Sequence[Proxy], *, at_page: bool = True) -> bool:
    """At the release as visitors get it. Returns whether it was seen: where they are denied a page, it is not.

    at_page: look at the home page and its files as well
    Raises Failure where they get less than before, or an answer of a proxy that does not find the application.
    """
    if public.url is None:
        return _look_through(run, docker, public, proxies)
    is_well = _look_at_health(run, docker, public, public.url)
    if at_page:
        return _look_at_home_page(run, docker, public) or is_well
    if is_well or public.status // 100 != 2:  # noqa: PLR2004 - 2xx
        return is_well
    home = _visit(docker, f"{public.url}/")
    return home is not None and home.status // 100 == 2  # noqa: PLR2004


def _look_through(run: Run, docker: Docker, public: Public, proxies: Sequence[Proxy]) -> bool:
    """At the release through a proxy, where there is no public address, or there was none."""
    health = run.request.health
    while True:
        if _is_well_through(run, docker, proxies):
            run.say(f"'{run.request.web}' answers {health.status} on {health.path} through its proxy")
            return True
        answer = _visit(docker, f"{health.url.rstrip('/')}{health.path}", health.headers) if health.url else None
        if answer and problem_of(answer, health.status, health.contains) is None:
            return True
        if not public.was_well:
            return False
        if docker.phase.is_over:
            names = " ".join(proxy.name for proxy in proxies)
            message = f"'{run.request.web}' answers on its own address, but no more through its proxy: {names}."
            raise failure_with_logs(run, docker, message)
        time.sleep(AGAIN)


def _look_at_health(run: Run, docker: Docker, public: Public, url: str) -> bool:
    """Until it is as wanted, or as it was: a proxy may need a moment to see the new container. Whether as wanted."""
    health = run.request.health
    target, problem = f"{url}{health.path}", None
    while True:
        answer = _visit(docker, target, health.headers)
        if answer:
            problem = problem_of(answer, health.status, health.contains)
        elif not (problem and docker.phase.is_over):  # one that the deadline cut short says less than the one before
            problem = "does not answer"
        if problem is None:
            return True
        status = answer.status if answer else NO_ANSWER
        # The application has answered as wanted: what else is answered, and not by its own fault, is the proxy's.
        is_denied = _is_denied(status, public.health)
        if (is_denied and not public.was_well) or (answer and wait_of(answer)):
            as_before = ", as before" if status == public.health else ""
            run.say(f"notice: {target} {problem}{as_before}")
            return False
        if docker.phase.is_over:
            message = f"Through the public address the release does not answer: {target} {problem}."
            raise failure_with_logs(run, docker, message)
        time.sleep(0.2 if answer is None or status in OF_PROXY else AGAIN)


def _is_denied(status: int, before: int) -> bool:
    """Whether what visitors get instead of a page is none of an application's or a proxy's failure."""
    return 0 < status < ERRORS or (status == before != NO_ANSWER and status not in OF_PROXY)


def _look_at_home_page(run: Run, docker: Docker, public: Public) -> bool:
    """And at every file that it names. Whether it was seen."""
    target = f"{public.url}/"
    answer = _visit(docker, target)
    status = answer.status if answer else NO_ANSWER
    if answer is None or status // 100 != 2:  # noqa: PLR2004 - 2xx
        is_known = _is_denied(status, public.status) and public.status // 100 != 2  # noqa: PLR2004
        if answer is None or not (is_known or wait_of(answer)):
            raise failure_with_logs(run, docker, f"{target} answers {status or 'nothing'}.")
        # As before: a site may ask for a password there, or have no page. Or it asks to be left alone.
        run.say(f"notice: {target} answers {status}, so no assets were looked at")
        return False
    missing, asked = _look_at_assets(docker, answer)
    is_first = public.status // 100 != 2  # noqa: PLR2004
    for path, found in missing.items():
        # Of a first release only what it has made itself: pictures may have been missing all the time.
        if path in public.missing or (is_first and not path.partition("?")[0].endswith(MADE)):
            continue
        raise failure_with_logs(run, docker, f"The page {target} names {path}, which answers {found}.")
    if missing:
        names = ", ".join(f"{path} ({found})" for path, found in list(missing.items())[:3])
        as_before = "" if is_first else "as before, "
        run.say(f"notice: {as_before}{len(missing)} files that {target} names do not answer: {names}")
    run.say(f"{target} and its {asked - len(missing)} assets answer")
    return True


def _look_at_assets(docker: Docker, answer: Answer) -> tuple[dict[str, int | str], int]:
    """Those of a page's files that do not answer → what they answer; and how many were asked for."""
    origin, asked = "/".join(answer.url.split("/")[:3]), 0
    missing: dict[str, int | str] = {}
    for path in page.asset_paths(answer.text, answer.url)[:MOST_ASSETS] if answer.is_html else ():
        asset = _visit(docker, f"{origin}{path}")
        if asset and wait_of(asset):
            break  # whether the others are there is not known: whoever serves them wants to be left alone
        asked += 1
        if asset is None or asset.status != 200:  # noqa: PLR2004
            missing[path] = asset.status if asset else "nothing"
        if docker.phase.is_over:
            break
    return missing, asked


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
                self._questions.forget(*(target.whom for target in measured.targets))
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
            if said.answer.status < ERRORS or said.wait:
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
            answer = target.question(PATIENCE)
            if answer.status < ERRORS or wait_of(answer):
                return True
        except NoAnswer:
            continue
    return False
