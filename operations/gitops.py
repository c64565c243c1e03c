"""./releve gitops …: what the jobs of a forge call, and who has none calls by hand."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import click

from configuration.load import load
from errors import ReleaseError
from gitops import changes, forge, install, report, run, sticky
from gitops.artefacts import Artefacts, Preview
from operations.command import console, failing_in_words
from operations.stack import PROJECT
from release.plan import APPROVED

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
@click.option("--approved", metavar="FINGERPRINT", envvar=APPROVED, default="", help="Of the plan.")
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
@failing_in_words
def drift(stack: str) -> None:
    """Say what is no longer as it was released, as ./releve drift, and leave that in .releve/gitops/<stack>/."""
    command = [sys.executable, "-m", "operations", "drift", "--stack", stack]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    click.echo(done.stdout, nl=False)
    Artefacts.of(stack).write_drift(done.returncode, done.stdout)
    raise SystemExit(done.returncode)


@gitops.command()
@stack_option
@failing_in_words
def issue(stack: str) -> None:
    """Keep one issue open while the last `make drift` says that a stack is not as it was released."""
    job = forge.job()
    sticky.keep_issue(job.forge, stack, Artefacts.of(stack).read_drift(), job.run)


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
