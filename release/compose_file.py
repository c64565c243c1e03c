"""A Compose file kept in the repository: read, checked, and given the image of a release with every comment kept.

Terms are those of the Compose specification. A Compose file that lives on a server is edited there, by
server/rollout.sh, under the same rules.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from errors import ReleaseError

KEY = "app.composeFile"


@dataclass(frozen=True)
class ComposeFile:
    """A Compose file as text.

    path: where it was read from, as the operator wrote it; only for messages
    text: its content
    """

    path: str
    text: str

    def check(self, services: Iterable[str]) -> None:
        """Raises ReleaseError unless a release can be set in the file: self-contained, with all of `services`."""
        document = self._parse(self.text)
        defined = document.get("services") if isinstance(document, dict) else None
        if not isinstance(defined, dict):
            raise ReleaseError(f"{KEY}: {self.path} has no `services:` mapping")
        if "include" in document:
            raise ReleaseError(f"{KEY}: {self.path} uses `include`. Put everything into one file.")
        for name, service in defined.items():
            if isinstance(service, dict) and "extends" in service:
                raise ReleaseError(f"{KEY}: service {name} in {self.path} uses `extends`. Use a YAML anchor instead.")
        for name in services:
            if not isinstance(defined.get(name), dict):
                raise ReleaseError(
                    f"app.services: {name!r} is not a service of {self.path}, which has: {', '.join(map(str, defined))}"
                )

    def with_image(self, services: Iterable[str], image: str) -> str:
        """The text with the image of each of `services` set to `image`, every other byte unchanged.

        A service that takes its image from an anchor has it set there. Raises ReleaseError when a service has no image
        to set, or when setting it would change anything else, for example another service that shares the anchor.
        """
        wanted = frozenset(services)
        self.check(wanted)
        # By position: services that share an anchored value have it set once. Last one first, so that positions hold.
        spans = {_value_span(self.text, self._image_node(name)) for name in wanted}
        text = self.text
        for start, end in sorted(spans, reverse=True):
            quote = text[start] if text[start] in "'\"" else ""
            text = f"{text[:start]}{quote}{image}{quote}{text[end:]}"
        self._refuse_other_changes(text, wanted, image)
        return text

    def dependants(self, services: Iterable[str]) -> tuple[str, ...]:
        """Names of the other services that Compose recreates or restarts together with one of `services`."""
        targets = frozenset(services)
        defined = self._parse(self.text)["services"]
        return tuple(
            name
            for name, service in defined.items()
            if name not in targets and isinstance(service, dict) and targets & set(_ties(service))
        )

    def check_rolling(self, services: Sequence[str]) -> None:
        """Raises ReleaseError where two containers of the first of `services` cannot run side by side."""
        web, defined = services[0], self._parse(self.text)["services"]
        obstacles = [f"it {obstacle}" for obstacle in _obstacles(defined[web])]
        for name, service in defined.items():
            if name not in services and isinstance(service, dict) and set(services) & set(_bonds(service)):
                obstacles.append(
                    f"service {name} is tied to it by volumes_from, links or a shared namespace, and would be "
                    "recreated: mount the volumes in both, and reach it by its name"
                )
        if obstacles:
            listed = "\n  ".join(obstacles)
            raise ReleaseError(
                f"app.strategy: service {web} in {self.path} cannot be rolled; nothing was changed. "
                f"Put this right, or set app.strategy to staged:\n  {listed}"
            )

    def _image_node(self, service: str) -> yaml.ScalarNode:
        root = yaml.compose(self.text, Loader=yaml.SafeLoader)
        node = _lookup(_lookup(root, "services"), service)
        image = _lookup(node, "image")
        if not isinstance(image, yaml.ScalarNode):
            raise ReleaseError(f"{KEY}: service {service} in {self.path} has no `image:` line to set. Add one.")
        return image

    def _refuse_other_changes(self, text: str, services: frozenset[str], image: str) -> None:
        expected, actual = (_without_extensions(self._parse(version)) for version in (self.text, text))
        # Anchors make services share one object: take them apart before setting the image of some.
        expected["services"] = {
            name: {**service, "image": image} if name in services else service
            for name, service in expected["services"].items()
        }
        if actual == expected:
            return
        others = [
            name for name, service in actual.get("services", {}).items() if service != expected["services"].get(name)
        ]
        what = f"service {', '.join(map(str, others))}" if others else "something outside the services"
        raise ReleaseError(
            f"{KEY}: setting the image of {', '.join(sorted(services))} in {self.path} would change {what} as well, "
            f"through an anchor they share. Give each of app.services an `image:` line of its own."
        )

    def _parse(self, text: str) -> Any:
        try:
            return yaml.load(text, Loader=_ComposeLoader)  # noqa: S506 - derived from SafeLoader
        except yaml.YAMLError as error:
            raise ReleaseError(f"{KEY}: {self.path} is not valid YAML: {error}") from None


def read(project: Path, path: str) -> ComposeFile:
    """Reads the Compose file at `path`, relative to the directory `project`.

    Raises ReleaseError when it cannot be read.
    """
    try:
        # newline="": line endings are part of the file and stay as they are.
        with (project / path).open(encoding="utf-8", newline="") as file:
            return ComposeFile(path, file.read())
    except (OSError, UnicodeDecodeError) as error:
        raise ReleaseError(f"{KEY}: cannot read {path}: {error}") from None


class _ComposeLoader(yaml.SafeLoader):
    """Accepts Compose's own tags, !reset and !override, as if they were not there."""


def _untagged(loader: yaml.SafeLoader, _suffix: str, node: yaml.Node) -> Any:
    match node:
        case yaml.MappingNode():
            return loader.construct_mapping(node, deep=True)
        case yaml.SequenceNode():
            return loader.construct_sequence(node, deep=True)
        case _:
            return loader.construct_scalar(node)  # type: ignore[arg-type]


_ComposeLoader.add_multi_constructor("!", _untagged)


def _lookup(node: yaml.Node | None, key: str) -> yaml.Node | None:
    """The value of `key` in a mapping, or in the mappings merged into it (`<<`), first one wins as in YAML 1.1."""
    if not isinstance(node, yaml.MappingNode):
        return None
    found: yaml.Node | None
    for name, found in node.value:
        if name.value == key:
            return found
    for name, value in node.value:
        if name.tag == "tag:yaml.org,2002:merge":
            for merged in value.value if isinstance(value, yaml.SequenceNode) else [value]:
                if (found := _lookup(merged, key)) is not None:
                    return found
    return None


def _without_extensions(document: dict[str, Any]) -> dict[str, Any]:
    """Without the `x-…` keys, which Compose ignores: they hold what services take by anchors."""
    return {key: value for key, value in document.items() if not str(key).startswith("x-")}


def _value_span(text: str, node: yaml.ScalarNode) -> tuple[int, int]:
    """Start and end of the scalar in `text`, without the anchor before it."""
    start = node.start_mark.index
    if text[start] == "&":
        start += len(text[start:].split(maxsplit=1)[0])
        start += len(text[start:]) - len(text[start:].lstrip())
    return start, node.end_mark.index


def _obstacles(service: dict[str, Any]) -> Iterator[str]:
    """What keeps a second container of `service` from running, each with the remedy."""
    replicas = (service.get("deploy") or {}).get("replicas", service.get("scale"))
    if "container_name" in service:
        yield "has a container_name, which only one container can have: remove that line"
    if service.get("ports"):
        yield "publishes a port, which only one container can have: put a proxy in front of it, and remove its ports"
    if "network_mode" in service:
        yield "has a network_mode, where only one can listen: remove that line, and put a proxy in front of it"
    if replicas not in (None, 1, "1"):
        yield "has a number of replicas of its own: remove deploy.replicas and scale, one container is what rolls"
    networks = service.get("networks")
    endpoints = [network for network in networks.values() if network] if isinstance(networks, dict) else []
    if any({"ipv4_address", "ipv6_address", "mac_address"} & set(endpoint) for endpoint in [service, *endpoints]):
        yield "has a fixed address, which only one container can have: remove that line"


def _ties(service: dict[str, Any]) -> Iterator[str]:
    """The services with which Compose recreates or restarts `service`."""
    yield from _bonds(service)
    dependencies = service.get("depends_on")
    for name, condition in dependencies.items() if isinstance(dependencies, dict) else ():
        if isinstance(condition, dict) and condition.get("restart"):
            yield name


def _bonds(service: dict[str, Any]) -> Iterator[str]:
    """The services that `service` needs to be those very containers."""
    for entry in service.get("volumes_from") or ():
        if not str(entry).startswith("container:"):
            yield str(entry).partition(":")[0]
    for entry in service.get("links") or ():
        yield str(entry).partition(":")[0]
    for namespace in ("network_mode", "ipc", "pid"):
        kind, _, name = str(service.get(namespace, "")).partition(":")
        if kind == "service":
            yield name
