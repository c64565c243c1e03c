"""The rules, each a function of a resource's type and properties. Nothing in here knows how they are asked."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from policy.properties import Property

REMOTE, LOCAL, IMAGE = "command:remote:Command", "command:local:Command", "docker:index/image:Image"
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_PULLED = re.compile(r"\bdocker (?:image )?pull (?:--?\S+ )*(\S+)")
_LATEST = re.compile(r":latest(?![\w.-])")


class Level(StrEnum):
    """What comes of a violation."""

    MANDATORY = "mandatory"
    """Preview and update are refused."""
    ADVISORY = "advisory"
    """It is said."""


@dataclass(frozen=True)
class Resource:
    """What the program wants to have.

    kind:       its type, for example "command:remote:Command"
    properties: as the engine hands them over
    """

    kind: str
    name: str
    properties: Mapping[str, Any]

    def get(self, name: str) -> Property:
        """One of its properties."""
        return Property.read(self.properties, name)


@dataclass(frozen=True)
class Rule:
    """Something that must hold. check: yields what is wrong with a resource, in words."""

    name: str
    description: str
    level: Level
    check: Callable[[Resource], Iterator[str]]


def no_latest(resource: Resource) -> Iterator[str]:
    """A tag that moves says nothing of what runs, and is no way back."""
    if resource.kind == IMAGE:
        name = resource.get("imageName").text
        if name and (":" not in name.rpartition("/")[2] or _LATEST.search(name)):
            yield f"it is to be named {name}: give it a tag of its own"
    if resource.kind in (REMOTE, LOCAL):
        if _LATEST.search(resource.get("create").text):
            yield "its command names an image by the tag latest: name the release's tag"
        if _requested(resource).get("tag") == "latest" or "latest" in (resource.get("triggers").value or ()):
            yield "it rolls out the tag latest: set the release's own tag"


def by_digest(resource: Resource) -> Iterator[str]:
    """A tag may be moved between a preview and its update, and between one server and the next."""
    if resource.kind != REMOTE:
        return
    for image in _PULLED.findall(resource.get("create").text):
        if not _DIGEST.search(image):
            yield f"it pulls {image}, without a digest: write repository:tag@sha256:…"
    image = _requested(resource)
    if image and not _DIGEST.fullmatch(str(image.get("digest"))):
        yield f"it rolls out {image.get('repository')}:{image.get('tag')} without a digest"


def remote_commands(resource: Resource) -> Iterator[str]:
    """What makes a step run exactly when it should, on the server it is meant for (see docs/decisions/0002)."""
    if resource.kind != REMOTE:
        return
    connection = resource.get("connection").value
    for server in (connection, (connection or {}).get("proxy")):
        if server and not server.get("hostKey"):
            yield f"the host key of {server.get('host')} is not given, so any server that answers there is trusted"
    if not resource.get("triggers").is_given:
        yield "it has no triggers, so it would never run again"
    for name, why in (
        ("delete", "it would run when the step leaves the program, or is replaced"),
        ("update", "a changed input would run it alone, outside the chain of steps"),
        ("environment", "sshd refuses variables that its AcceptEnv does not name; give them on standard input"),
    ):
        if resource.get(name).is_given:
            yield f"it has `{name}`: {why}"


def no_secret_in_text(resource: Resource) -> Iterator[str]:
    """Everybody on a machine can read command lines, and Pulumi prints that of a command that fails."""
    if resource.kind in (REMOTE, LOCAL):
        for name in ("create", "update", "delete"):
            if resource.get(name).is_secret:
                yield f"there is a secret in the text of `{name}`: hand it over on standard input (stdin)"


def health_contains(resource: Resource) -> Iterator[str]:
    """A status of 200 alone is what a maintenance page and many a broken application answer, too."""
    if resource.kind == REMOTE and resource.name.endswith("-install"):
        request = _request(resource)
        if request and not (request.get("health") or {}).get("contains"):
            yield "health.contains is empty, so any answer with the right status counts as serving: name what it holds"


RULES = (
    Rule("no-latest", "No image has the tag latest.", Level.MANDATORY, no_latest),
    Rule("image-by-digest", "Servers are told the image by its digest.", Level.MANDATORY, by_digest),
    Rule(
        "remote-commands",
        "Remote commands have a host key and triggers, and no delete, update or environment.",
        Level.MANDATORY,
        remote_commands,
    ),
    Rule("no-secret-in-command", "No command's text holds a secret.", Level.MANDATORY, no_secret_in_text),
    Rule("health-contains", "Each server's health check looks at the answer.", Level.ADVISORY, health_contains),
)


def _request(resource: Resource) -> Mapping[str, Any]:
    """What a step of a rollout is asked to do (server/request.py): a line of its standard input, or {}."""
    for line in resource.get("stdin").text.splitlines():
        if line.startswith("{"):
            try:
                found = json.loads(line)
            except ValueError:
                continue
            return found if isinstance(found, dict) else {}
    return {}


def _requested(resource: Resource) -> Mapping[str, Any]:
    """The image that a step is about, or {}."""
    return _request(resource).get("image") or {}
