"""The switch to a release as one transaction: what was there is noted first, and any failure puts it back.

transaction/  exists from before the first change until the new release is live or the old one is back
  compose.yml, placed.yml   the Compose file as it was, and as this program left it
  env, env-placed           .env as it was, if there was one; and that this program has replaced it
  schema                    the last migration that had been run
  dump                      the database was migrated; these files, of one database each, are what it was
  dump-restored, dump-failed   they were restored; that was tried, and the old release has started without
  started                   containers of the new release may have been started, besides one-shots
  published                 the assets that may have been published, a directory a line
  one-shots                 their containers may be those of the new release
  containers                those that there were
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from functools import partial
from pathlib import Path

from server import environment, maintenance_page, releases, sockets
from server.assets import assets_of, image_here, publish, purge
from server.bringing_up import make_one_shots, stop_application
from server.commands import Docker
from server.containers import Container, OneOffs, id_of_image, inspected, listing, reached_at
from server.database import Database, noted_dumps, remove_unfinished_dumps
from server.errors import StepError
from server.health import Gate, failure_with_logs, is_shown_here
from server.placement import put_environment_in_place, put_in_place, read_project, replace_compose_file
from server.preparation import Candidate, find_files
from server.project import Project
from server.proxies import Proxy
from server.public import UNSEEN, Downtime, Measured, Public, Target, look
from server.request import Migrations, StepName
from server.restoring import restore
from server.run import Run, read_line, replace_file

RESERVE = 2 << 20
"""Bytes that a transaction holds, so that it can be put back on a disk that it has found full."""


class OldHealth(Enum):
    """What the old release must be again, should it be put back."""

    NONE = "it did not serve"
    STATUS = "it answered with the wanted status"
    FULL = "it answered as the new one should"


@dataclass
class Rollout:
    """A release on its way.

    previous: the release that was live when it began, "" for none
    database: what is dumped before migrations are run, or None: there are none to run
    measured: what is asked to measure the downtime
    proxies:  those of the web service, as far as they are known
    seen:     whether it was seen as visitors get it
    """

    run: Run
    candidate: Candidate
    public: Public
    previous: str
    old_health: OldHealth
    database: Database | None
    measured: Measured = field(default_factory=Measured)
    proxies: Sequence[Proxy] = ()
    seen: bool = False

    @property
    def project(self) -> Project:
        """As the release wants it."""
        return self.candidate.project

    def note_targets(self, docker: Docker) -> None:
        """The containers that serve now are looked at from now on, and asked where there is no public address."""
        health = self.run.request.health
        containers = inspected(docker, listing(docker, self.project.name).of(self.run.request.web))
        targets = [Target.at(f"{self.public.url}{health.path}")]
        if self.public.url is None:
            targets = targets_of(self.run, docker, containers)
        shown = [it.process for it in containers if is_shown_here(it) and sockets.shows(it.process)]
        self.measured = Measured(targets, shown, health.port)


def targets_of(run: Run, docker: Docker, containers: list[Container]) -> list[Target]:
    """The health pages of containers, which are asked as the health gate asks them."""
    gate = Gate.of(run)
    return [
        Target((container.id, address), partial(gate.ask, address))
        for container in containers
        for address in reached_at(docker, container)
    ]


def old_health(run: Run, docker: Docker, project: Project) -> OldHealth:
    """How the release answers that serves now."""
    web = listing(docker, project.name).of(run.request.web, states=("running",))
    if not web:
        return OldHealth.NONE
    gate = Gate.of(run)
    if gate.is_answered_by(docker, web):
        return OldHealth.FULL
    return OldHealth.STATUS if gate.without_texts().is_answered_by(docker, web) else OldHealth.NONE


# ---------------------------------------------------------------------------------------------------------- the journal


def begin(run: Run, docker: Docker, candidate: Candidate, ready: Callable[[], None]) -> None:
    """Notes what is there.

    `ready` raises where something else speaks against it. A killed run's notes are gone on with.
    """
    remove_unfinished_dumps(run.state)
    reserve = run.state / "reserve"
    try:
        with reserve.open("wb") as file:
            file.write(bytes(RESERVE))
    except OSError:
        reserve.unlink(missing_ok=True)
        remedy = "Nothing was stopped. Make room, then run `pulumi up` again."
        raise docker.failure(f"There is no room on the disk of {run.directory}.", remedy) from None
    new = run.state / "transaction.new"
    try:
        if not run.transaction.exists():
            _note_what_is_there(run, docker, candidate, new)
        ready()
    except BaseException:
        reserve.unlink(missing_ok=True)
        raise
    if not run.transaction.exists():
        new.rename(run.transaction)


def _note_what_is_there(run: Run, docker: Docker, candidate: Candidate, new: Path) -> None:
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir()
    for path, name in ((candidate.files.compose, "compose.yml"), (run.directory / environment.FILE, "env")):
        if path.exists():
            shutil.copy2(path, new / name)
    (new / "schema").write_text(f"{releases.schema(run.state)}\n")
    there = listing(docker, candidate.project.name).of(*run.request.services)
    (new / "containers").write_text("".join(f"{container}\n" for container in there))


def place(rollout: Rollout) -> None:
    """Puts the release's environment and its Compose file in place."""
    run, candidate = rollout.run, rollout.candidate
    if candidate.environment is None:
        # That of a rollout which was interrupted, and whose configuration is not wanted any more.
        _put_environment_back(run)
    elif not environment.is_in_place(run.directory, candidate.environment):
        (run.transaction / "env-placed").touch()
        put_environment_in_place(run, candidate)
    put_in_place(run, candidate)
    shutil.copy2(candidate.files.compose, run.transaction / "placed.yml")


def note_started(run: Run) -> None:
    """Containers of the new release may serve from now on, and write."""
    (run.transaction / "started").touch()


def end(run: Run) -> None:
    """It is over: nothing is to be put back any more."""
    shutil.rmtree(run.transaction)
    (run.state / "reserve").unlink(missing_ok=True)


def undo_interrupted_migration(run: Run, docker: Docker, project: Project) -> None:
    """By a run that was killed, when the way is back to the old release."""
    if releases.linked(run.state, "current") == run.image.release and _may_restore_dump(run):
        _put_database_back(run, docker, project)


# ------------------------------------------------------------------------------------------------------------- put back


def put_back(
    rollout: Rollout, error: BaseException, downtime: Downtime, switch_back: Callable[[Docker, Project], None]
) -> None:
    """Puts the old release back, or what was there, and says what is so in the end.

    switch_back: starts its containers.
    """
    run = rollout.run
    phase = getattr(getattr(error, "phase", None), "name", "") or read_line(run.scratch / "phase")
    (run.state / "reserve").unlink(missing_ok=True)
    remove_unfinished_dumps(run.state)
    run.output.complain("", f"Putting back {rollout.previous or 'what was there before'}.")
    try:
        _restore(rollout, switch_back)
        if rollout.old_health is not OldHealth.NONE:
            rollout.seen = look(run, run.begin(StepName.VERIFY), rollout.public, rollout.proxies, at_page=False)
    except Exception as failed:  # noqa: BLE001 - whatever it is, it is said, and the history tells of it
        run.output.report(failed if isinstance(failed, StepError) else StepError(f"{type(failed).__name__}: {failed}"))
        away = downtime.stop()
        _tell_about_database(run)
        releases.record(run, "failed", phase=phase, previous=rollout.previous, downtime=away)
        run.output.complain(
            "It could not be put back. The next `pulumi up` tries again, for whichever release the tag says."
        )
        return
    away = downtime.stop()
    _tell_about_database(run)
    releases.record(run, "restored", phase=phase, previous=rollout.previous, downtime=away)
    shutil.rmtree(run.transaction)
    run.output.complain(_put_back_as(rollout, away))


def _put_back_as(rollout: Rollout, away: float) -> str:
    if not rollout.previous:
        return "What was there before was put back; nothing served."
    back = f"The release {rollout.previous} was put back"
    if rollout.old_health is OldHealth.NONE:
        return f"{back}. It did not answer before, either."
    how = " and serves" if rollout.seen else f"; it {UNSEEN}"
    return f"{back}{how}. The site did not answer for {away:.1f} s."


def _restore(rollout: Rollout, switch_back: Callable[[Docker, Project], None]) -> None:
    run, previous = rollout.run, rollout.previous
    docker = run.begin(StepName.UP)
    _await_engine(docker)
    OneOffs.of(run.request).remove(docker)
    _put_files_back(run, docker, previous)
    project = read_project(run, docker)
    if _may_restore_dump(run):
        _put_database_back(run, run.begin(StepName.DUMP), project)
        docker = run.begin(StepName.UP)
    if not previous:
        words = ("compose", "rm", "--stop", "--force", *run.request.services, *project.along)
        docker.must(*words, failing="The containers cannot be removed.")
        maintenance_page.hide(run, project)
        return
    _restore_images(run, docker, previous, project)
    # Before the old release starts: it reads its manifest then.
    image = _put_assets_back(rollout, project)
    docker = run.begin(StepName.UP)
    if (run.transaction / "one-shots").exists():
        make_one_shots(run, docker, project)
    switch_back(docker, project)
    maintenance_page.hide(run, project)
    names = rollout.candidate.prepared.assets
    if image and not _done(run, lambda: purge(run, run.begin(StepName.PURGE), names, previous, image)):
        run.output.complain("The assets of the failed release stay until the next one.")


def _put_assets_back(rollout: Rollout, project: Project) -> str:
    """Of the old release's assets, those that the new one's have replaced, as a manifest: the others have never left.

    So where this fails, which is said, the old release starts nevertheless.
    Returns the image whose programs can remove the new release's assets; "" where these are to stay.
    """
    run, previous, names = rollout.run, rollout.previous, rollout.candidate.prepared.assets
    published = run.transaction / "published"
    if not published.exists():
        return ""
    docker, old = run.begin(StepName.PUBLISH), assets_of(run, previous)
    image = image_here(run, docker, project.name, previous)
    if not old:
        return image

    # More than one where a run was killed, and this one was about another release.
    over = [Path(line) for line in dict.fromkeys(published.read_text().splitlines())]

    def again() -> bool:
        # No more than was replaced: what was found at the beginning may be uploads, which have changed since.
        return publish(run, docker, names, old, image=image, over=over)

    # On a full disk it may be the new release's files that take the room.
    if image and (_done(run, again) or _done(run, lambda: purge(run, docker, names, previous, image) and again())):
        return image
    run.output.complain(
        f"The assets of {previous} could not be published again, so its pages may name files of the failed release.",
        "Fix the cause, then run `pulumi up` again, for this release or the old one.",
    )
    return ""


def _done(run: Run, what: Callable[[], bool]) -> bool:
    """Whether something succeeded that a restore can do without."""
    try:
        return what()
    except (StepError, OSError) as error:
        run.output.complain(str(error))
        return False


def _await_engine(docker: Docker) -> None:
    """It may be what failed."""
    while not docker.ask("version", "--format", "{{.Server.Version}}").succeeded:
        if docker.phase.is_over:
            raise docker.failure("The Docker Engine does not answer.")
        time.sleep(0.5)


def _put_files_back(run: Run, docker: Docker, previous: str) -> None:
    files, kept = find_files(run.request), run.transaction
    before, placed = kept / "compose.yml", kept / "placed.yml"
    if before.exists():
        if not placed.exists() or placed.read_bytes() == files.compose.read_bytes():
            replace_compose_file(before.read_bytes(), files.compose)
        else:
            _put_images_back(run, docker, files.compose, previous)
    elif placed.exists():
        files.compose.unlink(missing_ok=True)
    _put_environment_back(run)


def _put_images_back(run: Run, docker: Docker, compose: Path, previous: str) -> None:
    """Into a file that somebody has edited meanwhile: the edits stay."""
    from server import compose_file  # noqa: PLC0415 - PyYAML takes a while

    image = read_line(releases.directory_of(run, previous) / "image") if previous else ""
    if not image:
        raise docker.failure(f"{compose.name} was edited meanwhile; put the old image into it by hand.")
    try:
        asked = run.request
        text = compose_file.with_image(compose.read_bytes().decode(), asked.services, image, asked.one_shots)
    except (compose_file.ComposeFileError, UnicodeDecodeError) as error:
        raise docker.failure(str(error)) from None
    replace_compose_file(text.encode(), compose)


def _put_environment_back(run: Run) -> None:
    if not (run.transaction / "env-placed").exists():
        return
    before = run.transaction / "env"
    if before.exists():
        text = before.read_text(errors="surrogateescape")
        if not environment.is_in_place(run.directory, text):
            environment.replace(run.directory, run.state, text)
    else:
        (run.directory / environment.FILE).unlink(missing_ok=True)


def _restore_images(run: Run, docker: Docker, previous: str, project: Project) -> None:
    """Of an installation that was found here: its tags may name other images by now."""
    file = releases.directory_of(run, previous) / "images"
    for line in file.read_text().splitlines() if file.exists() else ():
        service, _, wanted = line.partition("=")
        reference = project.services[service].image if service in project.services else ""
        if not reference or "@" in reference:
            continue
        if id_of_image(docker, reference) != wanted:
            docker.must("tag", wanted, reference, failing=f"The image of '{service}' is gone.")


def await_old_release(rollout: Rollout, docker: Docker, web: list[str]) -> None:
    """Waits until the old release's containers are as healthy as they were."""
    run = rollout.run
    if not web:
        raise failure_with_logs(run, docker, f"'{run.request.web}' does not run.")
    rollout.note_targets(docker)
    if rollout.old_health is OldHealth.NONE:
        return
    gate = Gate.of(run)
    if rollout.old_health is OldHealth.STATUS:
        gate = gate.without_texts()
    # It may be started again meanwhile, and elsewhere.
    while not gate.is_answered_by(docker, web):
        if docker.phase.is_over:
            raise failure_with_logs(run, docker, f"'{run.request.web}' does not answer as it did: {gate.problem}.")
        time.sleep(0.2)
        gate.located.clear()


def _may_restore_dump(run: Run) -> bool:
    """Nothing was written since: no container of the new release was started, and the old one was stopped."""
    kept, asked = run.transaction, run.request.database
    over = any((kept / name).exists() for name in ("started", "dump-restored", "dump-failed"))
    wanted = asked.restore_on_failure and not asked.command and asked.migrations is Migrations.STOPPED
    return (kept / "dump").exists() and not over and wanted


def _put_database_back(run: Run, docker: Docker, project: Project) -> None:
    """As far as that succeeds: an old release on the migrated database is more than none."""
    try:
        stop_application(run, docker, project)
        restore(run, docker, project, noted_dumps(run))
    except Exception as error:  # noqa: BLE001 - whatever it is, it is said, and the old release starts
        run.output.report(error if isinstance(error, StepError) else StepError(f"{type(error).__name__}: {error}"))
        (run.transaction / "dump-failed").touch()
        return
    (run.transaction / "dump-restored").touch()
    replace_file(run.state / "schema", (run.transaction / "schema").read_text())
    run.say("restored the dump")


def _tell_about_database(run: Run) -> None:
    if not (run.transaction / "dump").exists():
        return
    dump = " ".join(str(dump.file) for dump in noted_dumps(run))
    if (run.transaction / "dump-restored").exists():
        run.output.complain(f"The database is what it was before the migrations, from {dump}.")
    else:
        run.output.complain(f"The database was migrated, or partly, and stays so. What it was before is in {dump}")
    if (run.transaction / "dump-failed").exists():
        run.output.complain("It could not be restored. How to do that by hand: docs/operations.md, Restoring a dump.")
