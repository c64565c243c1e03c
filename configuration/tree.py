"""The keys of the configuration, each once: its type, its default and what it must go with.

All is frozen. Durations are seconds. Secrets stay SecretStr until a component turns them into a secret Output.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, model_validator
from pydantic.alias_generators import to_camel

from configuration.rules import Level, Rule
from configuration.values import (
    AbsolutePath,
    ArgumentName,
    CacheImage,
    Command,
    Commands,
    EnvironmentName,
    HeaderName,
    Host,
    HostKey,
    Label,
    LabelName,
    Login,
    Password,
    Platform,
    Port,
    PrivateKey,
    RegularExpression,
    RelativePath,
    ReleaseTag,
    Repository,
    Seconds,
    ServerName,
    ServiceName,
    Size,
    StageName,
    Status,
    Text,
    Url,
    UrlPath,
    check,
)
from server.request import AssetsFrom, Migrations, StepName, Strategy


def _services(value: tuple[str, ...]) -> None:
    if not value:
        raise ValueError("name the services that run the image, the web service first")
    if len(set(value)) != len(value):
        raise ValueError("names a service twice")


def _smoke_paths(value: tuple[object, ...]) -> None:
    if not value:
        raise ValueError("name a path to ask, for example /")


def _path_alone(value: Any) -> Any:
    """A path without more is one that answers 200."""
    return {"path": value} if isinstance(value, str) else value


def _limited_steps(value: Mapping[StepName, int]) -> None:
    for step in (StepName.VERIFY, StepName.GATE):
        if step in value:
            raise ValueError(f"how long `{step}` may take is health.timeout")
    if StepName.AFTER_UP in value:
        raise ValueError("how long each command of app.afterUp may take is app.stepTimeouts.task")


def _one_server(value: tuple[object, ...]) -> None:
    if len(value) != 1:
        raise ValueError(f"{len(value)} servers: exactly one is supported")


class _Settings(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, alias_generator=to_camel)


class SourceSettings(_Settings):
    """image.source: what the image is built from."""

    path: Text
    context: RelativePath = "."
    dockerfile: RelativePath = "Dockerfile"
    target: StageName | None = None
    args: Mapping[ArgumentName, str] = {}
    cache_from: Annotated[tuple[CacheImage, ...], Field(strict=False)] = ()
    labels: Mapping[LabelName, Label] = {}


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
        tuple[Annotated[SmokeTestPath, BeforeValidator(_path_alone)], ...], Field(strict=False), check(_smoke_paths)
    ] = (SmokeTestPath(path="/"),)
    assets: bool = True
    env: Mapping[EnvironmentName, SecretStr] = {}
    needs: Mapping[ServiceName, Text] = {}
    memory: Size | None = None
    fatal: Annotated[tuple[RegularExpression, ...], Field(strict=False)] = (
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

    repository: Repository
    platform: Platform = "linux/amd64"
    source: SourceSettings | None = None
    smoke_test: SmokeTestSettings | None = None
    checks: Mapping[Annotated[Rule, Field(strict=False)], Annotated[Level, Field(strict=False)]] = {}


class RegistrySettings(_Settings):
    """registry: the account at the registry, and how to recognise the registry. All optional."""

    username: Text | None = None
    password: Password | None = None
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
    services: Annotated[tuple[ServiceName, ...], Field(strict=False), check(_services)]
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
    step_timeouts: Annotated[Mapping[Annotated[StepName, Field(strict=False)], Seconds], check(_limited_steps)] = {}


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
    host_key: HostKey


class ServerSettings(_Settings):
    """servers[]: one server and how to reach it."""

    name: ServerName
    host: Host
    port: Port = 22
    user: Login
    host_key: HostKey
    private_key: PrivateKey | None = None
    jump: JumpSettings | None = None
    url: Url | None = None


class Settings(_Settings):
    """The whole configuration of a stack."""

    tag: ReleaseTag
    image: ImageSettings
    registry: RegistrySettings = RegistrySettings()
    app: AppSettings
    health: HealthSettings = HealthSettings()
    backup: BackupSettings = BackupSettings()
    env: Mapping[EnvironmentName, SecretStr] | None = None
    keep_releases: Annotated[int, Field(ge=1, le=100)] = 3
    servers: Annotated[tuple[ServerSettings, ...], Field(strict=False), check(_one_server)]
