"""Stack configuration → one frozen, validated tree.

All mistakes are reported at once, each with the path of its key, before anything is built or dialled. Durations are
seconds. Secrets stay SecretStr until a component turns them into a secret Output. Nothing here imports pulumi.
"""

from __future__ import annotations

import base64
import json
import re
import reprlib
from collections.abc import Callable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Self
from urllib.parse import urlsplit

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    model_validator,
)
from pydantic.alias_generators import to_camel
from pydantic_core import ErrorDetails

from release.errors import ReleaseError
from release.reference import CANDIDATE_PREFIX, ImageReference, check_repository, check_tag
from release.rules import Level, Rule

PREFIX = "releve:"


class ConfigurationError(ReleaseError):
    """The stack's configuration is not usable; the message lists every mistake."""


class Strategy(StrEnum):
    """How the running release is replaced by the next."""

    STAGED = "staged"
    """Everything that takes long while the old release serves; then one transaction, which any failure undoes."""
    ROLLING = "rolling"
    """The same, but the web service never stops: its new container serves beside the old one before that one goes."""
    IN_PLACE = "in-place"
    """The manual guide's order: stop, purge the assets, precompile, start. Down for as long as that takes."""


class AssetsFrom(StrEnum):
    """Where a release's assets come from."""

    COMPILE = "compile"
    """app.precompile makes them on the server, with the server's environment."""
    IMAGE = "image"
    """They were compiled when the image was built."""


class Migrations(StrEnum):
    """Whether the old release can work with the database of the new one."""

    STOPPED = "stopped"
    """It cannot: the services are stopped while the database is dumped and migrated."""
    COMPATIBLE = "compatible"
    """It can: it serves on meanwhile, and a release may run on a database that is ahead of it."""


class StepName(StrEnum):
    """The steps of a rollout and their parts, by the names that the script, app.stepTimeouts and previews use."""

    INSTALL = "install"
    PULL = "pull"
    STOP = "stop"
    PURGE_ASSETS = "purge-assets"
    PRECOMPILE = "precompile"
    UP = "up"
    VERIFY = "verify"
    # Parts of `up`, unless the strategy is `in-place`.
    PENDING = "pending"
    DUMP = "dump"
    MIGRATE = "migrate"
    TASK = "task"
    PUBLISH = "publish"
    # Steps after it.
    AFTER_UP = "after-up"
    PURGE = "purge"


def _check(test: Callable[[Any], object]) -> AfterValidator:
    """Wraps a check that raises ValueError as a pydantic validator."""

    def validate(value: Any) -> Any:
        test(value)
        return value

    return AfterValidator(validate)


def _matching(pattern: str, expected: str) -> AfterValidator:
    """A validator for text that matches `pattern` as a whole; `expected` says so in words."""

    def test(value: str) -> None:
        if not re.fullmatch(pattern, value):
            raise ValueError(f"expected {expected}")

    return _check(test)


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


def _password(value: SecretStr) -> None:
    if not re.fullmatch(r"[^\x00-\x1f\x7f]+", value.get_secret_value()):
        raise ValueError("expected one line of text, not empty")


def _cache_image(value: str) -> None:
    name, _, digest = value.partition("@")
    repository, colon, tag = name.rpartition(":") if ":" in name.rpartition("/")[2] else (name, "", "")
    try:
        image = ImageReference(repository, tag if colon else None, digest or None)
    except ValueError:
        image = None
    # The plugin takes names with a registry only.
    if image is None or not image.repository.startswith(f"{image.registry}/"):
        raise ValueError("expected registry/path:tag, for example ghcr.io/fablab/fabmanager:6.5.9-lab")


def _services(value: tuple[str, ...]) -> None:
    if not value:
        raise ValueError("name the services that run the image, the web service first")
    if len(set(value)) != len(value):
        raise ValueError("names a service twice")


def _command(value: tuple[str, ...]) -> None:
    if value and value[0].startswith("-"):
        raise ValueError("expected a command and its arguments, as a list")


def _regular_expression(value: str) -> None:
    try:
        re.compile(value)
    except re.error as error:
        raise ValueError(f"is no regular expression: {error}") from None


def _smoke_paths(value: tuple[object, ...]) -> None:
    if not value:
        raise ValueError("name a path to ask, for example /")


def _path_alone(value: Any) -> Any:
    """A path without more is one that answers 200."""
    return {"path": value} if isinstance(value, str) else value


def _limited_steps(value: Mapping[StepName, int]) -> None:
    if StepName.VERIFY in value:
        raise ValueError("how long `verify` may take is health.timeout")
    if StepName.AFTER_UP in value:
        raise ValueError("how long each command of app.afterUp may take is app.stepTimeouts.task")


def _commands(value: tuple[tuple[str, ...], ...]) -> None:
    for command in value:
        if not command:
            raise ValueError("expected a list of commands, each a list of its words")
        _command(command)


def _one_server(value: tuple[object, ...]) -> None:
    if len(value) != 1:
        raise ValueError(f"{len(value)} servers: exactly one is supported")


Text = Annotated[str, _matching(r"[^\x00-\x1f\x7f]+", "one line of text, not empty")]
Label = Annotated[str, _matching(r"[^\x00-\x1f\x7f]*", "one line of text")]
AbsolutePath = Annotated[Text, _check(_absolute_path)]
RelativePath = Annotated[Text, _check(_relative_path)]
# The Compose specification's own rule, without a leading '-', which reads as an option.
ServiceName = Annotated[
    str, _matching(r"[a-zA-Z0-9._][a-zA-Z0-9._-]*", "a service's name: letters, digits, '.', '_' and '-'")
]
Port = Annotated[int, Field(ge=1, le=65535)]
Seconds = Annotated[int, Field(ge=1, le=86400)]
Url = Annotated[Text, _check(_url)]
UrlPath = Annotated[Text, _matching(r"/\S*", "a path that starts with / and has no spaces")]
HeaderName = Annotated[str, _matching(r"[A-Za-z0-9-]+", "an HTTP header's name")]
Status = Annotated[int, Field(ge=100, le=599)]
Size = Annotated[str, _matching(r"[1-9][0-9]*[bkmgBKMG]?", "a size, for example 512m")]
Words = Annotated[tuple[Text, ...], Field(strict=False)]
Command = Annotated[Words, _check(_command)]
Commands = Annotated[tuple[Words, ...], Field(strict=False), _check(_commands)]
EnvironmentName = Annotated[str, _matching(r"[A-Za-z_][A-Za-z0-9_]*", "a variable's name: letters, digits and '_'")]


class _Settings(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, alias_generator=to_camel)


class SourceSettings(_Settings):
    """image.source: what the image is built from."""

    path: Text
    context: RelativePath = "."
    dockerfile: RelativePath = "Dockerfile"
    target: Annotated[str, _matching(r"[A-Za-z][A-Za-z0-9_.-]*", "a stage's name: FROM … AS NAME")] | None = None
    args: Mapping[Annotated[str, _matching(r"[A-Za-z_][A-Za-z0-9_]*", "a build argument's name")], str] = {}
    cache_from: Annotated[tuple[Annotated[str, _check(_cache_image)], ...], Field(strict=False)] = ()
    labels: Mapping[
        Annotated[str, _matching(r"[a-z0-9]+([._/-][a-z0-9]+)*", "a label's name in lower case")], Label
    ] = {}


class SmokeTestPath(_Settings):
    """image.smokeTest.paths[]: a request to the candidate, and the answer that it must give."""

    path: UrlPath
    status: Status = 200
    contains: Annotated[tuple[Text, ...], Field(strict=False)] = ()
    headers: Mapping[HeaderName, Text] = {}


class SmokeTestSettings(_Settings):
    """image.smokeTest: how a candidate is run, and what it must answer, before it gets the release's tag."""

    compose_file: RelativePath | None = None
    port: Port = 3000
    paths: Annotated[
        tuple[Annotated[SmokeTestPath, BeforeValidator(_path_alone)], ...], Field(strict=False), _check(_smoke_paths)
    ] = (SmokeTestPath(path="/"),)
    assets: bool = True
    env: Mapping[EnvironmentName, SecretStr] = {}
    needs: Mapping[ServiceName, Text] = {}
    memory: Size | None = None
    fatal: Annotated[tuple[Annotated[Text, _check(_regular_expression)], ...], Field(strict=False)] = (
        r"\b(FATAL|PANIC)\b",
        r"\[BUG\] ",
        r"\b[Ss]egmentation fault\b",
    )
    timeout: Seconds = 120

    @model_validator(mode="after")
    def _one_way_to_run(self) -> SmokeTestSettings:
        given = {"env": self.env, "needs": self.needs, "memory": self.memory}
        doubled = [name for name, value in given.items() if value] if self.compose_file else []
        if doubled:
            raise ValueError(f"{' and '.join(doubled)} would be ignored: with composeFile, that is said in the file")
        if APPLICATION in self.needs:
            raise ValueError(f"needs: {APPLICATION!r} is the name of the application itself")
        return self


APPLICATION = "app"
"""What the application is called in a smoke test's own network, where no Compose file names it."""


class ImageSettings(_Settings):
    """image: the application's image. Without a source this stack never builds it."""

    repository: Annotated[str, _check(check_repository)]
    platform: Annotated[str, _matching(r"[a-z0-9]+/[a-z0-9]+(/[a-z0-9]+)?", "os/architecture")] = "linux/amd64"
    source: SourceSettings | None = None
    smoke_test: SmokeTestSettings | None = None
    checks: Mapping[Annotated[Rule, Field(strict=False)], Annotated[Level, Field(strict=False)]] = {}


class RegistrySettings(_Settings):
    """registry: the account at the registry, and how to recognise the registry. All optional."""

    username: Text | None = None
    password: Annotated[SecretStr, _check(_password)] | None = None
    ca_file: Text | None = None

    @model_validator(mode="after")
    def _both_or_neither(self) -> Self:
        if (self.username is None) != (self.password is None):
            raise ValueError(
                "username and password go together: set both, or neither to use what `docker login` has stored"
            )
        return self


class AppSettings(_Settings):
    """app: the Compose project on the server and how a release takes its place there."""

    directory: AbsolutePath
    services: Annotated[tuple[ServiceName, ...], Field(strict=False), _check(_services)]
    compose_file: RelativePath | None = None
    strategy: Annotated[Strategy, Field(strict=False)] = Strategy.STAGED
    port: Port = 3000
    assets: Annotated[tuple[AbsolutePath, ...], Field(strict=False)] = ()
    assets_from: Annotated[AssetsFrom, Field(strict=False)] = AssetsFrom.COMPILE
    precompile: Command = ("bundle", "exec", "rails", "assets:precompile")
    precompile_memory: Size | None = None
    pending: Command = ()
    migrate: Command = ("bundle", "exec", "rails", "db:migrate")
    migrations: Annotated[Migrations, Field(strict=False)] = Migrations.STOPPED
    worker_quiet: Command = ()
    before_up: Commands = ()
    after_up: Commands = ()
    log_files: Annotated[tuple[AbsolutePath, ...], Field(strict=False)] = ()
    maintenance_page: RelativePath | None = None
    downtime_budget: Annotated[int, Field(ge=0, le=86400)] | None = None
    step_timeouts: Annotated[Mapping[Annotated[StepName, Field(strict=False)], Seconds], _check(_limited_steps)] = {}


class HealthSettings(_Settings):
    """health: when the release counts as serving."""

    path: UrlPath = "/"
    status: Status = 200
    contains: Annotated[tuple[Text, ...], Field(strict=False)] = ()
    headers: Mapping[HeaderName, Text] = {}
    timeout: Seconds = 120
    settle: Annotated[int, Field(ge=0, le=3600)] = 10


class BackupSettings(_Settings):
    """backup: the dump before migrations."""

    service: ServiceName | None = None
    database: Text | None = None
    user: Text | None = None
    command: Command = ()
    keep: Annotated[int, Field(ge=1, le=1000)] = 5
    restore_on_failure: bool = False


class JumpSettings(_Settings):
    """servers[].jump: a host to go through."""

    host: Text
    port: Port = 22
    user: Text
    host_key: Annotated[Text, _check(_host_key)]


class ServerSettings(_Settings):
    """servers[]: one server and how to reach it."""

    name: Annotated[str, _matching(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}", "up to 63 letters, digits, '.', '_' and '-'")]
    host: Annotated[str, _matching(r"[A-Za-z0-9._:%][A-Za-z0-9._:%-]*", "a host name or an IP address")]
    port: Port = 22
    user: Annotated[str, _matching(r"[A-Za-z0-9._][A-Za-z0-9._-]*", "a login name")]
    host_key: Annotated[Text, _check(_host_key)]
    private_key: Annotated[SecretStr, _check(_private_key)] | None = None
    jump: JumpSettings | None = None
    url: Url | None = None


class Settings(_Settings):
    """The whole configuration of a stack."""

    tag: Annotated[str, _check(_release_tag)]
    image: ImageSettings
    registry: RegistrySettings = RegistrySettings()
    app: AppSettings
    health: HealthSettings = HealthSettings()
    backup: BackupSettings = BackupSettings()
    env: Mapping[EnvironmentName, SecretStr] | None = None
    keep_releases: Annotated[int, Field(ge=1, le=100)] = 3
    servers: Annotated[tuple[ServerSettings, ...], Field(strict=False), _check(_one_server)]


def load(config: Mapping[str, str], stack_file: Path) -> Settings:
    """Validates configuration.

    config:     as Pulumi delivers it, by full key ("releve:tag"): objects and lists as JSON, all else as its text
    stack_file: Pulumi.<stack>.yaml, to compare what is written there with what was delivered; it need not exist
    Raises ConfigurationError, which lists every mistake.
    """
    values = {key.removeprefix(PREFIX): value for key, value in config.items() if key.startswith(PREFIX)}
    unquoted = _unquoted_tag(stack_file, values.get("tag", ""))
    mistakes = [unquoted] if unquoted else []
    try:
        settings = Settings.model_validate({key: _structured(key, value) for key, value in values.items()})
    except ValidationError as error:
        mistakes += [_described(detail) for detail in error.errors(include_url=False)]
    if mistakes:
        count = f"{len(mistakes)} mistakes" if len(mistakes) > 1 else "a mistake"
        raise ConfigurationError("\n".join([f"{count} in {stack_file.name}; nothing was built or changed:", *mistakes]))
    return settings


def _structured(key: str, value: str) -> Any:
    """Objects, lists and numbers arrive as JSON; the tag is its text, whatever it looks like."""
    if key in _STRUCTURED:
        try:
            return json.loads(value)
        except ValueError:
            return value
    return value


_STRUCTURED = frozenset(str(field.alias) for field in Settings.model_fields.values()) - {"tag"}


def _unquoted_tag(stack_file: Path, delivered: str) -> str | None:
    """The mistake of a tag that YAML reads as a number or a date.

    Measured: an unquoted 1.10 arrives as 1.1, 010 as 8 and 1e3 as 1000, whatever type Pulumi.yaml declares; and Pulumi
    may have written the changed value back to the file before this program runs. So it is refused by its form.
    """
    try:
        document = yaml.compose(stack_file.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    except FileNotFoundError:
        return None
    tags = [
        value
        for section, entries in getattr(document, "value", ())
        if section.value == "config" and isinstance(entries, yaml.MappingNode)
        for key, value in entries.value
        if key.value == f"{PREFIX}tag" and isinstance(value, yaml.ScalarNode) and value.style is None
    ]
    for tag in tags:
        if tag.value != delivered or tag.tag != "tag:yaml.org,2002:str" or _NUMBER.fullmatch(tag.value):
            return _mistake(
                "tag",
                f"is not in quotes, so YAML takes {tag.value} for a number or a date, and 1.10 becomes 1.1",
                "write it in quotes, or run: pulumi config set tag 6.5.10-lab",
            )
    return None


_NUMBER = re.compile(r"[-+]?(\d[\d_]*\.?[\d_]*|\.\d[\d_]*)([eE][-+]?\d+)?|0[xob][\da-fA-F_]+")
"""Wider than PyYAML's YAML 1.1: Pulumi reads YAML 1.2 as well."""


def _described(detail: ErrorDetails) -> str:
    path = _path(detail["loc"])
    given = detail["input"]
    remedy = _REMEDIES.get(re.sub(r"\[\d+]", "[]", path))
    match detail["type"]:
        case "missing":
            return _mistake(path, "is missing", remedy)
        case "extra_forbidden":
            return _mistake(path, f"is not a key; known here: {', '.join(_known_keys(detail['loc'][:-1]))}")
        case "value_error":
            problem = str(detail["ctx"]["error"])
        case "string_type" if not isinstance(given, dict | list):
            problem = "expected text: put it in quotes"
        case _:
            problem = detail["msg"][0].lower() + detail["msg"][1:]
    return _mistake(path, problem if _is_secret(path) else f"{_shown(given)}: {problem}", remedy)


_REMEDIES = {
    "tag": "pulumi config set tag 6.5.10-lab",
    "image": "pulumi config set --path image.repository ghcr.io/fablab/fabmanager",
    "image.repository": "pulumi config set --path image.repository ghcr.io/fablab/fabmanager",
    "app": "pulumi config set --path app.directory /apps/fabmanager",
    "app.directory": "pulumi config set --path app.directory /apps/fabmanager",
    "app.services": "pulumi config set --path 'app.services[0]' fabmanager",
    "servers": "pulumi config set --path 'servers[0].host' fabmanager.example.org",
    "registry": "pulumi config set --secret --path registry.password",
    "registry.password": "pulumi config set --secret --path registry.password",
    "servers[].hostKey": "get it with: ssh-keyscan -t ed25519 HOST, and compare it with the server's own",
}


def _mistake(path: str, problem: str, remedy: str | None = None) -> str:
    return f"  {path}: {problem}" + (f"\n      {remedy}" if remedy else "")


def _path(location: tuple[int | str, ...]) -> str:
    """('servers', 0, 'hostKey') → servers[0].hostKey."""
    path = ""
    for part in location:
        if part == "[key]":
            continue
        path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else part
    return path


def _known_keys(location: tuple[int | str, ...]) -> list[str]:
    model: Any = Settings
    for part in location:
        if isinstance(part, int):
            continue
        field = next(f for f in model.model_fields.values() if f.alias == part)
        model = next(
            candidate
            for candidate in [field.annotation, *getattr(field.annotation, "__args__", ())]
            if isinstance(candidate, type) and issubclass(candidate, BaseModel)
        )
    return [str(field.alias) for field in model.model_fields.values()]


def _is_secret(path: str) -> bool:
    return path.startswith("env.") or ".env." in path or path.endswith((".privateKey", ".password"))


def _shown(value: object) -> str:
    """A given value, for a message: short, on one line, nothing of what might be nested in it."""
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "a list"
    return _SHORT.repr(value)


_SHORT = reprlib.Repr()
_SHORT.maxstring = 60
