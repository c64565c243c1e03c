"""Image references: registry, path, tag and digest as one value."""

from __future__ import annotations

from dataclasses import dataclass, replace

from configuration.values import (
    CANDIDATE_PREFIX,
    DOCKER_HUB,
    check_digest,
    check_repository,
    check_tag,
    registry_of,
)


@dataclass(frozen=True)
class ImageReference:
    """A repository, with or without a tag and a digest.

    repository: as written by the operator, for example "ghcr.io/fablab/fabmanager"
    tag:        for example "6.5.10-lab", or None
    digest:     "sha256:" and 64 hexadecimal digits, or None
    """

    repository: str
    tag: str | None = None
    digest: str | None = None

    def __post_init__(self) -> None:
        """Raises ValueError, with a message for the operator, where a part is not valid."""
        check_repository(self.repository)
        if self.tag is not None:
            check_tag(self.tag)
        if self.digest is not None:
            check_digest(self.digest)

    @property
    def registry(self) -> str:
        """The registry's host, with its port if it has one; Docker Hub for a name without a host."""
        return registry_of(self.repository)

    @property
    def path(self) -> str:
        """The repository's path inside its registry. Docker Hub keeps its official images under library/."""
        if self.registry == DOCKER_HUB:
            path = self.repository.removeprefix(f"{DOCKER_HUB}/")
            return path if "/" in path else f"library/{path}"
        return self.repository.partition("/")[2]

    def with_tag(self, tag: str) -> ImageReference:
        """The same repository under `tag`, without a digest."""
        return replace(self, tag=tag, digest=None)

    def with_digest(self, digest: str) -> ImageReference:
        """The same repository and tag, pinned to `digest`."""
        return replace(self, digest=digest)

    def candidate(self, fingerprint: str) -> ImageReference:
        """The name of the candidate made of what `fingerprint` (hexadecimal) stands for: overwriting it is harmless."""
        return self.with_tag(f"{CANDIDATE_PREFIX}{fingerprint[:12]}")

    def __str__(self) -> str:
        """repository[:tag][@digest], as Docker and Compose write it."""
        tag = f":{self.tag}" if self.tag else ""
        digest = f"@{self.digest}" if self.digest else ""
        return f"{self.repository}{tag}{digest}"
