"""The small types of the configuration: a tag, a port, a path, a host key, … Imports nothing of ours.

The grammar of image names is the distribution project's (github.com/distribution/reference): lower-case path
components, a tag of at most 128 characters, a sha256 digest.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import Field, GetCoreSchemaHandler, GetJsonSchemaHandler, SecretStr
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

DOCKER_HUB = "docker.io"

CANDIDATE_PREFIX = "build-"
"""Tags that start so name candidates: images that were built and not yet released."""

_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_REGISTRY = re.compile(
    r"(localhost|[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+|[A-Za-z0-9-]+(?=:)|\[[0-9a-fA-F:]+\])(:[0-9]{1,5})?"
)
_COMPONENT = re.compile(r"[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*")


def registry_of(repository: str) -> str:
    """The registry's host, with its port if it has one; Docker Hub for a name without a host."""
    host, slash, _ = repository.partition("/")
    return host if slash and _REGISTRY.fullmatch(host) else DOCKER_HUB


def check_repository(repository: str) -> None:
    """Raises ValueError when `repository` is not a repository's name, or carries a tag or a digest."""
    if "@" in repository or ":" in repository.rpartition("/")[2]:
        raise ValueError("give the repository alone, without tag or digest: the tag is the key `tag`")
    host, slash, rest = repository.partition("/")
    path = rest if slash and _REGISTRY.fullmatch(host) else repository
    if not all(_COMPONENT.fullmatch(component) for component in path.split("/")):
        raise ValueError("expected registry/path in lower case, for example ghcr.io/fablab/fabmanager")


def check_tag(tag: str) -> None:
    """Raises ValueError when `tag` is not one that Docker accepts, or is `latest`, which moves."""
    if not _TAG.fullmatch(tag):
        raise ValueError("a tag has 1 to 128 letters, digits, '_', '.' and '-', and does not start with '.' or '-'")
    if tag == "latest":
        raise ValueError("`latest` moves, so it cannot be rolled back to: name the version, for example 6.5.10-lab")


def check_digest(digest: str) -> None:
    """Raises ValueError when `digest` is not an image's digest."""
    if not _DIGEST.fullmatch(digest):
        raise ValueError(f"{digest!r} is not a digest: expected sha256: and 64 hexadecimal digits")


@dataclass(frozen=True)
class Called:
    """What docs/configuration.md calls a type: one value of it, and several."""

    one: str
    many: str


@dataclass(frozen=True)
class Check:
    """A check that raises ValueError, for pydantic; `schema` is what of it a JSON schema can say."""

    test: Callable[[Any], object]
    schema: Mapping[str, Any] = field(hash=False)

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """What pydantic asks for."""
        return core_schema.no_info_after_validator_function(self._checked, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """What pydantic asks for."""
        return {**handler(schema), **self.schema}

    def _checked(self, value: Any) -> Any:
        self.test(value)
        return value


def check(test: Callable[[Any], object], **schema: Any) -> Check:
    """A check, for Annotated."""
    return Check(test, schema)


def matching(pattern: str, expected: str) -> Check:
    """A check for text that matches `pattern` as a whole; `expected` says so in words."""

    def test(value: str) -> None:
        if not re.fullmatch(pattern, value):
            raise ValueError(f"expected {expected}")

    return check(test, pattern=f"^{pattern}$")


def _release_tag(value: str) -> None:
    check_tag(value)
    if value.startswith(CANDIDATE_PREFIX):
        raise ValueError(f"tags that start with {CANDIDATE_PREFIX!r} name images that are not released yet")


def _absolute_path(value: str) -> None:
    if not value.startswith("/") or {"", ".", ".."} & set(value.rstrip("/").split("/")[1:] or [""]):
        raise ValueError("expected an absolute path below /, without '.', '..' or '//'")


def _relative_path(value: str) -> None:
    if not value or value.startswith("/") or ".." in value.split("/"):
        raise ValueError("expected a relative path that does not leave its directory")


def _any_path(value: str) -> None:
    (_absolute_path if value.startswith("/") else _relative_path)(value)


def _url(value: str) -> None:
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username is not None:
        raise ValueError("expected http://host or https://host, the address under which people open the site")


def _host_key(value: str) -> None:
    algorithm, _, key = value.partition(" ")
    try:
        blob = base64.b64decode(key.partition(" ")[0], validate=True)
    except ValueError:
        blob = b""
    # The key itself repeats the algorithm: length, name, length, 32 bytes (RFC 8709).
    if algorithm != "ssh-ed25519" or not re.fullmatch(rb"\0{3}\x0bssh-ed25519\0{3}\x20.{32}", blob, re.DOTALL):
        raise ValueError("expected the server's ed25519 host key, 'ssh-ed25519 AAAA…': ssh-keyscan -t ed25519 HOST")


def _private_key(value: SecretStr) -> None:
    if "PRIVATE KEY-----" not in value.get_secret_value():
        raise ValueError("is not a private key: expected the text of the file, not its path")


def _notification_url(value: SecretStr) -> None:
    if not re.fullmatch(r"[a-z0-9]+://\S+", value.get_secret_value()):
        raise ValueError("expected an Apprise URL, for example mailtos://user:password@example.org")


def _password(value: SecretStr) -> None:
    if not re.fullmatch(r"[^\x00-\x1f\x7f]+", value.get_secret_value()):
        raise ValueError("expected one line of text, not empty")


def _cache_image(value: str) -> None:
    name, _, digest = value.partition("@")
    repository, colon, tag = name.rpartition(":") if ":" in name.rpartition("/")[2] else (name, "", "")
    try:
        check_repository(repository)
        for test, part in ((check_tag, tag if colon else None), (check_digest, digest or None)):
            if part is not None:
                test(part)
        usable = repository.startswith(f"{registry_of(repository)}/")
    except ValueError:
        usable = False
    # The plugin takes names with a registry only.
    if not usable:
        raise ValueError("expected registry/path:tag, for example ghcr.io/fablab/fabmanager:6.5.9-lab")


def _command(value: tuple[str, ...]) -> None:
    if value and value[0].startswith("-"):
        raise ValueError("expected a command and its arguments, as a list")


def _commands(value: tuple[tuple[str, ...], ...]) -> None:
    for command in value:
        if not command:
            raise ValueError("expected a list of commands, each a list of its words")
        _command(command)


def _regular_expression(value: str) -> None:
    try:
        re.compile(value)
    except re.error as error:
        raise ValueError(f"is no regular expression: {error}") from None


Text = Annotated[str, matching(r"[^\x00-\x1f\x7f]+", "one line of text, not empty"), Called("text", "text")]
Label = Annotated[str, matching(r"[^\x00-\x1f\x7f]*", "one line of text"), Called("text", "text")]
AbsolutePath = Annotated[Text, check(_absolute_path, pattern="^/[^/]"), Called("absolute path", "absolute paths")]
RelativePath = Annotated[Text, check(_relative_path, pattern="^[^/]"), Called("path", "paths")]
AnyPath = Annotated[Text, check(_any_path), Called("path", "paths")]
# The Compose specification's own rule, without a leading '-', which reads as an option.
ServiceName = Annotated[
    str,
    matching(r"[a-zA-Z0-9._][a-zA-Z0-9._-]*", "a service's name: letters, digits, '.', '_' and '-'"),
    Called("name", "names"),
]
Port = Annotated[int, Field(ge=1, le=65535)]
Seconds = Annotated[int, Field(ge=1, le=86400), Called("seconds", "seconds")]
SecondsFromZero = Annotated[int, Field(ge=0, le=86400), Called("seconds", "seconds")]
Url = Annotated[Text, check(_url, pattern="^https?://."), Called("http(s) address", "http(s) addresses")]
UrlPath = Annotated[
    Text, matching(r"/\S*", "a path that starts with / and has no spaces"), Called("path of a URL", "paths of URLs")
]
HeaderName = Annotated[str, matching(r"[A-Za-z0-9-]+", "an HTTP header's name")]
Status = Annotated[int, Field(ge=100, le=599)]
Size = Annotated[str, matching(r"[1-9][0-9]*[bkmgBKMG]?", "a size, for example 512m"), Called("size", "sizes")]
Words = Annotated[tuple[Text, ...], Field(strict=False), Called("list of words", "lists of words")]
Command = Annotated[Words, check(_command)]
Commands = Annotated[
    tuple[Words, ...],
    Field(strict=False),
    check(_commands),
    Called("list of commands, each a list of words", "lists of commands"),
]
EnvironmentName = Annotated[str, matching(r"[A-Za-z_][A-Za-z0-9_]*", "a variable's name: letters, digits and '_'")]
ReleaseTag = Annotated[
    str,
    check(_release_tag, pattern=rf"^(?!{CANDIDATE_PREFIX})(?!latest$){_TAG.pattern}$"),
    Called("text", "text"),
]
Repository = Annotated[str, check(check_repository, pattern="^[^@]+$"), Called("text", "text")]
Platform = Annotated[str, matching(r"[a-z0-9]+/[a-z0-9]+(/[a-z0-9]+)?", "os/architecture"), Called("text", "text")]
CacheImage = Annotated[str, check(_cache_image), Called("image", "images")]
StageName = Annotated[
    str, matching(r"[A-Za-z][A-Za-z0-9_.-]*", "a stage's name: FROM … AS NAME"), Called("name", "names")
]
ArgumentName = Annotated[str, matching(r"[A-Za-z_][A-Za-z0-9_]*", "a build argument's name")]
LabelName = Annotated[str, matching(r"[a-z0-9]+([._/-][a-z0-9]+)*", "a label's name in lower case")]
RegularExpression = Annotated[Text, check(_regular_expression), Called("regular expression", "regular expressions")]
AppVersion = Annotated[
    str, matching(r"\d+(\.\d+)*", "a version's numbers, in quotes: '6.5.10'"), Called("version", "versions")
]
Place = Annotated[
    str, matching(r"\d+(\.\d+)*:\d+", "VERSION:LINE of the changelog, as 6.0.0:625"), Called("place", "places")
]
Password = Annotated[SecretStr, check(_password)]
NotificationUrl = Annotated[SecretStr, check(_notification_url), Called("address", "addresses")]
ServerName = Annotated[
    str,
    matching(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}", "up to 63 letters, digits, '.', '_' and '-'"),
    Called("name", "names"),
]
Host = Annotated[
    str,
    matching(r"[A-Za-z0-9._:%][A-Za-z0-9._:%-]*", "a host name or an IP address"),
    Called("name or address", "names or addresses"),
]
Login = Annotated[str, matching(r"[A-Za-z0-9._][A-Za-z0-9._-]*", "a login name"), Called("name", "names")]
HostKey = Annotated[Text, check(_host_key, pattern="^ssh-ed25519 "), Called("ed25519 key", "ed25519 keys")]
PrivateKey = Annotated[SecretStr, check(_private_key)]
