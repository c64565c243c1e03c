"""Relève: wires the stack's configuration to its components."""

import functools
from pathlib import Path

import pulumi
import pulumi.runtime

from components import notices
from components.image import ReleaseImage, ReleaseImageArgs
from components.plan import Announcement
from components.rollout import ComposeRollout, ComposeRolloutArgs
from configuration.load import load
from errors import ReleaseError
from release import compose_file
from server.request import Strategy

PROJECT = Path(__file__).resolve().parent


def main() -> None:
    """Declares the release's image and its rollout."""
    stack = load(configuration(), PROJECT / f"Pulumi.{pulumi.get_stack()}.yaml")
    (server,) = stack.servers
    # Read and checked before the first resource: the engine begins to build while the rest of the program runs.
    kept_file = compose_file.read(PROJECT, stack.app.compose_file) if stack.app.compose_file else None
    if kept_file:
        kept_file.with_image(stack.app.services, f"{stack.image.repository}:{stack.tag}")
        if stack.app.strategy is Strategy.ROLLING:
            kept_file.check_rolling(stack.app.services)
    announcement = Announcement(stack, kept_file)
    image = ReleaseImage(
        "image",
        ReleaseImageArgs(
            stack.tag,
            stack.image,
            stack.registry,
            approve=announcement.make,
            released=announcement.released(),
            hooks=functools.partial(notices.of_image, stack),
            upgrade=stack.upgrade,
        ),
    )
    previous = announcement.previous(server)
    rollout = ComposeRollout(
        server.name,
        ComposeRolloutArgs(image.image, server, stack, kept_file, previous, lambda: announcement.upgrade(server)),
    )
    pulumi.export("release", rollout.release)
    pulumi.export("url", server.url)
    pulumi.export("downtimeSeconds", rollout.downtime_seconds)


def configuration() -> dict[str, str]:
    """What the engine delivers, by full key. pulumi.Config cannot list its keys, and unknown ones are to be refused."""
    config = pulumi.Config()
    names = [key.partition(":")[2] for key in pulumi.runtime.get_config_env() if key.startswith(f"{config.name}:")]
    return {config.full_key(name): config.require(name) for name in names}


try:
    main()
except ReleaseError as error:
    # A RunError is printed alone, without a traceback.
    raise pulumi.RunError(str(error)) from None
