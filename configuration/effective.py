"""What holds in a stack, and of each value where it comes from: the stack file, its preset, or a default."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from pydantic import BaseModel, SecretStr

from configuration import preset
from configuration.tree import Settings, Unset
from configuration.written import Leaf, Node

SECRET = "[secret]"  # noqa: S105 - stands for one
SECURE = "secure"
"""The only key of what Pulumi has encrypted."""
_MISSING = object()


def effective(settings: Settings, own: Mapping[str, Any], source: str) -> dict[str, Node]:
    """All values of a stack, each with its origin as the remark; secrets as `[secret]`.

    own:    the keys that the stack itself sets, without prefix
    source: what these come from, for example "Pulumi.prod.yaml"
    """
    names = (source, f"preset {settings.preset}")
    return _group(settings, _Layers(own, preset.read(settings.preset), names))


def is_secure(value: object) -> bool:
    """Whether Pulumi has encrypted a value of a stack file."""
    return isinstance(value, Mapping) and list(value) == [SECURE]


def without_secrets(value: Any, key: str = "") -> Any:
    """What a stack file holds, with texts in the place of what is encrypted that may stand there.

    key: under which it stands
    """
    if is_secure(value):
        # An address (notify.urls) will do for passwords and variables, too.
        return "-----BEGIN OPENSSH PRIVATE KEY-----" if key == "privateKey" else "secret://secret"
    if isinstance(value, Mapping):
        return {name: without_secrets(part, name) for name, part in value.items()}
    return [without_secrets(part, key) for part in value] if isinstance(value, list) else value


@dataclass(frozen=True)
class _Layers:
    """What is written at one place: by the stack, and by the preset under it. names: of the two."""

    own: Any
    preset: Any
    names: tuple[str, str]

    def at(self, part: str | int) -> _Layers:
        """At a place in it. Only of maps the preset's is seen through the stack's."""
        covered = self.own is not _MISSING and not isinstance(self.own, Mapping)
        return _Layers(_part(self.own, part), _MISSING if covered else _part(self.preset, part), self.names)

    def origin(self, otherwise: str) -> str:
        """Whose the value is; otherwise: that of nobody."""
        if self.own is not _MISSING:
            return self.names[0]
        return self.names[1] if self.preset is not _MISSING else otherwise


def _part(value: Any, part: str | int) -> Any:
    if value is _MISSING or value is None:
        return _MISSING
    if isinstance(value, Mapping):
        return value.get(part, _MISSING)
    if isinstance(value, list):
        return value[part] if isinstance(part, int) and part < len(value) else _MISSING
    return value  # a short form stands for all of it


def _group(group: BaseModel, layers: _Layers) -> dict[str, Node]:
    nodes: dict[str, Node] = {}
    for name, field in type(group).model_fields.items():
        unset = next((mark for mark in field.metadata if isinstance(mark, Unset)), None)
        nodes[str(field.alias)] = _node(getattr(group, name), unset, layers.at(str(field.alias)))
    return nodes


def _node(value: Any, unset: Unset | None, layers: _Layers) -> Node:
    if isinstance(value, BaseModel):
        return _group(value, layers)
    if isinstance(value, tuple) and any(isinstance(item, BaseModel) for item in value):
        return [_node(item, None, layers.at(number)) for number, item in enumerate(value)]
    if isinstance(value, Mapping) and value:
        return {str(key): _node(item, None, layers.at(str(key))) for key, item in value.items()}
    is_empty = value is None or value in ((), {})
    default = f"default: {unset.words}" if unset and is_empty else "default"
    return Leaf(SECRET if is_secure(layers.own) else _plain(value, layers), layers.origin(default))


def _plain(value: Any, layers: _Layers) -> Any:
    if isinstance(value, SecretStr) or is_secure(layers.own):
        return SECRET
    if isinstance(value, tuple):
        return [_plain(item, layers.at(number)) for number, item in enumerate(value)]
    return str(value) if isinstance(value, Enum) else dict(value) if isinstance(value, Mapping) else value
