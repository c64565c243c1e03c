"""./releve gitops …: what the jobs of a forge call, and who has none calls by hand."""

from __future__ import annotations

import json
from pathlib import Path

import click

from configuration.load import load
from errors import ReleaseError
from gitops import changes, forge, install, report, run, sticky
from gitops.artefacts import Artefacts, Preview
from operations.command import console, failing_in_words
from operations.stack import PROJECT

stack_option = click.option("--stack", "-s", metavar="NAME", required=True, help="The stack.")
HOUR = 3600


@click.group()
def gitops() -> None:
    """Releases by pull request: see docs/gitops.md."""


@gitops.command()
@click.argument("name", metavar="FORGE", type=click.Choice(["github", "gitlab", "hook"]))
@click.option("--in", "target", metavar="DIRECTORY", default=str(PROJECT), help="By default this checkout.")
@failing_in_words
def init(name: str, target: str) -> None:
    """Put the workflows for GitHub or GitLab into the repository, or the hook into a bare repository's hooks."""
    written = install.install(name, Path(target))
    for file in written:
        click.echo(f"wrote {file}")
    click.echo("What to set on the forge: docs/gitops.md" if written else "everything is there already")


@gitops.command()
@stack_option
@failing_in_words
def preview(stack: str) -> None:
    """Preview a stack under the policy pack, and leave plan and log in .releve/gitops/<stack>/."""
    found = run.preview(stack)
    if found.waits:
        click.echo(f"{stack} waits for the stack that builds to release this tag")
    elif not found.succeeded:
        raise SystemExit(1)


@gitops.command()
@stack_option
@failing_in_words
def planned(stack: str) -> None:
    """Print the fingerprint of the last preview of a stack, nothing where nothing is to be done.

    It is what is approved by letting the next job go on.
    """
    found = Preview.read(stack, Artefacts.of(stack))
    if not found.succeeded:
        why = "it waits for the stack that builds to release this tag" if found.waits else "see what it printed"
        raise ReleaseError(f"the preview of {stack} came to no plan: {why}")
    click.echo(found.approvable)


@gitops.command()
@stack_option
@click.option("--approved", metavar="FINGERPRINT", envvar="RELEVE_APPROVED", default="", help="Of the plan.")
@click.option("--wait", metavar="SECONDS", default=HOUR, show_default=True, help="For another rollout to end.")
@failing_in_words
def deploy(stack: str, approved: str, wait: int) -> None:
    """Preview a stack again, and roll it out when that is what was approved."""
    raise SystemExit(run.deploy(stack, approved, wait))


@gitops.command(name="approved")
@stack_option
@failing_in_words
def approved_(stack: str) -> None:
    """Print the fingerprint that was approved by merging this job's commit."""
    click.echo(sticky.approved(forge.job(), stack))


@gitops.command()
@stack_option
@failing_in_words
def comment(stack: str) -> None:
    """Write the last preview of a stack on this job's pull request, in place of the one before."""
    found, job = Preview.read(stack, Artefacts.of(stack)), forge.job()
    sticky.comment(job, stack, report.markdown(found, job.commit))


@gitops.command()
@stack_option
@failing_in_words
def summary(stack: str) -> None:
    """Print the last preview of a stack as Markdown, for a job's summary."""
    click.echo(report.markdown(Preview.read(stack, Artefacts.of(stack))))


@gitops.command()
@stack_option
@click.option("--status", type=int, required=True, help="That `make drift` ended with.")
@click.argument("found", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@failing_in_words
def issue(stack: str, status: int, found: Path) -> None:
    """Keep one issue open while a stack is not as it was released. FOUND: what `make drift` printed."""
    if status not in (0, 2):
        raise ReleaseError(f"whether {stack} is as it was released is not known: make drift ended with {status}")
    job = forge.job()
    sticky.keep_issue(job.forge, stack, differs=status != 0, found=found.read_text(encoding="utf-8"), run=job.run)


@gitops.command()
@click.option("--since", metavar="COMMIT", required=True, help="What the change is compared with.")
@click.option("--lines", is_flag=True, help="One a line, instead of a list in JSON.")
@failing_in_words
def touched(since: str, *, lines: bool) -> None:
    """Print the stacks that a change touches."""
    found = changes.touched(since)
    click.echo("\n".join(found) if lines else json.dumps(found))


@gitops.command()
@failing_in_words
def check() -> None:
    """Check the configuration of every stack without Pulumi, secrets or servers: what a fork's pull request gets."""
    for stack in changes.stacks_of():
        file = PROJECT / f"Pulumi.{stack}.yaml"
        load(changes.configuration_in(file), file)
        console().print(f"{file.name}: in order")
