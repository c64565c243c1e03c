"""./releve rehearse."""

from __future__ import annotations

import click

from errors import ReleaseError
from operations import server as connection
from operations import stack as stacks
from operations.command import failing_in_words, server_option, stack_option
from operations.stack import PROJECT, Stack
from release import compose_file, registry, steps
from release.reference import ImageReference
from release.registry import Present
from server.request import StepName


@click.command()
@stack_option
@server_option
@failing_in_words
def rehearse(stack: str | None, server: str | None) -> None:
    """Run the migrations of the stack's tag on a copy of the database, and say how long they take.

    While the site serves: the newest dump is restored into a database beside, which is dropped at the end. The image is
    pulled if need be. What migrations do outside the database, such as to enqueue jobs, they do.
    """
    loaded = stacks.load(stack)
    host, image, app = loaded.server(server), _image(loaded), loaded.settings.app
    kept = compose_file.read(PROJECT, app.compose_file) if app.compose_file else None
    delivery = steps.delivery_of(loaded.settings, kept, image)
    asked = steps.request_of(StepName.REHEARSE, loaded.settings, host, image=image, delivery=delivery)
    raise SystemExit(connection.run_step(host, StepName.REHEARSE, asked))


def _image(stack: Stack) -> ImageReference:
    """Of the configured tag, by the digest that the registry has. Raises ReleaseError where it is not there."""
    tagged = ImageReference(stack.settings.image.repository, stack.settings.tag)
    state = registry.probe(tagged, registry.connect(tagged.registry, stack.settings.registry, PROJECT))
    if not isinstance(state, Present):
        raise ReleaseError(
            f"{tagged} is not in the registry, or that does not answer: release it where it is built first"
        )
    return tagged.with_digest(state.digest)
