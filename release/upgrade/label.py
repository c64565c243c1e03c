"""What a release's changelog asks for, as a label of its image: servers' stacks have no source to read it from.

Compressed JSON in base64: Fab-manager's 213 items are 7 KB. A registry keeps labels with the image's configuration,
under the image's digest: they are what was built.
"""

from __future__ import annotations

import base64
import dataclasses
import json
import zlib

from configuration.tree import UpgradeSettings
from errors import ReleaseError
from release.upgrade.changelog import items
from server.request import Changes, RequestError, read
from server.upgrade import version_in

LABEL = "org.releve.upgrade"
LARGEST = 48 * 1024
"""Bytes. Docker reads lines of a Dockerfile, where labels are set, up to 64 KiB; registries take configurations of
4 MiB."""
LARGEST_READ = 4 * 1024 * 1024
"""Bytes of JSON that a label may unpack to."""


def changes_of(settings: UpgradeSettings, changelog: str, version: str) -> Changes:
    """What the changelog of a source asks for, up to the version of the source.

    changelog: its text
    version:   the text of the file upgrade.version
    Raises ReleaseError where that holds no version.
    """
    try:
        own = version_in(settings.version, version)
    except ValueError as error:
        raise ReleaseError(f"upgrade.version: {settings.version} in the source holds no version: {error}") from None
    asked = tuple(item for item in items(changelog, settings.marker) if item.version <= own)
    return Changes(own, str(settings.changelog), settings.stops, asked)


def dump(changes: Changes) -> str:
    """The label's value. Raises ReleaseError where it would be too large."""
    text = json.dumps(dataclasses.asdict(changes), separators=(",", ":")).encode()
    value = base64.b64encode(zlib.compress(text, 9)).decode()
    if len(value) > LARGEST:
        raise ReleaseError(
            f"upgrade.changelog: what {changes.file} asks for makes a label of {len(value)} bytes, and {LARGEST} fit. "
            f"Remove the items of versions that run nowhere any more from {changes.file}, or unset upgrade.changelog."
        )
    return value


def load(value: str) -> Changes:
    """Reads the label. Raises ReleaseError."""
    try:
        unpacked = zlib.decompressobj().decompress(base64.b64decode(value, validate=True), LARGEST_READ)
        return read(Changes, json.loads(unpacked), "")
    except (ValueError, zlib.error, RequestError) as error:
        raise ReleaseError(
            f"the image's label {LABEL} cannot be read: {error}. It was built with another version of Relève: build "
            f"the release again under a new tag, or unset upgrade.changelog for this one."
        ) from None
