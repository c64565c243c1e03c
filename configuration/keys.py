"""What there is to know of the keys as such, by walking the tree: where each is, and which make a rollout."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin, get_type_hints

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from configuration.tree import Rollout, ServerSettings, Settings

Mark = TypeVar("Mark")


@dataclass(frozen=True)
class Kind:
    """A type without its annotations and without None, and these annotations, the outermost last."""

    type: Any
    marks: tuple[Any, ...]

    @classmethod
    def of(cls, hint: Any) -> Kind:
        """Takes a type hint apart."""
        if get_origin(hint) is Annotated:
            inner, *marks = get_args(hint)
            kind = cls.of(inner)
            more = (part for mark in marks for part in (mark.metadata if isinstance(mark, FieldInfo) else (mark,)))
            return cls(kind.type, (*kind.marks, *more))
        if get_origin(hint) in (Union, UnionType):
            (inner,) = (part for part in get_args(hint) if part is not NoneType)
            return cls.of(inner)
        return cls(hint, ())

    def mark(self, of: type[Mark]) -> Mark | None:
        """The outermost annotation of a class, or None."""
        return next((mark for mark in reversed(self.marks) if isinstance(mark, of)), None)

    @property
    def group(self) -> type[BaseModel] | None:
        """The keys that a value of this type consists of, or each of its items if it is a list; or None."""
        item = Kind.of(get_args(self.type)[0]).type if get_origin(self.type) is tuple else self.type
        return item if isinstance(item, type) and issubclass(item, BaseModel) else None


@dataclass(frozen=True)
class Key:
    """A key, for example "servers[].host"."""

    path: str
    kind: Kind
    field: FieldInfo


def keys(model: type[BaseModel] = Settings, path: str = "") -> Iterator[Key]:
    """All keys in the order of the tree, a group before the keys in it."""
    hints = get_type_hints(model, include_extras=True)
    for name, field in model.model_fields.items():
        kind = Kind.of(hints[name])
        key = Key(f"{path}{field.alias}", kind, field)
        yield key
        if kind.group:
            yield from keys(kind.group, f"{key.path}{'[]' if get_origin(kind.type) is tuple else ''}.")


def specification(settings: Settings, server: ServerSettings, compose_file: str | None) -> str:
    """SHA-256 of everything besides the image that makes a rollout on `server` another one.

    compose_file: the text of the Compose file that the repository keeps, if it keeps one
    It changes with the keys that are marked so, and must not change with Relève's own version: keys are named by their
    last word.
    """
    named = {"composeFile": compose_file, **specified(settings, server)}
    return hashlib.sha256(json.dumps(named, sort_keys=True).encode()).hexdigest()


def specified(settings: Settings, server: ServerSettings) -> dict[str, Any]:
    """The keys that make a rollout on `server` another one, by their last word, and their values as JSON has them."""
    values = list(_marked(settings.model_copy(update={"servers": (server,)})))
    named = dict(values)
    if len(named) != len(values):
        raise ValueError(f"two keys of the same name: {sorted(name for name, _ in values)}")
    plain: dict[str, Any] = json.loads(json.dumps(named))
    return plain


def _marked(settings: BaseModel) -> Iterator[tuple[str, Any]]:
    """The keys whose value is part of the specification."""
    for name, field in type(settings).model_fields.items():
        value = getattr(settings, name)
        mark = next((mark for mark in field.metadata if isinstance(mark, Rollout)), None)
        if mark and mark.otherwise is None and not (mark.when_set and value == field.get_default()):
            yield str(field.alias), value
        for group in value if isinstance(value, tuple) else (value,):
            if isinstance(group, BaseModel):
                yield from _marked(group)
