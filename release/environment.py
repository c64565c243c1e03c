"""The file .env of a Compose project, written so that every value arrives in the containers as it is."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping

from configuration.tree import Settings


def values_of(settings: Settings) -> dict[str, str] | None:
    """The variables of `env` with their values; None: the configuration has none, and the server's own file stays."""
    env = settings.env
    return None if env is None else {name: value.get_secret_value() for name, value in env.items()}


def env_file(values: Mapping[str, str]) -> str:
    r"""The text of .env: a line NAME=VALUE for each of `values`, in the quotes that Compose takes apart again.

    In single quotes Compose changes nothing, but they cannot hold one, nor end after a backslash; double quotes can,
    with `\\`, `"`, `$` and line breaks escaped (compose-go, dotenv/parser.go, which reads .env and env_file alike).
    """
    return "".join(f"{name}={_quoted(value)}\n" for name, value in values.items())


def _quoted(value: str) -> str:
    if not set(value) & {"'", "\n", "\r"} and not value.endswith("\\"):
        return f"'{value}'"
    # To older Composes a quote after a backslash never ends a value, not even after an escaped one: the last is octal.
    value, last = (value[:-1], "\\0134") if value.endswith("\\") else (value, "")
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("$", "\\$") + last
    return '"' + escaped.replace("\n", "\\n").replace("\r", "\\r") + '"'


def fingerprints(values: Mapping[str, str], key: str) -> dict[str, str]:
    """Name → what changes with the value and tells nothing of it to those without `key` (any secret text).

    A plain hash of a password can be guessed by trying passwords.
    """
    return {
        name: hmac.new(key.encode(), f"{name}={value}".encode(), hashlib.sha256).hexdigest()[:12]
        for name, value in sorted(values.items())
    }
