"""Docker's ignore file: which paths of a build context stay out of it."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Self, TypeAlias

Matches: TypeAlias = tuple[bool, ...]
_ESCAPED = frozenset(".+()|{}$")


@dataclass(frozen=True)
class IgnoreFile:
    """The patterns of an ignore file in their order: an expression for whole paths, and whether it ignores."""

    patterns: tuple[tuple[re.Pattern[str], bool], ...] = ()

    @classmethod
    def of(cls, context: Path, dockerfile: str) -> Self:
        """The ignore file for a Dockerfile: `.dockerignore`, or `NAME.dockerignore` for one with a name of its own."""
        name = Path(dockerfile).name
        path = context / (".dockerignore" if name == "Dockerfile" else f"{name}.dockerignore")
        return cls.parse(path.read_text(encoding="utf-8-sig")) if path.exists() else cls()

    @classmethod
    def parse(cls, text: str) -> Self:
        """The patterns in a file's text; comments and empty lines do not count."""
        lines = (line.strip() for line in text.splitlines() if not line.startswith("#"))
        return cls(tuple(_pattern(line) for line in lines if line.removeprefix("!").strip()))

    def judge(self, path: str, above: Matches = ()) -> tuple[bool, Matches]:
        """Whether a path of the context is ignored, and which patterns match it: what its children need as `above`.

        As Docker's builder does it: a pattern that matches a directory matches all that is in it, the last match
        decides, and a pattern that could not change the decision is not tried.
        """
        inherits = above or (False,) * len(self.patterns)
        ignored = False
        matches = []
        for (expression, ignores), inherited in zip(self.patterns, inherits, strict=True):
            match = inherited or (ignores != ignored and expression.fullmatch(path) is not None)
            matches.append(match)
            if match:
                ignored = ignores
        return ignored, tuple(matches)


def _pattern(line: str) -> tuple[re.Pattern[str], bool]:
    ignores = not line.startswith("!")
    path = "/".join(part for part in line.removeprefix("!").strip().split("/") if part not in {"", "."})
    return re.compile(_expression(path), re.DOTALL), ignores


def _expression(path: str) -> str:
    """The regular expression for a pattern: `**` crosses directories, `*` and `?` do not."""
    tokens = re.findall(r"\*\*/?|\\.|.", path, re.DOTALL)
    return "".join(_token(token, last=index == len(tokens) - 1) for index, token in enumerate(tokens))


def _token(token: str, *, last: bool) -> str:
    match token:
        case "**" | "**/":
            return ".*" if last else "(?:.*/)?"
        case "*":
            return "[^/]*"
        case "?":
            return "[^/]"
        case _ if token in _ESCAPED:
            return "\\" + token
        case _:
            return token
