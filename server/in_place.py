"""The strategy `in-place`: the manual guide's order, with the site down from `stop` until the new version answers."""

from __future__ import annotations

import re
import time

from server import proxies, releases
from server.bringing_up import await_end, require_one_shots, start_missing, without_orphans
from server.containers import Compose, OneOffs
from server.health import Gate, await_health, image_id, look_at, require_containers
from server.in_container import in_container
from server.others import tell_left_behind
from server.placement import own_compose, put_environment_in_place, put_in_place, require_in_place
from server.preparation import prepare
from server.public import UNSEEN, look, unknown_before
from server.request import StepName
from server.restoring import end_restore
from server.run import Run

COMPILED = "compiled"
"""The file of the periods in which assets were compiled."""
_PERIOD = re.compile(r"[0-9]+-[0-9]+")
STOPPED = """The services are stopped, and the Compose file names the new image. Fix the cause and run `pulumi up`
again, or set the tag back and run it: that brings the previous release up."""


def stop(run: Run) -> None:
    """Puts environment and Compose file in place, and stops the services."""
    candidate = prepare(run, run.docker)
    put_environment_in_place(run, candidate)
    put_in_place(run, candidate)
    services = run.request.services
    run.docker.must("compose", "stop", *services, failing="The services cannot be stopped.")
    run.say(f"stopped {' '.join(services)}")


def purge_assets(run: Run) -> None:
    """Removes what was compiled here before. What else is in these directories, uploads for one, stays."""
    compose, paths = own_compose(run, require_in_place(run, run.docker)), run.request.assets.paths
    program = f"periods='{' '.join(_periods(run))}'\n{in_container('compiled')}"
    # As root: the files belong to whoever compiled them.
    words = ("--user", "0:0", "--entrypoint", "sh", run.request.web, "-c", program, "sh", *paths)
    if OneOffs.of(run.request).run(run.docker, compose, "purge-assets", *words) != 0:
        raise run.docker.failure("The assets cannot be removed.", STOPPED)
    (run.state / COMPILED).unlink(missing_ok=True)
    run.say(f"removed what was compiled before from {' '.join(paths)}")


def _periods(run: Run) -> list[str]:
    """Those in which assets were compiled since they were last removed, as START-END in seconds since 1970."""
    file = run.state / COMPILED
    return [line for line in file.read_text().splitlines() if _PERIOD.fullmatch(line)] if file.exists() else []


def precompile(run: Run) -> None:
    """Compiles the assets in a container of the web service."""
    project = require_in_place(run, run.docker)
    start_missing(run, run.docker, project, Compose(run.directory), STOPPED)
    compose = own_compose(run, project)
    command, oneoffs = run.request.assets.precompile, OneOffs.of(run.request)
    words, began = oneoffs.command(run.request.web, command), int(time.time())
    try:
        status = oneoffs.run(run.docker, compose, "precompile", *words)
    finally:
        # Nobody uploads meanwhile, the services are stopped: what has changed in this time was compiled.
        with (run.state / COMPILED).open("a") as file:
            file.write(f"{began}-{int(time.time())}\n")
    if status != 0:
        raise run.docker.failure(f"The command failed: {' '.join(command)}", STOPPED)
    run.say(f"done: {' '.join(command)}")


def up(run: Run) -> None:
    """Recreates the services, then brings up the whole project."""
    project = require_in_place(run, run.docker)
    docker = run.docker
    # The services alone, then the whole: the other way round Compose recreates what depends on them, nginx for one.
    words = ("compose", "up", "-d", *project.without_asking, *run.request.services)
    if docker.run(*words) != 0:
        require_one_shots(docker, project, STOPPED)
        raise docker.failure("The services cannot be started.", STOPPED)
    words = ("compose", "up", "-d", *project.without_asking, *without_orphans(docker, project))
    docker.must(*words, failing="The project cannot be brought up as a whole.", remedy=STOPPED)
    run.say("the project is up")


def verify(run: Run) -> None:
    """Waits until the containers of the services run the image, and the first service answers as wanted."""
    project = require_in_place(run, run.docker)
    docker = run.begin(StepName.GATE)
    there = require_containers(run, docker, project.name)
    watch = look_at(run, docker, there.of(*run.request.services), image_id(run, docker))
    for name in project.one_shots:
        await_end(docker, name, there.of(name), STOPPED)
    web = there.of(run.request.web)
    await_health(run, docker, Gate.of(run), watch, web)
    docker = run.begin(StepName.VERIFY)
    known = proxies.tell(run, docker, proxies.find(run, docker, web[0]), web[0])
    seen = look(run, docker, unknown_before(run, docker), known, at_page=False)
    releases.keep_in_place(run, prepare(run, docker))
    releases.record(run, "released")
    end_restore(run, project)
    health = run.request.health
    run.say(f"the services run {run.image.digest}, and '{run.request.web}' answers {health.status} on {health.path}")
    run.say(f"{run.image.release} {'serves' if seen else UNSEEN}")
    tell_left_behind(run, project)
