"""The keys of the configuration, each once: type, default, description, example, and whether its change is a rollout.

docs/configuration.md and docs/stack.schema.json are generated from here (`make reference`). All is frozen. Durations
are seconds. Secrets stay SecretStr until a component turns them into a secret Output.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, WithJsonSchema, model_validator
from pydantic.alias_generators import to_camel

from configuration import preset
from configuration.events import Event
from configuration.rules import Level, Rule
from configuration.values import (
    AbsolutePath,
    AnyPath,
    AppVersion,
    ArgumentName,
    CacheImage,
    Called,
    Command,
    Commands,
    EnvironmentName,
    HeaderName,
    Host,
    HostKey,
    Label,
    LabelName,
    Login,
    NotificationUrl,
    Password,
    Place,
    Platform,
    Port,
    PrivateKey,
    RegularExpression,
    RelativePath,
    ReleaseTag,
    Repository,
    Seconds,
    SecondsFromZero,
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


@dataclass(frozen=True)
class Rollout:
    """Marks a key whose change is a rollout.

    otherwise: how it becomes one, where its value is not part of the rollout's specification; for the reference
    when_set:  its default is no part of the specification: a key that came later changes nothing for who does not set
               it
    """

    otherwise: str | None = None
    when_set: bool = False


ROLLOUT = Rollout()
ROLLOUT_WHEN_SET = Rollout(when_set=True)


@dataclass(frozen=True)
class Unset:
    """What holds where a key is not set, in words, where its default does not say it."""

    words: str


DEFAULT_TIMEOUTS: Mapping[StepName, int] = {
    StepName.INSTALL: 60,
    StepName.PULL: 900,
    StepName.STOP: 120,
    StepName.PURGE_ASSETS: 120,
    StepName.PRECOMPILE: 1800,
    StepName.UP: 300,
    StepName.PENDING: 300,
    StepName.DUMP: 1800,
    StepName.MIGRATE: 1800,
    StepName.TASK: 1800,
    StepName.PUBLISH: 300,
    StepName.PURGE: 300,
    StepName.FACTS: 60,
    StepName.RESTORE: 1800,
    StepName.REHEARSE: 3600,
}
"""Seconds. Generous for a small server on a slow line: Fab-manager's image is over 1 GB, its assets take minutes."""


def _services(value: tuple[str, ...]) -> None:
    if not value:
        raise ValueError("name the services that run the image, the web service first")
    _distinct(value)


def _distinct(value: tuple[str, ...]) -> None:
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


def _events(value: tuple[object, ...]) -> None:
    if len(set(value)) != len(value):
        raise ValueError("names an event twice")


def _one_server(value: tuple[object, ...]) -> None:
    if len(value) != 1:
        raise ValueError(f"{len(value)} servers: exactly one is supported")


LimitedStep = Annotated[
    StepName,
    Field(strict=False),
    WithJsonSchema({"type": "string", "enum": [str(step) for step in DEFAULT_TIMEOUTS]}),
]


PresetName = Annotated[
    str,
    check(preset.check_name, enum=preset.names()),
    Called(", ".join(f"`{name}`" for name in preset.names()), ""),
]


class _Settings(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, alias_generator=to_camel)


class SourceSettings(_Settings):
    """What the image is built from when the registry does not hold the tag yet. Without it this stack never builds."""

    path: Annotated[Text, Called("path", "paths")] = Field(
        description="a git checkout of the application, relative to this project; only what is committed there counts",
        examples=["../fab-manager"],
    )
    context: RelativePath = Field(
        ".", description="the directory in the checkout that the build sees", examples=["web"]
    )
    dockerfile: RelativePath = Field(
        "Dockerfile", description="the Dockerfile, relative to the context", examples=["docker/Dockerfile"]
    )
    target: Annotated[StageName | None, Unset("the last stage")] = Field(
        None, description="the stage of a multi-stage Dockerfile to build", examples=["production"]
    )
    args: Mapping[ArgumentName, str] = Field(
        {},
        description="build arguments; not for secrets, because they stay readable in the image and in Pulumi's state",
        examples=[{"BUNDLE_JOBS": "2"}],
    )
    cache_from: Annotated[tuple[CacheImage, ...], Field(strict=False)] = Field(
        (),
        description="images in a registry whose layers may be reused",
        examples=[["ghcr.io/lab/fabmanager:6.5.9-lab"]],
    )
    labels: Annotated[Mapping[LabelName, Label], Unset("the usual four")] = Field(
        {},
        description="labels of the image besides `org.opencontainers.image.source`, `revision`, `version` and "
        "`created`, or in their place",
        examples=[{"org.opencontainers.image.title": "Fab-manager"}],
    )


class SmokeTestPath(_Settings):
    """A request to the candidate, and the answer that it must give."""

    path: UrlPath = Field(description="what is asked", examples=["/health"])
    status: Status = Field(200, description="the status that the answer must have", examples=[204])
    contains: Annotated[tuple[Text, ...], Field(strict=False)] = Field(
        (), description="texts that the answer must contain", examples=[['"postgresql":true']]
    )
    headers: Mapping[HeaderName, Text] = Field({}, description="request headers", examples=[{"X-Probe": "releve"}])


class SmokeTestSettings(_Settings):
    """How a candidate is run, and what it must answer, before it gets the release's tag. Without it, it is not run."""

    compose_file: Annotated[RelativePath | None, Unset("generated")] = Field(
        None,
        description="a Compose file, relative to this project, instead of `env`, `needs` and `memory`",
        examples=["smoke/compose.yml"],
    )
    port: Port = Field(3000, description="where the application listens in its container", examples=[8080])
    paths: Annotated[
        tuple[
            Annotated[SmokeTestPath, BeforeValidator(_path_alone, json_schema_input_type=SmokeTestPath | UrlPath)], ...
        ],
        Field(strict=False),
        check(_smoke_paths, minItems=1),
        Called("list of paths, or of objects with the keys below", ""),
        Unset("`[/]`"),
    ] = Field(
        (SmokeTestPath(path="/"),),
        description="what the image is asked and must answer; a path alone must answer 200",
        examples=[["/health"]],
    )
    assets: bool = Field(
        default=True,
        description="whether the files that an HTML answer names must be there, too",
        examples=[False],
    )
    env: Mapping[EnvironmentName, SecretStr] = Field(
        {},
        description="the environment of the application; encrypted in the state, hidden in messages",
        examples=[{"SECRET_KEY_BASE": "any-text-will-do-here"}],
    )
    needs: Annotated[Mapping[ServiceName, Text], Called("map of images", "")] = Field(
        {},
        description="images that run beside it, each reached under its name here",
        examples=[{"postgres": "postgres:15"}],
    )
    memory: Annotated[Size | None, Unset("no limit")] = Field(
        None, description="the memory that it may use", examples=["1g"]
    )
    fatal: Annotated[
        tuple[RegularExpression, ...],
        Field(strict=False),
        Unset("`FATAL`, `PANIC`, `[BUG]`, `segmentation fault`"),
    ] = Field(
        (r"\b(FATAL|PANIC)\b", r"\[BUG\] ", r"\b[Ss]egmentation fault\b"),
        description="lines of its log that make it fail",
        examples=[[r"\bFATAL\b"]],
    )
    timeout: Seconds = Field(
        120, description="how long starting and answering may take, not counting pulls", examples=[300]
    )

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
    """The application's image: where it is kept, how it is built and what it must pass."""

    repository: Annotated[Repository, ROLLOUT] = Field(
        description="registry and path, without a tag", examples=["ghcr.io/lab/fabmanager"]
    )
    platform: Platform = Field(
        "linux/amd64",
        description="os/architecture of the servers: what the image is built for",
        examples=["linux/arm64"],
    )
    source: SourceSettings | None = None
    smoke_test: SmokeTestSettings | None = None
    checks: Annotated[
        Mapping[Annotated[Rule, Field(strict=False)], Annotated[Level, Field(strict=False)]],
        Called("map of `error`, `warn`, `off`", ""),
        Unset("see [image.md](image.md#what-an-image-must-pass-before-it-gets-its-tag)"),
    ] = Field({}, description="how a finding of each rule is treated", examples=[{"non-root-user": "warn"}])


class RegistrySettings(_Settings):
    """The account at the registry, and how to recognise the registry. All of it is optional."""

    username: Annotated[Text | None, Unset("what `docker login` has stored")] = Field(
        None, description="the account at the registry of `image.repository`", examples=["lab"]
    )
    password: Annotated[Password | None, Unset("required with `registry.username`")] = Field(
        None, description="its password, or better a token"
    )
    ca_file: Annotated[Text | None, Called("path", "paths"), Unset("the usual authorities only")] = Field(
        None,
        description="certificates (PEM) of further authorities that the registry's own may be from, relative to this "
        "project",
        examples=["certificates/lab.pem"],
    )

    @model_validator(mode="after")
    def _both_or_neither(self) -> Self:
        if (self.username is None) != (self.password is None):
            raise ValueError(
                "username and password go together: set both, or neither to use what `docker login` has stored"
            )
        return self


class AppSettings(_Settings):
    """The Compose project on the server, and how a release takes the place of the one before."""

    directory: Annotated[AbsolutePath, ROLLOUT] = Field(
        description="the directory of the Compose file on the server", examples=["/apps/fabmanager"]
    )
    services: Annotated[
        tuple[ServiceName, ...], Field(strict=False), check(_services, minItems=1, uniqueItems=True), ROLLOUT
    ] = Field(
        description="the services that run the image: the web service first, then workers", examples=[["fabmanager"]]
    )
    one_shots: Annotated[
        tuple[ServiceName, ...],
        Field(strict=False),
        check(_distinct, uniqueItems=True),
        ROLLOUT_WHEN_SET,
        Unset("those that others wait for to complete"),
    ] = Field(
        (),
        description="services on the same image that run to their end, such as one that migrates; see "
        "[operations.md](operations.md#services-that-run-to-their-end)",
        examples=[["migrate"]],
    )
    compose_file: Annotated[
        RelativePath | None, Unset("the server's own file is edited"), Rollout("a change of the file's content")
    ] = Field(
        None,
        description="a Compose file in this project that replaces the server's own",
        examples=["compose/prod.yml"],
    )
    strategy: Annotated[Strategy, Field(strict=False), ROLLOUT] = Field(
        Strategy.STAGED,
        description="how a release takes the place of the one before; see "
        "[README.md](../README.md#what-happens-on-the-server) and [zero-downtime.md](zero-downtime.md)",
        examples=["in-place"],
    )
    port: Port = Field(3000, description="where the web service listens in its container", examples=[8080])
    assets: Annotated[tuple[AbsolutePath, ...], Field(strict=False), ROLLOUT] = Field(
        (),
        description="directories in the container for compiled assets; each on a bind mount or a named volume",
        examples=[["/usr/src/app/public/packs"]],
    )
    asset_inputs: Annotated[tuple[RelativePath, ...], Field(strict=False), ROLLOUT_WHEN_SET] = Field(
        (),
        description="files and directories in `app.directory` whose content is compiled into the assets besides what "
        "the image holds, as plugins are: where it has changed, the next rollout compiles again",
        examples=[["plugins"]],
    )
    assets_from: Annotated[AssetsFrom, Field(strict=False), ROLLOUT] = Field(
        AssetsFrom.COMPILE,
        description="`compile`: the server compiles them. `image`: they were compiled when the image was built and "
        "are copied from it",
        examples=["image"],
    )
    precompile: Annotated[Command, ROLLOUT] = Field(
        ("bundle", "exec", "rails", "assets:precompile"),
        description="the command that compiles the assets, in a container of the web service",
        examples=[["bin/assets", "compile"]],
    )
    entrypoint: Annotated[
        Command | None, Unset("the image's, or what the Compose file says instead"), ROLLOUT_WHEN_SET
    ] = Field(
        None,
        description="what the commands of `precompile`, `pending`, `migrate`, `beforeUp` and `afterUp` are given to; "
        "`[]`: nothing, they are run as they are. For an image whose entrypoint migrates the database or starts a "
        "server whatever it is told",
        examples=[["tini", "--"]],
    )
    precompile_memory: Annotated[Size | None, Unset("no limit")] = Field(
        None, description="the memory that compiling may use on the server", examples=["1g"]
    )
    migrate: Command = Field(
        ("bundle", "exec", "rails", "db:migrate"),
        description="the command that migrates the database; `[]`: nothing does, but for one-shots, and without these "
        "nothing is asked",
        examples=[["bin/migrate"]],
    )
    pending: Annotated[Command, Unset("the output of `bundle exec rails db:migrate:status` is read")] = Field(
        (),
        description="a command that says by its exit status whether migrations are pending: 0 no, 3 yes, anything else "
        "is a failure",
        examples=[["bin/pending"]],
    )
    migrations: Annotated[Migrations, Field(strict=False)] = Field(
        Migrations.STOPPED,
        description="`stopped`: nothing serves while the database is migrated. `compatible`: the old release works "
        "with the migrated database, so it is not stopped, and a rollback to it is allowed",
        examples=["compatible"],
    )
    worker_quiet: Command = Field(
        (),
        description="with `rolling`: a command that tells a worker, in its container, to accept no more work; it is "
        "stopped afterwards",
        examples=[["kill", "-TSTP", "1"]],
    )
    before_up: Commands = Field(
        (),
        description="commands that run once for each release, in a one-off container of the new image, before the "
        "switch",
        examples=[[["bundle", "exec", "rails", "fablab:es:build_stats"]]],
    )
    after_up: Commands = Field(
        (),
        description="the same, after the switch",
        examples=[[["bundle", "exec", "rails", "cache:clear"]]],
    )
    log_files: Annotated[tuple[AbsolutePath, ...], Field(strict=False)] = Field(
        (),
        description="log files in the container, shown when a release does not serve: for applications that run under "
        "a supervisor",
        examples=[["/var/log/supervisor/app-stdout.log"]],
    )
    maintenance_page: AnyPath | None = Field(
        None,
        description="a file in `app.directory` that exists while the site is stopped for migrations: a copy of the "
        "file of that name with `.template` at the end, if there is one. An absolute path is one in the web service's "
        "container, on a volume that the proxy has from it by `volumes_from`; its template lies in `app.directory`",
        examples=["/usr/src/app/public/maintenance.html"],
    )
    downtime_budget: SecondsFromZero | None = Field(
        None, description="a rollout that interrupted the site for longer says so", examples=[5]
    )
    step_timeouts: Annotated[
        Mapping[LimitedStep, Seconds],
        check(_limited_steps),
        Called("map of seconds", ""),
        Unset(", ".join(f"`{step}` {seconds}" for step, seconds in DEFAULT_TIMEOUTS.items())),
    ] = Field({}, description="how long a step, or a part of one, may take", examples=[{"precompile": 3600}])

    @model_validator(mode="after")
    def _serves_or_ends(self) -> Self:
        both = [name for name in self.one_shots if name in self.services]
        if both:
            raise ValueError(f"oneShots: {both[0]!r} is in services, too: what is there keeps running")
        return self


class HealthCheckSettings(_Settings):
    """A further page, asked for once when `health.path` is answered well, and once at the end of `health.settle`.

    For pages that cost something each time: Fab-manager's `/health` makes the connections to its database anew, and
    other requests may fail meanwhile. So each time a moment is waited for in which there is no other request. Where
    none comes within 5 s, it is asked for all the same the first time, and not at the end.
    """

    path: UrlPath = Field(
        description="what is asked, on `app.port`: a page that costs something each time, as Fab-manager's does",
        examples=["/health"],
    )
    status: Status = Field(200, description="the status that the answer must have", examples=[204])
    contains: Annotated[tuple[Text, ...], Field(strict=False)] = Field(
        (), description="texts that the answer must contain", examples=[['"redis":true']]
    )
    headers: Mapping[HeaderName, Text] = Field(
        {},
        description="request headers, beside those of `health.headers`; stored in clear, so not for secrets",
        examples=[{"X-Probe": "releve"}],
    )


class HealthSettings(_Settings):
    """When a release counts as serving: what the web service itself answers on the server, without the proxy."""

    path: UrlPath = Field("/", description="what is asked, on `app.port`, again and again", examples=["/health"])
    status: Status = Field(200, description="the status that the answer must have", examples=[204])
    contains: Annotated[tuple[Text, ...], Field(strict=False)] = Field(
        (),
        description="texts that the answer must contain. Fab-manager answers 200 even when its database or Redis is "
        "down",
        examples=[['"postgresql":true', '"redis":true']],
    )
    headers: Mapping[HeaderName, Text] = Field(
        {}, description="request headers; stored in clear, so not for secrets", examples=[{"X-Probe": "releve"}]
    )
    timeout: Seconds = Field(120, description="how long Relève waits for such an answer", examples=[300])
    settle: Annotated[int, Field(ge=0, le=3600), Called("seconds", "seconds")] = Field(
        10, description="how long the release is watched after its first good answer", examples=[30]
    )
    interval: Seconds = Field(
        1,
        description="time between two questions to an application that answers well. Whoever answers 429, or 503 with "
        "`Retry-After`, is left alone for a while and does not count as down",
        examples=[5],
    )
    checks: Annotated[tuple[HealthCheckSettings, ...], Field(strict=False)] = ()


class BackupSettings(_Settings):
    """The dump of the database before migrations."""

    service: Annotated[ServiceName | None, Unset("the only service in which PostgreSQL runs")] = Field(
        None, description="the database's service", examples=["postgres"]
    )
    database: Annotated[
        Text | None,
        Unset("those that `db:migrate:status` names; with `app.pending`, the container's `POSTGRES_DB`"),
    ] = Field(
        None,
        description="the database to dump; for a Rails application it must have a table schema_migrations",
        examples=["fablab_production"],
    )
    user: Annotated[Text | None, Unset("the container's `POSTGRES_USER`")] = Field(
        None, description="the database user that dumps it", examples=["postgres"]
    )
    command: Annotated[Command, Unset("`pg_dump` in its custom format, read back by `pg_restore`")] = Field(
        (),
        description="for another database: a command in that service that writes a dump to its standard output. Where "
        "`backup.service` is one of `app.services`, it runs in a one-off container of the release: for a database in a "
        "file of the application, or on another machine",
        examples=[["mysqldump", "--all-databases"]],
    )
    keep: Annotated[int, Field(ge=1, le=1000)] = Field(5, description="how many dumps are kept", examples=[10])
    restore_on_failure: bool = Field(
        default=False,
        description="restore the dump when migrating fails and nothing of the new release has run yet; not with "
        "`app.migrations: compatible`, where the old release goes on writing",
        examples=[True],
    )


class JumpSettings(_Settings):
    """A host to go through, with the same SSH key."""

    host: Annotated[Text, Called("name or address", "names or addresses")] = Field(
        description="where SSH reaches it", examples=["gate.example.org"]
    )
    port: Port = Field(22, description="its SSH port", examples=[2222])
    user: Text = Field(description="its login", examples=["deploy"])
    host_key: HostKey = Field(description="its own key", examples=["ssh-ed25519 AAAA…"])


class ServerSettings(_Settings):
    """The server, and how SSH reaches it. There is exactly one."""

    name: Annotated[ServerName, Rollout("under another name it is another server to Pulumi")] = Field(
        description="what Pulumi calls the server", examples=["fabmanager"]
    )
    host: Annotated[Host, ROLLOUT] = Field(description="where SSH reaches it", examples=["fabmanager.example.org"])
    port: Port = Field(22, description="its SSH port", examples=[2222])
    user: Login = Field(
        description="the login: in the group `docker`, and the owner of `app.directory`", examples=["deploy"]
    )
    host_key: HostKey = Field(
        description="the server's own key: what `ssh-keyscan -t ed25519 HOST` prints, compared with the server's "
        "`/etc/ssh/ssh_host_ed25519_key.pub`",
        examples=["ssh-ed25519 AAAA…"],
    )
    private_key: Annotated[PrivateKey | None, Unset("your SSH agent")] = Field(
        None,
        description="an OpenSSH private key, unencrypted; `pulumi config set` reads it from a file with `< KEYFILE`. "
        "Who can use it then: [operations.md](operations.md#who-can-do-what)",
    )
    jump: JumpSettings | None = None
    url: Url | None = Field(
        None,
        description="the public address. The health gate sends the application its host and scheme, as the proxy does",
        examples=["https://fabmanager.example.org"],
    )


class NotifySettings(_Settings):
    """Who is told of rollouts."""

    urls: Annotated[tuple[NotificationUrl, ...], Field(strict=False)] = Field(
        (),
        description="where to: Apprise URLs, for example of an e-mail account, Matrix, Slack, Telegram, ntfy, or a "
        "webhook (https://github.com/caronc/apprise). They hold passwords: set each with `--secret`",
        examples=[["mailtos://user:password@example.org"]],
    )
    on: Annotated[
        tuple[Annotated[Event, Field(strict=False)], ...], Field(strict=False), check(_events, uniqueItems=True)
    ] = Field(
        tuple(Event),
        description="of what: `released`, `failed` (and nothing was changed, or what was could not be put back), "
        "`restored` (a rollout failed, and the old release serves again), `drift` (found by `./releve drift --notify`)",
        examples=[["failed", "restored"]],
    )


class UpgradeSettings(_Settings):
    """What an upgrade asks for besides migrations, by the application's changelog. Without `changelog` nothing is read.

    See [operations.md](operations.md#upgrades-that-ask-for-more-than-migrations).
    """

    changelog: Annotated[RelativePath | None, Unset("nothing is planned")] = Field(
        None,
        description="the changelog, relative to `image.source.path`; where a stack builds nothing, what the image was "
        "built with counts",
        examples=["CHANGELOG.md"],
    )
    marker: Text = Field(
        "[TODO DEPLOY]",
        description="what the items of the changelog begin with that ask for something",
        examples=["[DEPLOY]"],
    )
    version: RelativePath = Field(
        "package.json",
        description="where the application's version is: relative to `image.source.context`, and in the working "
        "directory of the web service's container. `version` in a file of JSON, the first line of any other",
        examples=["VERSION"],
    )
    running: Annotated[AppVersion | None, Unset("what the image that runs says")] = Field(
        None,
        description="the version that runs, for a plan of the first release; the server refuses where it is another",
        examples=["6.3.1"],
    )
    stops: Annotated[tuple[AppVersion, ...], Field(strict=False)] = Field(
        (),
        description="versions that must not be skipped, besides those that the changelog names",
        examples=[["4.7.13"]],
    )
    acknowledged: Annotated[tuple[Place, ...], Field(strict=False)] = Field(
        (),
        description="items of the changelog that a person has taken care of, as VERSION:LINE: what had to be read is "
        "read, tasks are not run, variables are not asked for",
        examples=[["6.0.0:625"]],
    )


class Settings(_Settings):
    """The whole configuration of a stack."""

    tag: Annotated[ReleaseTag, Rollout("a release")] = Field(
        description="the release: the tag of the image. Always in quotes: without them YAML reads 1.10 as 1.1. Not "
        "`latest`, and not `build-…`",
        examples=["6.5.11-lab"],
    )
    preset: Annotated[PresetName | None, Rollout("where it changes the value of another such key")] = Field(
        None,
        description="an application whose configuration Relève knows: what the stack does not set is taken from "
        "`configuration/presets/NAME.yaml`. Maps are merged key by key, lists replaced, `null` takes a value of the "
        "preset's away; `./releve config show` prints what comes of it",
        examples=["fabmanager"],
    )
    image: ImageSettings
    registry: RegistrySettings = RegistrySettings()
    app: AppSettings
    health: HealthSettings = HealthSettings()
    backup: BackupSettings = BackupSettings()
    env: Annotated[
        Mapping[EnvironmentName, SecretStr] | None,
        Unset("the server's own file is left alone"),
        Rollout("where assets are compiled, they are compiled again; a preview shows names, never values"),
    ] = Field(
        None,
        description="the whole content of `.env` in `app.directory`",
        examples=[{"SECRET_KEY_BASE": "0123456789abcdef"}],
    )
    keep_releases: Annotated[int, Field(ge=1, le=100)] = Field(
        3,
        description="how many releases the server keeps, with image and assets: a rollback to one of them pulls and "
        "compiles nothing",
        examples=[5],
    )
    upgrade: UpgradeSettings = UpgradeSettings()
    notify: NotifySettings = NotifySettings()
    servers: Annotated[tuple[ServerSettings, ...], Field(strict=False), check(_one_server, minItems=1, maxItems=1)]
