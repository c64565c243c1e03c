"""The application's source: a git checkout, its fingerprint, and a clean build context made from what is committed.

The work tree itself is never built: what lies around in it (secrets, logs, half an edit) is not part of a release.
"""

from __future__ import annotations

import hashlib
import json
import os
import posixpath
import re
import shlex
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, cast

from configuration.tree import SourceSettings, UpgradeSettings
from errors import ReleaseError, printable
from language import Message
from release.upgrade import label
from server.request import Changes

LFS_POINTER = "^version https://git-lfs.github.com/spec/v1$"
"""First line of a Git LFS pointer file (git-lfs, docs/spec.md)."""


AS_COMMITTED = ("-c", "core.autocrlf=false", "-c", "core.eol=lf", "-c", "core.attributesFile=/dev/null")
"""Settings of whoever exports that would make another context of the same commit; the repository's own stay."""

OTHER_REPOSITORY = frozenset({"GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_PREFIX"})
"""Variables by which git would look elsewhere than in the checkout."""

LABELLED = "releve-labelled"
"""The stage that is added to the Dockerfile where one of its stages is the target, to label that one."""


@dataclass(frozen=True)
class Source:
    """What an image is built from, as read from git.

    checkout:    the git checkout, or a directory inside one
    tree:        git's id of the committed context
    dockerfile:  the Dockerfile's path in the context
    args:        build arguments
    target:      the stage that becomes the image; None for the last one
    cache_from:  images whose layers may be reused
    committed:   when, in whole seconds since 1970 (UTC)
    labels:      what the image says about itself, by the OCI image specification's names and those of the operator
    fingerprint: 64 hexadecimal digits, of everything that the image is made from: the same on every machine
    warnings:    what the operator should know, one sentence each
    """

    checkout: Path
    tree: str
    dockerfile: str
    args: Mapping[str, str]
    target: str | None
    cache_from: tuple[str, ...]
    committed: int
    labels: Mapping[str, str]
    fingerprint: str
    warnings: tuple[str, ...]

    @property
    def described(self) -> str:
        """The commit, in a few words."""
        revision = self.labels.get("org.opencontainers.image.revision", "")
        return Message("commit {id} of {name}", id=revision[:12] or self.tree[:12], name=self.checkout.name)

    @property
    def labelled_target(self) -> str | None:
        """The stage to build of the exported Dockerfile."""
        return LABELLED if self.target else None

    def export(self, directory: Path) -> None:
        """Makes `directory` hold the committed context, replacing what was there; does nothing when it does already.

        The Dockerfile in it also sets the labels, at its end, where they cost no layer of the build's cache.
        Raises ReleaseError when git or the disk fails.
        """
        marker = directory.with_name(f"{directory.name}.fingerprint")
        if directory.is_dir() and marker.is_file() and marker.read_text() == self.fingerprint:
            return
        directory.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=directory.parent, prefix=".export-") as scratch:
            new, old = Path(scratch, "new"), Path(scratch, "old")
            self._unpack(new)
            if not (new / self.dockerfile).is_file():
                raise ReleaseError(
                    f"image.source.dockerfile: {self.dockerfile} is marked export-ignore in {self.checkout}, so it is "
                    f"not in the build context. Remove it from .gitattributes."
                )
            with (new / self.dockerfile).open("a", encoding="utf-8") as dockerfile:
                dockerfile.write(_labelling(self.labels, self.target))
            _date(new, self.committed)
            marker.unlink(missing_ok=True)
            if directory.exists():
                directory.rename(old)
            new.rename(directory)
            new_marker = Path(scratch, "marker")
            new_marker.write_text(self.fingerprint)
            new_marker.rename(marker)

    def files(self) -> list[str]:
        """The names of the committed context's files."""
        listing = _git(self.checkout, "ls-tree", "-r", "-z", "--name-only", "--full-tree", self.tree)
        return [name for name in listing.split("\0") if name]

    def text(self, name: str) -> str:
        """The text of a file of the committed context; empty when there is none."""
        return _git(self.checkout, "cat-file", "blob", f"{self.tree}:{name}", check=False)

    def holding(self, pattern: str) -> list[str]:
        """The names of the committed context's files that have a line like `pattern`, an extended expression."""
        # `<tree>:<name>`; exit status 1 means: none.
        options = ("-l", "-I", "-z", "--full-name", "--extended-regexp")
        found = _git(self.checkout, "grep", *options, "-e", pattern, self.tree, "--", check=False)
        return [name.partition(":")[2] for name in found.split("\0") if name]

    def _unpack(self, directory: Path) -> None:
        # A fixed umask: file modes are part of what Docker sees, and must not depend on who runs this.
        with subprocess.Popen(
            [*_command(self.checkout), *AS_COMMITTED, "-c", "tar.umask=0022", "archive", "--format=tar", self.tree],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=_environment(),
        ) as git:
            output, errors = cast(IO[bytes], git.stdout), cast(IO[bytes], git.stderr)
            with tarfile.open(fileobj=output, mode="r|") as archive:
                # Links may point anywhere in a context; git has already refused names that leave the tree. As an
                # attribute, because Python 3.11.2 does not know the argument yet.
                archive.extraction_filter = lambda member, _path: member
                archive.extractall(directory)  # noqa: S202
            error = errors.read().decode(errors="replace")
        if git.returncode != 0:
            shutil.rmtree(directory, ignore_errors=True)
            raise ReleaseError(f"git archive of {self.checkout} fails: {error.strip()}")


def _date(directory: Path, committed: int) -> None:
    """Dates every file by its commit, in whole seconds, and by its content, in the nanoseconds.

    BuildKit does not read a file again whose name, size and date it has seen in another context of the same base name
    (fsutil compares no more), and every project's is called the same: a VERSION file of the same length, exported in
    the same second, would put another project's version into this image.
    """
    for path in directory.rglob("*"):
        if path.is_file() and not path.is_symlink():
            with path.open("rb") as file:
                content = hashlib.file_digest(file, "sha256").digest()
            moment = committed * 10**9 + int.from_bytes(content[:8]) % 10**9
            os.utime(path, ns=(moment, moment))


def _labelling(labels: Mapping[str, str], target: str | None) -> str:
    """Lines for the end of a Dockerfile. docker.Image has no input for labels, so they are part of what it builds.

    In single quotes, as a shell would have them, nothing is expanded; Docker reads words in the same way.
    """
    stage = [f"FROM {target} AS {LABELLED}"] if target else []
    lines = [f"LABEL {shlex.quote(name)}={shlex.quote(value)}" for name, value in labels.items()]
    return "\n".join(["", "# Added by Relève.", *stage, *lines, ""])


def read(
    settings: SourceSettings,
    platform: str,
    tag: str,
    project: Path,
    upgrade: UpgradeSettings | None = None,
) -> Source:
    """Reads what is committed in the application's source.

    platform: what the image is built for, for example "linux/amd64"
    tag:      the release's
    project:  the directory that settings.path is relative to
    upgrade:  where the changelog is, if it is to travel with the image
    Raises ReleaseError when that is no git checkout with a commit, when the context or the Dockerfile is not in it, or
    when it needs more than git gives: submodules, or files in Git LFS.
    """
    checkout = project / settings.path
    if not checkout.is_dir():
        raise ReleaseError(f"image.source.path: {checkout} is no directory. Clone the application's source there.")
    tree = _tree(checkout, settings.context)
    # "<mode> <type> <id>" by name.
    listed = _git(checkout, "ls-tree", "-r", "-z", "--full-tree", tree).split("\0")
    entries = {name: entry for entry, _, name in (line.partition("\t") for line in listed) if name}
    _refuse_incomplete(checkout, tree, entries)
    _require_dockerfile(checkout, entries, settings)
    revision, committed = _git(checkout, "log", "-1", "--no-show-signature", "--format=%H %ct").split()
    planned = upgrade if upgrade and upgrade.changelog else None
    asked = {label.LABEL: label.dump(_changes(checkout, settings, planned))} if planned else {}
    labels = {**_oci_labels(checkout, tag, revision, int(committed)), **settings.labels, **asked}
    # The cache of an image is part of it only where this asks for it.
    args = {**({"BUILDKIT_INLINE_CACHE": "1"} if settings.cache_from else {}), **settings.args}
    made_of = [
        *(tree, settings.dockerfile, settings.target, sorted(args.items()), settings.cache_from),
        *(sorted(labels.items()), platform),
    ]
    return Source(
        checkout=checkout,
        tree=tree,
        dockerfile=settings.dockerfile,
        args=args,
        target=settings.target,
        cache_from=settings.cache_from,
        committed=int(committed),
        labels=labels,
        fingerprint=hashlib.sha256(json.dumps(made_of).encode()).hexdigest(),
        warnings=tuple(_warnings(checkout, entries, settings.context)),
    )


def _oci_labels(checkout: Path, tag: str, revision: str, committed: int) -> dict[str, str]:
    """The usual annotations of the OCI image specification; the same in every clone, so the date is the commit's."""
    created = datetime.fromtimestamp(committed, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    origin = public_address(_git(checkout, "config", "--get", "remote.origin.url", check=False).strip())
    return {
        **({"org.opencontainers.image.source": origin} if origin else {}),
        "org.opencontainers.image.revision": revision,
        "org.opencontainers.image.version": tag,
        "org.opencontainers.image.created": created,
    }


def _changes(checkout: Path, settings: SourceSettings, upgrade: UpgradeSettings) -> Changes:
    """What the committed changelog asks for, and the version that it is about."""
    changelog = _committed(checkout, "upgrade.changelog", str(upgrade.changelog))
    version = _committed(checkout, "upgrade.version", posixpath.normpath(f"{settings.context}/{upgrade.version}"))
    return label.changes_of(upgrade, changelog, version)


def _committed(checkout: Path, key: str, name: str) -> str:
    text = _git(checkout, "cat-file", "blob", f"HEAD:./{name}", check=False)
    if not text:
        raise ReleaseError(f"{key}: {name} is not in the last commit of {checkout}, or empty. Commit it, or set {key}.")
    return text


def public_address(remote: str) -> str | None:
    """Where people find what git knows as `remote`, without an account or password; None where that is nowhere.

    The same for the forms that clones have: https://me:token@host/a/b.git, ssh://git@host/a/b, git@host:a/b.git.
    """
    for form in _REMOTES:
        if found := form.fullmatch(remote):
            scheme, host, path = found["scheme"] or "https", found["host"], found["path"].rstrip("/")
            return f"{scheme}://{host}/{path.removesuffix('.git')}"
    return None


_REMOTES = (
    re.compile(r"(?P<scheme>https?)://([^@/]*@)?(?P<host>[^/]+)/(?P<path>.+)"),
    re.compile(r"(?P<scheme>)ssh://([^@/]*@)?(?P<host>[^/:]+)(:\d+)?/(?P<path>.+)"),
    re.compile(r"(?P<scheme>)([^@/:]*@)?(?P<host>[A-Za-z0-9][A-Za-z0-9.-]+):(?P<path>[^/].*)"),
)


def _tree(checkout: Path, context: str) -> str:
    if _git(checkout, "rev-parse", "--is-inside-work-tree", check=False).strip() != "true":
        raise ReleaseError(
            f"image.source.path: {checkout} is not a git checkout, so a release could not say what it was made of. "
            f"Run: git init, git add and git commit there, or point image.source.path at a checkout."
        )
    if not _git(checkout, "rev-parse", "--verify", "--quiet", "HEAD", check=False):
        raise ReleaseError(f"image.source.path: {checkout} has no commit yet. Run: git commit")
    tree = _git(checkout, "rev-parse", "--verify", "--quiet", f"HEAD:./{context}", check=False).strip()
    if not tree or _git(checkout, "cat-file", "-t", tree).strip() != "tree":
        raise ReleaseError(f"image.source.context: {context} is no directory in the last commit of {checkout}")
    return tree


def _refuse_incomplete(checkout: Path, tree: str, entries: Mapping[str, str]) -> None:
    submodules = [name for name, entry in entries.items() if entry.startswith("160000 ")]
    if submodules:
        raise ReleaseError(
            f"image.source.path: {checkout} has submodules ({_listed(submodules)}), which git archive leaves empty. "
            f"Build the image elsewhere and deploy its tag without image.source, or copy the files in."
        )
    # `<tree>:<name>` lines; exit status 1 means: no match.
    pointers = _git(checkout, "grep", "-l", "-I", "-z", "--full-name", "-e", LFS_POINTER, tree, "--", check=False)
    names = [name.partition(":")[2] for name in pointers.split("\0") if name]
    if names:
        raise ReleaseError(
            f"image.source.path: {checkout} keeps files in Git LFS ({_listed(names)}); the commit holds only pointers "
            f"to them. Build the image elsewhere and deploy its tag without image.source, or commit the files."
        )


def _require_dockerfile(checkout: Path, entries: Mapping[str, str], settings: SourceSettings) -> None:
    entry = entries.get(posixpath.normpath(settings.dockerfile), "")
    # A symbolic link: labels would be written to wherever it leads.
    if entry.startswith("120000 "):
        raise ReleaseError(
            f"image.source.dockerfile: {settings.dockerfile} is a symbolic link. Name the file that it leads to."
        )
    if not entry.startswith("100"):
        raise ReleaseError(
            f"image.source.dockerfile: {settings.dockerfile} is not in the last commit of {checkout} "
            f"(context {settings.context}). Commit it there, or set image.source.dockerfile."
        )


def _warnings(checkout: Path, entries: Mapping[str, str], context: str) -> list[str]:
    warnings = []
    # -z gives names unquoted; a rename has its old name as an entry of its own, which --no-renames avoids.
    status = _git(checkout, "status", "--porcelain", "-z", "--no-renames", "--untracked-files=normal", "--", ".")
    changed = [entry[3:] for entry in status.split("\0") if entry]
    if changed:
        warnings.append(f"not committed in {checkout}, so not in the image: {_listed(changed)}")
    names = "\0".join(posixpath.normpath(f"{context}/{name}") for name in entries)
    asked = ("check-attr", "--stdin", "-z", "export-ignore", "filter")
    found = _git(checkout, *asked, settings=AS_COMMITTED, stdin=names).split("\0")
    attributes = list(zip(found[::3], found[1::3], found[2::3], strict=False))
    ignored = [name for name, attribute, value in attributes if attribute == "export-ignore" and value == "set"]
    if ignored:
        warnings.append(f"marked export-ignore in {checkout}, so not in the image: {_listed(ignored)}")
    filters = {value for _, attribute, value in attributes if attribute == "filter"} - {"unspecified", "set", "unset"}
    for used in sorted(filter(lambda name: _is_configured(checkout, name), filters)):
        filtered = [name for name, attribute, value in attributes if attribute == "filter" and value == used]
        warnings.append(
            f"this machine's git filter '{used}' changes files of {checkout} on their way into the image, so elsewhere "
            f"the same release may have others: {_listed(filtered)}"
        )
    return warnings


def _is_configured(checkout: Path, name: str) -> bool:
    """Whether this machine knows a filter that .gitattributes names."""
    settings = (f"filter.{name}.{key}" for key in ("smudge", "process"))
    return any(_git(checkout, "config", "--get", setting, check=False).strip() for setting in settings)


def _listed(names: list[str], most: int = 8) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(map(printable, names[:most])) + more


def _command(path: Path) -> list[str]:
    return ["git", "-C", os.fspath(path)]


def _environment() -> dict[str, str]:
    # Its messages in English, whatever the operator's language; no attributes that are this machine's; and no other
    # repository, which a hook of git's own, that runs this, would name.
    own = {name: value for name, value in os.environ.items() if name not in OTHER_REPOSITORY}
    return {**own, "LC_ALL": "C", "GIT_ATTR_NOSYSTEM": "1"}


_UNTRUSTED = re.compile(r"(?:dubious ownership in repository at|unsafe repository \() ?'([^']*)'")
"""What git says of a checkout that belongs to another user, since 2.35.3 and in 2.35.2."""


def _git(
    path: Path, *arguments: str, settings: Sequence[str] = (), check: bool = True, stdin: str | None = None
) -> str:
    try:
        done = subprocess.run(
            [*_command(path), *settings, *arguments], env=_environment(),
            input=stdin, capture_output=True, encoding="utf-8", errors="surrogateescape", check=False,
        )  # fmt: skip
    except FileNotFoundError:
        raise ReleaseError("git is not installed, and image.source needs it. Install git.") from None
    # Not "no such checkout" but git refusing to look.
    if untrusted := _UNTRUSTED.search(done.stderr):
        raise ReleaseError(
            f"image.source.path: {path} belongs to another user, so git does not read it. Own it, or let git trust it: "
            f"git config --global --add safe.directory {shlex.quote(printable(untrusted[1]))}"
        )
    if check and done.returncode != 0:
        words = printable(done.stderr.strip())
        raise ReleaseError(f"image.source.path: git {arguments[0]} fails in {path}: {words}")
    return done.stdout
