"""Image references: registry, path, tag and digest as one value.

The grammar is the distribution project's (github.com/distribution/reference): lower-case path components, a tag of at
most 128 characters, a sha256 digest.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

DOCKER_HUB = "docker.io"

TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_HOST = re.compile(r"(localhost|[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+|[A-Za-z0-9-]+(?=:)|\[[0-9a-fA-F:]+\])(:[0-9]{1,5})?")
_COMPONENT = re.compile(r"[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*")

CANDIDATE_PREFIX = "build-"
"""Tags that start so name candidates: images that were built and not yet released."""


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
        if self.digest is not None and not DIGEST.fullmatch(self.digest):
            raise ValueError(f"{self.digest!r} is not a digest: expected sha256: and 64 hexadecimal digits")

    @property
    def registry(self) -> str:
        """The registry's host, with its port if it has one; Docker Hub for a name without a host."""
        host, slash, _ = self.repository.partition("/")
        return host if slash and _HOST.fullmatch(host) else DOCKER_HUB

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


def check_repository(repository: str) -> None:
    """Raises ValueError when `repository` is not a repository's name, or carries a tag or a digest."""
    if "@" in repository or ":" in repository.rpartition("/")[2]:
        raise ValueError("give the repository alone, without tag or digest: the tag is the key `tag`")
    host, slash, rest = repository.partition("/")
    path = rest if slash and _HOST.fullmatch(host) else repository
    if not all(_COMPONENT.fullmatch(component) for component in path.split("/")):
        raise ValueError("expected registry/path in lower case, for example ghcr.io/fablab/fabmanager")


def check_tag(tag: str) -> None:
    """Raises ValueError when `tag` is not one that Docker accepts, or is `latest`, which moves."""
    if not TAG.fullmatch(tag):
        raise ValueError("a tag has 1 to 128 letters, digits, '_', '.' and '-', and does not start with '.' or '-'")
    if tag == "latest":
        raise ValueError("`latest` moves, so it cannot be rolled back to: name the version, for example 6.5.10-lab")
