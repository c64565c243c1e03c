"""What is said once and kept up to date: a comment for each stack of a pull request, an issue for each that drifted."""

from __future__ import annotations

from errors import ReleaseError
from gitops import report
from gitops.forge import Forge, Job

DRIFT_LABEL = "releve-drift"


def comment(job: Job, stack: str, body: str) -> None:
    """Writes the stack's comment on the job's pull request, or writes it anew. Raises ReleaseError."""
    if job.request is None:
        raise ReleaseError("this job is of no pull request: there is nothing to comment on")
    before = next((note for note in job.forge.comments(job.request) if report.is_of(stack, note.body)), None)
    job.forge.comment(job.request, body, before)


def approved(job: Job, stack: str) -> str:
    """The fingerprint that the merged pull request of the job's commit shows for a stack. Raises ReleaseError."""
    request = job.forge.merged_as(job.commit)
    if request is None:
        raise ReleaseError(f"{job.commit} is of no merged pull request, so nobody has approved a plan of {stack} there")
    notes = [note for note in job.forge.comments(request) if report.is_of(stack, note.body)]
    found = report.fingerprint_in(notes[0].body) if notes else ""
    if not found:
        raise ReleaseError(f"the pull request {request} shows no plan of {stack} that could be approved")
    return found


def keep_issue(forge: Forge, stack: str, found: str, run: str) -> None:
    """Keeps one issue open while a stack's servers are not as they were released, and none otherwise.

    found: what differs, in words; "" for nothing
    run:   where the job's log is
    """
    marked = report.marker(stack)
    before = next((note for note in forge.open_issues(DRIFT_LABEL) if note.body.startswith(marked)), None)
    if found:
        fence = "```"
        body = f"{marked}\n{fence}text\n{found.strip().replace(fence, '')}\n{fence}\nFound by {run}"
        forge.open_issue(f"{stack} is not as it was released", body, DRIFT_LABEL, before)
    elif before:
        forge.close_issue(before, f"It is as it was released again: {run}")
