"""The registry's HTTP API: what a tag holds, and giving a manifest its tag.

Protocol: the OCI distribution specification 1.1 and, for tokens, the distribution project's token authentication.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import ssl
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from configuration.tree import RegistrySettings
from configuration.values import DOCKER_HUB
from errors import ReleaseError
from release.reference import ImageReference

MANIFEST_TYPES = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
"""Indexes come first: a registry that holds one must not answer with one of its platforms, whose digest is another."""

TIMEOUT = httpx.Timeout(10.0, connect=5.0)
"""Seconds. A manifest is a few kilobytes: a registry that takes longer is down."""

LISTS = 10
"""Pages of a list of tags that are read."""


@dataclass(frozen=True)
class Present:
    """The registry holds the tag, as the manifest `digest`."""

    digest: str


@dataclass(frozen=True)
class Absent:
    """The registry answered, and does not hold the tag.

    anonymous: it was asked without an account. Some registries hide what is private behind the same answer.
    """

    anonymous: bool = field(default=False, compare=False)


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
    ca_file:     certificates, in PEM, of authorities to trust besides the usual ones
    Raises RegistryError when `ca_file` cannot be used.
    """

    def __init__(
        self, host: str, credentials: Callable[[], Credentials | None] | None = None, ca_file: Path | None = None
    ) -> None:
        self.host = host
        self._credentials = credentials or (lambda: docker_login(host))
        self._base = ""
        self._authorized: Credentials | None = None
        self._trusted = _trusting(ca_file) if ca_file else True

    @cached_property
    def _client(self) -> httpx.Client:
        # Made at the first request: reading the usual authorities takes a while.
        return httpx.Client(timeout=TIMEOUT, follow_redirects=True, verify=self._trusted)

    @property
    def anonymous(self) -> bool:
        """Whether no account has been shown to the registry so far."""
        return self._authorized is None

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

    def labels(self, image: ImageReference, platform: str) -> dict[str, str] | None:
        """The labels of the image that `image` names by its digest; None if there is no such image.

        platform: which one, where it is an index; for example "linux/amd64"
        Raises RegistryError.
        """
        manifest = self.manifest(image)
        with _as_registry_error(self.host):
            document = json.loads(manifest.content) if manifest else {}
        for entry in document.get("manifests") or ():
            of = entry.get("platform") or {}
            if "/".join(filter(None, (of.get("os"), of.get("architecture"), of.get("variant")))) == platform:
                return self.labels(image.with_digest(entry["digest"]), platform)
        if "config" not in document:
            return None
        digest = str(document["config"]["digest"])
        response = self._request("GET", image, f"blobs/{digest}", headers={})
        if not response.is_success:
            raise RegistryError(f"registry {self.host} refused to show the labels of {image}: {_brief(response)}")
        if f"sha256:{hashlib.sha256(response.content).hexdigest()}" != digest:
            raise RegistryError(f"registry {self.host} shows other labels of {image} than it was built with")
        with _as_registry_error(self.host):
            found = (response.json().get("config") or {}).get("Labels")
        return {str(name): str(value) for name, value in (found or {}).items()}

    def put_manifest(self, image: ImageReference, manifest: Manifest) -> None:
        """Stores `manifest` under the tag of `image`. Raises RegistryError."""
        response = self._request("PUT", image, headers={"Content-Type": manifest.media_type}, content=manifest.content)
        if response.status_code != httpx.codes.CREATED:
            raise RegistryError(f"registry {self.host} refused the tag {image}: {_brief(response)}")

    def tags(self, image: ImageReference) -> list[str]:
        """The tags in the repository of `image`; of very many, not all. Raises RegistryError."""
        found: list[str] = []
        rest = "tags/list?n=1000"
        for _ in range(LISTS):
            response = self._request("GET", image, rest, headers={})
            if not response.is_success:
                if response.status_code == httpx.codes.NOT_FOUND:
                    break  # there is no such repository yet
                raise RegistryError(f"registry {self.host} refused to list {image.path}: {_brief(response)}")
            with _as_registry_error(self.host):
                found += [str(tag) for tag in response.json().get("tags") or ()]
            following = response.links.get("next", {}).get("url", "").partition("?")[2]
            if not following:
                break
            rest = f"tags/list?{following}"
        return found

    def _request(
        self,
        method: str,
        image: ImageReference,
        what: str = "",
        *,
        headers: dict[str, str],
        content: bytes | None = None,
    ) -> httpx.Response:
        """Asks for something in the repository of `image`, by default its manifest."""
        with _as_registry_error(self.host):
            what = what or f"manifests/{image.digest or image.tag}"
            url = f"{self._endpoint()}/v2/{image.path}/{what}"
            response = self._client.request(method, url, headers=headers, content=content)
            # A registry that lets anybody read what is public may say of the rest that it does not exist.
            hidden = response.status_code == httpx.codes.NOT_FOUND and self.anonymous
            if response.status_code == httpx.codes.UNAUTHORIZED or (hidden and self._account()):
                self._client.auth = self._authorize(response, image, "pull,push" if method == "PUT" else "pull")
                response = self._client.request(method, url, headers=headers, content=content)
        if response.status_code in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
            raise RegistryError(self._refusal(image, response))
        return response

    def _account(self) -> Credentials | None:
        self._authorized = self._authorized or self._credentials()
        return self._authorized

    def _refusal(self, image: ImageReference, response: httpx.Response) -> str:
        if account := self._authorized:
            return (
                f"registry {self.host} refuses the account {account.username} for {image.path} ({_brief(response)}). "
                f"Check its password or token and its rights, and that the repository exists; then: "
                f"pulumi config set --secret --path registry.password, or docker login {self.host}"
            )
        return (
            f"registry {self.host} shows {image.path} to nobody without an account ({_brief(response)}), and none is "
            f"known. Run: docker login {self.host}, or set registry.username and the secret registry.password"
        )

    def _endpoint(self) -> str:
        """The registry's base URL. Like Docker Engine, falls back to plain HTTP for loopback addresses only."""
        if not self._base:
            host = "registry-1.docker.io" if self.host == DOCKER_HUB else self.host
            self._base = f"https://{host}"
            if _is_loopback(host):
                try:
                    self._client.get(f"{self._base}/v2/")
                except httpx.ConnectError as error:
                    # Not where TLS is spoken and the certificate is unknown: the password would go there in clear.
                    if not _is_about_certificates(error):
                        self._base = f"http://{host}"
        return self._base

    def _authorize(self, response: httpx.Response, image: ImageReference, actions: str) -> httpx.Auth:
        # Gitea, for one, offers Basic as well; where a token is offered, only that is sure to work.
        offers = _challenges(response.headers.get_list("WWW-Authenticate"))
        parameters = next((offer for scheme, offer in offers if scheme == "bearer" and "realm" in offer), None)
        credentials = self._account()
        basic = httpx.BasicAuth(credentials.username, credentials.password) if credentials else None
        if parameters is None:
            return basic or httpx.Auth()
        realm = urlsplit(parameters["realm"])
        if realm.scheme != "https" and not _is_loopback(realm.netloc):
            raise RegistryError(f"registry {self.host} wants the account sent to {realm.geturl()}, which is not safe")
        query = {"service": parameters.get("service", ""), "scope": f"repository:{image.path}:{actions}"}
        answer = self._client.get(realm.geturl(), params=query, auth=basic or httpx.Auth())
        if not answer.is_success:
            raise RegistryError(self._refusal(image, answer))
        body = answer.json()
        return _Bearer(str(body.get("token") or body.get("access_token")))


class _Bearer(httpx.Auth):
    def __init__(self, token: str) -> None:
        self._token = token

    def auth_flow(self, request: httpx.Request) -> Iterator[httpx.Request]:  # type: ignore[override]
        request.headers["Authorization"] = f"Bearer {self._token}"
        yield request


def account(settings: RegistrySettings) -> Credentials | None:
    """The account in the stack's configuration, or None."""
    if settings.username is None or settings.password is None:
        return None
    return Credentials(settings.username, settings.password.get_secret_value())


def connect(host: str, settings: RegistrySettings, project: Path) -> Registry:
    """The registry `host` as the stack's configuration describes it.

    project: the directory that registry.caFile is relative to
    Raises RegistryError when that file cannot be used.
    """
    given = account(settings)
    return Registry(host, (lambda: given) if given else None, project / settings.ca_file if settings.ca_file else None)


def probe(image: ImageReference, registry: Registry | None = None) -> TagState:
    """Says what the registry holds for the tag of `image`. Never raises: not knowing is an answer, too."""
    registry = registry or Registry(image.registry)
    try:
        manifest = registry.manifest(image)
    except RegistryError as error:
        return Unreachable(str(error))
    return Present(manifest.digest) if manifest else Absent(registry.anonymous)


def newest_after(image: ImageReference, registry: Registry, known: Sequence[str] = ()) -> str | None:
    """The highest version among the repository's tags and those that are `known`, where it is above that of `image`.

    None also where that cannot be said: not all tags are versions. Never raises.
    """
    try:
        tags = registry.tags(image)
    except RegistryError:
        tags = []
    versions = [(version, tag) for tag in (*tags, *known) if (version := version_of(tag))]
    own, (highest, newest) = version_of(str(image.tag)), max(versions, default=((), ""))
    return newest if own and highest > own else None


def version_of(tag: str) -> tuple[int, ...]:
    """The numbers with which a tag begins, as 6, 5, 10 of v6.5.10-lab; () where it begins with none."""
    found = re.fullmatch(r"v?(\d+(?:\.\d+)*)(?:[-_].*)?", tag)
    return tuple(int(number) for number in found[1].split(".")) if found else ()


def docker_login(host: str) -> Credentials | None:
    """The account that `docker login` (or a credential helper) holds for `host`, or None."""
    # Imported here: it takes a while, and most previews need no account.
    from docker.auth import load_config  # noqa: PLC0415
    from docker.credentials.errors import StoreError  # noqa: PLC0415
    from docker.errors import DockerException  # noqa: PLC0415

    try:
        entry = load_config().resolve_authconfig(None if host == DOCKER_HUB else host)
    except (DockerException, StoreError) as error:
        raise RegistryError(f"the credential helper for {host} fails: {error}. Run: docker login {host}") from None
    # Credential helpers answer with capital letters, the file's own entries come without.
    account = {key.lower(): value for key, value in (entry or {}).items()}
    if account.get("identitytoken"):
        raise RegistryError(
            f"docker login holds an identity token for {host}, which Relève cannot use. "
            f"Set registry.username and the secret registry.password to a token that may read and write"
        )
    if not account.get("username"):
        return None
    return Credentials(account["username"], account["password"])


def docker_configuration(host: str, credentials: Credentials) -> str:
    """The text of a Docker client's config.json that knows `credentials` for the registry `host`, and nothing else."""
    account = base64.b64encode(f"{credentials.username}:{credentials.password}".encode()).decode()
    # Docker Hub goes by a name that no image bears.
    return json.dumps({"auths": {"https://index.docker.io/v1/" if host == DOCKER_HUB else host: {"auth": account}}})


def _trusting(ca_file: Path) -> ssl.SSLContext:
    context = httpx.create_ssl_context()
    try:
        context.load_verify_locations(cafile=ca_file)
    except OSError as error:  # ssl.SSLError is one.
        raise RegistryError(
            f"registry.caFile: {ca_file} is no file of certificates in PEM, or cannot be read: {error}"
        ) from None
    return context


@contextmanager
def _as_registry_error(host: str) -> Iterator[None]:
    try:
        yield
    except httpx.ConnectError as error:
        if not _is_about_certificates(error):
            raise RegistryError(f"registry {host} does not answer: {error}") from None
        raise RegistryError(
            f"registry {host} is not trusted: {error}. If its certificate is from an authority of your own, "
            f"set registry.caFile to that authority's certificate"
        ) from None
    except httpx.HTTPError as error:
        raise RegistryError(f"registry {host} does not answer: {error or type(error).__name__}") from None
    except ValueError as error:
        raise RegistryError(f"{host} answers, but not like a registry: {error}") from None


def _is_about_certificates(error: BaseException) -> bool:
    """Whether `error` or what caused it is the refusal of a certificate."""
    cause: BaseException | None = error
    while cause and not isinstance(cause, ssl.SSLCertVerificationError):
        cause = cause.__cause__ or cause.__context__
    return cause is not None


def _is_loopback(host: str) -> bool:
    return host.startswith(("localhost", "127.", "[::1]"))


_CHALLENGE = re.compile(
    r"""(?P<name>[\w!#$%&'*+.^`|~-]+)(?P<value>\s*=\s*(?:"(?P<quoted>(?:[^"\\]|\\.)*)"|[^\s,]*))?"""
)
"""A scheme, or one of its parameters (RFC 9110, section 11)."""


def _challenges(headers: Sequence[str]) -> list[tuple[str, dict[str, str]]]:
    """The ways in which a registry wants to be shown who asks: each with its parameters.

    They come in headers of their own, or in one, separated by commas like the parameters of each.
    """
    found: list[tuple[str, dict[str, str]]] = []
    for part in (part for header in headers for part in _CHALLENGE.finditer(header)):
        if part["value"] is None:
            found.append((part["name"].lower(), {}))
        elif found:
            quoted = part["quoted"]
            value = part["value"].lstrip(" \t=") if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
            found[-1][1][part["name"].lower()] = value
    return found


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
