"""Gives a candidate its release tag: the same bytes under another name, so the digest stays the same.

Run by the ReleaseImage component as
`python -m release.publish [--ca-file FILE] [--account-follows] REPOSITORY:TAG DIGEST`; prints the digest.
With --account-follows the registry's account comes on standard input, as JSON: {"username": …, "password": …}. Without,
what `docker login` has stored is used.

Copying the manifest needs no Docker and keeps indexes whole; `docker pull` + `tag` + `push` and
`docker buildx imagetools create` write another manifest, and so another digest.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from errors import ReleaseError
from release.reference import ImageReference
from release.registry import Credentials, Registry


def publish(image: ImageReference, registry: Registry) -> None:
    """Puts the manifest `image.digest` under `image.tag`, unless the tag holds it already.

    Raises ReleaseError when the tag holds something else (a released tag never moves), when the manifest is not in the
    registry, or when the registry fails.
    """
    candidate = registry.manifest(image)
    if candidate is None or candidate.digest != image.digest:
        raise ReleaseError(f"{image} is not in the registry any more. Build it again: pulumi up")
    tagged = ImageReference(image.repository, image.tag)
    released = registry.manifest(tagged)
    if released is None:
        registry.put_manifest(tagged, candidate)
        # Read back: somebody may have pushed the same tag at the same moment, and the last one wins.
        released = registry.manifest(tagged)
    if released is None or released.digest != candidate.digest:
        raise ReleaseError(
            f"{tagged} was pushed by somebody else, as {released.digest if released else 'nothing'}, while this release"
            f" was being built as {candidate.digest}. A released tag never moves: choose another tag, then pulumi up."
        )


def main(arguments: Sequence[str]) -> int:
    """Entry point; returns the exit status."""
    parser = argparse.ArgumentParser(prog="release.publish", description="Gives a candidate its release tag.")
    parser.add_argument("tagged", metavar="REPOSITORY:TAG")
    parser.add_argument("digest", metavar="DIGEST")
    parser.add_argument("--ca-file", type=Path, help="trust these certificate authorities, too (PEM)")
    parser.add_argument("--account-follows", action="store_true", help="username and password as JSON on stdin")
    options = parser.parse_args(arguments)
    repository, _, tag = options.tagged.rpartition(":")
    image = ImageReference(repository, tag, options.digest)
    given = Credentials(**json.load(sys.stdin)) if options.account_follows else None
    try:
        publish(image, Registry(image.registry, (lambda: given) if given else None, options.ca_file))
    except ReleaseError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(options.digest)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
