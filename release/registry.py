"""The registry's HTTP API: what a tag holds, and giving a manifest its tag.

Protocol: the OCI distribution specification 1.1 and, for tokens, the distribution project's token authentication.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import httpx

from release.errors import ReleaseError
from release.reference import DOCKER_HUB, ImageReference

MANIFEST_TYPES = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
"""Indexes come first: a registry that holds one must not answer with one of its platforms, whose digest is another."""

TIMEOUT = httpx.Timeout(10.0, connect=5.0)
"""Seconds. A manifest is a few kilobytes: a registry that takes longer is down."""


@dataclass(frozen=True)
class Present:
    """The registry holds the tag, as the manifest `digest`."""

    digest: str


@dataclass(frozen=True)
class Absent:
    """The registry answered, and does not hold the tag."""


@dataclass(frozen=True)
class Unreachable:
    """The registry did not say whether it holds the tag; `reason` says why, for the operator."""

    reason: str


TagState = Present | Absent | Unreachable


@dataclass(frozen=True)
class Manifest:
    """A manifest or an index, byte for byte as the registry stores it."""

    content: bytes
    media_type: str

    @property
    def digest(self) -> str:
        """The sha256 digest of the content."""
        return f"sha256:{hashlib.sha256(self.content).hexdigest()}"


@dataclass(frozen=True)
class Credentials:
    """A registry account. The password stays out of repr, and so of logs and tracebacks."""

    username: str
    password: str

    def __repr__(self) -> str:
        return f"Credentials(username={self.username!r})"


class RegistryError(ReleaseError):
    """The registry could not be reached, refused, or gave an answer that is no registry's."""


class Registry:
    """The manifests of one registry.

    host:        as in an image's name, for example "ghcr.io" or "localhost:5000"
    credentials: called once the registry asks for them; None as its result means: none are known. By default what
                 `docker login` stored, credential helpers included.
    """

    def __init__(self, host: str, credentials: Callable[[], Credentials | None] | None = None) -> None:
        self.host = host
        self._credentials = credentials or (lambda: docker_login(host))
        self._base = ""
        self._client = httpx.Client(timeout=TIMEOUT, follow_redirects=True)

    def manifest(self, image: ImageReference) -> Manifest | None:
        """The manifest that `image` names by its digest, or else its tag; None if there is none.

        Raises RegistryError.
        """
        response = self._request("GET", image, headers={"Accept": ", ".join(MANIFEST_TYPES)})
        if response.status_code == httpx.codes.NOT_FOUND:
            if not _is_registry_error(response):
                raise RegistryError(f"{self.host} answers, but not like a registry: {_brief(response)}")
            return None
        if not response.is_success:
            raise RegistryError(f"registry {self.host} refused to show {image}: {_brief(response)}")
        manifest = Manifest(response.content, response.headers.get("Content-Type", "").partition(";")[0].strip())
        if manifest.media_type not in MANIFEST_TYPES:
            raise RegistryError(f"{self.host} answers, but not like a registry: {image} is {manifest.media_type!r}")
        return manifest

    def put_manifest(self, image: ImageReference, manifest: Manifest) -> None:
        """Stores `manifest` under the tag of `image`. Raises RegistryError."""
        response = self._request("PUT", image, headers={"Content-Type": manifest.media_type}, content=manifest.content)
        if response.status_code != httpx.codes.CREATED:
            raise RegistryError(f"registry {self.host} refused the tag {image}: {_brief(response)}")

    def _request(
        self, method: str, image: ImageReference, *, headers: dict[str, str], content: bytes | None = None
    ) -> httpx.Response:
        with _as_registry_error(self.host):
            url = f"{self._endpoint()}/v2/{image.path}/manifests/{image.digest or image.tag}"
            response = self._client.request(method, url, headers=headers, content=content)
            if response.status_code == httpx.codes.UNAUTHORIZED:
                self._client.auth = self._authorize(response, image, "pull,push" if method == "PUT" else "pull")
                response = self._client.request(method, url, headers=headers, content=content)
        if response.status_code in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
            raise RegistryError(
                f"registry {self.host} refuses access to {image.path} ({_brief(response)}). "
                f"Check the account, then: docker login {self.host}"
            )
        return response

    def _endpoint(self) -> str:
        """The registry's base URL. Like Docker Engine, falls back to plain HTTP for loopback addresses only."""
        if not self._base:
            host = "registry-1.docker.io" if self.host == DOCKER_HUB else self.host
            self._base = f"https://{host}"
            if _is_loopback(host):
                try:
                    self._client.get(f"{self._base}/v2/")
                except httpx.ConnectError:
                    self._base = f"http://{host}"
        return self._base

    def _authorize(self, response: httpx.Response, image: ImageReference, actions: str) -> httpx.Auth:
        scheme, parameters = _challenge(response.headers.get("WWW-Authenticate", ""))
        credentials = self._credentials()
        basic = httpx.BasicAuth(credentials.username, credentials.password) if credentials else None
        if scheme != "bearer" or "realm" not in parameters:
            return basic or httpx.Auth()
        query = {"service": parameters.get("service", ""), "scope": f"repository:{image.path}:{actions}"}
        answer = self._client.get(parameters["realm"], params=query, auth=basic or httpx.Auth())
        if not answer.is_success:
            raise RegistryError(
                f"registry {self.host} refuses the account for {image.path} ({_brief(answer)}). "
                f"Check it, then: docker login {self.host}"
            )
        body = answer.json()
        return _Bearer(str(body.get("token") or body.get("access_token")))


class _Bearer(httpx.Auth):
    def __init__(self, token: str) -> None:
        self._token = token

    def auth_flow(self, request: httpx.Request) -> Iterator[httpx.Request]:  # type: ignore[override]
        request.headers["Authorization"] = f"Bearer {self._token}"
        yield request


def probe(image: ImageReference, registry: Registry | None = None) -> TagState:
    """Says what the registry holds for the tag of `image`. Never raises: not knowing is an answer, too."""
    try:
        manifest = (registry or Registry(image.registry)).manifest(image)
    except RegistryError as error:
        return Unreachable(str(error))
    return Present(manifest.digest) if manifest else Absent()


def docker_login(host: str) -> Credentials | None:
    """The account that `docker login` (or a credential helper) holds for `host`, or None."""
    # Imported here: it takes a while, and most previews need no account.
    from docker.auth import load_config  # noqa: PLC0415
    from docker.errors import DockerException  # noqa: PLC0415

    try:
        entry = load_config().resolve_authconfig(None if host == DOCKER_HUB else host)
    except DockerException as error:
        raise RegistryError(f"the credential helper for {host} fails: {error}. Run: docker login {host}") from None
    # Credential helpers answer with capital letters, the file's own entries come without.
    account = {key.lower(): value for key, value in (entry or {}).items()}
    if not account.get("username"):
        return None
    return Credentials(account["username"], account["password"])


@contextmanager
def _as_registry_error(host: str) -> Iterator[None]:
    try:
        yield
    except httpx.HTTPError as error:
        raise RegistryError(f"registry {host} does not answer: {error or type(error).__name__}") from None
    except ValueError as error:
        raise RegistryError(f"{host} answers, but not like a registry: {error}") from None


def _is_loopback(host: str) -> bool:
    return host.startswith(("localhost", "127.", "[::1]"))


def _challenge(header: str) -> tuple[str, dict[str, str]]:
    scheme, _, rest = header.partition(" ")
    return scheme.lower(), dict(re.findall(r'(\w+)="([^"]*)"', rest))


def _is_registry_error(response: httpx.Response) -> bool:
    try:
        return "errors" in response.json()
    except ValueError:
        return False


def _brief(response: httpx.Response) -> str:
    """Status and the registry's own words, short enough for one line."""
    try:
        errors = response.json()["errors"]
        words = "; ".join(f"{e.get('code', '')} {e.get('message', '')}".strip() for e in errors)
    except (ValueError, KeyError, TypeError, AttributeError):
        words = response.reason_phrase
    return f"HTTP {response.status_code} {words}"[:300]
