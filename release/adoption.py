"""A configuration for an installation that was made by hand, from what its server tells.

What cannot be told from that is not guessed in silence: it is among the remarks, and in the file.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from configuration import preset
from configuration.load import PREFIX
from configuration.values import CANDIDATE_PREFIX, check_repository, check_tag
from configuration.written import Leaf, Node, lines
from errors import ReleaseError
from server.survey import Installation, Published, Service

UNKNOWN_TAG = "set-me"
"""A tag of no release: a preview says that it does not exist."""
FABMANAGER = "fabmanager"
ITS_VARIABLES = frozenset({"FULLCALENDAR_LOCALE", "SUMMERNOTE_LOCALE", "ANGULAR_LOCALE"})
"""Of Fab-manager's environment, and of nobody else's: its setup/env.example."""
OF_RAILS = frozenset({"RAILS_ENV", "RACK_ENV", "SECRET_KEY_BASE", "RAILS_LOG_TO_STDOUT", "RAILS_MAX_THREADS"})
DEFAULT_PORT = 3000
WIDTH = 120
"""Of the file's comments."""
_AROUND = re.compile(
    r"(postgres(ql)?|postgis|pgvector|pgbouncer|timescaledb|mysql|mariadb|percona|mongo|redis|valkey|memcached|"
    r"elasticsearch|opensearch|rabbitmq|minio|nginx|traefik|caddy|haproxy|httpd|certbot|adminer|pgadmin4?|mailhog|"
    r"mailpit|postfix|watchtower|portainer|prometheus|grafana)([-_.].*)?"
)
"""What images are called that run beside an application and are none."""
_OTHER_DATABASES = re.compile(r"(mysql|mariadb|percona)")
_ASSETS = re.compile(r"/public/(assets|packs|vite|builds)/?$")
_HOSTS = ("FRONTEND_URL", "APP_URL", "DEFAULT_HOST", "WEB_DOMAIN", "LOCAL_DOMAIN", "ZAMMAD_FQDN", "APP_HOST",
          "LETSENCRYPT_HOST", "VIRTUAL_HOST")  # fmt: skip
"""Variables that hold the site's public host or URL, the surer ones first."""


class AdoptionError(ReleaseError):
    """There is nothing that could be released; the message says why."""


@dataclass(frozen=True)
class Login:
    """How the server was reached, as servers[] has it."""

    host: str
    port: int
    user: str
    host_key: str


@dataclass(frozen=True)
class Adoption:
    """What was decided.

    config: the keys of the stack file, without prefix; each value with what is to be said of it
    open:   what could not be known, each in a sentence or two
    """

    config: Mapping[str, Node]
    open: tuple[str, ...]

    def text(self, stack: str, directory: str, host: str) -> str:
        """The stack file."""
        head = [
            "# yaml-language-server: $schema=docs/stack.schema.json",
            f"# The stack `{stack}`: written by `./releve adopt {host}`, from what runs in {directory} there.",
            f"# docs/configuration.md describes every key; `./releve config show -s {stack}` prints what holds.",
        ]
        if self.open:
            head += ["#", "# Not known, and yours to look at:", *(line for it in self.open for line in _remark(it))]
        tag = self.config["tag"]
        # In quotes whatever it is: the next one may look like a number.
        first = f'  {PREFIX}tag: "{tag.value}"  # {tag.remark}' if isinstance(tag, Leaf) else ""
        body = lines({f"{PREFIX}{key}": part for key, part in self.config.items() if part is not tag}, "  ")
        return "\n".join([*head, "config:", first, *body, ""])


def adopt(found: Installation, login: Login) -> Adoption:
    """Decides on a configuration. Raises AdoptionError where there is no application."""
    return _Adopting(found, login).decide()


class _Adopting:
    """One decision; what could not be known is gathered on the way."""

    def __init__(self, found: Installation, login: Login) -> None:
        self.found, self.login = found, login
        self.open: list[str] = []
        self.web = self._web()
        names = [self.web.name, *(it.name for it in self._applications() if it != self.web and self._is_alike(it))]
        self.services = names
        self.preset = FABMANAGER if self._is_fabmanager() else None
        self.given = preset.read(self.preset)

    def decide(self) -> Adoption:
        repository, tag = self._image()
        config: dict[str, Node] = {"tag": tag}
        if self.preset:
            config["preset"] = Leaf(self.preset, "what is the same in every one: configuration/presets/fabmanager.yaml")
        config["image"] = {"repository": repository}
        groups: dict[str, dict[str, Node]] = {"app": self._app(), "health": self._health(), "backup": self._backup()}
        config |= {name: group for name, group in groups.items() if group}
        config["servers"] = [self._server()]
        return Adoption(config, tuple(self.open))

    # ---------------------------------------------------------------------------------------------- the application

    def _applications(self) -> list[Service]:
        """The services that may run the application's image and go on running."""
        return [
            it
            for it in self.found.services
            if (it.image or it.is_built) and it.name not in self.found.postgres and not it.ends
            if not _AROUND.fullmatch(_last(it.image)) and not (it.hands_on and self._is_merged(it))
        ]

    def _is_merged(self, service: Service) -> bool:
        """Whether others have the same image, with something to run."""
        return any(it.image == service.image and not it.hands_on for it in self.found.services if it != service)

    def _web(self) -> Service:
        """The service that people reach: the one that a proxy names, or that looks most like it."""
        candidates = self._applications()
        if not candidates:
            there = ", ".join(f"{it.name} ({it.image or 'built there'})" for it in self.found.services) or "none"
            raise AdoptionError(
                f"no service in {self.found.directory} looks like an application; there are: {there}. Write the stack "
                "file by hand: Pulumi.prod.yaml is an example."
            )
        passed = {it.service for it in self.found.passing}

        def rank(service: Service) -> tuple[bool, ...]:
            listens = bool(service.ports or (service.running and service.running.listens))
            shares = any(it.image == service.image for it in candidates if it != service)
            return service.name in passed, bool(OF_RAILS & set(service.variables)), bool(service.ports), listens, shares

        first = max(candidates, key=rank)
        same = [it.name for it in candidates if rank(it) == rank(first) and it != first]
        if same:
            self.open.append(
                f"Which service people reach: taken for {first.name}, but {' and '.join(same)} may be it as well. It "
                "is the first of app.services."
            )
        return first

    def _is_alike(self, service: Service) -> bool:
        if (
            service.image != self.web.image
            and service.image
            and _repository(service.image) == _repository(self.web.image)
        ):
            self.open.append(
                f"Why {service.name} is on {service.image}, and {self.web.name} on {self.web.image}: it is left alone. "
                "Where both are to be released together, name it in app.services."
            )
        return bool(service.image) and service.image == self.web.image

    def _is_fabmanager(self) -> bool:
        if len(ITS_VARIABLES & set(self.web.variables)) > 1:
            return True
        if re.search("fab-?manager", self.web.image):
            self.open.append(
                f"Whether this is Fab-manager: the image is called so, but the environment of {self.web.name} has none "
                f"of its variables ({', '.join(sorted(ITS_VARIABLES))}). If it is: add  releve:preset: fabmanager"
            )
        return False

    # ---------------------------------------------------------------------------------------------------- the image

    def _image(self) -> tuple[Leaf, Leaf]:
        """The repository, and the tag of what runs."""
        running = self.web.running
        # A container may have been made from an image's id, which says nothing of where that is from.
        names = (running.image, *running.tags) if running else (self.web.image,)
        named = [it for it in names if it and not it.startswith("sha256:")]
        image = named[0] if named else ""
        if not running:
            self.open.append(f"What runs: no container of {self.web.name} does.")
        elif image and self.web.image and _without_digest(image) != _without_digest(self.web.image):
            self.open.append(
                f"Why {image} runs, and the Compose file says {self.web.image}: the first release replaces both."
            )
        repository = _repository(image)
        try:
            check_repository(repository)
        except ValueError:
            repository = self.found.project
        if self.web.is_built or not image:
            self.open.append(
                "The registry: the image is built on the server, and Relève takes it from a registry. Set "
                "image.repository, and image.source in the stack that is to build it; and let the Compose file have a "
                "line image: for each service."
            )
        for tag in (_tag(it) for it in named if _repository(it) == repository):
            if _can_be_released(tag):
                return Leaf(repository), Leaf(tag, "what runs now" if running else "what the Compose file names")
        version = running.version if running else ""
        says = f", whose label says {version}" if version else ""
        self.open.append(
            f"The release: {image or 'an image without a name'} runs{says}, and that is no tag that stays. Set the "
            "first one to release:  pulumi config set tag …"
        )
        return Leaf(repository), Leaf(UNKNOWN_TAG, "not known")

    # ------------------------------------------------------------------------------------------------ app and health

    def _app(self) -> dict[str, Node]:
        given = self.given.get("app", {})
        values: dict[str, Any] = {
            "directory": self.found.directory,
            "services": self.services,
            "port": self._port(),
            "assets": self._assets(),
        }
        kept = {key: it for key, it in values.items() if it not in (None, []) and it != given.get(key)}
        written: dict[str, Node] = {key: Leaf(it) for key, it in kept.items()}
        mounted = {it.source for it in self.web.volumes}
        there = [it for it in given.get("assetInputs", ()) if f"{self.found.directory}/{it}" in mounted]
        if there != given.get("assetInputs", []):
            # A rollout refuses to compile without what it is told is compiled in.
            written["assetInputs"] = Leaf(there, f"{self.web.name} mounts no other")
        return written

    def _port(self) -> int | None:
        """Where the web service listens, if not where it does by default."""
        running = self.web.running
        ports = list(dict.fromkeys([it.port for it in self.web.ports] + list(running.listens if running else ())))
        if not ports and not self.preset:
            self.open.append(
                f"Where {self.web.name} listens in its container: taken for {DEFAULT_PORT}; otherwise set app.port."
            )
        if ports and DEFAULT_PORT not in ports:
            if len(ports) > 1:
                self.open.append(f"On which of its ports {self.web.name} serves pages: {_listed(ports)} (app.port).")
            return ports[0]
        return None

    def _assets(self) -> list[str]:
        """Where compiled assets are, outside the container."""
        kept = [it.target.rstrip("/") for it in self.web.volumes if it.source and _ASSETS.search(it.target)]
        if not kept:
            self.open.append(
                f"Where compiled assets are kept: {self.web.name} mounts no directory for them, so none is compiled on "
                "the server, and the image must hold them (app.assets, app.assetsFrom)."
            )
        return kept

    def _health(self) -> dict[str, Node]:
        if self.preset or not self.web.health or self.web.health == "/":
            return {}
        return {"path": Leaf(self.web.health, "what its own health check asks for")}

    # ------------------------------------------------------------------------------------------------- the database

    def _backup(self) -> dict[str, Node]:
        services = self.found.postgres
        if len(services) != 1:
            self.open.append(self._which_database())
            return {}
        (service,) = services
        migrated = [it.name for it in self.found.databases if it.is_migrated]
        if not migrated:
            self.open.append(
                f"Which database is the application's: in {service} there is none with a table schema_migrations, or "
                "it could not be asked. Before migrations the one is dumped that the application names "
                "(backup.database)."
            )
        if not self.preset:
            # The application is asked at each release.
            return {}
        given = self.given["backup"]
        owner = next((it.told.get("POSTGRES_USER") for it in self.found.services if it.name == service), None)
        values = {"service": service, "user": owner or given["user"]}
        if migrated and given["database"] not in migrated:
            values["database"] = migrated[0]
            if len(migrated) > 1:
                self.open.append(f"Which database is the application's: {_listed(migrated)} (backup.database).")
        return {key: Leaf(it) for key, it in values.items() if it != given.get(key)}

    def _which_database(self) -> str:
        if self.found.postgres:
            return f"Which is the database: PostgreSQL runs in {_listed(self.found.postgres)}. Set backup.service."
        other = [it.name for it in self.found.services if _OTHER_DATABASES.match(_last(it.image))]
        if other:
            return (
                f"How the database is dumped: {other[0]} is no PostgreSQL. Set backup.service: {other[0]}, and "
                "backup.command, for example [sh, -c, 'exec mysqldump --all-databases -p\"$MYSQL_ROOT_PASSWORD\"']."
            )
        return (
            "Where the database is: PostgreSQL runs in no service. Set backup.service and backup.command; where there "
            "is none: app.migrate: []."
        )

    # --------------------------------------------------------------------------------------------------- the server

    def _server(self) -> dict[str, Node]:
        login = self.login
        is_name = re.fullmatch(r"[A-Za-z][A-Za-z0-9-]*(\..*)?", login.host)
        server: dict[str, Node] = {
            "name": Leaf(login.host.partition(".")[0] if is_name else self.found.project),
            "host": Leaf(login.host),
        }
        if login.port != 22:  # noqa: PLR2004 - SSH's
            server["port"] = Leaf(login.port)
        server |= {"user": Leaf(login.user), "hostKey": Leaf(login.host_key)}
        url, source = self._url()
        if url:
            server["url"] = Leaf(url, source)
        else:
            self.open.append(
                "The public address: neither the environment, nor an nginx, nor a published port tells it. Set "
                "servers[0].url, so that each release is looked at as visitors see it."
            )
        return server

    def _url(self) -> tuple[str, str]:
        """The public address, and where that is from; "" where nothing tells it."""
        ways: tuple[Callable[[], Iterator[tuple[str, str]]], ...] = (
            self._told_addresses, self._passed_addresses, self._published_addresses
        )  # fmt: skip
        found = [address for way in ways for address in way()]
        hosts = list(dict.fromkeys(urlsplit(url).hostname for url, source in found if source != _PUBLISHED))
        if len(hosts) > 1:
            self.open.append(f"Which is the public address: {_listed(sorted(map(str, hosts)))} (servers[0].url).")
        return found[0] if found else ("", "")

    def _told_addresses(self) -> Iterator[tuple[str, str]]:
        told = self.web.told
        for name in _HOSTS:
            value = told.get(name, "").partition(",")[0].strip()
            parts = urlsplit(value if "://" in value else f"//{value}")
            if _is_public(parts.hostname or ""):
                stated = told.get("DEFAULT_PROTOCOL", "") if name == "DEFAULT_HOST" else ""
                scheme = parts.scheme or stated or self._scheme(str(parts.hostname))
                if scheme in ("http", "https"):
                    yield f"{scheme}://{parts.netloc.rpartition('@')[2]}", f"{name} of {self.web.name}"
                    return

    def _scheme(self, host: str) -> str:
        """Without TLS only where every port that is published shows that."""
        if any(it.tls for it in self.found.passing if it.host in (host, "")):
            return "https"
        published = {port.published for it in self.found.services for port in it.ports if _is_open(port)}
        return "http" if 80 in published and 443 not in published else "https"  # noqa: PLR2004 - HTTP's

    def _passed_addresses(self) -> Iterator[tuple[str, str]]:
        passing = [it for it in self.found.passing if it.service == self.web.name and _is_public(it.host)]
        for it in sorted(passing, key=lambda it: not it.tls):
            yield f"{'https' if it.tls else self._scheme(it.host)}://{it.host}", f"server_name of {it.proxy}"

    def _published_addresses(self) -> Iterator[tuple[str, str]]:
        doors = [self.web.name, *(it.proxy for it in self.found.passing if it.service == self.web.name)]
        ports = [port for it in self.found.services if it.name in doors for port in it.ports if _is_open(port)]
        by_port = {it.published: it for it in ports}
        for port, scheme in ((443, "https"), (80, "http")):
            if port in by_port:
                yield f"{scheme}://{_in_url(self.login.host)}", _PUBLISHED
        for number in by_port:
            yield f"http://{_in_url(self.login.host)}:{number}", _PUBLISHED


def _remark(text: str) -> list[str]:
    """As lines of comments; addresses and commands are not broken."""
    begin, then = "#  - ", "#    "
    return textwrap.wrap(
        text, WIDTH, initial_indent=begin, subsequent_indent=then, break_long_words=False, break_on_hyphens=False
    )


_PUBLISHED = "the port that is published; the name is that of the SSH connection"


def _is_open(port: Published) -> bool:
    return not re.match(r"127\.|::1", port.address)


def _is_public(host: str) -> bool:
    return "." in host and not re.match(r"127\.|0\.0\.0\.0|localhost", host) and not re.search(r"[^\w.-]", host)


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _can_be_released(tag: str) -> bool:
    try:
        check_tag(tag)
    except ValueError:
        return False
    return not tag.startswith(CANDIDATE_PREFIX)


def _without_digest(image: str) -> str:
    return image.partition("@")[0]


def _repository(image: str) -> str:
    name = _without_digest(image)
    return name[: name.rindex(":")] if ":" in name.rpartition("/")[2] else name


def _tag(image: str) -> str:
    name = _without_digest(image).rpartition("/")[2]
    return name.partition(":")[2] or "latest"


def _last(image: str) -> str:
    return _repository(image).rpartition("/")[2]


def _listed(values: Sequence[object]) -> str:
    return " or ".join(map(str, values))
