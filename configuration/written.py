"""YAML for people: values, and behind each of them what is to be said of it. PyYAML writes no comments."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

COLUMN = 60
"""Where remarks begin, behind values that are shorter."""
WIDEST = 100
"""Longer lists are written on lines of their own."""


@dataclass(frozen=True)
class Leaf:
    """A value as YAML has it, and a remark on one line, "" for none."""

    value: Any
    remark: str = ""


Node = Leaf | Mapping[str, "Node"] | Sequence["Node"]


def lines(node: Mapping[str, Node], indent: str = "") -> Iterator[str]:
    """The lines of a map."""
    for key, part in node.items():
        yield from _entry(f"{indent}{flow(key)}:", part, f"{indent}  ")


def plain(node: Node) -> Any:
    """The values alone, as JSON has them."""
    if isinstance(node, Leaf):
        return node.value
    if isinstance(node, Mapping):
        return {key: plain(part) for key, part in node.items()}
    return [plain(part) for part in node]


def leaves(node: Node, path: str = "") -> Iterator[tuple[str, Leaf]]:
    """Each value with its path, as "servers[0].host"."""
    if isinstance(node, Leaf):
        yield path, node
    elif isinstance(node, Mapping):
        for key, part in node.items():
            yield from leaves(part, f"{path}.{key}" if path else key)
    else:
        for number, part in enumerate(node):
            yield from leaves(part, f"{path}[{number}]")


def flow(value: Any) -> str:
    """A value on one line."""
    written = yaml.safe_dump(value, default_flow_style=True, width=1 << 30, allow_unicode=True, sort_keys=False)
    return written.removesuffix("...\n").rstrip("\n")


def _entry(begin: str, part: Node, indent: str) -> Iterator[str]:
    if isinstance(part, Leaf):
        text, items = f"{begin} {flow(part.value)}", []
        if isinstance(part.value, list) and len(text) > WIDEST:
            text, items = begin, [f"{indent}- {flow(item)}" for item in part.value]
        yield f"{text:<{COLUMN}}  # {part.remark}" if part.remark else text
        yield from items
    elif isinstance(part, Mapping):
        yield begin
        yield from lines(part, indent)
    else:
        yield begin
        for item in part:
            yield from _item(item, indent)


def _item(item: Node, indent: str) -> Iterator[str]:
    """An item of a list: its first line begins with the dash."""
    if not isinstance(item, Mapping):
        yield from _entry(f"{indent}-", item, f"{indent}  ")
        return
    first, *more = lines(item, f"{indent}  ")
    yield f"{indent}- {first[len(indent) + 2 :]}"
    yield from more
