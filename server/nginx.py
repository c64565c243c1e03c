"""An nginx's configuration, as `nginx -T` prints it: what it does with the name of a service, and where it listens."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

SHORT = 5
"""Seconds for which an nginx may believe an answer of the DNS without anybody's telling it of a new container."""
DEEPEST = 4
"""Variables in variables that are followed."""
_TOKENS = re.compile(
    r""" "((?:\\.|[^"\\])*)" | '((?:\\.|[^'\\])*)' | \#[^\n]* | ([;{}]) | ((?:\$\{\w+\}|[^\s;{}])+) """,
    re.DOTALL | re.VERBOSE,
)
"""Quoted twice or once, a comment, a sign, or a word."""
_VARIABLE = re.compile(r"\$(?:(\w+)|\{(\w+)\})")
_TARGET = re.compile(r"(?:[\w$+.-]*://)?([\w.-]+)(:?)")


@dataclass(frozen=True)
class Lookups:
    """What an nginx does with a name.

    asks:     it asks for the name again by itself; otherwise it looks it up when it reads its configuration
    keeps:    it may keep connections open to what it has looked up once
    believes: it asks again, but believes an answer for longer than visitors should wait
    """

    asks: bool
    keeps: bool
    believes: bool = False


@dataclass(frozen=True)
class Door:
    """Where a virtual server is reached, without TLS, that passes requests to a service.

    host: what it is called there, "" where it has no name
    """

    port: int
    host: str


@dataclass(frozen=True)
class Site:
    """A host whose requests are passed to a service. host: "" for any; tls: whether it is reached by HTTPS."""

    host: str
    tls: bool


@dataclass
class _Directive:
    """inside: what its block holds, if it has one."""

    words: list[str]
    is_block: bool
    inside: list[_Directive] = field(default_factory=list)

    @property
    def name(self) -> str:
        return self.words[0] if self.words else ""

    def all(self) -> Iterator[_Directive]:
        """Itself, and what is in it."""
        yield self
        for part in self.inside:
            yield from part.all()


def _parse(configuration: str) -> _Directive:
    blocks, words = [_Directive([], is_block=True)], list[str]()
    for token in _TOKENS.finditer(configuration):
        double, single, sign, word = token.groups()
        if token[0].startswith("#"):
            continue
        if not sign:
            words.append(double or single or word or "")
            continue
        if sign != "}":
            directive = _Directive(words, is_block=sign == "{")
            blocks[-1].inside.append(directive)
            if directive.is_block:
                blocks.append(directive)
        elif len(blocks) > 1:
            blocks.pop()
        words = []
    return blocks[0]


def lookups_of(configuration: str, names: Iterable[str]) -> Lookups | None:
    """What an nginx does with these names, from its whole configuration; None: it passes nothing to them."""
    reader = _Reader(_parse(configuration), {name.lower() for name in names})
    asks = keeps = False
    for directive in reader.whole.all():
        if reader.is_our_upstream_server(directive):
            keeps = True
            asks = asks or "resolve" in directive.words[2:]
        for host, has_variable, _ in reader.targets(directive):
            asks = asks or (host and has_variable)
            keeps = keeps or (host and not has_variable)
    if not asks and not keeps:
        return None
    return Lookups(asks, keeps, believes=asks and any(map(_believes, reader.whole.all())))


def doors_of(configuration: str, names: Iterable[str]) -> list[Door]:
    """Where virtual servers listen that pass requests to these names, from an nginx's whole configuration."""
    reader = _Reader(_parse(configuration), {name.lower() for name in names})
    return [Door(port, _name_of(server)) for server in reader.passing() for port in _ports_of(server)]


def sites_of(configuration: str, names: Iterable[str]) -> list[Site]:
    """The hosts whose requests are passed to these names, from an nginx's whole configuration."""
    reader = _Reader(_parse(configuration), {name.lower() for name in names})
    return [Site(_name_of(server), _has_tls(server)) for server in reader.passing()]


class _Reader:
    """names: of the service."""

    def __init__(self, whole: _Directive, names: Collection[str]) -> None:
        self.whole = whole
        self._names = names
        self._values = _values_in(whole)
        # A virtual server has a block, a server of an upstream none, and may be in a file of its own.
        self._upstreams = {it.words[1]: it for it in whole.all() if it.name == "upstream" and len(it.words) > 1}

    def is_our_upstream_server(self, directive: _Directive) -> bool:
        if directive.name != "server" or directive.is_block or len(directive.words) < 2:  # noqa: PLR2004 - and its address
            return False
        return _host_of(directive.words[1])[0] in self._names

    def passing(self) -> list[_Directive]:
        """The virtual servers that pass requests to the names."""
        servers = [it for it in self.whole.all() if it.name == "server" and it.is_block]
        return [
            server
            for server in servers
            if any(ours or through for part in server.all() for ours, _, through in self.targets(part))
        ]

    def targets(self, directive: _Directive) -> Iterator[tuple[bool, bool, bool]]:
        """Where a directive like proxy_pass leads.

        Yields: whether the host there has one of the names, whether a variable is in it, whether that is an upstream
        with a server of one of the names.
        """
        if not directive.name.endswith("_pass") or len(directive.words) < 2:  # noqa: PLR2004 - and its target
            return
        for target in _expanded(directive.words[1], self._values, DEEPEST):
            host, has_port = _host_of(target)
            upstream = None if has_port else self._upstreams.get(host)
            through = upstream is not None and any(map(self.is_our_upstream_server, upstream.inside))
            yield upstream is None and host in self._names, "$" in directive.words[1], through


def _host_of(target: str) -> tuple[str, bool]:
    """Of an address or a URL, and whether a port follows."""
    found = _TARGET.match(target)
    return (found[1].lower(), bool(found[2])) if found else ("", False)


def _values_in(whole: _Directive) -> dict[str, list[str]]:
    """Of variables that get their values from words of the configuration."""
    values: dict[str, list[str]] = {}
    for directive in whole.all():
        words = directive.words
        if directive.name == "set" and len(words) == 3:  # noqa: PLR2004 - set $variable value
            values.setdefault(words[1].lstrip("$"), []).append(words[2])
        elif directive.name in ("map", "geo", "split_clients") and directive.is_block:
            given = [part.words[1] for part in directive.inside if len(part.words) == 2]  # noqa: PLR2004 - key and value
            values.setdefault(words[-1].lstrip("$"), []).extend(given)
    return values


def _expanded(text: str, values: Mapping[str, Sequence[str]], depth: int) -> Iterator[str]:
    """What a text may become; variables of requests stay."""
    for found in _VARIABLE.finditer(text):
        name = found[1] or found[2]
        if name in values and depth:
            for value in values[name]:
                yield from _expanded(f"{text[: found.start()]}{value}{text[found.end() :]}", values, depth - 1)
            return
    yield text


def _believes(directive: _Directive) -> bool:
    """Whether it is a resolver that keeps answers for long: for ten minutes, Docker's, if nothing is said."""
    if directive.name != "resolver":
        return False
    valid = [re.fullmatch(r"valid=(?:(\d+)s?|\d+ms)", word) for word in directive.words if word.startswith("valid=")]
    return not valid or valid[0] is None or int(valid[0][1] or 0) > SHORT


def _name_of(server: _Directive) -> str:
    """One of its names that stands for itself."""
    names = [word for part in server.inside if part.name == "server_name" for word in part.words[1:]]
    plain = (re.fullmatch(r"\.?([a-zA-Z0-9][\w.-]*)", name) for name in names)
    return next((name[1] for name in plain if name), "")


def _has_tls(server: _Directive) -> bool:
    return any(part.name == "listen" and {"ssl", "quic"} & set(part.words[2:]) for part in server.inside)


def _ports_of(server: _Directive) -> list[int]:
    """Where it listens without TLS, on more than its own container's loopback."""
    listens = [part.words[1:] for part in server.inside if part.name == "listen"] or [["80"]]
    ports = []
    for address, *flags in listens:
        if {"ssl", "quic", "proxy_protocol"} & set(flags) or re.match(r"unix:|127\.|localhost|\[::1\]", address):
            continue
        found = re.fullmatch(r"(?:.*:)?(\d+)", address)
        ports.append(int(found[1]) if found else 80)
    return list(dict.fromkeys(ports))
