"""ReleaseImage: the image that a tag stands for, built only if the registry does not hold it yet."""

from __future__ import annotations

import asyncio
import json
import shlex
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pulumi
from pulumi_command import local

from configuration.tree import ImageSettings, RegistrySettings, UpgradeSettings
from errors import ReleaseError
from release import registry, source
from release.context import ContextLock
from release.reference import ImageReference
from release.registry import Absent, Present, TagState, Unreachable
from release.source import Source

PROJECT_DIRECTORY = Path(__file__).resolve().parent.parent
CONTEXT = ".releve/context"
"""The exported build context, relative to the project: the same on every machine, because another path is a diff."""
LOOKS_AT_LOCK = 0.2
"""Seconds between looks whether another stack still builds."""


@dataclass(frozen=True)
class ReleaseImageArgs:
    """What is released.

    tag:      the release's tag
    settings: the repository and how to build the image. Without a source, this stack only deploys what others released.
    registry: the account at the registry, and how to recognise the registry
    approve:  is told, before anything is built or rolled out, by which digest the tag goes, "" for: it is yet to be
              built; and from what. What it raises stops everything
    released: tags that this stack is known to have released
    hooks:    of each part of making the image, by its name
    upgrade:  where the source's changelog is, which travels with the image; or None
    """

    tag: str
    settings: ImageSettings
    registry: RegistrySettings
    approve: Callable[[str, Source | None], None] = lambda _digest, _source: None
    released: tuple[str, ...] = ()
    hooks: Callable[[str], pulumi.ResourceHookBinding | None] = lambda _step: None
    upgrade: UpgradeSettings | None = None


class ReleaseImage(pulumi.ComponentResource):
    """The image of a release tag, by digest. A tag once released never moves and is never built again.

    The registry says whether the tag exists. Its answer is kept as a decision until the tag or the source changes, so
    that a registry that is down, or a tag that this very program has pushed, changes nothing. Where the tag is absent,
    the image is built under a candidate's name and gets the tag only then.

    Raises ReleaseError where the source cannot be used. A tag that can neither be deployed nor built stops the preview.
    """

    reference: pulumi.Output[str]
    """repository:tag@sha256:…"""
    digest: pulumi.Output[str]
    """sha256:…"""

    def __init__(self, name: str, args: ReleaseImageArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("releve:index:ReleaseImage", name, None, opts)
        self._name = name
        self._tagged = ImageReference(args.settings.repository, args.tag)
        self._settings = args.settings
        self._access = args.registry
        self._approve = args.approve
        self._known = args.released
        self._hooks = args.hooks
        self._upgrade = args.upgrade
        self._registry = registry.connect(self._tagged.registry, args.registry, PROJECT_DIRECTORY)
        with ThreadPoolExecutor() as meanwhile:
            # The registry may be far away: it is asked while git reads the source.
            asked = meanwhile.submit(registry.probe, self._tagged, self._registry)
            self._source = self._read_source()
        for warning in self._source.warnings if self._source else ():
            pulumi.log.warn(warning, self)
        self.digest = self._released(self._decide(asked.result()).output.apply(self._approved))
        # Joined here, once, for all who need the reference as a value.
        self.image = self.digest.apply(self._tagged.with_digest)
        self.reference = self.image.apply(str)
        self.register_outputs({"reference": self.reference, "digest": self.digest})

    def _read_source(self) -> Source | None:
        how = self._settings.source
        if how is None:
            return None
        return source.read(how, self._settings.platform, str(self._tagged.tag), PROJECT_DIRECTORY, self._upgrade)

    def _decide(self, state: TagState) -> pulumi.Stash:
        """Keeps what the registry said when this tag and source were first seen; the digest, or "" for: build it."""
        fingerprint = self._source.fingerprint if self._source else "no source"

        def refuse(_: pulumi.ResourceHookArgs) -> None:
            # Runs only when the decision is new: a registry that is down does not matter to a release already made.
            if problem := self._refusal(state):
                raise ReleaseError(problem)
            self._tell(state)
            if isinstance(state, Absent) and self._source:
                self._tell_of_newer(self._source)
                self._prepare(self._source)

        return pulumi.Stash(
            f"{self._name}-decision",
            input=state.digest if isinstance(state, Present) else "",
            opts=pulumi.ResourceOptions(
                parent=self,
                ignore_changes=["input"],
                replacement_trigger=[str(self._tagged), fingerprint],
                hooks=pulumi.ResourceHookBinding(
                    before_create=[
                        pulumi.ResourceHook(
                            f"{self._name}-decision", refuse, opts=pulumi.ResourceHookOptions(on_dry_run=True)
                        )
                    ]
                ),
            ),
        )

    def _approved(self, digest: str) -> str:
        try:
            self._approve(digest, self._source)
        except ReleaseError as error:
            # Of a RunError Pulumi prints the message alone, also where it is raised in here, out of reach of __main__.
            raise pulumi.RunError(str(error)) from None
        return digest

    def _refusal(self, state: TagState) -> str | None:
        image = self._tagged
        match state:
            case Unreachable(reason):
                return f"whether {image} is released is not known, so nothing is built: {reason}"
            case Absent(anonymous) if self._source is None:
                hint = (
                    f"\nIf it is released: the registry was asked without an account, and may hide what is private. "
                    f"Run docker login {image.registry}, or set registry.username and the secret registry.password."
                )
                return (
                    f"{image} is not in the registry, and this stack has no image.source to build it from. "
                    f"Release it from the stack that builds, for example: "
                    f"pulumi config set tag {image.tag} -s staging && pulumi up -s staging{hint if anonymous else ''}"
                )
            case _:
                return None

    def _tell(self, state: TagState) -> None:
        """Says that the source at hand is not what the released tag was made of, when that is so."""
        if not isinstance(state, Present) or self._source is None:
            return
        image = self._tagged
        if registry.probe(image.candidate(self._source.fingerprint), self._registry) != state:
            pulumi.log.warn(
                f"{image} is released already and a released tag never moves: it is used as it is, nothing is built. "
                f"The source in {self._source.checkout}, or how it is built, is not what it was made of; to release "
                f"that, set a new tag.",
                self,
            )

    def _tell_of_newer(self, built: Source) -> None:
        """Says that this may be a way back to a release that the registry has lost."""
        image = self._tagged
        if image.tag in self._known:
            lost = f"{image} was released from this stack, and the registry does not hold it any more."
        elif newer := registry.newest_after(image, self._registry, self._known):
            lost = (
                f"{image} is not in the registry, though the newer {newer} was released. If {image.tag} is meant to be "
                f"new, all is well. If it was released before, the registry has lost it."
            )
        else:
            return
        pulumi.log.warn(
            f"{lost} What is built now, of the last commit in {built.checkout}, is something else, and servers on "
            f"which {image.tag} ran refuse it.",
            self,
        )

    def _prepare(self, built: Source) -> None:
        """Checks what is about to be built, and tried. Raises ReleaseError."""
        # Imported here: most previews build nothing.
        from release import checks, dockerfile, smoke_model  # noqa: PLC0415

        settings = self._settings
        found = checks.report(dockerfile.check_source(built), settings.checks)
        if found.warnings:
            pulumi.log.warn(f"about what {self._tagged} is built from (image.checks):\n{found.warnings}", self)
        if found.errors:
            raise ReleaseError(
                f"{self._tagged} is not built, because of what it would be built from (image.checks):\n{found.errors}"
            )
        if settings.smoke_test is None:
            pulumi.log.warn(
                f"{self._tagged} gets its tag without having been started once: set image.smokeTest, see docs/image.md",
                self,
            )
        elif settings.smoke_test.compose_file:
            smoke_model.application_in(PROJECT_DIRECTORY / settings.smoke_test.compose_file)

    def _released(self, decided: pulumi.Output[str]) -> pulumi.Output[str]:
        """The digest of the released image, which is built where the decision is to build it."""
        if (built := self._source) is None:
            # Without a source the decision is never to build.
            return decided
        lock = ContextLock(PROJECT_DIRECTORY / CONTEXT)
        # The one place where an apply creates resources: the decision's output is its first input, which is known in
        # a preview, too, so the preview shows what the update will do.
        awaited: pulumi.Output[str] = decided.apply(lambda digest: self._await_context(lock, digest))
        return awaited.apply(lambda digest: digest or self._build_and_publish(built, lock))

    async def _await_context(self, lock: ContextLock, digest: str) -> str:
        """Until no other stack of this checkout builds, where there is something to build; the digest as it was."""
        if not digest and not lock.take():
            pulumi.log.info("another stack of this checkout builds an image; waiting until it is done", self)
            while not lock.take():  # noqa: ASYNC110 - it is another process that frees it
                await asyncio.sleep(LOOKS_AT_LOCK)
        return digest

    def _build_and_publish(self, built: Source, lock: ContextLock) -> pulumi.Output[str]:
        # Imported here: it takes a tenth of a second, during which the engine starts another plugin; and a
        # stack that never builds never needs it.
        from pulumi_docker import CacheFromArgs, DockerBuildArgs, Image, RegistryArgs  # noqa: PLC0415

        from release import image_check, smoke_test  # noqa: PLC0415

        image = self._tagged
        account = registry.account(self._access)
        built.export(PROJECT_DIRECTORY / CONTEXT)
        candidate = Image(
            f"{self._name}-candidate",
            image_name=str(image.candidate(built.fingerprint)),
            build=DockerBuildArgs(
                context=CONTEXT,
                dockerfile=f"{CONTEXT}/{built.dockerfile}",
                args=dict(built.args),
                target=built.labelled_target,
                cache_from=CacheFromArgs(images=list(built.cache_from)) if built.cache_from else None,
                platform=self._settings.platform,
            ),
            # Always there: a changed account within it is no difference, but its coming or going would be.
            registry=RegistryArgs(
                server=image.registry,
                username=self._access.username,
                password=pulumi.Output.secret(account.password) if account else None,
            ),
            # A later release takes it out of the program; that must be free of any call.
            opts=pulumi.ResourceOptions(parent=self, retain_on_delete=True, hooks=self._hooks("build")),
        )
        # In a preview, and after a failure, this process ends, and the lock with it.
        candidate.repo_digest.apply(lambda _: lock.free())
        candidate_digest = candidate.repo_digest.apply(lambda reference: reference.rpartition("@")[2])
        login = registry.docker_configuration(image.registry, account) if account else None
        tested = candidate_digest.apply(image.candidate(built.fingerprint).with_digest).apply(str)
        how_to_try, levels, platform = self._settings.smoke_test, self._settings.checks, self._settings.platform
        checked = self._command(
            "check",
            tested.apply(lambda _: ["-m", "release.image_check"]),
            triggers=[candidate_digest],
            # Secret, like the next: there may be an account in it, and secrets of the application's environment.
            stdin=pulumi.Output.secret(
                tested.apply(lambda name: image_check.Request(name, platform, levels, login).dump())
            ),
        )
        tried = self._command(
            "smoke-test",
            tested.apply(lambda _: ["-m", "release.smoke_test"]),
            triggers=[candidate_digest],
            stdin=pulumi.Output.secret(
                tested.apply(lambda name: smoke_test.Request(name, platform, how_to_try, login).dump())
            ),
            depends_on=checked,
        )
        options = [
            *(["--ca-file", str(PROJECT_DIRECTORY / self._access.ca_file)] if self._access.ca_file else []),
            *(["--account-follows"] if account else []),
        ]
        published = self._command(
            "publish",
            candidate_digest.apply(lambda digest: ["-m", "release.publish", *options, str(image), digest]),
            triggers=[str(image), candidate_digest],
            # By standard input: arguments are for everybody to see, and the state keeps `create` in clear.
            stdin=pulumi.Output.secret(json.dumps({"username": account.username, "password": account.password}))
            if account
            else None,
            depends_on=tried,
        )
        digest: pulumi.Output[str] = published.stdout.apply(str.strip)
        return digest

    def _command(
        self,
        step: str,
        arguments: pulumi.Output[list[str]],
        triggers: list[pulumi.Input[str]],
        stdin: pulumi.Input[str] | None = None,
        depends_on: pulumi.Resource | None = None,
    ) -> local.Command:
        """Runs one of release/'s programs here, when `triggers` change; another smoke test, say, is no reason."""
        return local.Command(
            f"{self._name}-{step}",
            create=arguments.apply(lambda words: shlex.join([sys.executable, *words])),
            stdin=stdin,
            dir=str(PROJECT_DIRECTORY),
            triggers=triggers,
            add_previous_output_in_env=False,
            opts=pulumi.ResourceOptions(
                parent=self,
                depends_on=depends_on,
                hooks=self._hooks(step),
                # Paths of this machine and the account, which must not be a change on another one.
                ignore_changes=["create", "dir", "stdin"],
            ),
        )
