"""Compiled assets: made beside the running release, kept with their release, published file by file, purged later.

Files with a manifest's name tell the application where the others are: they are published last, each by a rename. The
previous release's files stay, so that a page loaded before the switch finds its own. What no release has published, as
uploads in the same directory, stays for ever.

What runs here as root is a program of the image, before that has shown what it does. So it gets the directories of this
one release and the mounts of the asset paths, and nothing else of the server.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from server.asking import Asking
from server.commands import Docker
from server.containers import Mount, OneOffs, id_of_image, inspect, inspected, listing, mount_option
from server.in_container import in_container
from server.preparation import Candidate
from server.releases import directory_of, linked, remove_directory
from server.run import Run, read_line, replace_file

FOUND = "assets-found"
"""The name of the assets of a release that was found here: all that was in the directories then."""


def kept_assets(run: Run, candidate: Candidate) -> Path:
    """Where the release's assets are kept."""
    return directory_of(run) / candidate.prepared.assets


def are_kept(run: Run, candidate: Candidate) -> bool:
    """Whether they have been made, or need not be."""
    return not run.request.assets.paths or kept_assets(run, candidate).is_dir()


def assets_of(run: Run, release: str) -> Path | None:
    """The directory of the assets that are published with a release that was live."""
    name = read_line(directory_of(run, release) / "assets") if release else ""
    directory = directory_of(run, release) / name
    return directory if name and directory.is_dir() else None


# --------------------------------------------------------------------------------------------------------------- making


def begin_staging(run: Run, docker: Docker) -> Path:
    """An empty directory for each asset path, in which any user of a container may write."""
    staging = run.state / "staging"
    if not remove_directory(run, docker, staging):
        raise docker.failure("The staging directory of a former run cannot be removed.")
    for number in range(len(run.request.assets.paths)):
        (staging / str(number)).mkdir(parents=True)
        (staging / str(number)).chmod(0o777)  # whatever the umask
    return staging


def compile_assets(run: Run, docker: Docker, candidate: Candidate) -> None:
    """With the new image, into the staging directory, while the old release serves."""
    assets = run.request.assets
    service = {
        # Where there is not enough of the processor for both, the running release gets four times as much of it.
        "cpu_shares": 256,
        **({"mem_limit": assets.memory, "memswap_limit": assets.memory} if assets.memory else {}),
        "volumes": [
            {"type": "bind", "source": _literal(str(run.state / "staging" / str(number))), "target": _literal(path)}
            for number, path in enumerate(assets.paths)
        ],
    }
    overlay = run.scratch / "staging.json"
    overlay.write_text(json.dumps({"services": {run.request.web: service}}))
    compose = candidate.compose.with_file(overlay)
    if Asking(run, compose, candidate.project).ask(docker, "compile", assets.precompile) != 0:
        raise docker.failure(f"The command failed: {' '.join(assets.precompile)}", "Nothing was stopped.")


def _literal(text: str) -> str:
    """Without the variables that Compose would fill in."""
    return text.replace("$", "$$")


def take_assets_of_image(run: Run, docker: Docker) -> None:
    """Those that were compiled when the image was built, into the staging directory."""
    oneoffs = OneOffs.of(run.request)
    holder = docker.answer(
        *("create", "--name", oneoffs.name("assets"), *oneoffs.labels, run.image.pinned, "sh"),
        failing="docker create failed.",
    ).strip()
    for number, path in enumerate(run.request.assets.paths):
        docker.must(
            *("cp", f"{holder}:{path}/.", f".releve/staging/{number}"),
            failing=f"The image has no directory {path} (app.assets, app.assetsFrom: image).",
            remedy="Nothing was stopped.",
        )
    oneoffs.remove(docker)


def end_staging(run: Run, docker: Docker, candidate: Candidate) -> None:
    """What was made is this release's from now on."""
    staging = run.state / "staging"
    for number, path in enumerate(run.request.assets.paths):
        if not any((staging / str(number)).iterdir()):
            raise docker.failure(
                f"There is nothing in {path} after the compilation, so the site would have no assets.",
                "Nothing was stopped. Look at app.assets and app.precompile.",
            )
    staging.rename(kept_assets(run, candidate))


# ------------------------------------------------------------------------------------------------------------- in place


def note_mounts(run: Run, assets: str, mounts: Sequence[Mount]) -> None:
    """What the asset paths are on, for the steps to come."""
    lines = sorted({f"{mount.type}|{mount.target}|{mount.subpath}|{mount.source}" for mount in mounts})
    replace_file(_mounts_file(run, assets), "".join(f"{line}\n" for line in lines))


def mounts_are_noted(run: Run, assets: str) -> bool:
    """Whether it has been seen that the image fits the service: same image, same settings."""
    return _mounts_file(run, assets).exists()


def _mounts_file(run: Run, assets: str) -> Path:
    return directory_of(run) / f"mounts-{assets}"


def publish(
    run: Run, docker: Docker, assets: str, directory: Path, *, image: str = "", over: Sequence[Path] = ()
) -> bool:
    """Puts a release's assets, kept in `directory`, where the application finds them; whether that succeeded.

    assets: those of the release of this run, whose mounts are known
    image:  whose programs do it; by default the release's
    over:   the assets of other releases; only what these have replaced is put back, and manifests
    """
    # What was purged last is not the whole truth any more.
    purged = run.state / "purged"
    if purged.exists() and str(directory) not in purged.read_text().splitlines():
        purged.unlink()
    _note_published(run, directory)
    mounted = _mounted(run, directory, "/releve")
    for number, other in enumerate(over):
        mounted += _mounted(run, other, f"/releve/over/{number}")
    return _in_volumes(run, docker, assets, "publish", mounted=mounted, image=image)


def purge(run: Run, docker: Docker, assets: str, release: str, image: str = "") -> bool:
    """Removes what was published with releases other than this one and the one before the live one.

    assets, image: as for `publish`
    Returns whether that succeeded.
    """
    kept = [path for path in (assets_of(run, release), assets_of(run, linked(run.state, "previous"))) if path]
    # Back and forth between the same two there is nothing to remove.
    names = "".join(f"{directory}\n" for directory in sorted(map(str, kept)))
    purged = run.state / "purged"
    if purged.exists() and purged.read_text() == names:
        return True
    retired = [directory for directory in _published(run) if directory not in kept]
    if retired:
        mounted = [
            option
            for kind, directories in (("kept", kept), ("retired", retired))
            for number, directory in enumerate(directories)
            for option in _mounted(run, directory, f"/releve/{kind}/{number}")
        ]
        if not _in_volumes(run, docker, assets, "purge", mounted=mounted, image=image):
            return False
    replace_file(purged, names)
    return True


def _published(run: Run) -> list[Path]:
    """The kept assets of all releases that were published.

    Not what was found at the beginning: where that has come from is not known, and uploads may be among it.
    """
    return sorted(
        directory
        for directory in (run.state / "releases").glob("*/assets-*")
        if directory.is_dir()
        and directory.name != FOUND
        and (_paths_file(directory).exists() or directory == assets_of(run, directory.parent.name))
    )


def _note_published(run: Run, directory: Path) -> None:
    """Before it is so: a run may be killed at any moment."""
    if not _paths_file(directory).exists():
        replace_file(_paths_file(directory), "".join(f"{path}\n" for path in run.request.assets.paths))


def _paths_file(directory: Path) -> Path:
    """Holds the asset paths on which a release's assets, kept in a directory, were published."""
    return directory.with_name(f"published-{directory.name}")


def _lines(file: Path) -> list[str]:
    return file.read_text().splitlines() if file.exists() else []


def _mounted(run: Run, directory: Path, target: str) -> list[str]:
    """Options that mount what a release has for each asset path, below a target: as 0, 1, … in the order of this run's.

    Under another configuration there may have been others, or these in another order.
    """
    paths = run.request.assets.paths
    then = _lines(_paths_file(directory)) or paths
    sources = ((number, directory / str(then.index(path))) for number, path in enumerate(paths) if path in then)
    return [
        mount_option("bind", str(source), f"{target}/{number}", read_only=True)
        for number, source in sources
        if source.is_dir()
    ]


def _in_volumes(run: Run, docker: Docker, assets: str, purpose: str, *, mounted: Sequence[str], image: str) -> bool:
    """Runs the program for a purpose with what the asset paths are on, and with what is `mounted` in /releve.

    Returns whether it succeeded.
    """
    mounts = list(mounted)
    for line in _mounts_file(run, assets).read_text().splitlines():
        kind, target, subpath, source = line.split("|", 3)
        mounts.append(mount_option(kind, source, target, subpath=subpath))
    options = [word for mount in mounts for word in ("--mount", mount)]
    program = ("-c", in_container(purpose), "sh", "/releve", *run.request.assets.paths)
    command = ("--entrypoint", "sh", image or run.image.pinned, *program)
    return OneOffs.of(run.request).run_as_root(docker, purpose, *options, *command) == 0


def image_here(run: Run, docker: Docker, project: str, release: str) -> str:
    """An image of the application that this server still has, the release's first; "" where it has none.

    Nobody keeps that of a release which does not run: a nightly `docker system prune -af` removes it.
    """
    kept = directory_of(run, release)
    found = [line.partition("=")[2] for line in _lines(kept / "images")]
    there = listing(docker, project).of(*run.request.services)
    running = (container.image for container in inspected(docker, there))
    images = [*found, read_line(kept / "image"), *running, run.image.pinned]
    for image in dict.fromkeys(images):
        if image and id_of_image(docker, image):
            return image
    return ""


def copy_live_assets(run: Run, docker: Docker, project: str, release: str) -> None:
    """Into a release that was found here, what a running container of the web service has.

    By the image that it runs. A volume inside an asset path, as uploads are often on, is none of it.
    """
    running = inspect(docker, *listing(docker, project).of(run.request.web, states=("running",))[:1])
    if not running:
        return
    paths = run.request.assets.paths
    mounts = [mount for path in paths if (mount := deepest(path, running[0].mounts)) and mount.is_kept]
    target = directory_of(run, release) / FOUND
    target.mkdir(exist_ok=True)
    _note_published(run, target)
    mounted = [
        mount_option(mount.type, mount.source, mount.target, subpath=mount.subpath, read_only=True)
        for mount in dict.fromkeys(mounts)
    ]
    options = [
        word for mount in (*mounted, mount_option("bind", str(target), "/releve")) for word in ("--mount", mount)
    ]
    command = ("--entrypoint", "sh", running[0].image, "-c", in_container("copy"), "sh", "/releve", *paths)
    if OneOffs.of(run.request).run_as_root(docker, "adopt", *options, *command) != 0:
        raise docker.failure("The published assets cannot be copied.", "Nothing was stopped.")


def deepest(path: str, mounts: Sequence[Mount]) -> Mount | None:
    """What a path in a container is on, or None: it is in the container's own files."""
    above = [mount for mount in mounts if f"{path}/".startswith(f"{mount.target.rstrip('/')}/")]
    return max(above, key=lambda mount: len(mount.target), default=None)


def remove_stale_assets(run: Run, docker: Docker, assets: str) -> None:
    """Those of this release that were made under other settings, for example another environment."""
    for stale in directory_of(run).glob("assets-*"):
        if stale.is_dir() and stale.name != assets and not remove_directory(run, docker, stale):
            raise docker.failure(f"{stale.name} cannot be removed.")


def remove_staging(run: Run, docker: Docker) -> None:
    """What an interrupted compilation has left."""
    if not remove_directory(run, docker, run.state / "staging"):
        raise docker.failure("The staging directory cannot be removed.")
