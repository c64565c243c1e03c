"""What must not be in a build context or an image, and what becomes of it when it is.

The rules that hold for files and variables wherever they are; dockerfile.py and image_check.py say where they look.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

from configuration.rules import DEFAULT_LEVELS, Level, Rule
from errors import printable

MOST_PLACES = 3
"""Places that one rule names; more of them are counted."""


@dataclass(frozen=True)
class Finding:
    """Something that a rule objects to: where it is, why that is bad, and what to do."""

    rule: Rule
    place: str
    why: str
    remedy: str


@dataclass(frozen=True)
class Report:
    """Findings by what becomes of them, in words; each empty when there are none."""

    errors: str
    warnings: str


def report(findings: Iterable[Finding], levels: Mapping[Rule, Level]) -> Report:
    """Sorts findings by level and puts them into words, those of one rule and one reason together.

    levels: image.checks; a rule that is not in it has its default level
    """
    texts: dict[Level, list[str]] = {level: [] for level in Level}
    groups: dict[tuple[Rule, str, str], list[str]] = {}
    for finding in findings:
        groups.setdefault((finding.rule, finding.why, finding.remedy), []).append(finding.place)
    for (rule, why, remedy), places in groups.items():
        more = f" and {len(places) - MOST_PLACES} more" if len(places) > MOST_PLACES else ""
        where = ", ".join(map(printable, places[:MOST_PLACES])) + more
        texts[levels.get(rule, DEFAULT_LEVELS[rule])].append(f"  {rule}: {where}: {why}\n      {remedy}")
    return Report("\n".join(texts[Level.ERROR]), "\n".join(texts[Level.WARN]))


# Files

_SAMPLES = frozenset({"example", "sample", "template", "dist", "defaults"})
_CREDENTIALS = re.compile(
    r"(.*/)?(\.netrc|\.pgpass|\.my\.cnf|\.git-credentials|\.dockercfg|\.docker/config\.json|\.aws/credentials"
    r"|\.gem/credentials|\.config/gh/hosts\.yml|id_(rsa|dsa|ecdsa|ed25519)|config/master\.key"
    r"|config/credentials/[^/]+\.key|[^/]+\.(p12|pfx))"
)
PRIVATE_KEY = r"^-----BEGIN ([A-Z]+ )*PRIVATE KEY-----"
"""First line of a private key in PEM (RFC 7468, and OpenSSH's own)."""


def check_file(path: str, application: str = "") -> Finding | None:
    """What is wrong with a file of this name, if anything.

    path:        of a file, relative to the context or to the image's root
    application: where the application lies there
    """
    name = PurePosixPath(path).name
    if name == ".env" or (name.startswith(".env.") and name.rpartition(".")[2] not in _SAMPLES):
        return Finding(
            Rule.ENV_FILE, path, "whoever can pull the image can read it", "leave it out: add .env* to .dockerignore"
        )
    if _CREDENTIALS.fullmatch(path):
        return _credentials(path)
    parts = PurePosixPath(path).parts
    if ".git" in parts[:-1]:
        return Finding(
            Rule.GIT_DIRECTORY,
            "/".join(parts[: parts.index(".git") + 1]),
            "it holds the whole history of the source, and what was ever deleted from it",
            "leave it out: add .git to .dockerignore",
        )
    return _leftover(path, application)


def _leftover(path: str, application: str) -> Finding | None:
    prefix = f"{application}/" if application else ""
    first, slash, rest = path.removeprefix(prefix).partition("/")
    kept = rest.rpartition("/")[2] in (".keep", ".gitkeep", ".gitignore")
    if not path.startswith(prefix) or not slash or kept or first not in ("log", "tmp", "node_modules"):
        return None
    return Finding(
        Rule.LEFTOVERS,
        f"{prefix}{first}",
        "the application does not need what is in it to run",
        f"leave it out: add {first}/* to .dockerignore, and in the Dockerfile remove it in the RUN that makes it",
    )


def _credentials(path: str) -> Finding:
    return Finding(
        Rule.CREDENTIALS,
        path,
        "whoever can pull the image has this key or password",
        "leave it out (.dockerignore), replace it if an image with it was pushed, and give it to a build step that "
        "needs it with RUN --mount=type=secret",
    )


def check_private_key(path: str) -> Finding:
    """The finding for a file that was seen to hold a private key."""
    return _credentials(path)


# Variables

_SECRET_NAME = re.compile(
    r"(^|_)(SECRET|PASSWORD|PASSWD|PASSPHRASE|TOKEN|CREDENTIALS?|API_?KEY|ACCESS_?KEY|PRIVATE_?KEY|MASTER_?KEY)(_|$)",
    re.IGNORECASE,
)
_NO_SECRET = re.compile(r"_(DUMMY|FILE|PATH|NAME|LENGTH|TTL|EXPIRY|TIMEOUT)$", re.IGNORECASE)
_PASSWORD_IN_URL = re.compile(r"://[^/@:\s]*:[^/@\s]+@")


def is_secret(name: str, value: str | None) -> bool:
    """Whether a variable looks like a secret: by its name, or as a URL with a password in it."""
    named = _SECRET_NAME.search(name) is not None and _NO_SECRET.search(name) is None
    return named or _PASSWORD_IN_URL.search(value or "") is not None


def check_variable(kind: str, name: str, value: str | None, place: str) -> Finding | None:
    """What is wrong with a build argument or environment variable, if anything.

    kind:  ARG or ENV
    value: None where it is not known
    """
    if value == "" or not is_secret(name, value):
        return None
    return Finding(
        Rule.SECRET_VARIABLE,
        f"{kind} {name} ({place})",
        "its value can be read in the image, in its history or its configuration",
        "give it at run time, by the Compose file's env_file; to a build step, by RUN --mount=type=secret, or, where "
        "any value will do, in that one RUN: SECRET_KEY_BASE=throwaway bundle exec rails assets:precompile",
    )


PRODUCTION_VARIABLES = ("RAILS_ENV", "RACK_ENV", "NODE_ENV")


def check_mode(name: str, value: str | None, place: str) -> Finding | None:
    """What is wrong with the value of one of PRODUCTION_VARIABLES, if anything; None as a value: it is not set."""
    if value == "production":
        return None
    return Finding(
        Rule.PRODUCTION_ENV,
        place,
        f"{name} is not set" if value is None else f"{name} is {value!r}",
        f"set it in the Dockerfile: ENV {name}=production",
    )


ROOT_USER = re.compile(r"(root|0)?(:.*)?")
"""Values of USER that mean root; none at all does, too."""


def root_finding(place: str, why: str) -> Finding:
    """The finding for an image that runs as root."""
    return Finding(
        Rule.NON_ROOT_USER,
        place,
        why,
        "add to the last stage: RUN useradd --create-home app, and after all that root must do, USER app; where the "
        "image is made for root: pulumi config set --path image.checks.non-root-user warn",
    )


def shell_finding(kind: str, place: str) -> Finding:
    """The finding for a CMD or ENTRYPOINT that a shell runs."""
    return Finding(
        Rule.EXEC_FORM,
        place,
        f"{kind} is run by a shell, which does not pass on the signal to stop: each stop takes 10 s and cuts requests",
        f'write it as a list, {kind} ["bundle", "exec", "puma"], or begin it with exec',
    )
