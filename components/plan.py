"""The plan of an update, told before it begins; and the approval of it."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pulumi
import pulumi.runtime

from components.rollout import ENVIRONMENT_KEY, program
from configuration.keys import specification
from configuration.tree import ServerSettings, Settings
from errors import ReleaseError
from release import environment, plan
from release.compose_file import ComposeFile
from release.plan import Past, Plan, Target
from release.reference import ImageReference
from release.source import Source
from server.request import Image

READS = 5
"""Attempts to read the state."""
APPROVED = "RELEVE_APPROVED"
"""The environment variable with the fingerprint of the plan that was approved."""
WRITTEN_TO = "RELEVE_PLAN"
"""The environment variable with the path of a file that gets the plan as JSON."""


def read_state() -> Mapping[str, Mapping[str, Any]]:
    """The outputs of all of the stack's resources, by URN, as the last update left them; no server is asked."""
    name = f"{pulumi.get_organization()}/{pulumi.get_project()}/{pulumi.get_stack()}"
    for attempt in range(READS):
        time.sleep(attempt * 0.1)
        try:
            answer = pulumi.runtime.invoke("pulumi:pulumi:readStackResourceOutputs", {"stackName": name})
        except Exception as error:  # noqa: BLE001 - of the engine, which may be writing the state just then
            reason = error
        else:
            outputs: Mapping[str, Mapping[str, Any]] = (answer.value or {}).get("outputs") or {}
            return outputs
    pulumi.log.warn(f"the plan is made as if nothing had been released, because the state cannot be read: {reason}")
    return {}


@dataclass
class Announcement:
    """Says what an update of a stack will do, and stops one that is not what was approved.

    compose_file: that the repository keeps, or None
    """

    settings: Settings
    compose_file: ComposeFile | None
    outputs: Mapping[str, Mapping[str, Any]] = field(default_factory=read_state)

    @cached_property
    def _pasts(self) -> Mapping[str, Past]:
        """By the server's name."""
        return {server.name: Past.of(server.name, self.outputs) for server in self.settings.servers}

    def make(self, digest: str, source: Source | None) -> None:
        """Tells the plan for an image with this digest ("": yet to be built). Raises ReleaseError: not approved."""
        made = self._plan(digest or self._published(source), source)
        pulumi.log.info(f"plan\n{made.text()}")
        if file := os.environ.get(WRITTEN_TO):
            Path(file).write_text(json.dumps(made.document(), indent=2, ensure_ascii=False), encoding="utf-8")
        approved = os.environ.get(APPROVED)
        if approved and approved != made.fingerprint and not pulumi.runtime.is_dry_run():
            raise ReleaseError(
                f"this is not what was approved: {APPROVED} is {approved}, and the plan is {made.fingerprint}:\n"
                f"{made.text()}\nNothing was built or changed. Preview again, and have that approved."
            )

    def previous(self, server: ServerSettings) -> str:
        """The tag that a server runs now, if another one is to follow it; "" for none."""
        image = Image.parse(self._pasts[server.name].release)
        return image.tag if image and image.tag != self.settings.tag else ""

    def released(self) -> tuple[str, ...]:
        """The tags that this stack has released, as far as its servers run or keep them."""
        return tuple(tag for server in self.settings.servers for tag in self._pasts[server.name].tags)

    def _published(self, source: Source | None) -> str | None:
        """The digest of an image that this stack has built of this source, and has given this tag; None: it has not."""
        image = ImageReference(self.settings.image.repository, self.settings.tag)
        named = {urn.rpartition("::")[2]: resource.get("outputs") or {} for urn, resource in self.outputs.items()}
        candidate, published = named.get("image-candidate", {}), named.get("image-publish", {})
        if source is None or candidate.get("imageName") != str(image.candidate(source.fingerprint)):
            return None
        is_it = [str(value) for value in published.get("triggers") or ()][:1] == [str(image)]
        return str(published.get("stdout")).strip() if is_it else None

    def _plan(self, digest: str | None, source: Source | None) -> Plan:
        return plan.make(
            pulumi.get_stack(),
            [(self._target(server, digest, source), self._pasts[server.name]) for server in self.settings.servers],
        )

    def _target(self, server: ServerSettings, digest: str | None, source: Source | None) -> Target:
        file, services = self.compose_file, self.settings.app.services
        return Target(
            settings=self.settings,
            server=server,
            digest=digest,
            made_of=source.described if source else "",
            specification=specification(self.settings, server, file.text if file else None),
            environment=self._environment(server),
            program=program().sha256,
            others=tuple(told.partition(" ")[0] for told in (file.dependants(services) if file else ())),
        )

    def _environment(self, server: ServerSettings) -> tuple[str, ...]:
        """As the triggers of the steps have it."""
        values = environment.values_of(self.settings) or {}
        name = f"::{server.name}{ENVIRONMENT_KEY}"
        keys = [it["outputs"].get("output") for urn, it in self.outputs.items() if urn.endswith(name)]
        known = environment.fingerprints(values, str(keys[0])) if keys and keys[0] else {}
        return tuple(f"env {name} {known.get(name, 'new')}" for name in sorted(values))
