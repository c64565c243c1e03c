"""Whether a release serves: asked of its containers, for as long as they run."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from server import sockets
from server.answers import Answer, NoAnswer, get, problem_of
from server.commands import Docker
from server.containers import Container, Listing, containers_from, inspect, listing, reached_at
from server.errors import Failure, StepError
from server.log_end import LINES, end_of
from server.placement import read_project
from server.questions import AGAIN, Questions, wait_of
from server.request import Check, Health, Strategy
from server.run import Run

POLL = 0.05
"""Seconds between two questions whether it serves."""
PATIENCE = 3.0
"""Seconds without a good answer, after which a release that was healthy counts as dead."""
QUESTION = 5.0
"""Seconds that one answer may take."""
QUIET = 5.0
"""Seconds for which a page that may disturb other requests waits for a moment without any."""
CHECK = 30.0
"""Seconds that the answer of a page may take which is asked for once."""


def forwarded_headers(health: Health) -> dict[str, str]:
    """Request headers, with what the proxy of the public address sends.

    Force_ssl answers with a redirect without it.
    """
    if not health.url:
        return health.headers
    parts = urlsplit(health.url)
    given = {name.lower() for name in health.headers}
    of_proxy = {"Host": parts.netloc, "X-Forwarded-Proto": parts.scheme}
    return {**health.headers, **{name: value for name, value in of_proxy.items() if name.lower() not in given}}


@dataclass
class Gate:
    """The question that a release must answer, and what was wrong with its last answer.

    located: container id → its addresses; asking Docker takes longer than asking the application
    bad:     addresses whose last answer was not the wanted one
    """

    health: Health
    contains: Sequence[str]
    questions: Questions
    problem: str = ""
    located: dict[str, list[str]] = field(default_factory=dict)
    bad: set[str] = field(default_factory=set)

    @classmethod
    def of(cls, run: Run) -> Gate:
        """As configured."""
        return cls(run.request.health, run.request.health.contains, run.questions)

    def without_texts(self) -> Gate:
        """The same, but only the status counts."""
        return Gate(self.health, (), self.questions)

    def _is_answered_at(self, docker: Docker, container: str, address: str) -> bool:
        """Whether the answer there is the wanted one."""
        target = f"http://{address}:{self.health.port}{self.health.path}"
        timeout = max(min(QUESTION, docker.phase.left), 0.01)
        interval = AGAIN if address in self.bad else self.health.interval
        self.bad.add(address)
        try:
            said = self.questions.ask((container, address), interval, partial(self.ask, address, timeout))
        except NoAnswer:
            # A question that the deadline cut short says less than the answer before it.
            if not (docker.phase.is_over and self.problem):
                self.problem = f"no answer from {target}"
            return False
        problem = problem_of(said.answer, self.health.status, self.contains)
        if problem:
            self.problem = f"{target} {problem}"
            return False
        self.bad.remove(address)
        return True

    def is_answered_by(self, docker: Docker, ids: Iterable[str]) -> bool:
        """Whether each of the containers answers as wanted, on one of its addresses."""
        return all(self._is_answered_by(docker, container) for container in ids)

    def _is_answered_by(self, docker: Docker, container: str) -> bool:
        if docker.phase.is_over:
            self.problem = self.problem or "there was no time left to ask it"
            return False
        if not self.located.get(container):
            found = inspect(docker, container)
            self.located[container] = [address for it in found for address in reached_at(docker, it)]
        addresses = self.located[container]
        if not addresses:
            self.problem = "its container has no address"
        return any(self._is_answered_at(docker, container, address) for address in addresses)

    def ask(self, address: str, timeout: float) -> Answer:
        """Asks a container for its health page. Raises NoAnswer."""
        return ask_container(self.health, address, self.health.path, timeout)

    def check(self, docker: Docker, container: str, page: Check) -> str | None:
        """What is wrong with the answer of a page that is asked for once, or None."""
        addresses = self.located.get(container, ())
        address = next((it for it in addresses if it not in self.bad), "")
        health = replace(self.health, headers={**self.health.headers, **page.headers})
        target = f"http://{address}:{self.health.port}{page.path}"
        while True:
            timeout = max(min(CHECK, docker.phase.left), 0.01)
            try:
                answer = ask_container(health, address, page.path, timeout)
            except NoAnswer:
                return f"no answer from {target}"
            problem = problem_of(answer, page.status, page.contains)
            wait = wait_of(answer)
            if problem is None or not wait or docker.phase.left <= wait:
                return problem and f"{target} {problem}"
            time.sleep(wait)


def ask_container(health: Health, address: str, path: str, timeout: float) -> Answer:
    """Asks a container as the proxy would. Raises NoAnswer."""
    host = f"[{address}]" if ":" in address else address
    return get(f"http://{host}:{health.port}{path}", forwarded_headers(health), timeout)


@dataclass
class Watch:
    """Containers that must run on, as they were when they were looked at first.

    processes: theirs, where this server shows them; then Docker is asked only when one is gone
    tried:     those of them whose words `docker compose logs` does not give: they were made for one command
    """

    ids: Sequence[str]
    states: Sequence[str]
    processes: Sequence[int]
    tried: Sequence[str] = ()

    def process_of(self, container: str) -> int:
        """A container's, 0 where this server does not show it."""
        return dict(zip(self.ids, self.processes)).get(container, 0)

    def processes_are_there(self) -> bool:
        """Whether nothing can have stopped, as far as this server shows that, which costs nothing to ask."""
        return bool(self.processes) and all(Path(f"/proc/{process}").is_dir() for process in self.processes)


def require_containers(run: Run, docker: Docker, project: str) -> Listing:
    """The project's containers, of which each of the application's services must have one. Raises Failure."""
    there = listing(docker, project)
    for service in run.request.services:
        if not there.of(service):
            raise failure_with_logs(run, docker, f"The service '{service}' has no container.")
    return there


def image_id(run: Run, docker: Docker) -> str:
    """The id of the release's image on this server."""
    words = ("image", "inspect", "--format", "{{.Id}}", run.image.pinned)
    return docker.answer(*words, failing=f"{run.image} is not on this server.").strip()


def look_at(run: Run, docker: Docker, ids: Sequence[str], image: str, tried: Sequence[str] = ()) -> Watch:
    """The containers, all of which must run, and the image with this id. Raises Failure."""
    containers = inspect(docker, *ids)
    down = [container.state for container in containers if container.status != "running"]
    if down:
        raise failure_with_logs(run, docker, f"Not running: /{down[0]}", *tried)
    other = [container.name for container in containers if container.image != image]
    if other:
        raise failure_with_logs(run, docker, f"Another image than {run.image} runs in: {' '.join(other)}", *tried)
    return Watch(ids, [container.state for container in containers], _processes(containers), tried)


def _processes(containers: Sequence[Container]) -> list[int]:
    # An Engine elsewhere, in a virtual machine for one, means other processes by these numbers.
    shown = [container.process for container in containers if container.process and is_shown_here(container)]
    return shown if len(shown) == len(containers) else []


def is_shown_here(container: Container) -> bool:
    """Whether this server shows the container's process."""
    try:
        return container.id in Path(f"/proc/{container.process}/cgroup").read_text()
    except OSError:
        return False


def require_running(run: Run, docker: Docker, watch: Watch) -> None:
    """Raises Failure where a container stopped or was started again since it was looked at."""
    if watch.processes_are_there():
        return
    answer = docker.ask("inspect", *watch.ids)
    if not answer.succeeded and docker.phase.is_over:
        return  # Docker had no time left to say so: that the time is over is what there is to say
    states = [container.state for container in containers_from(answer.text)]
    if states != list(watch.states):
        changed = [state for state in states if state not in watch.states] or ["It is gone."]
        raise failure_with_logs(run, docker, f"A container stopped or was started again: /{changed[0]}", *watch.tried)


def await_health(run: Run, docker: Docker, gate: Gate, watch: Watch, web: Sequence[str]) -> None:
    """Waits until each of the web service's containers answers as wanted; not longer than those watched run."""
    with run.output.waiting(f"waiting for '{run.request.web}' to answer", lambda: gate.problem):
        _await_answer(run, docker, gate, watch, web)
    _check_pages(run, docker, gate, watch, web)


def _await_answer(run: Run, docker: Docker, gate: Gate, watch: Watch, web: Sequence[str]) -> None:
    ask_by = 0.0
    while True:
        next_question = time.monotonic() + POLL
        # Once a second in any case: a container may have a network that this server knows nothing of, as with gVisor.
        if time.monotonic() >= ask_by or _worth_asking(watch, run.request.health.port):
            if time.monotonic() >= ask_by:
                ask_by = time.monotonic() + 1
            if gate.is_answered_by(docker, web):
                return
        if docker.phase.is_over:
            message = f"'{run.request.web}' does not answer as it should: {gate.problem}."
            raise failure_with_logs(run, docker, message, *watch.tried)
        require_running(run, docker, watch)
        pause_until(next_question)


def _check_pages(
    run: Run, docker: Docker, gate: Gate, watch: Watch, web: Sequence[str], *, insists: bool = True
) -> None:
    """Those of health.checks. Raises Failure.

    They may cost other requests their connections, so each is asked for while there is none. Where there always is one,
    it is asked for all the same if this `insists`.
    """
    for page in run.request.health.checks:
        for container in web:
            if not _await_quiet(run, docker, watch.process_of(container)) and not insists:
                run.say(f"did not ask for {page.path} again: other requests are answered all the while")
                continue
            if problem := gate.check(docker, container, page):
                raise failure_with_logs(run, docker, f"'{run.request.web}' does not answer as it should: {problem}.")


def _await_quiet(run: Run, docker: Docker, process: int) -> bool:
    """Waits for a moment without a request to the web service, as far as this server shows that; whether it came."""
    until = min(time.monotonic() + QUIET, docker.phase.end)
    while sockets.someone_is_connected(process, run.request.health.port):
        if time.monotonic() >= until:
            return False
        time.sleep(POLL / 5)
    return True


def _worth_asking(watch: Watch, port: int) -> bool:
    """Whether somebody listens, as far as this server shows that: a fraction of the work of asking."""
    if not watch.processes:
        return True
    return any(not sockets.shows(process) or sockets.someone_listens(process, port) for process in watch.processes)


def settle(run: Run, docker: Docker, gate: Gate, watch: Watch, web: Sequence[str]) -> None:
    """Watches a release that is healthy for health.settle seconds: it may turn healthy and die."""
    seconds = run.request.health.settle
    if not seconds:
        return
    until = time.monotonic() + seconds
    docker = docker.during(docker.phase.lasting(seconds + 30))
    bad_since = None
    while time.monotonic() < until:
        time.sleep(0.2)
        require_running(run, docker, watch)
        asked = time.monotonic()
        if gate.is_answered_by(docker, web):
            bad_since = None
            continue
        bad_since = bad_since or asked
        # One slow answer is none of a release that died.
        if time.monotonic() - bad_since >= PATIENCE:
            raise failure_with_logs(run, docker, f"'{run.request.web}' was healthy and no longer is: {gate.problem}.")
    run.tell("watched it for {seconds} s", seconds=seconds)


def check_again(run: Run, docker: Docker, gate: Gate, watch: Watch, web: Sequence[str]) -> None:
    """The pages of health.checks at the end of health.settle, where nobody is disturbed by that. Raises Failure."""
    if run.request.health.settle:
        _check_pages(run, docker, gate, watch, web, insists=False)


def pause_until(moment: float) -> None:
    """Of the monotonic clock."""
    time.sleep(max(moment - time.monotonic(), 0))


# ---------------------------------------------------------------------------------------------- the application's words


def failure_with_logs(run: Run, docker: Docker, message: str, *more: str) -> Failure:
    """The error, after the last lines of each service, and of the containers `more`, have been put into the log."""
    late = docker.cleaning_up()
    services, files = run.request.services, run.request.health.log_files
    # What an error shows of the log has room for something of each.
    count = 58 // (len(services) + len(more) + len(files)) - 1
    for service in services:
        words = ("compose", "logs", "--no-color", "--no-log-prefix", "--tail", str(LINES), service)
        if not _copy_log(run, late, count, *words):
            run.output.complain(f"The log of '{service}' cannot be read.")
    for container in more:
        if not _copy_log(run, late, count, "logs", "--tail", str(LINES), container):
            run.output.complain("The log of the container tried cannot be read.")
    if files:
        containers = [*more, *_web_containers(run, late)]
        for path in files:
            _copy_log_file(run, late, path, containers, count)
    nothing_is_put_back = "Nothing is put back. To return to the previous release, set its tag and run `pulumi up`."
    return docker.failure(message, nothing_is_put_back if run.request.strategy is Strategy.IN_PLACE else "")


def _copy_log(run: Run, docker: Docker, count: int, *words: str) -> bool:
    """The end of a log that docker prints; whether it does."""
    answer = docker.everything(*words)
    run.output.append(end_of(answer.text, count).encode())
    return answer.succeeded


def _web_containers(run: Run, docker: Docker) -> list[str]:
    try:
        return listing(docker, read_project(run, docker).name).of(run.request.web)
    except StepError as error:  # what was wrong before is what there is to say
        run.output.complain(error.message)
        return []


def _copy_log_file(run: Run, docker: Docker, path: str, containers: Sequence[str], count: int) -> None:
    """The last `count` lines of a file in the web service's containers: applications under a supervisor write files."""
    import tarfile  # noqa: PLC0415 - for this alone

    for container in containers:
        run.output.note(["tail", path])
        # By a copy: the container may have stopped.
        with (run.scratch / "copied.tar").open("w+b") as file:
            status = docker.run("cp", "-L", f"{container}:{path}", "-", stdout=file)
            file.seek(0)
            try:
                archive = tarfile.open(fileobj=file)  # noqa: SIM115 - of a file that is closed
                content = archive.extractfile(archive.getmembers()[0])
            except (tarfile.TarError, IndexError):
                content = None
            if status != 0 or content is None:
                run.output.complain(f"The log file {path} cannot be read.")
            else:
                run.output.append(end_of(content.read().decode(errors="replace"), count).encode())
