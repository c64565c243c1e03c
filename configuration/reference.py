"""Writes what is said of the keys, for people and for editors: `python -m configuration.reference`.

docs/configuration.md describes them; docs/stack.schema.json is a JSON schema of a whole Pulumi.<stack>.yaml. Both are
committed; `make reference` writes them anew, and a test compares.
"""

from __future__ import annotations

import inspect
import json
import re
import shlex
import sys
from collections.abc import Iterable, Iterator, Mapping
from enum import Enum
from pathlib import Path
from typing import Any, get_args, get_origin

from annotated_types import Ge, Le
from pydantic import SecretStr

from configuration import preset
from configuration.keys import Key, Kind, keys
from configuration.load import PREFIX
from configuration.tree import Rollout, Settings, Unset
from configuration.values import Called

PROJECT = Path(__file__).resolve().parent.parent
MARKDOWN = PROJECT / "docs" / "configuration.md"
SCHEMA = PROJECT / "docs" / "stack.schema.json"

_INTRODUCTION = """\
# Configuration

<!-- Written by `make reference` from configuration/tree.py: change it there. -->

Every key of `Pulumi.<stack>.yaml`. There, a key at the top level has the prefix `releve:`; `tag` is `releve:tag`.
Unknown keys are refused. All mistakes are reported at once, before anything is built or any server is connected to. An
editor with a YAML language server completes and checks the keys: the first line of the stack file names
[stack.schema.json](stack.schema.json).

The last column follows `pulumi config set`. With `--path`, numbers and `true`/`false` are stored as such: where text is
wanted, `--type string` keeps it text; a secret always is. Without a value, `pulumi config set` asks for it, so that a
secret is not in your shell's history. Without `-s STACK`, Pulumi uses the stack of `pulumi stack select`.

With `preset: fabmanager` most of it is taken from configuration/presets/fabmanager.yaml, and a stack file holds what is
the lab's own. `./releve config show` prints what holds, and of each value where it comes from.

## What counts as a rollout

A change of a key with **yes** in the column *rollout* makes every step on the server run again, and nothing else does.
A change of any other key is used by the next rollout. Besides the keys:

| a change of | is |
|---|---|
| the digest that the tag stands for | a rollout |
| Relève's own program for the server | none; `install` brings the new one |
| `image.smokeTest`, `image.checks` | none, and no new test of a released tag |
| `image.source`, or what is committed there, under a released tag | none; a warning |
| something on the server, by hand | none; Pulumi does not look |
"""


def main() -> int:
    """Entry point; returns the exit status."""
    MARKDOWN.write_text(markdown(), encoding="utf-8")
    SCHEMA.write_text(schema(), encoding="utf-8")
    return 0


# -------------------------------------------------------------------------------------------------------- for people


def markdown() -> str:
    """docs/configuration.md."""
    top = [key for key in keys() if "." not in key.path]
    alone = [key for key in top if not key.kind.group]
    title = ", ".join(f"`{key.path}`" for key in alone)
    sections = [f"## {title}\n\n{_table(alone)}", *(text for key in top if key.kind.group for text in _sections(key))]
    return "\n".join([_INTRODUCTION, *sections])


def _sections(group: Key) -> Iterator[str]:
    """A group: the keys in it that hold a value, then the groups in it."""
    path = _prefix(group)
    within = [key for key in keys() if key.path.startswith(f"{path}.") and "." not in key.path[len(path) + 1 :]]
    heading = "###" if "." in path else "##"
    about = inspect.getdoc(group.kind.group)
    yield f"{heading} `{path}`\n\n{about}\n\n{_table([key for key in within if _is_value(key)])}"
    for key in within:
        if key.kind.group:
            yield from _sections(key)


def _prefix(group: Key) -> str:
    return f"{group.path}[]" if get_origin(group.kind.type) is tuple else group.path


def _is_value(key: Key) -> bool:
    """Whether a value is written for the key itself; a group may have a short form."""
    return not key.kind.group or key.kind.mark(Called) is not None


def _table(rows: Iterable[Key]) -> str:
    lines = ["| key | type | default | meaning | rollout | `pulumi config set …` |", "|---|---|---|---|---|---|"]
    for key in rows:
        cells = [f"`{key.path}`", _type(key.kind), _default(key), str(key.field.description), _rollout(key), _set(key)]
        lines.append("| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |")
    return "\n".join([*lines, ""])


def _type(kind: Kind, *, many: bool = False) -> str:
    if called := kind.mark(Called):
        return called.many if many else called.one
    arguments = get_args(kind.type)
    if get_origin(kind.type) is tuple:
        return f"list of {_type(Kind.of(arguments[0]), many=True)}"
    if get_origin(kind.type) is Mapping:
        return "map of text, secrets allowed" if arguments[1] is SecretStr else "map of text"
    if issubclass(kind.type, Enum):
        return ", ".join(f"`{value}`" for value in kind.type)
    if lowest := kind.mark(Ge):
        highest = kind.mark(Le)
        return f"{lowest.ge}–{highest.le if highest else '…'}"
    return {bool: "true or false", SecretStr: "secret"}[kind.type]


def _default(key: Key) -> str:
    if unset := key.kind.mark(Unset):
        return unset.words
    if key.field.is_required():
        return "required"
    default = key.field.default
    if default in (None, (), {}):
        return "none"
    text = shlex.join(default) if isinstance(default, tuple) else str(default)
    return f"`{text.lower() if isinstance(default, bool) else text}`"


def _rollout(key: Key) -> str:
    mark = key.kind.mark(Rollout)
    return "" if mark is None else "**yes**" if mark.otherwise is None else f"**yes**: {mark.otherwise}"


def _set(key: Key) -> str:
    """What sets the key to its example, as words after `pulumi config set`."""
    path, options, more = key.path.replace("[]", "[0]"), [], ""
    value = key.field.examples[0] if key.field.examples else None
    items = get_args(key.kind.type)[:1] if get_origin(key.kind.type) is tuple else (key.kind.type,)
    secret = any(Kind.of(item).type is SecretStr for item in items)
    if isinstance(value, dict):
        name, value = next(iter(value.items()))
        path += f'["{name}"]' if "." in name else f".{name}"
        secret = get_args(key.kind.type)[1] is SecretStr
        # Otherwise 2 would be a number; a secret is text as it is, and Pulumi refuses both options together.
        options = ["--type", "string"] if isinstance(value, str) and not secret else []
    while isinstance(value, list):
        more = " (and so on)" if len(value) > 1 else more
        path, value = f"{path}[0]", value[0]
    words = [*(["--secret"] if secret else []), *(["--path"] if set(".[") & set(path) else []), *options, path]
    if value is not None and not secret:
        words.append(json.dumps(value) if isinstance(value, bool | int) else value)
    return f"`{shlex.join(words)}`{more}"


# ------------------------------------------------------------------------------------------------------- for editors

_SECURE = {
    "type": "object",
    "properties": {"secure": {"type": "string"}},
    "required": ["secure"],
    "additionalProperties": False,
    "description": "encrypted by `pulumi config set --secret`",
}


def schema() -> str:
    """docs/stack.schema.json."""
    settings = Settings.model_json_schema()
    settings = _beside_presets(_plain(settings, settings.pop("$defs")))
    document = {
        # The version that editors know best.
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "A stack of Relève: Pulumi.<stack>.yaml",
        "type": "object",
        "properties": {
            "config": {
                "type": "object",
                "properties": {f"{PREFIX}{name}": _top(value) for name, value in settings["properties"].items()},
                # Those of other projects and of providers are none of ours.
                "patternProperties": {f"^(?!{PREFIX})[^:]+:": True},
                "required": [f"{PREFIX}{name}" for name in settings["required"]],
                "additionalProperties": False,
                "anyOf": [{"required": [f"{PREFIX}preset"]}, _without_preset()],
            },
            # Pulumi's own.
            "environment": True,
            "secretsprovider": {"type": "string"},
            "encryptedkey": {"type": "string"},
            "encryptionsalt": {"type": "string"},
        },
        "required": ["config"],
        "additionalProperties": False,
    }
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def _beside_presets(settings: dict[str, Any]) -> dict[str, Any]:
    """What a preset holds need not be in a stack file, and null takes away what need not be there at all."""
    for key in _held():
        *groups, name = key.path.split(".")
        node = settings
        for group in groups:
            node = node["properties"][group]
        node["required"] = [it for it in node.get("required", ()) if it != name or not _is_whole(key)]
        if not node["required"]:
            del node["required"]
        if key.field.default is None:
            node["properties"][name]["type"] = [node["properties"][name]["type"], "null"]
    return settings


def _without_preset() -> dict[str, Any]:
    """What a stack file needs of these keys where it names no preset."""
    needed: dict[str, Any] = {}
    for key in _held():
        if key.field.is_required() and _is_whole(key):
            *groups, name = f"{PREFIX}{key.path}".split(".")
            node = needed
            for group in groups:
                node = node.setdefault("properties", {}).setdefault(group, {})
            node.setdefault("required", []).append(name)
    return needed


def _held() -> list[Key]:
    """The keys that a preset has a value for, groups before what is in them."""
    presets = [preset.read(name) for name in preset.names()]
    return [key for key in keys() if any(_is_in(values, key.path.split(".")) for values in presets)]


def _is_in(values: Any, path: list[str]) -> bool:
    return not path or (isinstance(values, Mapping) and path[0] in values and _is_in(values[path[0]], path[1:]))


def _is_whole(key: Key) -> bool:
    """Whether a preset has all that must be there of a group; of anything else it has all."""
    within = [it for it in keys() if it.path.rpartition(".")[0] == key.path]
    return {it.path for it in within if it.field.is_required()} <= {it.path for it in _held()}


def _top(value: dict[str, Any]) -> dict[str, Any]:
    """A key at the top level: what `pulumi config set` writes there is always text."""
    if value["type"] != "integer":
        return value
    return {"description": value["description"], "anyOf": [value, {"type": "string", "pattern": "^[0-9]+$"}]}


def _plain(node: Any, definitions: Mapping[str, Any]) -> Any:
    """What pydantic makes of the tree, for editors.

    Definitions stand where they are used, since an editor shows no description beside a reference; what may be left out
    need not be written as null; secrets may be encrypted.
    """
    if isinstance(node, list):
        return [_plain(item, definitions) for item in node]
    if not isinstance(node, dict):
        return node
    if reference := node.get("$ref"):
        used = definitions[reference.rpartition("/")[2]]
        return _plain({**used, **{name: value for name, value in node.items() if name != "$ref"}}, definitions)
    choices = [choice for choice in node.get("anyOf", ()) if choice != {"type": "null"}]
    if len(choices) == 1:
        rest = {name: value for name, value in node.items() if name != "anyOf"}
        return _plain({**choices[0], **rest}, definitions)
    plain = {
        name: {key: _plain(value, definitions) for key, value in part.items()}
        if name == "properties"
        else _plain(part, definitions)
        for name, part in node.items()
        if name not in ("title", "format", "writeOnly") and not (name == "default" and not _is_shown(part))
    }
    if "description" in plain:
        # Links are relative to docs/.
        plain["description"] = re.sub(r"\[([^]]+)\]\([^)]*\)", r"\1", node["description"])
    if node.get("writeOnly"):
        del plain["type"]
        plain["anyOf"] = [{"type": "string"}, _SECURE]
    if "patternProperties" in plain:
        plain["additionalProperties"] = False
    return plain


def _is_shown(default: Any) -> bool:
    items = default if isinstance(default, list) else [default]
    return items != [] and not any(item is None or isinstance(item, dict) for item in items)


if __name__ == "__main__":
    sys.exit(main())
