"""The check of a Dockerfile and of its build context, before anything is built.

Only what is certain before a build is a finding here; what depends on the base image is found in the built image, see
image_check.py. The parser is BuildKit's own, by way of the package `dockerfile`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from configuration.rules import Rule
from errors import ReleaseError
from release import checks
from release.checks import Finding
from release.source import Source

if TYPE_CHECKING:
    from dockerfile import Command

SCRATCH = "scratch"


@dataclass
class _Stage:
    """A stage of a Dockerfile: what it starts from, resolved, and its instructions."""

    name: str
    base: str
    line: int
    commands: list[Command] = field(default_factory=list)


@dataclass(frozen=True)
class Dockerfile:
    """A parsed Dockerfile, with the build arguments that it is built with."""

    name: str
    stages: tuple[_Stage, ...]
    global_arguments: tuple[Command, ...]
    target: int

    def findings(self) -> Iterator[Finding]:
        """What the rules object to, in the parts that the target is made of."""
        chain, needed = self._chain(), self._needed()
        for stage in needed:
            yield from self._of_base(stage)
        yield from self._of_variables([*self.global_arguments, *(c for stage in needed for c in stage.commands)])
        yield from self._of_target([command for stage in reversed(chain) for command in stage.commands])

    def _chain(self) -> list[_Stage]:
        """The target, the stage it starts from, and so on."""
        chain = [self.stages[self.target]]
        while (parent := self._stage(chain[-1].base, before=chain[-1])) is not None:
            chain.append(parent)
        return chain

    def _needed(self) -> list[_Stage]:
        """Everything that is built for the target: stages that it starts from or copies from; in the file's order."""
        needed: list[_Stage] = []
        waiting = [self.stages[self.target]]
        while waiting:
            stage = waiting.pop()
            if stage in needed:
                continue
            needed.append(stage)
            sources = [stage.base, *(source for command in stage.commands for source in _copied_from(command))]
            waiting += [found for source in sources if (found := self._stage(source, before=stage))]
        return [stage for stage in self.stages if stage in needed]

    def _stage(self, name: str, before: _Stage) -> _Stage | None:
        earlier = self.stages[: self.stages.index(before)]
        if name.isdigit() and int(name) < len(earlier):
            return earlier[int(name)]
        return next((stage for stage in reversed(earlier) if stage.name and stage.name == name.lower()), None)

    def _of_base(self, stage: _Stage) -> Iterator[Finding]:
        images = [(stage.base, stage.line)]
        images += [(source, command.start_line) for command in stage.commands for source in _copied_from(command)]
        for image, line in images:
            problem = None if self._stage(image, before=stage) or image.isdigit() else _moving(image)
            if problem:
                yield Finding(
                    Rule.BASE_IMAGE,
                    f"{self.name}:{line}",
                    problem,
                    "name a version, for example ruby:3.3-slim-bookworm, or a digest",
                )

    def _of_variables(self, commands: Iterable[Command]) -> Iterator[Finding]:
        for command in commands:
            kind = command.cmd.upper()
            for name, value in _variables(command):
                # An ARG without a value gets one from outside.
                place = f"{self.name}:{command.start_line}"
                found = checks.check_variable(kind, name, value, place) if kind in ("ARG", "ENV") else None
                if found:
                    yield found

    def _of_target(self, commands: list[Command]) -> Iterator[Finding]:
        """What the image becomes, of the commands of all stages that it consists of."""
        environment: dict[str, tuple[str, int]] = {}
        last: dict[str, Command] = {}
        for command in commands:
            kind = command.cmd.upper()
            if kind == "ENV":
                environment |= {name: (value or "", command.start_line) for name, value in _variables(command)}
            last[kind] = command
        for name in checks.PRODUCTION_VARIABLES:
            value, line = environment.get(name, ("production", 0))
            if "$" not in value and (found := checks.check_mode(name, value, f"{self.name}:{line}")):
                yield found
        yield from self._of_user(last.get("USER"))
        for kind in ("ENTRYPOINT", "CMD"):
            if kind in last and not last[kind].json and not " ".join(last[kind].value).startswith("exec "):
                yield checks.shell_finding(kind, f"{self.name}:{last[kind].start_line}")

    def _of_user(self, command: Command | None) -> Iterator[Finding]:
        if command is None:
            base = self._chain()[-1].base
            yield checks.root_finding(self.name, f"no USER: the image runs as the user of {base}, which is mostly root")
        elif checks.ROOT_USER.fullmatch(" ".join(command.value)):
            yield checks.root_finding(f"{self.name}:{command.start_line}", "the image runs as root")


def check_source(source: Source) -> list[Finding]:
    """What the rules object to in what an image would be built from. Raises ReleaseError."""
    dockerfile = parse(source.text(source.dockerfile), source.dockerfile, source.args, source.target)
    given = (checks.check_variable("ARG", *argument, "image.source.args") for argument in source.args.items())
    files = context_files(source.files(), source.text(ignore_file_of(source.dockerfile)))
    return [
        *dockerfile.findings(),
        *(finding for finding in given if finding),
        *check_context(files, source.holding(checks.PRIVATE_KEY)),
    ]


def parse(text: str, name: str, arguments: Mapping[str, str], target: str | None) -> Dockerfile:
    """Reads a Dockerfile.

    name:      as it is to be called in findings
    arguments: image.source.args
    target:    the stage to build; None: the last
    Raises ReleaseError when it cannot be parsed, or has no such stage.
    """
    # Imported here: it is a parser in Go, whose runtime takes a while, and most previews need none.
    import dockerfile  # noqa: PLC0415

    try:
        commands = dockerfile.parse_string(text)
    except dockerfile.GoParseError as error:
        raise ReleaseError(f"image.source.dockerfile: {name} cannot be parsed: {error}") from None
    values: dict[str, str] = {}
    global_arguments: list[Command] = []
    stages: list[_Stage] = []
    for command in commands:
        kind = command.cmd.upper()
        if kind == "FROM":
            words: list[str] = [*command.value, "", "", ""]
            alias = words[2].lower() if words[1].lower() == "as" else ""
            stages.append(_Stage(alias, _expanded(words[0], values), command.start_line))
        elif stages:
            stages[-1].commands.append(command)
        elif kind == "ARG":
            global_arguments.append(command)
            for variable, default in _variables(command):
                values[variable] = arguments.get(variable, _expanded(default or "", values))
    if not stages:
        raise ReleaseError(f"image.source.dockerfile: {name} has no FROM")
    chosen = next((i for i, stage in enumerate(stages) if target and stage.name == target.lower()), len(stages) - 1)
    if target and stages[chosen].name != target.lower():
        names = ", ".join(stage.name for stage in stages if stage.name) or "none has a name"
        raise ReleaseError(f"image.source.target: {name} has no stage {target!r}; its stages: {names}")
    return Dockerfile(name, tuple(stages), tuple(global_arguments), chosen)


def context_files(names: Iterable[str], ignore_file: str) -> list[str]:
    """Which of a context's files the build sees.

    ignore_file: the text of its .dockerignore
    """
    from docker.utils.build import PatternMatcher  # noqa: PLC0415

    lines = [line.strip() for line in ignore_file.removeprefix("\ufeff").splitlines() if not line.startswith("#")]
    matcher = PatternMatcher([line for line in lines if line])
    kept = tuple(pattern.cleaned_pattern for pattern in matcher.patterns if pattern.exclusion)

    def is_left_out(name: str) -> bool:
        # As its own walk does it: a directory that is ignored is not looked into, unless an exception lies in it.
        parts = name.split("/")
        above = ["/".join(parts[:count]) for count in range(1, len(parts))]
        pruned = any(matcher.matches(path) and not any(k.startswith(path) for k in kept) for path in above)  # type: ignore[arg-type]
        return pruned or matcher.matches(name)  # type: ignore[arg-type]  # it takes text, whatever its stub says

    return [name for name in names if not is_left_out(name)]


def ignore_file_of(dockerfile: str) -> str:
    """The name of the ignore file that goes with a Dockerfile."""
    # As Pulumi's docker plugin has it: a Dockerfile of another name has an ignore file of its own, and no other.
    name = dockerfile.rpartition("/")[2]
    return ".dockerignore" if name == "Dockerfile" else f"{name}.dockerignore"


def check_context(files: Iterable[str], private_keys: Iterable[str]) -> Iterator[Finding]:
    """What the rules object to in the files that the build sees; each place once.

    private_keys: those that hold one
    """
    keys = set(private_keys)
    found: dict[Finding, None] = {}
    for name in files:
        finding = checks.check_file(name) or (checks.check_private_key(name) if name in keys else None)
        if finding:
            found[finding] = None
    yield from found


def _copied_from(command: Command) -> list[str]:
    flags = [flag.partition("=") for flag in command.flags]
    return [value for name, _, value in flags if name == "--from" and "$" not in value]


def _variables(command: Command) -> list[tuple[str, str | None]]:
    """The names and values that an ARG or ENV sets; None: an ARG without a default."""
    match command.cmd.upper():
        case "ARG":
            parts = [word.partition("=") for word in command.value]
            return [(name, _unquoted(value) if equals else None) for name, equals, value in parts]
        case "ENV":
            # Name and value by turns; the parser may put a separator after each pair.
            words = [word for word in command.value if word != "="]
            return [(name, _unquoted(value)) for name, value in zip(words[::2], words[1::2], strict=False)]
        case _:
            return []


def _unquoted(value: str) -> str:
    quoted = len(value) > 1 and value[0] == value[-1] and value[0] in "\"'"
    return value[1:-1] if quoted else value


def _expanded(text: str, values: Mapping[str, str]) -> str:
    """Text with its variables replaced, as BuildKit does it for FROM: $A, ${A}, ${A:-default} and ${A:+other}."""

    def value(match: re.Match[str]) -> str:
        name, colon, operator, word = match["plain"] or match["name"], match["colon"], match["operator"], match["word"]
        is_set = bool(values.get(name)) if colon else name in values
        if operator == "-" and not is_set:
            return word
        if operator == "+":
            return word if is_set else ""
        return values.get(name, "")

    pattern = r"\$(?:(?P<plain>\w+)|\{(?P<name>\w+)(?:(?P<colon>:)?(?P<operator>[-+])(?P<word>[^}]*))?\})"
    return re.sub(pattern, value, text)


def _moving(image: str) -> str | None:
    """Why an image's name does not always mean the same image, or None."""
    if image == SCRATCH or "@" in image:
        return None
    if not image:
        return "the base image is a variable that has no value"
    tag = image.rpartition("/")[2].partition(":")[2]
    if tag in ("", "latest"):
        return f"the base image {image} is whatever is the latest on the day of the build"
    return None
