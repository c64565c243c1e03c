"""A preview as people read it in a pull request: the plan first, the rest folded."""

from __future__ import annotations

import re

from gitops.artefacts import Preview

MARKER = "releve-preview"
_MARKED = re.compile(rf"<!-- {MARKER} stack=(\S+) fingerprint=([0-9a-f]{{12}}|none) commit=(\S*) -->")
LONGEST_LOG = 50_000
"""Characters: GitHub refuses comments of more than 65,536."""


def marker(stack: str, fingerprint: str = "none", commit: str = "") -> str:
    """The first line of a stack's comment, which no reader sees, and by which it is found again."""
    return f"<!-- {MARKER} stack={stack} fingerprint={fingerprint or 'none'} commit={commit} -->"


def is_of(stack: str, body: str) -> bool:
    """Whether this is the comment about a stack."""
    found = _MARKED.match(body)
    return found is not None and found[1] == stack


def fingerprint_in(body: str) -> str:
    """The fingerprint that a comment of ours shows, or ""."""
    found = _MARKED.match(body)
    return "" if found is None or found[2] == "none" else found[2]


def markdown(preview: Preview, commit: str = "") -> str:
    """The comment; without its first line it is the job's summary, too.

    commit: what was previewed
    """
    approvable = preview.approvable
    lines = [marker(preview.stack, approvable, commit), f"### {preview.stack}: {_outcome(preview)}"]
    if preview.text:
        lines += ["", _fenced(preview.text)]
    if approvable:
        lines += ["", f"Merging this approves the plan `{approvable}` and no other one."]
    lines += ["", "<details><summary>What Pulumi printed</summary>", "", _fenced(_shortened(preview.log)), "</details>"]
    return "\n".join(lines)


def _outcome(preview: Preview) -> str:
    if preview.waits:
        return "waits for the stack that builds to release this tag; it is previewed again then"
    if not preview.succeeded:
        return "the preview FAILS"
    return "nothing to do" if preview.is_empty else "what would be done"


def _shortened(log: str) -> str:
    if len(log) <= LONGEST_LOG:
        return log
    half = LONGEST_LOG // 2
    left_out = f"… {len(log) - LONGEST_LOG} characters are left out here; the job's artefact has all …"
    return f"{log[:half]}\n{left_out}\n{log[-half:]}"


def _fenced(text: str) -> str:
    """As it is: a fence is longer than any in the text, so nothing in there is read as Markdown."""
    longest = max((len(run) for run in re.findall(r"`{3,}", text)), default=2)
    fence = "`" * (longest + 1)
    return f"{fence}text\n{text.strip()}\n{fence}"
