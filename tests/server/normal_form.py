"""What `docker compose config --format json` makes of Compose files, as far as the program looks at it: one shape.

As a program it reads Compose files on standard input, one after the other with a line of SEPARATOR after each, and
prints the normal form; tests/e2e compares with Compose itself.
"""

from __future__ import annotations

import json
import re
import shlex
import sys
from collections.abc import Callable, Mapping
from typing import Any

import yaml

SEPARATOR = "\x1e"

Service = dict[str, Any]


def normal_form(*texts: str) -> str:
    """The normal form of Compose files, later ones on top; raises yaml.YAMLError where there is no YAML.

    x-active, in any of them: the profiles that are active, separated by commas; `*`: all
    """
    merged: dict[str, Any] = {"name": "shop"}
    for text in texts:
        # A tab within a line is a blank to Compose.
        spaces = re.sub(r"(?<=\S)[ \t]+", lambda found: " " * len(found[0]), text)
        document = yaml.load(spaces, Loader=_Loader)  # noqa: S506 - derived from SafeLoader
        if not isinstance(document, dict):
            raise yaml.YAMLError("top-level object must be a mapping")
        merged = _merge(merged, document)
    services, active = merged.get("services"), str(merged.pop("x-active", "")).split(",")
    if isinstance(services, dict):
        merged["services"] = {
            name: _service(service or {})
            for name, service in services.items()
            if active == ["*"] or not (service or {}).get("profiles") or set(service["profiles"]) & set(active)
        }
    return json.dumps(merged, ensure_ascii=False, indent=2)


def _merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        merged[key] = _merge(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return merged


class _Loader(yaml.SafeLoader):
    """Dates and the like stay text, as Compose reads them; its own tags say nothing of a file that is alone."""


def _untagged(loader: yaml.SafeLoader, _suffix: str, node: yaml.Node) -> Any:
    if isinstance(node, yaml.MappingNode):
        return loader.construct_mapping(node, deep=True)
    if isinstance(node, yaml.SequenceNode):
        return loader.construct_sequence(node, deep=True)
    return loader.construct_scalar(node)  # type: ignore[arg-type] # there is no other kind of node


_Loader.add_multi_constructor("!", _untagged)
_TEXT = ("tag:yaml.org,2002:timestamp", "tag:yaml.org,2002:value")
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag not in _TEXT]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def _service(service: Service) -> Service:
    normal = {key: SHAPES[key](value) if key in SHAPES else value for key, value in service.items()}
    if "network_mode" not in normal:
        normal.setdefault("networks", {"default": None})
    depends_on = {**_implied(normal), **normal.get("depends_on", {})}
    if depends_on:
        normal["depends_on"] = depends_on
    normal.pop(
        "env_file", None
    )  # its content becomes a part of `environment`; which files there are, only Compose knows
    # Compose names both always; null: what the image has.
    return {"command": None, "entrypoint": None, **normal}


def _implied(service: Service) -> dict[str, Any]:
    """What Compose adds to depends_on: the services that another one needs to be those very containers."""
    names = [str(entry).partition(":")[0] for key in ("links", "volumes_from") for entry in service.get(key, ())]
    for key in ("network_mode", "pid", "ipc"):
        kind, _, name = str(service.get(key, "")).partition(":")
        names += [name] if kind == "service" else []
    return {
        name: {"condition": "service_started", "restart": True, "required": True}
        for name in names
        if name != "container"
    }


def _words(value: Any) -> Any:
    return shlex.split(value) if isinstance(value, str) else value


def _text(value: Any) -> Any:
    return str(value).lower() if isinstance(value, bool) else None if value is None else str(value)


def _mapping(value: Any) -> dict[str, Any]:
    if isinstance(value, list):
        pairs = (str(entry).partition("=") for entry in value)
        return {name: text if equals else None for name, equals, text in pairs}
    return {name: _text(entry) for name, entry in (value or {}).items()}


def _dependencies(value: Any) -> dict[str, Any]:
    given = dict.fromkeys(value, None) if isinstance(value, list) else value
    return {name: {"condition": "service_started", "required": True, **(how or {})} for name, how in given.items()}


def _port(entry: Any) -> Any:
    if isinstance(entry, dict):
        return {"mode": "ingress", "protocol": "tcp", **entry}
    published, _, target = str(entry).rpartition(":")
    address, _, published = published.rpartition(":")
    number, _, protocol = target.partition("/")
    return {
        "mode": "ingress",
        **({"host_ip": address} if address else {}),
        "target": int(number),
        **({"published": published} if published else {}),
        "protocol": protocol or "tcp",
    }


def _volume(entry: Any) -> Any:
    if isinstance(entry, dict):
        return entry
    source, _, rest = str(entry).partition(":")
    target, _, mode = rest.partition(":")
    if not target:
        return {"type": "volume", "target": source, "volume": {}}
    kind = "bind" if source.startswith((".", "/", "~")) else "volume"
    more = {"bind": {"create_host_path": True}} if kind == "bind" else {"volume": {}}
    return {
        "type": kind,
        "source": source,
        "target": target,
        **({"read_only": True} if "ro" in mode.split(",") else {}),
        **more,
    }


SHAPES: dict[str, Callable[[Any], Any]] = {
    "command": _words,
    "entrypoint": _words,
    "environment": _mapping,
    "labels": _mapping,
    "depends_on": _dependencies,
    "networks": lambda value: dict.fromkeys(value) if isinstance(value, list) else value,
    "ports": lambda value: [_port(entry) for entry in value],
    "volumes": lambda value: [_volume(entry) for entry in value],
}
"""Keys of a service that can be written in more than one way."""


if __name__ == "__main__":
    try:
        sys.stdout.write(normal_form(*sys.stdin.read().split(f"\n{SEPARATOR}\n")[:-1]) + "\n")
    except yaml.YAMLError as error:
        sys.exit(f"yaml: {error}")
