"""The strategy `staged`: what takes long is done while the old release serves; then one transaction replaces it.

Any failure in there puts the old release back. `rolling` is the same but for how the containers are switched.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from server import assets, maintenance_page, migrations, proxies, putting_back, releases, tasks, transaction
from server.asking import Asking
from server.background import Background
from server.bringing_up import bring_up, require_one_shots, run_one_shots, start_missing, stop_application
from server.commands import Docker
from server.containers import Compose, listing
from server.database import Database, migrates, note_dumps
from server.errors import Failure, Refusal, StepError, Terminated, Told
from server.health import Gate, await_health, check_again, image_id, look_at, require_containers, settle
from server.others import tell_left_behind
from server.placement import own_compose, put_first_in_place, require_in_place
from server.preparation import PREPARE_AGAIN, Candidate, name_release, prepare, require_prepared
from server.project import Project
from server.proxies import Proxy
from server.public import UNSEEN, Downtime, look, look_before
from server.pull import fit_image
from server.request import Migrations, StepName
from server.restoring import end_restore
from server.run import LEFT, Run, read_line
from server.transaction import Rollout


@dataclass
class Switch:
    """How the new release's containers take the place of the old ones: they stop first.

    proxies: those of the web service, None as long as they are not known
    """

    proxies: list[Proxy] | None = None
    finding: Background[None] | None = None

    def before(self, run: Run, candidate: Candidate) -> None:
        """What is begun before anything changes: proxies are looked for."""
        self.finding = Background(lambda: self.find(run, candidate))

    def find(self, run: Run, candidate: Candidate) -> None:
        """The proxies, as long as there is something that they pass requests to."""
        running = listing(run.docker, candidate.project.name).of(run.request.web, states=("running",))
        if running:
            self.proxies = proxies.find(run, run.docker, running[0])

    def require(self) -> None:
        """Raises Failure where a proxy could not be told of the new containers."""
        if self.finding:
            self.finding.result()

    def known(self) -> Sequence[Proxy]:
        """The proxies that were found. Raises Failure as above."""
        self.require()
        return self.proxies or ()

    def tell(self, run: Run, container: str) -> None:
        """The proxies that do not find the web service's containers by themselves; `container` is one that answers."""
        docker = run.begin(StepName.UP)
        known = proxies.find(run, docker, container) if self.proxies is None else self.proxies
        self.proxies = proxies.tell(run, docker, known, container)

    def publish(self, rollout: Rollout) -> None:
        """Makes sure that the new release's assets are published, or begins to."""
        publish(rollout)

    def switch(self, rollout: Rollout) -> None:
        """Until the new release serves. Raises StepError."""
        run, docker = rollout.run, rollout.run.begin(StepName.UP)
        bring_up(run, docker, rollout.project)
        run.questions.forget()  # what containers said before they were stopped
        docker = run.begin(StepName.GATE)
        there = require_containers(run, docker, rollout.project.name)
        web, gate = there.of(run.request.web), Gate.of(run)
        watch = look_at(run, docker, there.of(*run.request.services), image_id(run, docker))
        rollout.note_targets(docker)
        await_health(run, docker, gate, watch, web)
        self.tell(run, web[0])
        maintenance_page.hide(run, rollout.project)
        health = run.request.health
        run.say(
            f"the services run {run.image.digest}, and '{run.request.web}' answers {health.status} on {health.path}"
        )
        settle(run, docker, gate, watch, web)
        check_again(run, docker, gate, watch, web)

    def switch_back(self, rollout: Rollout, docker: Docker, project: Project) -> None:
        """Until the old release serves again; the files are its own already. Raises StepError."""
        bring_up(rollout.run, docker, project)
        rollout.run.questions.forget()
        docker = rollout.run.begin(StepName.GATE)
        web = listing(docker, project.name).of(rollout.run.request.web, states=("running",))
        putting_back.await_old_release(rollout, docker, web)
        self.tell(rollout.run, web[0])

    def end(self) -> None:
        """Waits for whatever goes on in the background, in every outcome."""
        if self.finding:
            self.finding.wait()


def precompile(run: Run) -> None:
    """Compiles the assets into a directory beside."""
    docker = run.docker
    candidate = prepare(run, docker)
    name_release(run)
    require_prepared(run)
    fit_image(run, docker, candidate)
    if assets.are_kept(run, candidate):
        run.say(f"the assets of {run.image.release} are here already")
        return
    assets.begin_staging(run, docker)
    start_missing(run, docker, candidate.project, put_first_in_place(run, candidate), "Nothing was stopped.")
    assets.compile_assets(run, docker, candidate)
    run.say(f"compiled beside the running release: {' '.join(run.request.assets.precompile)}")
    assets.end_staging(run, docker, candidate)


def up(run: Run, switch: Switch) -> None:
    """Replaces the release: the whole of it, or nothing."""
    docker = run.docker
    candidate = prepare(run, docker)
    name_release(run)
    require_prepared(run)
    fit_image(run, docker, candidate)
    if not assets.are_kept(run, candidate):
        raise Refusal(
            f"The assets of {run.image.release} were made with other settings of '{run.request.web}', or are not here.",
            PREPARE_AGAIN.replace("Prepare it again", "Make them"),
        )
    switch.before(run, candidate)
    try:
        rollout = _look_at_old(run, candidate, put_first_in_place(run, candidate), switch)
        transaction.begin(run, docker, candidate, switch.require)
        downtime = Downtime(run.questions, run.request.health.interval, lambda: rollout.measured)
        try:
            _replace(rollout, switch)
        except (Exception, Terminated) as error:  # whatever it is, the old release is put back
            switch.end()
            _put_back(rollout, error, downtime, switch)
            raise Told from error
        _commit(rollout, downtime.stop())
    finally:
        switch.end()


def _look_at_old(run: Run, candidate: Candidate, compose: Compose, switch: Switch) -> Rollout:
    """What serves, and whether the release may follow it. Changes nothing.

    compose: how it is asked to start what is not there yet
    """
    docker, project = run.docker, candidate.project
    current = releases.linked(run.state, "current")
    public = look_before(run, docker, switch.known)
    old_health = transaction.old_health(run, run.begin(StepName.GATE), project)
    rollout = Rollout(run, candidate, public, current, old_health, database=None)
    rollout.note_targets(docker)
    putting_back.undo_interrupted_migration(run, docker, project)
    left = tasks.before_migrating(run)
    if migrates(run, project) and (left or not migrations.need_not_ask(run, current)):
        docker = run.begin(StepName.PENDING)
        start_missing(run, docker, project, compose, "Nothing was stopped.")
        named = migrations.pending(run, docker, Asking(run, candidate.compose, project))
        # Tasks change the database as migrations do: they take the same way.
        named = migrations.named(run, docker, project) if named is None and left else named
        if named is not None:
            rollout.database = Database.find(run, run.begin(StepName.DUMP), project, named)
    return rollout


def _replace(rollout: Rollout, switch: Switch) -> None:
    """From the first change to the last look at the new release."""
    run = rollout.run
    if rollout.database:
        _migrate(rollout, rollout.database)
    else:
        tasks.run_upgrade(run, rollout.candidate.compose, tasks.When.BEFORE)
    tasks.run_all(run, rollout.candidate.compose, run.request.before_up)
    switch.publish(rollout)
    run.begin(StepName.UP)
    transaction.place(rollout)
    run_one_shots(run, rollout.project)
    transaction.note_started(run)
    switch.switch(rollout)
    require_one_shots(run.begin(StepName.VERIFY), rollout.project)
    rollout.proxies = switch.known()
    rollout.seen = look(run, run.begin(StepName.VERIFY), rollout.public, rollout.proxies)


def _migrate(rollout: Rollout, database: Database) -> None:
    run, compose = rollout.run, rollout.candidate.compose
    if run.request.database.migrations is Migrations.STOPPED:
        maintenance_page.show(run, rollout.project)
        stop_application(run, run.begin(StepName.STOP), rollout.project)
        run.say(f"stopped {' '.join(run.request.services)}")
    dumps = database.dump(run.begin(StepName.DUMP), compose, f"before-{run.image.tag}")
    # From here on the database may be another one: the dumps are what it was.
    note_dumps(run, dumps)
    tasks.run_upgrade(run, compose, tasks.When.BEFORE)
    migrations.migrate(run, run.begin(StepName.MIGRATE), compose)


def publish(rollout: Rollout) -> None:
    """The new release's assets go beside those of the old one, before anything of it starts."""
    run = rollout.run
    if not run.request.assets.paths:
        return
    docker = run.begin(StepName.PUBLISH)
    kept = assets.kept_assets(run, rollout.candidate)
    with (run.transaction / "published").open("a") as file:
        file.write(f"{kept}\n")
    if not assets.publish(run, docker, kept.name, kept):
        raise docker.failure("The assets cannot be published.")
    run.say("published the assets beside those of the old release")


def _put_back(rollout: Rollout, error: BaseException, downtime: Downtime, switch: Switch) -> None:
    output = rollout.run.output
    output.forget_time()
    if isinstance(error, StepError):
        output.report(error)
    elif isinstance(error, Terminated):
        output.complain(f"{rollout.run.step}: somebody ends this.")
    else:
        output.report(Failure(f"{type(error).__name__}: {error}"))

    def switch_back(docker: Docker, project: Project) -> None:
        try:
            switch.switch_back(rollout, docker, project)
        finally:
            switch.end()
        rollout.proxies = switch.proxies or ()

    putting_back.put_back(rollout, error, downtime, switch_back)


def _commit(rollout: Rollout, downtime: float) -> None:
    run = rollout.run
    releases.keep(run, rollout.candidate)
    is_first = rollout.old_health is transaction.OldHealth.NONE and not rollout.previous
    away = None if is_first else downtime
    releases.record(run, "released", phase=str(StepName.UP), previous=rollout.previous, downtime=away)
    transaction.end(run)
    end_restore(run, rollout.project)
    name = f"{run.image.release} {'serves' if rollout.seen else UNSEEN}"
    if is_first:
        run.say(f"{name}; nothing served before")
    else:
        _tell_downtime(run, name, downtime)
    tell_left_behind(run, rollout.project)


def _tell_downtime(run: Run, name: str, downtime: float) -> None:
    budget = run.request.downtime_budget
    over = f", more than app.downtimeBudget allows ({budget} s)" if budget is not None and downtime > budget else ""
    run.say(f"{name}; the site did not answer for {downtime:.1f} s{over}")
    usual = releases.usual_downtime(run)
    if usual:
        run.say(f"usual here: {usual[0]:.1f} s (median of {usual[1]})")


def after_up(run: Run) -> None:
    """Runs what the upgrade asks for, then app.afterUp."""
    project = require_in_place(run, run.docker)
    releases.require_live(run)
    compose = own_compose(run, project)
    tasks.run_upgrade(run, compose, tasks.When.AFTER)
    tasks.run_all(run, compose, run.request.after_up)


def purge(run: Run) -> None:
    """Removes assets, releases, images and dumps that are not kept any more."""
    releases.require_live(run)
    docker = run.begin(StepName.PURGE)
    if run.request.assets.paths:
        names = read_line(releases.directory_of(run) / "assets")
        if not assets.purge(run, docker, names, run.image.release):
            message = "The assets of former releases cannot be removed."
            raise docker.failure(message, "The release serves; run `pulumi up` again.")
        assets.remove_stale_assets(run, docker, names)
    releases.prune(run, docker)
    assets.remove_staging(run, docker)
    for left in run.state.glob(f"{LEFT}*"):
        if not releases.remove_directory(run, docker, left):
            raise docker.failure(f"{left} cannot be removed.", "The release serves. Remove it as root.")
    kept = sorted(path.name for path in (run.state / "releases").iterdir() if path.is_dir())
    run.say(f"kept: {' '.join(kept)}")
