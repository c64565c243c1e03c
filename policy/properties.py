"""A resource's properties as the engine hands them to a policy pack."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

# In values of the engine's protocol: sdk/go/common/resource/properties.go and sdk/go/common/resource/plugin/rpc.go.
_SIGNATURE = "4dabf18193072939515e22adb298388d"
_SECRET = "1b47061264138c4ac30d75fd1eb44270"  # noqa: S105 - what marks a secret is none
_UNKNOWN = "04da6b54-80e4-46f7-96ec-b56ff0331ba9"


@dataclass(frozen=True)
class Property:
    """A property.

    value:     without marks of secrets; None where it is missing, or not known before the update
    is_secret: whether Pulumi knows of a secret in it
    is_given:  whether the program gives it at all
    """

    value: Any
    is_secret: bool
    is_given: bool

    @classmethod
    def read(cls, properties: Mapping[str, Any], name: str) -> Property:
        """One of a resource's properties."""
        raw = properties.get(name)
        plain = _plain(raw)
        return cls(plain, any(_marks(raw)), raw is not None)

    @property
    def text(self) -> str:
        """The value, where it is a string; else ""."""
        return self.value if isinstance(self.value, str) else ""


def _is_secret(value: Any) -> bool:
    return isinstance(value, Mapping) and value.get(_SIGNATURE) == _SECRET


def _plain(value: Any) -> Any:
    if _is_secret(value):
        return _plain(value.get("value"))
    if isinstance(value, Mapping):
        return {name: _plain(part) for name, part in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(part) for part in value]
    return None if value == _UNKNOWN else value


def _marks(value: Any) -> Iterator[bool]:
    yield _is_secret(value)
    if isinstance(value, Mapping):
        for part in value.values():
            yield from _marks(part)
    elif isinstance(value, Sequence) and not isinstance(value, str):
        for part in value:
            yield from _marks(part)
