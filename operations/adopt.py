"""./releve adopt HOST."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import yaml
from pydantic import ValidationError

from configuration.load import PREFIX, delivered
from configuration.load import load as validated
from configuration.tree import ServerSettings, Settings
from errors import ReleaseError
from operations import host_key as keys
from operations import server as connection
from operations import stack as stacks
from operations.command import failing_in_words
from release.adoption import UNKNOWN_TAG, Adoption, Login
from release.adoption import adopt as decide
from server.survey import NOWHERE, Installation, Place


@click.command()
@click.argument("host")
@click.option("--directory", metavar="PATH", help="Of the Compose file there; by default of the only project.")
@click.option("--user", metavar="LOGIN", default="deploy", show_default=True, help="Who logs in, with your SSH agent.")
@click.option("--port", metavar="NUMBER", type=int, default=22, show_default=True, help="The SSH port.")
@click.option("--host-key", metavar="KEY", help="The server's key, 'ssh-ed25519 AAAA…'; by default it is asked for.")
@click.option("--yes", "-y", is_flag=True, help="Trust the key that the server shows, without asking.")
@click.option("--stack", "-s", metavar="NAME", default="prod", show_default=True, help="The stack to write a file for.")
@click.option("--dry-run", is_flag=True, help="Print the file instead.")
@failing_in_words
def adopt(
    *,
    host: str,
    directory: str | None,
    user: str,
    port: int,
    host_key: str | None,
    yes: bool,
    stack: str,
    dry_run: bool,
) -> None:
    """Write Pulumi.STACK.yaml for an installation that was made by hand.

    Looks at what runs there, and changes nothing. What cannot be known is said, here and in the file.
    """
    file = stacks.file_of(stack)
    if file.exists() and not dry_run:
        click.confirm(f"{file.name} is there already. Replace all that is in it", abort=True, err=True)
    # Its name is for messages alone, and need be none that the stack's server may have.
    name = re.sub(r"[^A-Za-z0-9]+", "-", host).strip("-")[:63] or "server"
    address: dict[str, Any] = {"name": name, "host": host, "port": port, "user": user}
    # Before anybody is asked for a key.
    _refuse_mistakes(address)
    address["hostKey"] = host_key or _confirmed(host, port, yes=yes)
    _refuse_mistakes(address)
    server = ServerSettings.model_validate(address)
    found = _found(server, directory)
    adoption = decide(found, Login(host, port, user, server.host_key))
    text = adoption.text(stack, found.directory, host) + _of_pulumi(file)
    settings = _settings(text, file)
    _say(*_of_decision(adoption), *_of_server(settings))
    if dry_run:
        return click.echo(text, nl=False)
    file.write_text(text, encoding="utf-8")
    return _say(*_next(stack, file, settings))


def _refuse_mistakes(address: dict[str, Any]) -> None:
    """Raises ReleaseError where a part of what is there of an address cannot be one."""
    try:
        ServerSettings.model_validate(address)
    except ValidationError as error:
        mistakes = [it for it in error.errors(include_url=False) if it["type"] != "missing"]
        said = [f"{it['loc'][0]}: {it.get('ctx', {}).get('error', it['msg'])}" for it in mistakes]
        if said:
            raise ReleaseError("\n".join(said)) from None


def _confirmed(host: str, port: int, *, yes: bool) -> str:
    """The server's key, as it shows it, and a person has seen it. Raises ReleaseError."""
    key = keys.scanned(host, port)
    _say(
        f"{host} shows the ed25519 key {keys.fingerprint(key)}",
        "Compare it with what this prints on the server's own console:",
        "  ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub",
    )
    if not yes:
        click.confirm("Is it the same", abort=True, err=True)
    return key


def _found(server: ServerSettings, directory: str | None) -> Installation:
    """The installation in the directory, or the only one. Raises ReleaseError."""
    places = connection.survey_of(server, NOWHERE).places if directory is None else ()
    if directory is None and len(places) != 1:
        raise ReleaseError(_which(server.host, places))
    installation = connection.survey_of(server, directory or places[0].directory).installation
    if installation is None:
        raise ReleaseError(f"{directory} is no directory of a Compose project")
    return installation


def _which(host: str, places: tuple[Place, ...]) -> str:
    if not places:
        return (
            f"no container of a Compose project is on {host}: name the directory of the Compose file with --directory"
        )
    found = "\n".join(f"  --directory {it.directory}   ({it.project}, {it.running} containers run)" for it in places)
    return f"there are several Compose projects on {host}. Name one:\n{found}"


def _settings(text: str, file: Path) -> Settings:
    """The configuration that is to be written, as a preview will load it. Raises ConfigurationError."""
    config: dict[str, Any] = yaml.safe_load(text)["config"]
    # Not against the file, which still is what it was.
    return validated(delivered(config), file.with_suffix(".new"))


def _of_pulumi(file: Path) -> str:
    """What Pulumi has written of its own into a stack file that is replaced: how secrets are encrypted."""
    try:
        document = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError):
        return ""
    kept = {key: it for key, it in document.items() if key != "config"} if isinstance(document, dict) else {}
    return yaml.safe_dump(kept) if kept else ""


def _of_decision(adoption: Adoption) -> Iterator[str]:
    if adoption.open:
        yield "Not known, and yours to look at:"
        yield from (f"  - {line}" for line in adoption.open)


def _of_server(settings: Settings) -> Iterator[str]:
    """What a rollout would meet there as it is, with this configuration."""
    facts = connection.ask(settings, settings.servers[0], None)
    if facts.refused:
        yield f"A rollout would be refused now: {facts.refused}"
    runs = any(it.service == settings.app.services[0] and it.status == "running" for it in facts.containers)
    if facts.problem and runs:
        yield (
            f"The application does not answer as health says, so a release like it would be put back: {facts.problem}. "
            "Set health.path, health.status and health.contains to what it does answer."
        )
    if facts.release:
        yield f"Relève has released {facts.release} there already: if there is a stack file for that, use it."


def _next(stack: str, file: Path, settings: Settings) -> Iterator[str]:
    yield f"Wrote {file.name}. Nothing was changed on {settings.servers[0].host}. Read it, then:"
    yield f"  pulumi stack init {stack}"
    if settings.tag == UNKNOWN_TAG:
        yield f"  pulumi config set {PREFIX}tag TAG -s {stack}   # of the first release"
    yield f"  ./releve doctor -s {stack}"
    yield f"  pulumi preview -s {stack}   # changes nothing"


def _say(*lines: str) -> None:
    """To people: what is printed by --dry-run stays a file."""
    for line in lines:
        print(line, file=sys.stderr)
