"""The step `pull`: what could only be noticed with the site down is noticed before.

It changes no file of the project.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from server import assets, environment, releases
from server.bringing_up import missing_dependencies
from server.commands import Docker
from server.containers import Container, Mount, OneOffs, id_of_image, inspect, listing, project_answer
from server.errors import Refusal
from server.former import adopt_assets
from server.identity import Placed, identity_of, require_identity
from server.kept_images import keep_images
from server.memory import memory_of_server
from server.others import announce
from server.preparation import Candidate, name_release, note_prepared, prepare
from server.project import Project
from server.project_files import user
from server.pulling import Pull
from server.request import AssetsFrom, Strategy
from server.resolving import cannot_roll
from server.run import Run
from server.upgrading import look_at_upgrade

NO_COMMAND = 42
"""The status of the program below, where the image lacks the command."""
_PROBE = f'[ $# -eq 0 ] || command -v "$1" >/dev/null || exit {NO_COMMAND}'


def pull(run: Run) -> None:
    """Checks the project, prepares the release, pulls the image and tries it."""
    docker = run.docker
    releases.begin_rollout(run)
    releases.refuse_moved_tag(run, docker)
    candidate = prepare(run, docker)
    containers = _require_identity(run, docker, candidate)
    run.say(f"{candidate.files.compose.name} can name {run.image}")
    if run.request.assets.precompile:
        missing_dependencies(run, docker, candidate.project)
    for dependant in candidate.prepared.dependants:
        run.say(f"notice: {dependant}")
    missing = announce(run, docker, candidate, containers)
    _look_at_one_shots(run, docker, candidate.project)
    others = [name for name in candidate.project.asking if name not in run.request.services]
    if others:
        names = " ".join(others)
        run.say(f"notice: a release pulls or builds no newer image of {names}, whatever its pull_policy says")
    if run.request.strategy is Strategy.ROLLING:
        _require_memory(run, docker, candidate)
    name_release(run)
    look_at_upgrade(run, docker, candidate)
    if run.request.strategy is not Strategy.IN_PLACE:
        found = releases.what_runs(run, docker, candidate.project.name)
        keep_images(run, docker, found.containers, lambda image: _fetch(run, docker, image))
        adopt_assets(run, docker, candidate)
        _keep_found(run, docker, candidate, found)
    pull_image(run, docker)
    for image in missing:
        _fetch(run, docker, image)
    fit_image(run, docker, candidate)
    note_prepared(run)


def fit_image(run: Run, docker: Docker, candidate: Candidate) -> None:
    """Sees whether the image fits the web service, and takes the assets that it holds, unless that has been done.

    The steps after `pull` do it, too: the server's Compose file may have been edited since.
    """
    # What fitted once fits again: same image, same settings.
    if run.request.strategy is Strategy.IN_PLACE or not assets.mounts_are_noted(run, candidate.prepared.assets):
        _try_image(run, docker, candidate)
    if run.request.assets.source is AssetsFrom.IMAGE and not assets.are_kept(run, candidate):
        assets.begin_staging(run, docker)
        assets.take_assets_of_image(run, docker)
        run.say("took the assets that the image holds")
        assets.end_staging(run, docker, candidate)


def _require_identity(run: Run, docker: Docker, candidate: Candidate) -> list[Placed]:
    """The project's containers. Raises Refusal where Compose would not take the directory's for these."""
    files, compose = candidate.files, candidate.compose
    wanted = identity_of(candidate.project.name, run.directory, files.compose, files.override)
    return require_identity(run, docker, wanted, lambda: json.loads(project_answer(docker, compose).text or "{}"))


def _look_at_one_shots(run: Run, docker: Docker, project: Project) -> None:
    """Tells what besides app.services gets the image. Raises Refusal where something is to end that only seems to."""
    for name in project.along:
        how = "runs to its end" if name in project.one_shots else "is not in app.services"
        run.say(f"notice: '{name}', which {how}, gets the image, too")
    found = [name for name in project.one_shots if name not in run.request.one_shots]
    there = listing(docker, project.name) if found else None
    for name in found:
        if there and there.of(name, states=("running",)):
            raise Refusal(
                f"The service '{name}' is one that runs to its end, by its `restart:` or by what waits for it, and is "
                "running now.",
                "Nothing was stopped. If it is to keep running, add it to app.services. If not, try again when it has\n"
                "ended, or add it to app.oneShots: then it is ended.",
            )


def _require_memory(run: Run, docker: Docker, candidate: Candidate) -> None:
    """For a second container, as large as the first one is now."""
    running = listing(docker, candidate.project.name).of(run.request.web, states=("running",))
    if not running:
        return
    # Pages that processes share are counted for each.
    tables = [docker.ask("top", container, "-o", "pid,rss").text.splitlines()[1:] for container in running]
    used = sum(int(line.split()[1]) for lines in tables for line in lines)
    free = memory_of_server()["MemAvailable"] >> 10
    if used >= free:
        raise cannot_roll(
            run.request.web,
            f"a second container needs about {used // 1024} MiB, and only {free // 1024} MiB are free on the server.",
            "Give the server more memory.",
        )


def _keep_found(run: Run, docker: Docker, candidate: Candidate, found: releases.Found) -> None:
    """Records what runs here before the first rollout changes anything, so that it can be restored like a release."""
    if run.transaction.exists():
        return
    # Nothing runs, or what runs is what this program started.
    if not found.images:
        return
    if releases.linked(run.state, "current") and releases.is_current_image(run, docker, found):
        return
    name = releases.record_found(run, found, candidate.files.compose)
    if run.request.assets.paths:
        assets.copy_live_assets(run, docker, candidate.project.name, name)
    (releases.directory_of(run, name) / "live").touch()
    releases.link(run.state, "current", name)
    run.say(f"recorded what runs here as {name}")


# ------------------------------------------------------------------------------------------------------------ the image


def pull_image(run: Run, docker: Docker) -> None:
    """Sees that the release's image is on this server, under its tag."""
    image = run.image
    if id_of_image(docker, image.pinned):
        run.say(f"{image} is here already")
    else:
        _fetch(run, docker, str(image))
    # `docker image prune` deletes an image without a tag.
    docker.must("tag", image.pinned, image.tagged, failing="docker tag failed.")


def _fetch(run: Run, docker: Docker, image: str) -> None:
    """Pulls an image: with the account of the configuration, where its registry is that of the release."""
    registry = run.image.repository.partition("/")[0]
    is_there = image == str(run.image) or image.startswith(f"{registry}/")
    if run.request.registry_login is not None and is_there:
        with _client(run, docker, run.request.registry_login) as options:
            remedy = "If the registry refuses: check registry.username and the secret registry.password."
            _pull(docker, options, image, remedy)
        account = " with the account of registry.username"
    else:
        configured = "set registry.username and registry.password, or " if is_there else ""
        asked = image.partition("/")[0]
        login = f"docker login {asked}" if set(asked) & set(".:") and "/" in image else "docker login"
        _pull(docker, (), image, f"If the registry refuses: {configured}run `{login}` on this server as {user()}.")
        account = ""
    size = docker.ask("image", "inspect", "--format", "{{.Size}}", image).text.strip()
    run.say(f"pulled {image}{account}" + (f", {int(size) >> 20} MiB" if size.isdigit() else ""))


def _pull(docker: Docker, options: Sequence[str], image: str, remedy: str) -> None:
    pull = Pull(docker.output)
    with pull.terminal() as terminal:
        status = docker.run(*options, "pull", image, stdout=terminal, state=pull.far)
    if status != 0:
        raise docker.failure(f"The image {image} cannot be pulled.", f"Nothing was stopped. {remedy}")


@contextmanager
def _client(run: Run, docker: Docker, login: str) -> Iterator[tuple[str, ...]]:
    """Options of docker: a client configuration for one command; the user's own neither helps nor changes."""
    client = run.scratch / "client"
    client.mkdir(exist_ok=True)
    environment.write(client / "config.json", login)
    # Which Engine it is, only the user's own configuration may know.
    engine = docker.answer(
        "context", "inspect", "--format", "{{.Endpoints.docker.Host}}", failing="docker context inspect failed."
    ).strip()
    try:
        yield ("--config", str(client), "--host", engine)
    finally:
        (client / "config.json").unlink()
        client.rmdir()


def _try_image(run: Run, docker: Docker, candidate: Candidate) -> None:
    probe = _probe(run, docker, candidate)
    mounts = [asset_mount(run.request.web, path, probe.mounts) for path in run.request.assets.paths]
    for mount in probe.mounts:
        if mount.is_anonymous:
            rolling = run.request.strategy is Strategy.ROLLING
            has = "has what the image has there" if rolling else "keeps the old one's files there"
            run.say(f"notice: {mount.target} is an anonymous volume: the new container {has}")
    if run.request.strategy is not Strategy.IN_PLACE:
        assets.note_mounts(run, candidate.prepared.assets, mounts)
    run.say(f"the image fits the service '{run.request.web}'")


def _probe(run: Run, docker: Docker, candidate: Candidate) -> Container:
    """A container of the web service with the new image, looked at and removed.

    Read from the container, not from the Compose file: this includes the VOLUMEs of the image.
    """
    oneoffs, web, command = OneOffs.of(run.request), run.request.web, run.request.assets.precompile
    name = oneoffs.name("probe")
    # Without --rm, so that it can be looked at.
    words = (
        "run",
        "-d",
        "-T",
        "--no-deps",
        "--name",
        name,
        *oneoffs.labels,
        "--entrypoint",
        "sh",
        web,
        "-c",
        _PROBE,
        "sh",
    )
    compose = candidate.compose
    status = docker.run(*compose.words(*words, *command), stdin=compose.stdin)
    remedy = "Nothing was stopped."
    try:
        (probe,) = inspect(
            docker, name, failing=f"No container of '{web}' can be made from the new image.", remedy=remedy
        )
        if status == 0:
            status = int(docker.answer("wait", name, failing="docker wait failed.", remedy=remedy).strip() or 1)
    finally:
        oneoffs.remove(docker)
    if status == NO_COMMAND:
        raise Refusal(f"The image {run.image} has no command '{command[0]}' (app.precompile).", remedy)
    if status != 0 and (command or run.request.assets.paths):
        message = f"In a container of '{web}' with the new image, `sh` does not run: the assets need it."
        raise docker.failure(message, remedy)
    return probe


def asset_mount(web: str, path: str, mounts: Sequence[Mount]) -> Mount:
    """What an asset path is on.

    Raises Refusal where what is compiled there would not be in the container that serves.
    """
    remedy = (
        f"Nothing was stopped. Add to the volumes of '{web}' in the Compose file:  - ./{path.rpartition('/')[2]}:{path}"
    )
    mount = assets.deepest(path, mounts)
    if mount is None or not mount.is_kept:
        raise Refusal(
            f"The asset path {path} is on no volume of '{web}': what is compiled there would be lost.", remedy
        )
    if mount.is_anonymous:
        raise Refusal(
            f"The asset path {path} is on the anonymous volume {mount.target}: what is compiled there would not reach "
            f"'{web}'.",
            remedy,
        )
    if not mount.writable:
        message = f"The asset path {path} is mounted read-only in '{web}'."
        raise Refusal(message, f"Remove :ro from the volume {mount.target}.")
    return mount
