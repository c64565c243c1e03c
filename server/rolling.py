"""The strategy `rolling`: the transaction of `staged`, in which the web service never stops.

Its new container starts beside the old one, is looked at, found by the proxies and watched; only then the old one ends
what it does, and goes.

  releases/<r>/containers-<hash>   containers that were made for this release, with settings of that hash
  transaction/containers           those that ran before
  boot                             how long the application took to start, the last time, in hundredths of a second
"""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from server import maintenance_page, proxies, putting_back, sockets, staged
from server.answers import NoAnswer
from server.background import Background
from server.bringing_up import bring_up_whole
from server.commands import Docker
from server.containers import OneOffs, inspect, inspected, listing
from server.health import (
    QUESTION,
    Gate,
    ask_container,
    await_health,
    failure_with_logs,
    image_id,
    look_at,
    pause_until,
    require_containers,
    settle,
)  # fmt: skip
from server.preparation import Candidate
from server.project import Project
from server.proxies import Proxy
from server.public import any_serves
from server.refusals import Refuser, forget_refused, iptables_image, note_refused, refused
from server.releases import directory_of, has_served
from server.request import StepName
from server.run import Run, read_line, replace_file
from server.transaction import Rollout, targets_of
from server.workers import Workers, listed, new_containers, note_made, note_new

LONG_BOOT = 0.4
"""Seconds from start to first answer, from which on an application does not listen before its address is refused."""
MOST_WAITING = 30.0
"""Seconds for which connections that nobody has accepted are waited for."""


@dataclass
class WebContainers:
    """Of the web service.

    fresh:   of the release that comes
    stale:   of the one that goes
    removed: some were removed that served nobody
    """

    fresh: list[str]
    stale: list[str]
    removed: bool


@dataclass
class Rolling(staged.Switch):
    """How the new release's containers take the place of the old ones: beside them.

    image:    that of this server's iptables, None where it has none or was not looked for
    refusers: proxy → what makes it refuse connections
    """

    image: str | None = None
    refusers: dict[str, Refuser] = field(default_factory=dict)
    publishing: Background[None] | None = None
    replacing: Background[None] | None = None
    telling: Background[None] | None = None

    def find(self, run: Run, candidate: Candidate) -> None:
        """And what makes them refuse connections."""
        super().find(run, candidate)
        if self.proxies is not None:
            self.image = iptables_image(run.docker)

    def publish(self, rollout: Rollout) -> None:
        """Begins to publish; that is waited for before anything of the new release starts."""
        self.publishing = Background(lambda: staged.publish(rollout))

    def switch(self, rollout: Rollout) -> None:
        """The new containers in, and the old ones out."""
        run, docker = rollout.run, rollout.run.begin(StepName.UP)
        made = directory_of(run) / f"containers-{rollout.candidate.prepared.settings}"
        web = _sort(run, docker, rollout.project, listed(made))
        if not self._accept_all(run, docker):
            message = "The proxy refuses connections since a run that was killed: this server's iptables fails."
            raise docker.failure(message, "Nothing was stopped. Restart the proxy.")
        started = None if web.fresh else self._start_beside(rollout, docker, web, made)
        gate, image = Gate.of(run), image_id(run, docker)
        self._await_health(rollout, docker, web, gate, image)
        if started is not None:
            replace_file(run.state / "boot", f"{int((time.monotonic() - started) * 100)}\n")
        docker = run.begin(StepName.UP)
        workers = Workers(run, docker, rollout.project, made)
        self.replacing = Background(workers.replace)
        _warm_up(run, gate, web)
        self._let_in(run, docker, web)
        _remove_unfit(run, docker, web)
        self._show(run, docker, web, started or 0, [proxy for proxy in self.proxies or () if not _only_asks(proxy)])
        if run.request.health.settle:
            self.replacing.result()
            docker = run.begin(StepName.GATE)
            settle(run, docker, gate, look_at(run, docker, [*web.fresh, *workers.sort().staying], image), web.fresh)
            docker = run.begin(StepName.UP)
        self._drain(run, docker, web)
        # What nobody watches, the web service need not wait for: workers may take long to end what they do.
        self.replacing.result()
        bring_up_whole(run, docker, rollout.project)
        self._look_at_all(rollout, docker, made, image)
        run.say(f"the services run {run.image.digest}")

    def switch_back(self, rollout: Rollout, docker: Docker, project: Project) -> None:
        """The same for the old containers, of which some may never have stopped."""
        run, before = rollout.run, rollout.run.transaction / "containers"
        web = _sort(run, docker, project, listed(before))
        if not self._accept_all(run, docker):
            run.output.complain("A proxy refuses connections: this server's iptables fails.")
        there = web.stale or web.fresh
        if there and (web.stale or web.removed):
            self.proxies = proxies.find(run, docker, there[0])
        # They may believe for a while in what has been removed, and wait for it.
        if web.removed:
            self._tell(run, docker)
        if web.fresh:
            putting_back.await_old_release(rollout, docker, web.fresh)
            _remove_unfit(run, docker, web)
        else:
            started = self._start(run, docker, project, web, before)
            putting_back.await_old_release(rollout, run.begin(StepName.GATE), web.fresh)
            self._show(run, docker, web, started, self.proxies or [])
        docker = run.begin(StepName.UP)
        self._drain(run, docker, web)
        Workers(run, docker, project, before).remove_others()
        bring_up_whole(run, docker, project)

    def end(self) -> None:
        """Nothing goes on behind a restore's back; rules stay as they are."""
        for background in (self.finding, self.publishing, self.replacing, self.telling):
            if background:
                background.wait()
        self._close_refusers()

    # ------------------------------------------------------------------------------------------------------ new ones in

    def _start_beside(self, rollout: Rollout, docker: Docker, web: WebContainers, made: Path) -> float:
        """Starts the new container when its assets are there, and keeps the proxies from it. Returns when that was."""
        run = rollout.run
        for proxy in self.proxies or () if web.stale else ():
            self._refuser(run, docker, proxy.id)  # it takes a while to start
        if rollout.project.starts_at_once(run.request.services):
            _make(run, docker, rollout.project, web)
        self._await_published()
        tried = not web.stale or has_served(run, rollout.candidate) or not self._are_asked()
        if not tried and not (_starts_slowly(run) and self._can_refuse(docker)):
            _try_release(rollout)
            tried = True
        started = self._start(run, docker, rollout.project, web, made)
        if web.stale and not self._shut_out(run, docker, web) and not tried:
            message = f"The proxies cannot be kept from the new container of '{run.request.web}' until it is healthy."
            raise docker.failure(message)
        return started

    def _start(self, run: Run, docker: Docker, project: Project, web: WebContainers, made: Path) -> float:
        """Starts one more container of the web service than there are. Returns when that was."""
        if project.starts_at_once(run.request.services):
            if not new_containers(docker, project, web.stale, [run.request.web]):
                _make(run, docker, project, web)
        else:
            words = ("up", "-d", *project.without_asking, "--no-recreate", _one_more(run, web), run.request.web)
            docker.must("compose", *words, failing=f"'{run.request.web}' cannot be started.")
        web.fresh = note_new(docker, project, made, web.stale, [run.request.web])
        if docker.run("start", *web.fresh) != 0:
            raise failure_with_logs(run, docker, f"The new container of '{run.request.web}' cannot be started.")
        return time.monotonic()

    def _await_health(self, rollout: Rollout, docker: Docker, web: WebContainers, gate: Gate, image: str) -> None:
        run = rollout.run
        self._await_published()
        if self.proxies is None:
            self.proxies = proxies.find(run, docker, web.fresh[0])
        # Before it listens: these would ask soon anyway, and turn to the old one meanwhile.
        self._show(run, docker, None, 0, [proxy for proxy in self.proxies if _only_asks(proxy)])
        docker = run.begin(StepName.GATE)
        await_health(run, docker, gate, look_at(run, docker, web.fresh, image), web.fresh)
        maintenance_page.hide(run, rollout.project)
        rollout.note_targets(docker)
        run.say(f"'{run.request.web}' answers {run.request.health.status} on {run.request.health.path}")

    def _await_published(self) -> None:
        """Before anything of the new release starts, or goes on."""
        if self.publishing:
            self.publishing.result()

    def _are_asked(self) -> bool:
        """Whether there may be a proxy that finds new containers by itself."""
        return not self.proxies or any(proxy.lookups.asks for proxy in self.proxies)

    def _show(
        self, run: Run, docker: Docker, web: WebContainers | None, started: float, which: Sequence[Proxy]
    ) -> None:
        """Makes sure that these proxies know the new container. web: with it, those that are not known have time to."""
        for proxy in which:
            # One that keeps a list of servers would hold it against the new one that it was refused before.
            if not proxies.reload(run, docker, proxy):
                raise docker.failure(f"{proxy.name} cannot be reloaded.")
        if web and web.stale and not self.proxies:
            pause_until(started + proxies.UNKNOWN_PROXY)

    def _look_at_all(self, rollout: Rollout, docker: Docker, made: Path, image: str) -> None:
        """At the end: each service runs the release."""
        run = rollout.run
        containers = require_containers(run, docker, rollout.project.name).of(*run.request.services)
        look_at(run, docker, containers, image)
        note_made(made, containers)
        rollout.note_targets(docker)
        # What visitors get is looked at when the proxies know that the old one is gone.
        if self.telling:
            self.telling.result()

    # ----------------------------------------------------------------------------------------------------- old ones out

    def _drain(self, run: Run, docker: Docker, web: WebContainers) -> None:
        """Ends the old containers: requests in flight have the service's stop_grace_period."""
        if not web.stale:
            return
        old = inspect(docker, *web.stale)
        addresses = [address for container in old for address in container.addresses]
        for proxy in self.proxies or ():
            if not self._refuse(run, docker, proxy.id, addresses):
                run.say(
                    f"notice: this server's iptables cannot keep {proxy.name} from the old container of "
                    f"'{run.request.web}': the requests of its last moment may fail"
                )
            # What it keeps open, to use it again, is not a new connection.
            if proxy.lookups.keeps and not proxies.reload(run, docker, proxy):
                raise docker.failure(f"{proxy.name} cannot be reloaded.")
        for container in old:
            _await_accepted(run, docker, container.process)
        docker.must("stop", *web.stale, failing=f"The old container of '{run.request.web}' cannot be stopped.")
        self.telling = Background(lambda: self._tell(run, docker))
        docker.must("rm", *web.stale, failing=f"The old container of '{run.request.web}' cannot be removed.")
        web.stale = []
        run.say(f"the old container of '{run.request.web}' is gone")

    def _tell(self, run: Run, docker: Docker) -> None:
        """The proxies, that containers are gone, whatever becomes of it: there is no way back."""
        for proxy in self.proxies or ():
            if not proxies.reload(run, docker, proxy):
                run.say(f"notice: {proxy.name} was not reloaded; requests may wait for an address that is gone")
        if not self._accept_all(run, docker):
            run.say("notice: this server's iptables fails; the next rollout tries again")
        self._close_refusers()

    # -------------------------------------------------------------------------------------------- connections, refused

    def _can_refuse(self, docker: Docker) -> bool:
        """Whether each proxy can be made to."""
        refusers = [self.refusers.get(proxy.id) for proxy in self.proxies or ()]
        return bool(refusers) and all(refuser is not None and refuser.is_able(docker) for refuser in refusers)

    def _refuser(self, run: Run, docker: Docker, proxy: str) -> Refuser | None:
        """What makes a proxy refuse connections, started if need be; None where this server has no iptables."""
        self.image = self.image or iptables_image(docker)
        if proxy not in self.refusers and self.image:
            self.refusers[proxy] = Refuser(run, docker, self.image, proxy)
        return self.refusers.get(proxy)

    def _close_refusers(self) -> None:
        """The rules stay as they are."""
        for refuser in self.refusers.values():
            refuser.close()
        self.refusers.clear()

    def _refuse(self, run: Run, docker: Docker, proxy: str, addresses: Sequence[str]) -> bool:
        refuser = self._refuser(run, docker, proxy)
        return refuser is not None and refuser.is_able(docker) and refuser.refuse(docker, addresses)

    def _accept(self, run: Run, docker: Docker, proxy: str) -> bool:
        refuser = self._refuser(run, docker, proxy)
        return refuser is not None and refuser.accept(docker)

    def _shut_out(self, run: Run, docker: Docker, web: WebContainers) -> bool:
        """No proxy connects to the new container until it is let in."""
        addresses = [address for container in inspect(docker, *web.fresh) for address in container.addresses]
        note_refused(run, web.fresh)
        refusing = [self._refuse(run, docker, proxy.id, addresses) for proxy in self.proxies or ()]
        return all(refusing)

    def _let_in(self, run: Run, docker: Docker, web: WebContainers) -> None:
        # First, because the next run would remove it from under its visitors.
        if refused(run) & set(web.fresh):
            forget_refused(run, web.fresh)
        for proxy in self.proxies or ():
            if proxy.id in refused(run) and not self._accept(run, docker, proxy.id):
                raise docker.failure(f"{proxy.name} refuses connections to the new container of '{run.request.web}'.")

    def _accept_all(self, run: Run, docker: Docker) -> bool:
        """Where a run has left them refused; a proxy that is gone has taken its rules along. Whether that succeeded."""
        left = refused(run)
        if not left:
            return True
        running = docker.answer("ps", "-q", "--no-trunc", failing="docker ps failed.").split()
        for container in running:
            if container not in left or self._accept(run, docker, container):
                continue
            # It may have ended meanwhile.
            if docker.ask("ps", "-q", "--filter", f"id={container}").text.strip():
                return False
        forget_refused(run, left)
        return True


def _sort(run: Run, docker: Docker, project: Project, belonging: Collection[str]) -> WebContainers:
    """The web service's containers that run; those that serve nobody, or were to be looked at first, are removed."""
    there, shut_out = listing(docker, project.name), refused(run)
    running = there.of(run.request.web, states=("running",))
    web = WebContainers([], [], removed=False)
    for container in there.of(run.request.web):
        if container not in running or container in shut_out:
            docker.must("rm", "-f", container, failing=f"The container {container} cannot be removed.")
            web.removed = True
        elif container in belonging:
            web.fresh.append(container)
        else:
            web.stale.append(container)
    return web


def _only_asks(proxy: Proxy) -> bool:
    return proxy.lookups.asks and not proxy.lookups.keeps


def _one_more(run: Run, web: WebContainers) -> str:
    """As an option of Compose."""
    return f"--scale={run.request.web}={len(web.stale) + 1}"


def _make(run: Run, docker: Docker, project: Project, web: WebContainers) -> None:
    """One more container of the web service; it does not start yet."""
    words = ("compose", "create", *project.without_asking, "--no-recreate", _one_more(run, web), run.request.web)
    docker.must(*words, failing=f"A new container of '{run.request.web}' cannot be made.")


def _starts_slowly(run: Run) -> bool:
    """Whether it took the application long enough, the last time, for its address to be refused before it listens."""
    boot = read_line(run.state / "boot")
    return boot.isdigit() and int(boot) >= LONG_BOOT * 100


def _try_release(rollout: Rollout) -> None:
    """In a container of the new release that nobody else finds: an answer with an error costs no visitor."""
    run, oneoffs = rollout.run, OneOffs.of(rollout.run.request)
    docker, trial, compose = run.begin(StepName.GATE), oneoffs.name("trial"), rollout.candidate.compose
    words = ("run", "-d", "-T", "--no-deps", "--name", trial, *oneoffs.labels, run.request.web)
    if docker.run(*compose.words(*words), stdin=compose.stdin) != 0:
        raise docker.failure(f"No container of '{run.request.web}' can be started.")
    gate = Gate.of(run)
    await_health(run, docker, gate, look_at(run, docker, [trial], image_id(run, docker), [trial]), [trial])
    oneoffs.remove(docker, "trial")
    run.say(f"tried '{run.request.web}': it answers {run.request.health.status} on {run.request.health.path}")


def _warm_up(run: Run, gate: Gate, web: WebContainers) -> None:
    """An application loads a part of itself at its first request, and keeps others waiting: not visitors, then."""
    if not run.request.health.url:
        return
    path = urlsplit(run.request.health.url).path.rstrip("/")
    for container in web.fresh:
        for address in gate.located.get(container, ()):
            with suppress(NoAnswer):  # what it answers is looked at later
                ask_container(gate.health, address, f"{path}/", QUESTION)


def _remove_unfit(run: Run, docker: Docker, web: WebContainers) -> None:
    """Of the old ones, those that a run has left which did not come far enough to see them serve.

    Stopped while it starts, an application may hold the requests that it gets, and answer none.
    """
    ran = listed(run.transaction / "containers")
    for container in list(web.stale):
        if container not in ran and not any_serves(targets_of(run, docker, inspected(docker, [container]))):
            docker.must("rm", "-f", container, failing=f"The container {container} cannot be removed.")
            run.say(f"removed a container of '{run.request.web}' that did not answer")
            web.stale.remove(container)


def _await_accepted(run: Run, docker: Docker, process: int) -> None:
    """Until the application has accepted the connections that wait in its queue.

    Behind slow requests they may wait for a while, and are reset when it stops.
    """
    limit = time.monotonic() + MOST_WAITING
    while process and sockets.someone_waits(process, run.request.health.port):
        if time.monotonic() >= limit or docker.phase.is_over:
            run.say(f"notice: connections still wait for the old container of '{run.request.web}', and are lost")
            return
        time.sleep(0.05)
