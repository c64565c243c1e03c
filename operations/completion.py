"""./releve completion SHELL."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from operations.command import COMPLETE


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print what completes the commands in a shell.

    For example:  ./releve completion bash >> ~/.bashrc
    """
    from operations.__main__ import releve  # noqa: PLC0415 - it loads this

    kind = get_completion_class(shell)
    if kind is None:
        raise click.ClickException(f"{shell} is not supported")
    click.echo(kind(releve, {}, "./releve", COMPLETE).source())
