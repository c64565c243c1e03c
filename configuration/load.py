"""Reads and validates a stack's configuration.

All mistakes are reported at once, each with the path of its key, before anything is built or any server is connected
to. Nothing here imports pulumi.
"""

from __future__ import annotations

import json
import re
import reprlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from configuration.preset import merged, read
from configuration.tree import Settings
from errors import ReleaseError

PREFIX = "releve:"


class ConfigurationError(ReleaseError):
    """The stack's configuration is not usable; the message lists every mistake."""


def load(config: Mapping[str, str], stack_file: Path) -> Settings:
    """Validates configuration, that of the preset included, if the stack names one.

    config:     as Pulumi delivers it, by full key ("releve:tag"): objects and lists as JSON, all else as its text
    stack_file: Pulumi.<stack>.yaml, to compare what is written there with what was delivered; it need not exist
    Raises ConfigurationError, which lists every mistake.
    """
    values = {key.removeprefix(PREFIX): value for key, value in config.items() if key.startswith(PREFIX)}
    unquoted = _unquoted_tag(stack_file, values.get("tag", ""))
    mistakes = [unquoted] if unquoted else []
    try:
        own = {key: _structured(key, value) for key, value in values.items()}
        settings = Settings.model_validate(merged(read(own.get("preset")), own))
    except ValidationError as error:
        mistakes += [_described(detail) for detail in error.errors(include_url=False)]
    if mistakes:
        count = f"{len(mistakes)} mistakes" if len(mistakes) > 1 else "a mistake"
        raise ConfigurationError("\n".join([f"{count} in {stack_file.name}; nothing was built or changed:", *mistakes]))
    return settings


def delivered(config: Mapping[str, Any]) -> dict[str, str]:
    """As Pulumi delivers what a stack file holds: objects, lists and numbers as JSON, all else as its text."""
    return {key: it if isinstance(it, str) else json.dumps(it, default=str) for key, it in config.items()}


def _structured(key: str, value: str) -> Any:
    """Objects, lists and numbers arrive as JSON; tag and preset are their text, whatever it looks like."""
    if key in _STRUCTURED:
        try:
            return json.loads(value)
        except ValueError:
            return value
    return value


_STRUCTURED = frozenset(str(field.alias) for field in Settings.model_fields.values()) - {"tag", "preset"}


def _unquoted_tag(stack_file: Path, delivered: str) -> str | None:
    """The mistake of a tag that YAML reads as a number or a date.

    Measured: an unquoted 1.10 arrives as 1.1, 010 as 8 and 1e3 as 1000, whatever type Pulumi.yaml declares; and Pulumi
    may have written the changed value back to the file before this program runs. So it is refused by its form.
    """
    try:
        document = yaml.compose(stack_file.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    except FileNotFoundError:
        return None
    tags = [
        value
        for section, entries in getattr(document, "value", ())
        if section.value == "config" and isinstance(entries, yaml.MappingNode)
        for key, value in entries.value
        if key.value.removeprefix(PREFIX) == "tag" and isinstance(value, yaml.ScalarNode) and value.style is None
    ]
    for tag in tags:
        if tag.value != delivered or tag.tag != "tag:yaml.org,2002:str" or _NUMBER.fullmatch(tag.value):
            return _mistake(
                "tag",
                f"is not in quotes, so YAML takes {tag.value} for a number or a date, and 1.10 becomes 1.1",
                "write it in quotes, or run: pulumi config set tag 6.5.10-lab",
            )
    return None


_NUMBER = re.compile(r"[-+]?(\d[\d_]*\.?[\d_]*|\.\d[\d_]*)([eE][-+]?\d+)?|0[xob][\da-fA-F_]+")
"""Wider than PyYAML's YAML 1.1: Pulumi reads YAML 1.2 as well."""


def _described(detail: ErrorDetails) -> str:
    path = _path(detail["loc"])
    given = detail["input"]
    remedy = _REMEDIES.get(re.sub(r"\[\d+]", "[]", path))
    match detail["type"]:
        case "missing":
            return _mistake(path, "is missing", remedy)
        case "extra_forbidden":
            return _mistake(path, f"is not a key; known here: {', '.join(_known_keys(detail['loc'][:-1]))}")
        case "value_error":
            problem = str(detail["ctx"]["error"])
        case "string_type" if not isinstance(given, dict | list):
            problem = "expected text: put it in quotes"
        case _:
            problem = detail["msg"][0].lower() + detail["msg"][1:]
    return _mistake(path, problem if _is_secret(path) else f"{_shown(given)}: {problem}", remedy)


_REMEDIES = {
    "tag": "pulumi config set tag 6.5.10-lab",
    "image": "pulumi config set --path image.repository ghcr.io/fablab/fabmanager",
    "image.repository": "pulumi config set --path image.repository ghcr.io/fablab/fabmanager",
    "app": "pulumi config set --path app.directory /apps/fabmanager",
    "app.directory": "pulumi config set --path app.directory /apps/fabmanager",
    "app.services": "pulumi config set --path 'app.services[0]' fabmanager",
    "servers": "pulumi config set --path 'servers[0].host' fabmanager.example.org",
    "registry": "pulumi config set --secret --path registry.password",
    "registry.password": "pulumi config set --secret --path registry.password",
    "servers[].hostKey": "get it with: ssh-keyscan -t ed25519 HOST, and compare it with the server's own",
}


def _mistake(path: str, problem: str, remedy: str | None = None) -> str:
    return f"  {path}: {problem}" + (f"\n      {remedy}" if remedy else "")


def _path(location: tuple[int | str, ...]) -> str:
    """('servers', 0, 'hostKey') → servers[0].hostKey."""
    path = ""
    for part in location:
        if part == "[key]":
            continue
        path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else part
    return path


def _known_keys(location: tuple[int | str, ...]) -> list[str]:
    model: Any = Settings
    for part in location:
        if isinstance(part, int):
            continue
        field = next(f for f in model.model_fields.values() if f.alias == part)
        model = next(
            candidate
            for candidate in [field.annotation, *getattr(field.annotation, "__args__", ())]
            if isinstance(candidate, type) and issubclass(candidate, BaseModel)
        )
    return [str(field.alias) for field in model.model_fields.values()]


def _is_secret(path: str) -> bool:
    return path.startswith("env.") or ".env." in path or path.endswith((".privateKey", ".password"))


def _shown(value: object) -> str:
    """A given value, for a message: short, on one line, nothing of what might be nested in it."""
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "a list"
    return _SHORT.repr(value)


_SHORT = reprlib.Repr()
_SHORT.maxstring = 60
