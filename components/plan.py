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

from components.image import PROJECT_DIRECTORY
from components.rollout import ENVIRONMENT_KEY, program
from configuration.keys import specification
from configuration.tree import ServerSettings, Settings
from errors import ReleaseError
from language import _
from release import environment, plan, registry
from release.compose_file import ComposeFile
from release.plan import Past, Plan, Target
from release.reference import ImageReference
from release.registry import RegistryError
from release.source import Source
from release.upgrade import label
from release.upgrade.plan import Planned
from server.request import Changes, Image, Upgrade, Version
from server.upgrade import version_of

READS = 5
"""Attempts to read the state."""


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
    _upgrades: dict[str, Planned] = field(default_factory=dict, init=False)

    @cached_property
    def _pasts(self) -> Mapping[str, Past]:
        """By the server's name."""
        return {server.name: Past.of(server.name, self.outputs) for server in self.settings.servers}

    def make(self, digest: str, source: Source | None) -> None:
        """Tells the plan for an image with this digest ("": yet to be built).

        Raises ReleaseError where it is not what was approved, and where the application's changelog speaks against it.
        """
        known = digest or self._published(source)
        made = self._plan(known, source)
        rolling_out = [server.server for server in made.servers if server.rolls_out]
        if self.settings.upgrade.changelog and rolling_out:
            changes = self._changes(known, source)
            self._upgrades.update({name: Planned(changes, self._running(name)) for name in rolling_out})
            made = self._plan(known, source)
        pulumi.log.info(f"{_('plan')}\n{made.text()}")
        if file := os.environ.get(plan.FILE):
            Path(file).write_text(json.dumps(made.document()))
        if made.obstacles:
            raise ReleaseError(
                "\n".join([_("the release is refused, and nothing was built or changed:"), *made.obstacles])
            )
        approved = os.environ.get(plan.APPROVED)
        if approved and approved != made.fingerprint and not pulumi.runtime.is_dry_run():
            raise ReleaseError(
                _(
                    "this is not what was approved: {variable} is {approved}, and the plan is {fingerprint}:\n"
                    "{plan}\nNothing was built or changed. Preview again, and have that approved.",
                    variable=plan.APPROVED,
                    approved=approved,
                    fingerprint=made.fingerprint,
                    plan=made.text(),
                )
            )

    def upgrade(self, server: ServerSettings) -> Upgrade | None:
        """What a server is told of what the release's changelog asks for; known once the plan is told."""
        planned = self._upgrades.get(server.name)
        return planned.request(self.settings) if planned else None

    def previous(self, server: ServerSettings) -> str:
        """The tag that a server runs now, if another one is to follow it; "" for none."""
        image = Image.parse(self._pasts[server.name].release)
        return image.tag if image and image.tag != self.settings.tag else ""

    def released(self) -> tuple[str, ...]:
        """The tags that this stack has released, as far as its servers run or keep them."""
        return tuple(tag for server in self.settings.servers for tag in self._pasts[server.name].tags)

    def _changes(self, digest: str | None, source: Source | None) -> Changes | None:
        """What the release's changelog asks for; None: its image was built without one. Raises ReleaseError."""
        if digest is None:
            value = source.labels.get(label.LABEL) if source else None
        else:
            image = ImageReference(self.settings.image.repository, self.settings.tag, digest)
            value = (self._labels(image) or {}).get(label.LABEL)
        return label.load(value) if value else None

    def _running(self, server: str) -> Version | None:
        """The version that runs on a server, as far as that is known here."""
        if self.settings.upgrade.running:
            return version_of(self.settings.upgrade.running)
        image = self._pasts[server].live(self.settings.image.repository)
        if image is None:
            return None
        try:
            value = (self._labels(ImageReference(image.repository, image.tag, image.digest)) or {}).get(label.LABEL)
        except RegistryError:
            return None  # it need not be there any more: the server knows
        return label.load(value).version if value else None

    def _labels(self, image: ImageReference) -> Mapping[str, str] | None:
        asked = registry.connect(image.registry, self.settings.registry, PROJECT_DIRECTORY)
        return asked.labels(image, self.settings.image.platform)

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
            upgrade=self._upgrades.get(server.name),
            others=tuple(told.partition(" ")[0] for told in (file.dependants(services) if file else ())),
        )

    def _environment(self, server: ServerSettings) -> tuple[str, ...]:
        """As the triggers of the steps have it."""
        values = environment.values_of(self.settings) or {}
        name = f"::{server.name}{ENVIRONMENT_KEY}"
        keys = [it["outputs"].get("output") for urn, it in self.outputs.items() if urn.endswith(name)]
        known = environment.fingerprints(values, str(keys[0])) if keys and keys[0] else {}
        return tuple(f"env {name} {known.get(name, 'new')}" for name in sorted(values))
