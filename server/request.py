"""What a step on the server is asked to do: one JSON document, written and read by the same dataclasses.

The client makes a Request from the stack's configuration, which it has validated; the server reads it from standard
input.
A field that is unknown, missing or of another type is refused, and so is another version: nothing is guessed.
"""

import dataclasses
import hashlib
import json
import re
from dataclasses import dataclass
from enum import Enum
from typing import Any, Optional, TypeVar, Union, get_args, get_origin, get_type_hints

VERSION = 1
"""Of the document. Another one is refused: `install` brings a program that fits, whenever it changes."""


class Word(str, Enum):
    """A closed set of words."""

    def __str__(self) -> str:
        return str(self.value)


class Strategy(Word):
    """How the running release is replaced by the next."""

    STAGED = "staged"
    """Everything that takes long while the old release serves; then one transaction, which any failure undoes."""
    ROLLING = "rolling"
    """The same, but the web service never stops: its new container serves beside the old one before that one goes."""
    IN_PLACE = "in-place"
    """The manual guide's order: stop, purge the assets, precompile, start. Down for as long as that takes."""


class AssetsFrom(Word):
    """Where a release's assets come from."""

    COMPILE = "compile"
    """app.precompile makes them on the server, with the server's environment."""
    IMAGE = "image"
    """They were compiled when the image was built."""


class Migrations(Word):
    """Whether the old release can work with the database of the new one."""

    STOPPED = "stopped"
    """It cannot: the services are stopped while the database is dumped and migrated."""
    COMPATIBLE = "compatible"
    """It can: it serves on meanwhile, and a release may run on a database that is ahead of it."""


class StepName(Word):
    """The steps of a rollout and their parts, by the names that the server, app.stepTimeouts and previews use."""

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
    GATE = "gate"
    # Steps after it.
    AFTER_UP = "after-up"
    PURGE = "purge"
    # No part of a rollout.
    FACTS = "facts"
    RESTORE = "restore"
    REHEARSE = "rehearse"


@dataclass(frozen=True)
class Image:
    """The image of a release.

    repository: as the operator wrote it, for example "ghcr.io/fablab/fabmanager"
    tag:        the release's tag
    digest:     "sha256:" and 64 hexadecimal digits
    """

    repository: str
    tag: str
    digest: str

    @classmethod
    def parse(cls, text: str) -> Optional["Image"]:
        """From repository:tag@digest; None where that is something else."""
        named, _, digest = text.partition("@")
        repository, _, tag = named.rpartition(":")
        return cls(repository, tag, digest) if repository and tag and digest else None

    def __str__(self) -> str:
        """repository:tag@digest, as Docker and Compose write it."""
        return f"{self.repository}:{self.tag}@{self.digest}"

    @property
    def pinned(self) -> str:
        """repository@digest: this very image, whatever tags say."""
        return f"{self.repository}@{self.digest}"

    @property
    def tagged(self) -> str:
        """repository:tag."""
        return f"{self.repository}:{self.tag}"

    @property
    def release(self) -> str:
        """The release's name on the server: its tag and the first 12 digits of its digest."""
        return f"{self.tag}-{self.digest[7:19]}"


@dataclass(frozen=True)
class Assets:
    """Compiled assets.

    paths:      absolute directories in the containers of the web service, without a slash at the end
    source:     whether they are compiled here or taken from the image
    precompile: the command that compiles them; empty: nothing does
    memory:     what that may use, as Compose writes it, or None
    inputs:     files and directories, relative to the project's, that are compiled in
    """

    paths: tuple[str, ...] = ()
    source: AssetsFrom = AssetsFrom.COMPILE
    precompile: tuple[str, ...] = ()
    memory: Optional[str] = None
    inputs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Check:
    """A page that is asked for seldom, and what it must answer: as of Health."""

    path: str
    status: int = 200
    contains: tuple[str, ...] = ()
    headers: dict[str, str] = dataclasses.field(default_factory=dict)


@dataclass(frozen=True)
class Health:
    """When a release counts as serving.

    port, path, status: what is asked of its containers, and what they must answer
    contains:  texts that the answer's body must contain
    headers:   of the request
    url:       the public address, or None
    settle:    seconds for which it is watched after its first good answer
    interval:  seconds between two questions to somebody who answers well
    checks:    further pages, asked for when the first one is answered well, and at the end of settle
    log_files: absolute paths in the container, shown when it does not serve
    """

    port: int
    path: str = "/"
    status: int = 200
    contains: tuple[str, ...] = ()
    headers: dict[str, str] = dataclasses.field(default_factory=dict)
    url: Optional[str] = None
    settle: int = 0
    interval: int = 1
    checks: tuple[Check, ...] = ()
    log_files: tuple[str, ...] = ()


@dataclass(frozen=True)
class Database:
    """Migrations, and the dump before them.

    migrate: the command that migrates; empty: one-shots do, or nothing does, and then nothing is asked
    pending: a command that says by its status whether migrations are pending; empty: Rails is asked
    service: that of the database, or None: the only one with a PostgreSQL image
    command: writes a dump to its standard output; empty: pg_dump
    keep:    dumps that are kept
    """

    migrate: tuple[str, ...] = ()
    pending: tuple[str, ...] = ()
    migrations: Migrations = Migrations.STOPPED
    service: Optional[str] = None
    name: Optional[str] = None
    user: Optional[str] = None
    command: tuple[str, ...] = ()
    keep: int = 5
    restore_on_failure: bool = False


@dataclass(frozen=True)
class Delivery:
    """What the repository and the configuration hold of the project on the server; only `pull` gets it.

    compose_file: its text, the images already set; None: the server's own is edited
    environment:  the text of .env; None: the server's own is left alone
    """

    compose_file: Optional[str] = None
    environment: Optional[str] = None

    @property
    def sha256(self) -> str:
        """64 hexadecimal digits: later steps say by it which delivery they mean."""
        return hashlib.sha256(json.dumps([self.compose_file, self.environment]).encode()).hexdigest()


Version = tuple[int, ...]
"""Of the application: 6.5.10 as numbers."""


class ItemKind(Word):
    """What an item of a changelog asks for."""

    GATE = "gate"
    """Another version is to be released, and its tasks run, before this one."""
    DEV = "dev"
    """Nothing, of who deploys."""
    SCRIPT = "script"
    """A script from the internet is to be run on the server."""
    ENVIRONMENT = "env"
    """Variables are to be set."""
    PRE = "pre"
    """Commands are to be run before the migrations."""
    POST = "post"
    """Commands are to be run after the migrations."""
    UNKNOWN = "unknown"
    """A person is to read it: it has conditions, or is none of these."""


@dataclass(frozen=True)
class Item:
    """One thing that a version of the application asks for, by its changelog.

    line:     in the changelog, from 1
    commands: of the application, each without those that every release runs
    names:    of variables, of a script, or the version of a gate
    """

    version: Version
    line: int
    kind: ItemKind
    text: str
    commands: tuple[str, ...] = ()
    names: tuple[str, ...] = ()

    @property
    def place(self) -> str:
        """As one acknowledges it: VERSION:LINE."""
        return f"{'.'.join(map(str, self.version))}:{self.line}"


@dataclass(frozen=True)
class Changes:
    """What a release's changelog asks for; it travels with the image.

    version: of the release
    file:    the changelog, for messages
    stops:   versions that must not be skipped, besides those that the changelog names
    items:   of that version and of those before it
    """

    version: Version
    file: str
    stops: tuple[str, ...]
    items: tuple[Item, ...]


@dataclass(frozen=True)
class Upgrade:
    """The way to a release's version, from the one that runs; only `pull` gets it.

    start:        what runs as far as the plan knew, or None
    version_file: where the version is found, in the working directory of the web service's container
    """

    changes: Changes
    start: Optional[Version]
    version_file: str


@dataclass(frozen=True)
class Request:
    """What a step is told.

    directory:        the project's on the server, absolute
    services:         those that run the image, the web service first; none: they are not known yet, and `facts` tells
                      what there is
    one_shots:        those named as running the image to their end; others may be found to
    limits:           seconds that each step, or part of one, may take, by its name
    image:            of the release; None: the step is about none
    actor:            who rolls out, for the history
    keeps_compose_file: the repository keeps the Compose file: the server needs none yet
    keeps_environment: the configuration holds .env: it may give the project another name than the server's own does
    delivery:         what `pull` is given; None elsewhere
    delivered:        Delivery.sha256 of what `pull` was given for this release
    registry_login:   the text of a Docker client's config.json with the account at the registry, or None; only `pull`
                      gets it
    entrypoint:       what commands in one-off containers are given to; empty: nothing; None: the image's own
    before_up, after_up: commands, run once a release
    worker_quiet:     tells a worker, in its container, to take no more work; empty: nothing does
    maintenance_page: in the directory, or absolute in the web service's containers, there while the site is stopped for
                      migrations; or None
    downtime_budget:  seconds, or None
    keep_releases:    how many are kept
    backup:           the dump to restore, by the name of its file; only `restore` gets it
    upgrade:          what the release's changelog asks for, or None: that is not looked at now
    acknowledged:     items of it that a person has taken care of, by their places; None: no changelog is ever looked at
    messages:         what Run.tell says → how whoever asks wants it said; without an entry it is said in English
    """

    directory: str
    services: tuple[str, ...]
    limits: dict[str, int]
    one_shots: tuple[str, ...] = ()
    strategy: Strategy = Strategy.STAGED
    image: Optional[Image] = None
    actor: str = ""
    keeps_compose_file: bool = False
    keeps_environment: bool = False
    delivery: Optional[Delivery] = None
    delivered: str = Delivery().sha256
    registry_login: Optional[str] = None
    assets: Assets = Assets()
    health: Health = Health(port=3000)
    database: Database = Database()
    entrypoint: Optional[tuple[str, ...]] = None
    before_up: tuple[tuple[str, ...], ...] = ()
    after_up: tuple[tuple[str, ...], ...] = ()
    worker_quiet: tuple[str, ...] = ()
    maintenance_page: Optional[str] = None
    downtime_budget: Optional[int] = None
    keep_releases: int = 3
    backup: Optional[str] = None
    upgrade: Optional[Upgrade] = None
    acknowledged: Optional[tuple[str, ...]] = None
    messages: dict[str, str] = dataclasses.field(default_factory=dict)

    @property
    def web(self) -> str:
        """The web service."""
        return self.services[0]

    @property
    def workers(self) -> tuple[str, ...]:
        """The services after it."""
        return self.services[1:]


_OF_RELEASE = re.compile(r"(.+)-[0-9a-f]{12}")


def tag_of(release: str) -> Optional[str]:
    """The tag in a release's name (Image.release); None where it has none, as what was found at the beginning."""
    found = _OF_RELEASE.fullmatch(release)
    return found[1] if found else None


class RequestError(ValueError):
    """The document is none that this program understands; the message says why, and holds no value of it."""


def dump(request: Request) -> str:
    """The document, one line."""
    return json.dumps({"version": VERSION, **dataclasses.asdict(request)})


def load(text: str) -> Request:
    """Reads the document. Raises RequestError."""
    try:
        document = json.loads(text)
    except ValueError:
        raise RequestError("it is cut short, or no JSON") from None
    if not isinstance(document, dict) or document.pop("version", None) != VERSION:
        raise RequestError(f"its version is not {VERSION}")
    return read(Request, document, "")


Record = TypeVar("Record")


def read(kind: type[Record], document: Any, path: str) -> Record:
    """A dataclass from what JSON makes of it. `path`: where it stands, for messages. Raises RequestError."""
    if not isinstance(document, dict):
        raise RequestError(f"{path or 'the document'}: expected an object")
    hints = get_type_hints(kind)
    fields = {field.name: field for field in dataclasses.fields(kind)}  # type: ignore[arg-type] # mypy: any dataclass
    unknown = sorted(set(document) - set(fields))
    # All are written, so all must be there: a default is for who makes a request, not for one that has lost a part.
    missing = sorted(set(fields) - set(document))
    if unknown or missing:
        raise RequestError(f"{path}{'unknown' if unknown else 'missing'}: {', '.join(unknown or missing)}")
    return kind(**{name: _value(hints[name], document[name], f"{path}{name}") for name in fields})


def _value(hint: Any, value: Any, path: str) -> Any:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Union:  # Optional
        return None if value is None else _value(arguments[0], value, path)
    if origin is tuple and isinstance(value, list):
        return tuple(_value(arguments[0], item, path) for item in value)
    if origin is dict and isinstance(value, dict):
        return {key: _value(arguments[1], item, f"{path}.{key}") for key, item in value.items()}
    if dataclasses.is_dataclass(hint):
        return read(hint, value, f"{path}.")  # type: ignore[arg-type] # the class, not an instance of it
    if isinstance(hint, type) and issubclass(hint, Word) and isinstance(value, str):
        try:
            return hint(value)
        except ValueError:
            pass
    elif hint in (str, int, bool, float) and type(value) is hint:
        return value
    raise RequestError(f"{path}: it is not of the type that is expected")
