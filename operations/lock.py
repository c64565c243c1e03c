"""./releve lock."""

from __future__ import annotations

import click

from operations import stack as stacks
from operations.command import console, failing_in_words, stack_option
from operations.locks import holders


@click.command()
@stack_option
@failing_in_words
def lock(stack: str | None) -> None:
    """Say who holds the lock of the state, and leave it as it is. Status 0: nobody; 2: somebody, who is named."""
    name = stacks.load(stack).name
    held = holders(name)
    for holder in held:
        console().print(f"the state of {name} is locked by {holder.described()}")
    if held:
        console().print(f"If nobody works there any more:  make unlock STACK={name}")
        raise SystemExit(2)
    console().print(f"nobody holds the lock of {name}")
