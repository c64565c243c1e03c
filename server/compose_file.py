"""A Compose file: read, given a release's image with every other byte kept, and looked at for what a rollout meets.

Terms are those of the Compose specification. Both sides use this: the client for a file that the repository keeps, the
server for its own.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import yaml

from server.one_shots import COMPLETED, awaited, conditions, ends


class ComposeFileError(ValueError):
    """A release cannot be set in the file; the message says why, and what to do. It does not name the file."""


class _Loader(yaml.SafeLoader):
    """Accepts Compose's own tags, !reset and !override, as if they were not there.

    Numbers and dates stay text: some are read in another way by Compose, or are none at all.
    """


def _untagged(loader: yaml.SafeLoader, _suffix: str, node: yaml.Node) -> Any:
    if isinstance(node, yaml.MappingNode):
        return loader.construct_mapping(node, deep=True)
    if isinstance(node, yaml.SequenceNode):
        return loader.construct_sequence(node, deep=True)
    assert isinstance(node, yaml.ScalarNode)  # noqa: S101 - there is no other kind of node
    return loader.construct_scalar(node)


_Loader.add_multi_constructor("!", _untagged)
_TYPES = tuple(f"tag:yaml.org,2002:{name}" for name in ("bool", "null", "merge"))
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag in _TYPES]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


class _Composer(yaml.SafeLoader):
    """Gives nodes; one for an alias of a scalar stands where the alias stands, not where its anchor is."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        alias = self.peek_event() if self.check_event(yaml.AliasEvent) else None  # type: ignore[no-untyped-call] # of the stubs
        node = super().compose_node(parent, index)
        if alias and isinstance(node, yaml.ScalarNode):
            return yaml.ScalarNode(node.tag, node.value, alias.start_mark, alias.end_mark)
        return node


_BLANKS = re.compile(r"(?<=\S)[ \t]+")


def _without_tabs(text: str) -> str:
    """The text with spaces for the tabs within lines, which Compose takes as well and PyYAML does not; as long."""
    return _BLANKS.sub(lambda found: " " * len(found[0]), text)


def _load(text: str) -> Any:
    return yaml.load(_without_tabs(text), Loader=_Loader)  # noqa: S506 - derived from SafeLoader


def parse(text: str) -> dict[str, Any]:
    """The file as a mapping with a mapping `services`. Raises ComposeFileError."""
    try:
        document = _load(text)
    except yaml.YAMLError as error:
        raise ComposeFileError(f"It is not valid YAML: {error}") from None
    if not isinstance(document, dict) or not isinstance(document.get("services"), dict):
        raise ComposeFileError("It has no block `services:`.")
    return document


def services_in(text: str) -> dict[str, Any]:
    """The services of a file, which need not have any: an override file may be about volumes alone."""
    try:
        return parse(text)["services"]  # type: ignore[no-any-return] # parse has looked
    except ComposeFileError:
        return {}


def files_named(service: Mapping[str, Any], key: str) -> list[str]:
    """The files that a service names under `env_file` or `label_file`, as they are written: one, or a list."""
    entries = service.get(key) or ()
    listed = entries if isinstance(entries, (list, tuple)) else [entries]
    return [str(entry.get("path", "") if isinstance(entry, dict) else entry) for entry in listed]


def refuse_parts(text: str) -> None:
    """Raises ComposeFileError where the file is put together from others, which may set the image."""
    try:
        document = _load(text)
    except yaml.YAMLError:
        return  # Compose says it better
    services = document.get("services") if isinstance(document, dict) else None
    part = "include" if isinstance(document, dict) and "include" in document else ""
    for name, service in services.items() if isinstance(services, dict) else ():
        if isinstance(service, dict) and "extends" in service:
            part = f"`extends` of the service '{name}'"
            break
    if part:
        raise ComposeFileError(
            f"The Compose file takes parts from elsewhere ({part}), which may set the image. Write the services out in "
            "one file: `docker compose config --no-interpolate` prints them."
        )


def with_image(text: str, services: Iterable[str], image: str, one_shots: Iterable[str] = ()) -> str:
    """The text with the image of each of `services` set to `image`, every other byte unchanged.

    A service that takes its image from an anchor has it set there. So have the one-shots on the same image: those that
    are named, and those that the services wait for. Others that share the anchor get it where that is safe. Raises
    ComposeFileError when a service has no image to set, or when setting it would change anything else.
    """
    ours = list(dict.fromkeys(services))
    document = parse(text)
    for key, names in (("app.services", ours), ("app.oneShots", one_shots)):
        for name in names:
            if not isinstance(document["services"].get(name), dict):
                known = ", ".join(str(service) for service in document["services"])
                raise ComposeFileError(f"It has no service '{name}' ({key}). It has: {known}.")
    _refuse_ending(document["services"], ours)
    wanted = list(dict.fromkeys([*ours, *one_shots, *awaited(document["services"], ours)]))
    root = yaml.compose(_without_tabs(text), Loader=_Composer)
    # By position: services that share an anchored value have it set once. Last one first, so that positions hold.
    spans = {_span(text, _image_node(root, name)) for name in wanted}
    changed = text
    for start, end in sorted(spans, reverse=True):
        quote = text[start] if text[start] in "'\"" else ""
        changed = f"{changed[:start]}{quote}{image}{quote}{changed[end:]}"
    after = parse(changed)
    others = [name for name in services_with(after, image) if name not in wanted]
    along = [name for name in others if _may_go_along(root, document["services"], name, ours)]
    _refuse_other_changes(document, after, [*wanted, *along], image)
    return changed


def with_path(text: str, is_old: Callable[[str], bool], new: str) -> str:
    """The text with another file in the place of one that services take variables from, or mount.

    is_old: whether a path, as it is written, is that file's
    """
    try:
        root = yaml.compose(_without_tabs(text), Loader=_Composer)
    except yaml.YAMLError:
        return text  # Compose says it better
    spans = {}
    services = _lookup(root, "services")
    for _, service in services.value if isinstance(services, yaml.MappingNode) else ():
        for node in (*_entries(service, "env_file", "path"), *_entries(service, "volumes", "source")):
            path, colon, rest = node.value.partition(":")
            if is_old(path):
                spans[_span(text, node)] = json.dumps(new.replace("$", "$$") + colon + rest)
    for (start, end), value in sorted(spans.items(), reverse=True):
        text = f"{text[:start]}{value}{text[end:]}"
    return text


def _entries(service: yaml.Node, key: str, part: str) -> Iterator[yaml.ScalarNode]:
    """The entries below `key`, of those in the long form the `part`."""
    listed = _lookup(service, key)
    for entry in listed.value if isinstance(listed, yaml.SequenceNode) else [listed]:
        node = _lookup(entry, part) if isinstance(entry, yaml.MappingNode) else entry
        if isinstance(node, yaml.ScalarNode) and node.style not in ("|", ">") and node.value:
            yield node


# ------------------------------------------------------------------- services on the image that app.services leave out


def services_with(document: Mapping[str, Any], image: str) -> list[str]:
    """The services that have this image."""
    return [
        name
        for name, service in document["services"].items()
        if isinstance(service, dict) and service.get("image") == image
    ]


def _refuse_ending(services: Mapping[str, Any], ours: Sequence[str]) -> None:
    for name in ours:
        if COMPLETED in conditions(services, name):
            raise ComposeFileError(
                f"The service '{name}' runs to its end, as others wait for that ({COMPLETED}): name '{name}' in "
                "app.oneShots, not in app.services."
            )


def _may_go_along(root: yaml.Node | None, services: Mapping[str, Any], name: str, ours: Sequence[str]) -> bool:
    """Whether a service that shares the image's anchor may get it: it ends, is not started, or is only a base."""
    # Whether one of its profiles is active, only the server knows, and says.
    if ends(services, name) or services[name].get("profiles"):
        return True
    if any(services[name].get(key) for key in ("command", "entrypoint", "ports", "restart")):
        return False
    nodes = _lookup(root, "services")
    return any(_is_merged(_lookup(nodes, name), _lookup(nodes, our)) for our in ours)


def _is_merged(node: yaml.Node | None, into: yaml.Node | None) -> bool:
    return any(merged is node or _is_merged(node, merged) for merged in _merged(into))


def refuse_active(document: Mapping[str, Any], active: Iterable[str], known: Sequence[str], image: str) -> None:
    """Raises ComposeFileError where a service got the image for being in a profile, and that is active after all."""
    services = document["services"]
    for name in services_with(document, image):
        if name in active and services[name].get("profiles") and name not in known and not ends(services, name):
            raise _carried(name)


def _carried(name: str) -> ComposeFileError:
    return ComposeFileError(
        f"Setting the image would change that of '{name}': an anchor carries it there. Add '{name}' to app.services if "
        "it keeps running, or to app.oneShots if it runs to its end; or give it an image line of its own."
    )


def _image_node(root: yaml.Node | None, service: str) -> yaml.ScalarNode:
    node = _lookup(_lookup(_lookup(root, "services"), service), "image")
    # A block scalar ends nobody knows where, and an empty value has no place.
    if (
        not isinstance(node, yaml.ScalarNode)
        or node.style in ("|", ">")
        or node.start_mark.index == node.end_mark.index
    ):
        raise ComposeFileError(
            f"The service '{service}' has no image line that can be set: write `image: REPOSITORY:TAG` on one line "
            f"below it."
        )
    return node


def _lookup(node: yaml.Node | None, key: str) -> yaml.Node | None:
    """The value of `key` in a mapping, or in the mappings merged into it (`<<`), first one wins as in YAML 1.1."""
    if not isinstance(node, yaml.MappingNode):
        return None
    for name, value in node.value:
        if name.value == key:
            return value  # type: ignore[no-any-return] # of the stubs
    for merged in _merged(node):
        found = _lookup(merged, key)
        if found is not None:
            return found
    return None


def _merged(node: yaml.Node | None) -> Iterator[yaml.Node]:
    """What is merged into a mapping (`<<`)."""
    for name, value in node.value if isinstance(node, yaml.MappingNode) else ():
        if name.tag == "tag:yaml.org,2002:merge":
            yield from value.value if isinstance(value, yaml.SequenceNode) else [value]


def _span(text: str, node: yaml.ScalarNode) -> tuple[int, int]:
    """Start and end of the scalar in `text`, without the anchor before it."""
    start = node.start_mark.index
    if text[start] == "&":
        start += len(text[start:].split(maxsplit=1)[0])
        start += len(text[start:]) - len(text[start:].lstrip())
    return start, node.end_mark.index


def _refuse_other_changes(before: Mapping[str, Any], after: Mapping[str, Any], services: list[str], image: str) -> None:
    # Anchors make services share one object: each is made anew before the image of some is set. What `x-…` sections say
    # has had its effect.
    expected = {key: value for key, value in before.items() if not str(key).startswith("x-")}
    expected["services"] = {
        name: {**service, "image": image} if name in services else service
        for name, service in before["services"].items()
    }
    actual = {key: value for key, value in after.items() if not str(key).startswith("x-")}
    explain_difference(expected, actual, services)


def explain_difference(expected: Mapping[str, Any], actual: Mapping[str, Any], services: Sequence[str]) -> None:
    """Raises ComposeFileError where the file with the image set means something else than it should.

    expected, actual: as YAML or Compose reads it, without `x-…` sections
    """
    if expected == actual:
        return
    for name, service in actual["services"].items():
        wanted = expected["services"].get(name)
        if service == wanted:
            continue
        if name in services:
            raise ComposeFileError(
                f"After setting the image of '{name}', another one would still be used. Remove the image of '{name}' "
                "from the other places that set it, such as an override file."
            )
        raise _carried(name)
    raise ComposeFileError(
        "Setting the image would change more than images. Write image: REPOSITORY:TAG on a line of its own."
    )


def obstacles(service: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What keeps a second container of `service` from running beside the first: reason and remedy."""
    replicas = (service.get("deploy") or {}).get("replicas", service.get("scale"))
    if service.get("container_name"):
        yield "it has a container_name, which only one container can have.", "Remove that line."
    if service.get("ports"):
        yield (
            "it publishes a port, which only one container can have.",
            "Put a proxy in front of it, and remove its ports.",
        )
    if service.get("network_mode"):
        yield (
            f"it has the network_mode {service['network_mode']}, where only one can listen.",
            "Remove that line, and put a proxy in front.",
        )
    if replicas not in (None, 1, "1"):
        yield (
            "it has a number of replicas of its own.",
            "Remove deploy.replicas and scale: one container is what rolls.",
        )
    networks = service.get("networks")
    endpoints = [network for network in networks.values() if network] if isinstance(networks, dict) else []
    if any(endpoint.get(key) for endpoint in [service, *endpoints] for key in _ADDRESSES):
        yield "it has a fixed address, which only one container can have.", "Remove that line."


_ADDRESSES = ("ipv4_address", "ipv6_address", "mac_address")


def bonds(service: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The services that `service` needs to be those very containers: how, and which."""
    for kind in ("volumes_from", "links"):
        for entry in service.get(kind) or ():
            if not str(entry).startswith("container:"):
                yield kind, str(entry).partition(":")[0]
    for kind in ("network_mode", "pid", "ipc"):
        what, _, name = str(service.get(kind) or "").partition(":")
        if what == "service":
            yield kind, name


def dependants(services: Mapping[str, Any], ours: Iterable[str]) -> list[str]:
    """The other services that Compose recreates or restarts together with one of `ours`, each with the reason."""
    targets = frozenset(ours)
    found = []
    for name, service in services.items():
        if name in targets or not isinstance(service, dict):
            continue
        found += [
            f"{name} will be recreated, too: {how} {target}" for how, target in bonds(service) if target in targets
        ]
        found += [
            f"{name} will be restarted, too: depends_on {target} with restart"
            for target in restarted_with(service)
            if target in targets and target not in {bond for _, bond in bonds(service)}
        ]
    return found


def restarted_with(service: Mapping[str, Any]) -> Iterator[str]:
    """The services with which Compose restarts `service`."""
    dependencies = service.get("depends_on")
    for name, condition in dependencies.items() if isinstance(dependencies, dict) else ():
        if isinstance(condition, dict) and condition.get("restart"):
            yield name


def rolling_obstacles(services: Mapping[str, Any], ours: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Why the first of `ours` cannot be rolled, each reason with its remedy; none: it can."""
    yield from obstacles(services[ours[0]])
    for name, service in services.items():
        if name not in ours and isinstance(service, dict):
            for how, target in bonds(service):
                if target in ours:
                    remedy = "Mount the volumes in both services, and use the other one's name, which needs no links."
                    yield f"{name} will be recreated, too: {how} {target}, which interrupts it.", remedy
