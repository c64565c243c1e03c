"""The images that the application runs, kept on this server by tags of Relève's own, for putting them back.

A tag that is pulled again moves to another image. Docker's own image store keeps the former one as long as a container
uses it; that of containerd forgets it at once, and the container goes on running what could not be started again.

  .releve/kept   a line for each tag: REFERENCE IMAGE_ID
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence

from server.commands import Docker
from server.containers import Container
from server.errors import StepError
from server.project import repository_of
from server.run import Run, name_of_project, replace_file


def keep_images(run: Run, docker: Docker, containers: Sequence[Container], fetch: Callable[[str], None]) -> None:
    """Gives the images of these containers, which run, tags that nobody moves.

    fetch: pulls an image. Raises Failure where one is neither on this server nor to be had.
    """
    for image, container in {container.image: container for container in containers}.items():
        repository = repository_of(container.image_name)
        # Whoever names an image by its id says nothing of where it is from.
        if not repository or re.fullmatch("(sha256:)?[0-9a-f]{12,64}", container.image_name):
            repository = run.image.repository
        # In its own repository: there its digest names it, too.
        reference = f"{repository}:{name_of_project(run.request.directory)}-kept-{image[7:19]}"
        _note(run, {**_noted(run), reference: image})
        if docker.run("tag", image, reference) == 0:
            continue
        try:
            # The ids of containerd's store are those of registries.
            fetch(f"{repository}@{image}")
            found = docker.run("tag", image, reference) == 0
        except StepError:
            found = False
        if not found:
            raise docker.failure(
                f"The image that '{container.service}' runs, {image[:19]} of {container.image_name}, is no longer on "
                "this server, and cannot be pulled: what serves now could not be put back.",
                "Nothing was stopped. Let the service run an image that is here, then try again:  "
                f"cd '{run.directory}' && docker compose up -d {container.service}",
            )
        run.say(f"the image that '{container.service}' runs was no longer here; it is again")


def forget_images(run: Run, docker: Docker, needed: Collection[str]) -> None:
    """Removes those tags whose image no release needs any more. needed: ids."""
    noted = _noted(run)
    for reference, image in list(noted.items()):
        if image not in needed and docker.run("rmi", reference) == 0:
            del noted[reference]
    _note(run, noted)


def _noted(run: Run) -> dict[str, str]:
    try:
        return dict(line.split() for line in (run.state / "kept").read_text().splitlines())
    except OSError:
        return {}


def _note(run: Run, noted: dict[str, str]) -> None:
    replace_file(run.state / "kept", "".join(f"{reference} {image}\n" for reference, image in noted.items()))
