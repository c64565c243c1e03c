"""Property values as the protocol carries them: plain JSON, with marks for secrets and for values not known yet."""

from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

from google.protobuf.json_format import MessageToDict, ParseDict
from google.protobuf.struct_pb2 import Struct

from .protocol import provider_pb2

UNKNOWN = "04da6b54-80e4-46f7-96ec-b56ff0331ba9"
"""Stands for a value that only the update will bring."""

_SIGNATURE = "4dabf18193072939515e22adb298388d"
_SECRET = "1b47061264138c4ac30d75fd1eb44270"  # noqa: S105  # the protocol's mark, not a secret

Value: TypeAlias = Any
Properties: TypeAlias = dict[str, Value]
Changes: TypeAlias = Mapping[str, provider_pb2.PropertyDiff.Kind.ValueType]


def unmarshal(struct: Struct) -> Properties:
    """The properties of a message, secrets still marked."""
    return dict(MessageToDict(struct))


def marshal(properties: Properties) -> Struct:
    """The message that carries these properties."""
    return ParseDict(properties, Struct())


def secret(value: Value) -> Value:
    """The value, marked as a secret; once, however often it is called."""
    return value if _is_secret(value) else {_SIGNATURE: _SECRET, "value": value}


def reveal(value: Value) -> Value:
    """The value with the marks of secrets removed at every depth."""
    if _is_secret(value):
        return reveal(value["value"])
    if isinstance(value, dict):
        return {key: reveal(item) for key, item in value.items()}
    if isinstance(value, list):
        return [reveal(item) for item in value]
    return value


def changes(old: Properties, new: Properties) -> Changes:
    """Kind of change by property path, such as `{"triggers[0]": UPDATE}`; secrets are compared by content."""
    return dict(_changes("", reveal(old), reveal(new)))


def _changes(path: str, old: Value, new: Value) -> Iterator[tuple[str, provider_pb2.PropertyDiff.Kind.ValueType]]:
    match old, new:
        case dict(), dict():
            before, after = old, new
            join = "{}.{}" if path else "{}{}"
        case list(), list():
            before, after = dict(enumerate(old)), dict(enumerate(new))
            join = "{}[{}]"
        case _:
            if old != new:
                yield path, provider_pb2.PropertyDiff.UPDATE
            return
    for key in [*before, *(key for key in after if key not in before)]:
        inner = join.format(path, key)
        if key not in after:
            yield inner, provider_pb2.PropertyDiff.DELETE
        elif key not in before:
            yield inner, provider_pb2.PropertyDiff.ADD
        else:
            yield from _changes(inner, before[key], after[key])


def _is_secret(value: Value) -> bool:
    return isinstance(value, dict) and value.get(_SIGNATURE) == _SECRET
