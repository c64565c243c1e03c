"""The releases that this server keeps, below .releve/releases, which of them is live, and the history of the rollouts.

releases/<tag>-<digest12>/  image            repository:tag@digest
                            images           SERVICE=IMAGE_ID, of an installation that was found here
                            delivery.json, candidate.yml, prepared.json   what `pull` prepared
                            compose.yml      the Compose file as deployed
                            env              .env as deployed, where the configuration holds it
                            assets-<hash12>/<n>/  what the asset path number n consists of
                            published-<assets>  that these were published, and on which asset paths
                            mounts-<assets>  what these paths are on
                            assets           which of these directories is published with it
                            schema           the last migration that had been run here when it was live
                            tasks/           those done, by hash
                            upgrade.json     the tasks that its upgrade asks for
                            version          of the application, where that is known
                            live             touched when it became the live one; verified: by the strategy in-place
                            served-<assets>  it has served, with those settings
                            containers-<hash12>  that `rolling` has made for it, with settings of that hash
current                     symbolic link to the live release
previous                    the same for the one before it, whose assets stay published
in-place                    instead of these two: the release that the strategy of this name has brought
prepared                    the release that the last `pull` prepared
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from server import environment
from server.commands import Docker
from server.containers import Container, OneOffs, id_of_image, inspect, listing, mount_option
from server.errors import Refusal
from server.kept_images import forget_images
from server.preparation import Candidate
from server.request import Image
from server.run import Run, file_timestamp, read_line, replace_file, timestamp

IN_PLACE = "in-place"
"""The link to the release that serves by the strategy of this name."""
USUAL = 5
"""Rollouts of which the next one's downtime is expected to be the median."""


def directory_of(run: Run, name: str = "") -> Path:
    """Where a release is kept; that of the request by default."""
    return run.state / "releases" / (name or run.image.release)


def linked(state: Path, which: str) -> str:
    """The name of the release that is `current` or `previous`; "" where there is none."""
    link = state / which
    return link.readlink().name if link.is_symlink() and link.is_dir() else ""


def link(state: Path, which: str, name: str) -> None:
    """Makes a release `current` or `previous`."""
    new = state / f"{which}.new"
    new.unlink(missing_ok=True)
    new.symlink_to(f"releases/{name}")
    new.replace(state / which)


def shown(state: Path) -> str:
    """The name of the release that serves, as far as is known; "" for none of Relève's."""
    return linked(state, "current") or linked(state, IN_PLACE)


def keep_in_place(run: Run, candidate: Candidate) -> None:
    """The release serves by a strategy that keeps none to go back to: the next one records what it finds.

    What it is compared with later is kept.
    """
    _forget_live(run)
    _keep_files(run, candidate)
    (directory_of(run) / "verified").touch()
    link(run.state, IN_PLACE, run.image.release)


def _forget_live(run: Run) -> None:
    for name in ("current", "previous"):
        (run.state / name).unlink(missing_ok=True)
    shutil.rmtree(run.transaction, ignore_errors=True)


def require_live(run: Run) -> None:
    """Raises Refusal where another release is live."""
    if linked(run.state, "current") != run.image.release:
        raise Refusal(
            f"{run.image.release} is not live on this server: another run came in between.",
            "Roll it out again:  pulumi up --replace '**-pull'",
        )


def schema(state: Path) -> str:
    """Names the last migration that was run here."""
    return read_line(state / "schema") or "none"


def note_migration(run: Run) -> None:
    """The database is another one from now on, whatever happens."""
    replace_file(run.state / "schema", f"{run.image.release}-{int(time.time())}\n")


# ------------------------------------------------------------------------------------------- what becomes of a release


@dataclass(frozen=True)
class Found:
    """The application's containers that run before a rollout."""

    containers: tuple[Container, ...]

    @property
    def images(self) -> tuple[str, ...]:
        """SERVICE=IMAGE_ID."""
        return tuple(f"{container.service}={container.image}" for container in self.containers)


def what_runs(run: Run, docker: Docker, project: str) -> Found:
    """The application's containers that run."""
    running = listing(docker, project).of(*run.request.services, states=("running",))
    return Found(tuple(inspect(docker, *running)))


def is_current_image(run: Run, docker: Docker, found: Found) -> bool:
    """Whether all that was found runs the image of the live release."""
    current = directory_of(run, linked(run.state, "current"))
    if (current / "images").exists():
        return sorted((current / "images").read_text().split()) == sorted(found.images)
    wanted = id_of_image(docker, read_line(current / "image"))
    return bool(wanted) and {image.partition("=")[2] for image in found.images} == {wanted}


def record_found(run: Run, found: Found, compose: Path) -> str:
    """A release of its own for what was found; its name. Its assets are copied elsewhere."""
    name = f"found-{file_timestamp()}"
    directory = directory_of(run, name)
    (directory / "tasks").mkdir(parents=True)
    (directory / "images").write_text("".join(f"{image}\n" for image in found.images))
    if compose.exists():
        shutil.copy2(compose, directory / "compose.yml")
    (directory / "assets").write_text("assets-found\n")
    return name


def keep(run: Run, candidate: Candidate) -> None:
    """The release serves: it is the live one from now on."""
    directory = directory_of(run)
    _keep_files(run, candidate)
    (directory / "schema").write_text(f"{schema(run.state)}\n")
    if run.request.assets.paths:
        (directory / "assets").write_text(f"{candidate.prepared.assets}\n")
    (directory / "live").touch()
    os.utime(directory / "live")
    (directory / f"served-{candidate.prepared.assets}").touch()
    current = linked(run.state, "current")
    if current and current != run.image.release:
        link(run.state, "previous", current)
    link(run.state, "current", run.image.release)
    (run.state / IN_PLACE).unlink(missing_ok=True)


def _keep_files(run: Run, candidate: Candidate) -> None:
    directory = directory_of(run)
    shutil.copy2(candidate.files.compose, directory / "compose.yml")
    if candidate.environment is None:
        (directory / "env").unlink(missing_ok=True)
    else:
        environment.write(directory / "env", candidate.environment)


def has_served(run: Run, candidate: Candidate) -> bool:
    """Whether the release has served here, with the same settings."""
    return (directory_of(run) / f"served-{candidate.prepared.assets}").exists()


def served(state: Path) -> list[str]:
    """The names of the releases that have served here, the one that became live last first."""
    lives = sorted((state / "releases").glob("*/live"), key=lambda live: live.stat().st_mtime_ns, reverse=True)
    return [live.parent.name for live in lives]


def prune(run: Run, docker: Docker) -> None:
    """Removes all but the newest releases that have served, the live one and the one before it."""
    releases = run.state / "releases"
    kept = {
        *served(run.state)[: run.request.keep_releases], linked(run.state, "current"), linked(run.state, "previous")
    }  # fmt: skip
    for name in sorted(path.name for path in releases.iterdir() if path.is_dir()):
        if name in kept:
            continue
        image = read_line(releases / name / "image")
        if not remove_directory(run, docker, releases / name):
            raise docker.failure(f"The files of the release {name} cannot be removed.")
        if image:
            _remove_image(run, docker, image)
        run.say(f"removed the release {name}")
    forget_images(run, docker, _needed_images(docker, [releases / name for name in kept if name]))


def _needed_images(docker: Docker, kept: Sequence[Path]) -> set[str]:
    """The ids of the images of the releases that are kept."""
    found = [line for path in kept if (path / "images").exists() for line in (path / "images").read_text().split()]
    pinned = [line for line in (read_line(path / "image") for path in kept) if line]
    # Those that are not here say so on stderr.
    text = docker.ask("image", "inspect", "--format", "{{.Id}}", *pinned).text if pinned else ""
    return {*(line.partition("=")[2] for line in found), *text.split()}


def _remove_image(run: Run, docker: Docker, text: str) -> None:
    """An image that this program has pulled, unless another release is the same; Docker refuses where it is in use."""
    image = Image.parse(text)
    kept = [read_line(path) for path in (run.state / "releases").glob("*/image")]
    if image is None or any(other.endswith(f"@{image.digest}") for other in kept):
        return
    for reference in (image.tagged, image.pinned):
        if id_of_image(docker, reference) and docker.run("rmi", reference) != 0:
            run.say(f"notice: the image {reference} is in use, and stays")


def remove_directory(run: Run, docker: Docker, directory: Path) -> bool:
    """Removes a directory of ours, which may hold files that a container's user owns; whether that succeeded."""
    shutil.rmtree(directory, ignore_errors=True)
    if not directory.exists():
        return True
    mounted = ("--mount", mount_option("bind", str(directory), "/releve"))
    program = 'cd /releve && find . ! -name . -prune -exec rm -rf -- "{}" +'
    command = ("--entrypoint", "sh", run.image.pinned, "-c", program)
    OneOffs.of(run.request).run_as_root(docker, "remove", *mounted, *command)
    shutil.rmtree(directory, ignore_errors=True)
    return not directory.exists()


# ------------------------------------------------------------------------------------------------------------- history


def refuse_moved_tag(run: Run, docker: Docker) -> None:
    """Raises Refusal where this server has had another image under the release's tag: a released tag never moves.

    Where a registry has lost a tag, a stack that builds would give it to what its source is today.
    """
    image = run.image
    former = next((digest for digest in _released_as(run) if digest != image.digest), None)
    if former is None:
        return
    before, again = Image(image.repository, image.tag, former), f"{image.tagged}-again"
    remedy = "Nothing was stopped. Release what is there now under another tag."
    if id_of_image(docker, before.pinned):
        remedy += (
            f"\nWhat ran here is still on this server; to go back to it, give it a tag that is new, and release that:\n"
            f"docker tag {before.pinned} {again} && docker push {again}"
        )
    raise Refusal(
        f"{image.tagged} was released on this server as {former} and is {image.digest} now: a released tag "
        f"never moves. It was pushed once more, or the registry had lost it, and it was built from another source.",
        remedy,
    )


def _released_as(run: Run) -> Iterator[str]:
    """The digests under which the tag has served here, of a repository of this name."""
    for entry in history(run.state):
        # Earlier versions did not note the repository.
        same = entry.get("repository", run.image.repository) == run.image.repository
        if same and (entry.get("result"), entry.get("release")) == ("released", run.image.tag):
            yield str(entry.get("digest"))


def history(state: Path) -> Iterator[dict[str, Any]]:
    """The rollouts that have been recorded, the newest last."""
    file = state / "history.jsonl"
    for line in file.read_text().splitlines() if file.exists() else ():
        try:
            entry = json.loads(line)
        except ValueError:
            continue  # cut short, by a full disk for one
        if isinstance(entry, dict):
            yield entry


def begin_rollout(run: Run) -> None:
    """Its seconds count from now on."""
    replace_file(run.state / "began", f"{int(time.time())}\n")


def record(run: Run, result: str, *, phase: str = "", previous: str = "", downtime: float | None = None) -> None:
    """Adds a line to the history: in one go, so that it is whole or not there.

    phase: the part of the step in which the rollout failed, or that was the last
    """
    finished = int(time.time())
    began = read_line(run.state / "began")
    begun = int(began) if began.isdigit() else finished
    image = run.request.image
    entry = {
        "start": timestamp(begun),
        "end": timestamp(finished),
        "result": result,
        "release": image.tag if image else "on-demand",
        "digest": image.digest if image else "",
        "repository": image.repository if image else "",
        "previous": previous,
        "strategy": str(run.request.strategy),
        "step": str(run.step),
        "phase": phase or read_line(run.scratch / "phase") or str(run.step),
        "actor": run.request.actor,
        "seconds": finished - begun,
        "downtime": None if downtime is None else round(downtime, 1),
    }
    with (run.state / "history.jsonl").open("a") as file:
        file.write(json.dumps(entry, separators=(",", ":")) + "\n")


def usual_downtime(run: Run) -> tuple[float, int] | None:
    """The median of the last releases here by this strategy, in seconds, and their number; None where none tells."""
    wanted = (str(run.request.strategy), "released")
    of_strategy = [it for it in history(run.state) if (it.get("strategy"), it.get("result")) == wanted]
    seconds = [float(it["downtime"]) for it in of_strategy if it.get("downtime") is not None][-USUAL:]
    # Of an even number the larger one in the middle. The module statistics takes a third of a step's start.
    return (sorted(seconds)[len(seconds) // 2], len(seconds)) if seconds else None
