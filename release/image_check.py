"""The check of a built image, before it gets the release's tag: its configuration, and the files in all its layers.

Run by the ReleaseImage component as `python -m release.image_check`, with a request on stdin. The image is not run. It
is read as `docker save` gives it, layer by layer: a file that a later layer deletes can still be read by whoever pulls
the image.
"""

from __future__ import annotations

import json
import posixpath
import re
import subprocess
import sys
import tarfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import IO, Any, cast

from configuration.rules import Level, Rule
from errors import ReleaseError
from release import checks
from release.checks import Finding
from release.docker_command import DockerError, docker, have_image

PACKAGES = re.compile(
    r"(usr/(lib|libexec|share|include|local/(lib|share|bundle))|var/lib|opt/[^/]+/lib)/.*"
    r"|.*/(gems|site-packages|dist-packages|node_modules/.+)/.*"
    r"|etc/ssl/private/ssl-cert-snakeoil\.key"
)
"""Where installed packages lie, whose own example keys and files are no secrets of the application."""
LARGEST_KEY = 65536
"""Bytes; a larger file is no private key."""
METADATA = 1 << 20
"""Bytes; what is larger and no layer is not needed to read an image."""

SHELLS = frozenset({"bash", "sh", "/bin/bash", "/bin/sh", "ash", "irb", "node", "python", "python3"})
"""What the usual base images run by default: an interpreter that ends at once without a terminal."""

WHITEOUT, OPAQUE = ".wh.", ".wh..wh..opq"
"""Names that delete: a file of an earlier layer, and all that earlier layers have in a directory (OCI image layer)."""


class ImageCheckError(ReleaseError):
    """The image has what no release may have; the message lists it."""


@dataclass
class _Layer:
    """What was noticed in a layer: files that rules object to, private keys, and what it deletes of earlier ones."""

    suspects: list[str] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    deleted: set[str] = field(default_factory=set)


@dataclass(frozen=True)
class Image:
    """A built image: its configuration, as the OCI image specification has it, and its layers from the first."""

    configuration: Mapping[str, Any]
    layers: Sequence[_Layer]

    def findings(self) -> Iterator[Finding]:
        """What the rules object to."""
        run = self.configuration.get("config") or {}
        yield from _of_environment(run.get("Env") or ())
        if checks.ROOT_USER.fullmatch(run.get("User") or ""):
            yield checks.root_finding("the image", "it runs as root, and a hole in the application then is one in more")
        yield from _of_command(run.get("Entrypoint") or [], run.get("Cmd") or [])
        yield from self._of_files((run.get("WorkingDir") or "").strip("/"))

    def _of_files(self, application: str) -> Iterator[Finding]:
        found: dict[Finding, None] = {}
        steps = self._steps()
        for index, layer in enumerate(self.layers):
            keys = set(layer.keys)
            for path in dict.fromkeys([*layer.suspects, *layer.keys]):
                finding = checks.check_file(path, application)
                finding = finding or (checks.check_private_key(path) if path in keys else None)
                if finding:
                    gone = any(_is_deleted(path, later.deleted) for later in self.layers[index + 1 :])
                    where = f", in the layer of `{steps[index]}`" if index < len(steps) else ""
                    still = "; a later layer deletes it, which takes it out of no image" if gone else ""
                    found[Finding(finding.rule, f"/{finding.place}{where}{still}", finding.why, finding.remedy)] = None
        yield from found

    def _steps(self) -> list[str]:
        """What has made each layer, shortened."""
        history = [entry for entry in self.configuration.get("history") or () if not entry.get("empty_layer")]
        steps = [re.sub(r"^/bin/sh -c (#\(nop\) *)?|^RUN /bin/sh -c | # buildkit$", "",
                        entry.get("created_by", "")) for entry in history]  # fmt: skip
        return [" ".join(step.split())[:60] for step in steps] if len(history) == len(self.layers) else []


def read(image: str) -> Image:
    """Reads an image that this machine has. Raises DockerError."""
    identifier = docker("image", "inspect", "--format", "{{.Id}}", image).strip()
    with subprocess.Popen(["docker", "save", identifier], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as saving:
        output, errors = cast(IO[bytes], saving.stdout), cast(IO[bytes], saving.stderr)
        try:
            found = parse(output)
        except (tarfile.TarError, KeyError, IndexError, ValueError, EOFError) as error:
            saving.kill()
            said = errors.read().decode(errors="replace").strip()
            raise DockerError(f"docker save {image} gives nothing that can be read: {said or error}") from None
    return found


def parse(archive: IO[bytes]) -> Image:
    """Reads what `docker save` prints, from front to back: in the OCI's form, or in that of Engines before 25."""
    layers: dict[str, _Layer] = {}
    documents: dict[str, bytes] = {}
    links: dict[str, str] = {}
    with tarfile.open(fileobj=archive, mode="r|") as outer:
        for member in outer:
            if member.issym():  # as old Engines write a layer that they have written before
                links[member.name] = posixpath.normpath(posixpath.join(member.name, "..", member.linkname))
            elif member.islnk():
                links[member.name] = member.linkname
            content = outer.extractfile(member) if member.isfile() else None
            if content is None:
                continue
            # What is a layer is only said at the end, so what can be one is read as one.
            head = content.read(1) if member.size else b""
            if head in (b"", b"{", b"["):
                if member.size < METADATA:
                    documents[member.name] = head + content.read()
                continue
            with suppress(tarfile.ReadError):  # a layer is missed below, others, as old Engines' VERSION, are not
                layers[member.name] = _layer(_Rest(head, content))
    manifest = json.loads(documents["manifest.json"])[0]
    names = [_target(name, links) for name in manifest["Layers"]]
    return Image(json.loads(documents[manifest["Config"]]), [layers[name] for name in names])


def _target(name: str, links: Mapping[str, str]) -> str:
    for _ in links:
        name = links.get(name, name)
    return name


class _Rest:
    """A stream of which the first byte was read already."""

    def __init__(self, head: bytes, rest: IO[bytes]) -> None:
        self._head = head
        self._rest = rest

    def read(self, size: int) -> bytes:
        head, self._head = self._head, b""
        return head + self._rest.read(size - len(head))


def _layer(stream: _Rest) -> _Layer:
    layer = _Layer()
    with tarfile.open(fileobj=stream, mode="r|*") as files:  # type: ignore[call-overload]  # it has read(), no more
        for member in files:
            path = member.name.removeprefix("./").strip("/")
            directory, _, name = path.rpartition("/")
            if name == OPAQUE:
                layer.deleted.add(f"{directory}/*")
            elif name.startswith(WHITEOUT):
                layer.deleted.add(f"{directory}/{name.removeprefix(WHITEOUT)}".lstrip("/"))
            elif not member.isdir() and not PACKAGES.fullmatch(path):
                layer.suspects.append(path)
                if member.isfile() and member.size < LARGEST_KEY and _holds_key(files.extractfile(member)):
                    layer.keys.append(path)
    return layer


def _holds_key(file: IO[bytes] | None) -> bool:
    return file is not None and re.match(checks.PRIVATE_KEY.encode(), file.read(80)) is not None


def _is_deleted(path: str, deleted: set[str]) -> bool:
    parts = path.split("/")
    above = ["/".join(parts[:count]) for count in range(1, len(parts) + 1)]
    return any(name in deleted or f"{name}/*" in deleted for name in above)


def _of_environment(entries: Iterable[str]) -> Iterator[Finding]:
    environment = {name: value for name, _, value in (entry.partition("=") for entry in entries)}
    for name in checks.PRODUCTION_VARIABLES:
        if found := checks.check_mode(name, environment.get(name), "the image"):
            yield found
    for name, value in environment.items():
        if found := checks.check_variable("ENV", name, value, "the image"):
            yield found


def _of_command(entrypoint: list[str], command: list[str]) -> Iterator[Finding]:
    if not entrypoint and (not command or (len(command) == 1 and command[0] in SHELLS)):
        runs = f"runs nothing but `{command[0]}`, as its base image does" if command else "says nothing to run"
        remedy = 'end the Dockerfile with the command, as a list: CMD ["bundle", "exec", "puma"]'
        yield Finding(Rule.COMMAND, "the image", f"it has neither ENTRYPOINT nor CMD of its own: it {runs}", remedy)
    for kind, words in (("ENTRYPOINT", entrypoint), ("CMD", command)):
        if words[:2] == ["/bin/sh", "-c"] and not " ".join(words[2:]).startswith("exec "):
            yield checks.shell_finding(kind, "the image")


@dataclass(frozen=True)
class Request:
    """What is checked.

    image:         repository:tag@digest; pulled when this machine does not have it
    platform:      os/architecture
    levels:        image.checks
    configuration: the text of a Docker client's config.json with the account for that; None: the user's own is used
    """

    image: str
    platform: str
    levels: Mapping[Rule, Level]
    configuration: str | None = field(default=None, repr=False)

    def dump(self) -> str:
        """As JSON, with the account."""
        return json.dumps(
            {
                "image": self.image,
                "platform": self.platform,
                "checks": dict(self.levels),
                "configuration": self.configuration,
            }
        )

    @classmethod
    def load(cls, text: str) -> Request:
        """What `dump` has written."""
        given = json.loads(text)
        levels = {Rule(rule): Level(level) for rule, level in given["checks"].items()}
        return cls(given["image"], given["platform"], levels, given["configuration"])


def run(request: Request) -> str:
    """Checks an image; the warnings, or that there are none.

    Raises ImageCheckError when it has what no release may have, DockerError when it cannot be read.
    """
    have_image(request.image, request.platform, request.configuration)
    found = checks.report(read(request.image).findings(), request.levels)
    if found.errors:
        raise ImageCheckError(
            f"the image has what no release may have, so it gets no tag (image.checks):\n{found.errors}"
        )
    return f"warnings about the image (image.checks):\n{found.warnings}" if found.warnings else "nothing is objected to"


def main() -> int:
    """Entry point: a request on stdin; returns the exit status."""
    try:
        print(run(Request.load(sys.stdin.read())))
    except ReleaseError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
