"""./releve config show."""

from __future__ import annotations

import click

from configuration.effective import effective
from configuration.written import leaves, lines, plain
from operations import stack as stacks
from operations.command import failing_in_words, json_option, print_json, stack_option


@click.group()
def config() -> None:
    """The configuration of a stack."""


@config.command()
@stack_option
@json_option
@failing_in_words
def show(stack: str | None, *, as_json: bool) -> None:
    """Print every value that holds, and where it comes from: the stack file, its preset, or a default.

    Secrets are shown as [secret]. No server is asked, and the passphrase is not needed, as long as all that is
    encrypted is secret by its nature.
    """
    name = stack or stacks.selected()
    settings, own = stacks.configuration(name)
    found = effective(settings, own, stacks.file_of(name).name)
    if as_json:
        origins = {path: leaf.remark for path, leaf in leaves(found)}
        return print_json({"stack": name, "values": plain(found), "from": origins})
    return click.echo("\n".join(lines(found)))
