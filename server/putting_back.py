"""The way back from a switch that failed: the Compose file, the environment, the database, assets and containers.

Each is what the transaction has noted of it. What cannot be put back is said, and the rest is put back nevertheless.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path

from server import maintenance_page, releases
from server.assets import assets_of, image_here, publish, purge
from server.bringing_up import make_one_shots, stop_application
from server.commands import Docker
from server.containers import OneOffs, id_of_image
from server.database import noted_dumps, remove_unfinished_dumps
from server.errors import StepError
from server.health import Gate, failure_with_logs
from server.placement import read_project, replace_compose_file
from server.project import Project
from server.project_files import find_files
from server.public import UNSEEN, Downtime, look
from server.request import Migrations, StepName
from server.restoring import restore
from server.run import Run, read_line, replace_file
from server.transaction import OldHealth, Rollout, put_environment_back


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
    put_environment_back(run)


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


def undo_interrupted_migration(run: Run, docker: Docker, project: Project) -> None:
    """By a run that was killed, when the way is back to the old release."""
    if releases.linked(run.state, "current") == run.image.release and _may_restore_dump(run):
        _put_database_back(run, docker, project)
