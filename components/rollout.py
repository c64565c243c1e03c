"""ComposeRollout: one release on one server that runs it with Docker Compose, as a chain of remote commands."""

from __future__ import annotations

import functools
import getpass
import os
import re
import secrets
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pulumi
from pulumi_command import remote

from components.notices import Notices
from configuration.keys import specification, specified
from configuration.tree import ServerSettings, Settings
from release import environment, steps
from release.compose_file import ComposeFile
from release.program import Program
from release.reference import ImageReference
from server import request
from server.request import Delivery, StepName, Upgrade

SERVER = Path(__file__).resolve().parent.parent / "server"

ENVIRONMENT_KEY = "-env-key"
"""After a server's name: the resource that keeps what the fingerprints of its environment are made with."""
DIALS = 3
"""Attempts to reach a server, and seconds for each: a server that is up answers the first."""
DIAL_TIMEOUT = 10


@dataclass(frozen=True)
class ComposeRolloutArgs:
    """What is rolled out, where, and how.

    image:        repository, tag and digest of the release
    server:       the one of settings.servers that it goes to
    settings:     the whole configuration of the stack
    compose_file: the Compose file that the repository keeps, in which the image can be set; or None: the server's own
                  is edited
    previous:     the tag that serves when the rollout begins, for who wants to go back; "" for none
    upgrade:      says what the release's changelog asks for, or None, once the image is known
    """

    image: pulumi.Output[ImageReference]
    server: ServerSettings
    settings: Settings
    compose_file: ComposeFile | None
    previous: str = ""
    upgrade: Callable[[], Upgrade | None] = lambda: None


class ComposeRollout(pulumi.ComponentResource):
    """A release on one server. Each step is a resource, so a retry resumes at the step that failed.

    A step runs when the tag, the digest, the specification or the step before it changed. How the server is reached,
    the program's version, timeouts and the health gate are no reason for a rollout; the next one uses them as they are.
    Destroying the resource leaves the server as it is: nothing here has a `delete`.
    """

    release: pulumi.Output[str]
    """The image that serves, as repository:tag@digest, known once the last step is done."""
    downtime_seconds: pulumi.Output[float | None]
    """For how long the site did not answer during the last rollout, as the server measured it; None: not measured."""

    def __init__(self, name: str, args: ComposeRolloutArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("releve:index:ComposeRollout", name, None, opts)
        self._name = name
        self._args = args
        self._program = program()
        self._environment = self._fingerprint_environment()
        self._notices = Notices(name, args.settings, args.server, args.previous)
        delivery = args.image.apply(lambda image: steps.delivery_of(args.settings, args.compose_file, image))
        self._name_dependants()

        previous = self._install()
        # The id of `install` is left out of the chain: a new program is no reason for a rollout.
        chain: pulumi.Input[str] = ""
        said: pulumi.Output[str] = pulumi.Output.from_input("")
        for step in steps.plan(args.settings):
            previous = self._step(step, args.image, delivery, chain, depends_on=previous)
            chain = previous.id
            if step is StepName.UP:
                said = previous.stdout
        self.release = pulumi.Output.all(args.image, chain).apply(lambda done: str(done[0]))
        self.downtime_seconds = said.apply(steps.downtime_of)
        self.register_outputs(
            {
                "release": self.release,
                "downtime_seconds": self.downtime_seconds,
                # For the next plan, which says what has changed.
                "specified": specified(args.settings, args.server),
            }
        )

    def _fingerprint_environment(self) -> list[pulumi.Input[str]]:
        """For each variable of `env` its name, and something that changes with its value but does not tell it."""
        values = environment.values_of(self._args.settings)
        if values is None:
            return []
        # Made once and kept in the state, encrypted: whoever reads the fingerprints cannot try values.
        key = pulumi.Stash(
            f"{self._name}{ENVIRONMENT_KEY}",
            input=pulumi.Output.secret(secrets.token_hex(32)),
            opts=pulumi.ResourceOptions(parent=self, ignore_changes=["input"]),
        ).output

        def fingerprint(name: str) -> pulumi.Output[str]:
            of_key = key.apply(lambda key: f"env {name} {environment.fingerprints(values, key)[name]}")
            return pulumi.Output.unsecret(of_key)

        return [fingerprint(name) for name in sorted(values)]

    def _environment_of(self, step: StepName) -> list[pulumi.Input[str]]:
        """The fingerprints; where assets are compiled, the preview says with them what a changed one means."""
        if step is not StepName.PRECOMPILE:
            return self._environment
        return [pulumi.Output.concat(one, steps.COMPILES_AGAIN) for one in self._environment]

    def _install(self) -> remote.Command:
        args = self._args
        asked = steps.request_of(StepName.INSTALL, args.settings, args.server, actor=actor())
        command = self._program.install_command()
        return self._command(
            StepName.INSTALL,
            # Once there is an image to roll out: for one that is refused, no server is so much as connected to.
            create=args.image.apply(lambda _: command),
            stdin=self._program.install_input(asked),
            triggers=[self._program.sha256, args.server.host, args.settings.app.directory],
        )

    def _step(
        self,
        step: StepName,
        image: pulumi.Output[ImageReference],
        delivery: pulumi.Output[Delivery],
        chain: pulumi.Input[str],
        depends_on: pulumi.Resource,
    ) -> remote.Command:
        args = self._args

        def asked(image: ImageReference, delivery: Delivery) -> str:
            asked = steps.request_of(
                *(step, args.settings, args.server),
                image=image,
                delivery=delivery,
                actor=actor(),
                upgrade=args.upgrade(),
            )
            return request.dump(asked)

        return self._command(
            step,
            create=self._program.step_command(step, args.settings.app.directory),
            stdin=pulumi.Output.all(image, delivery).apply(lambda given: asked(*given)),
            # The tag first: a preview then shows old → new even while the digest is not known.
            triggers=[
                args.settings.tag,
                image.apply(lambda image: str(image.digest)),
                self._specification(),
                *self._environment_of(step),
                chain,
            ],
            depends_on=depends_on,
        )

    def _command(
        self,
        step: StepName,
        create: pulumi.Input[str],
        stdin: pulumi.Input[str],
        triggers: list[pulumi.Input[str]],
        depends_on: pulumi.Resource | None = None,
    ) -> remote.Command:
        return remote.Command(
            f"{self._name}-{step}",
            connection=self._connection(),
            create=create,
            # Secret, and so encrypted in the state: `env` is in it, and people write passwords into Compose files.
            stdin=pulumi.Output.secret(stdin),
            triggers=triggers,
            add_previous_output_in_env=False,
            opts=pulumi.ResourceOptions(
                parent=self,
                depends_on=depends_on,
                hooks=self._notices.hooks(step),
                # A changed key, program or timeout alone would run this one step again, outside the chain.
                ignore_changes=["connection", "create", "stdin", "addPreviousOutputInEnv"],
            ),
        )

    def _connection(self) -> remote.ConnectionArgs:
        server = self._args.server
        key = pulumi.Output.secret(server.private_key.get_secret_value()) if server.private_key else None
        proxy = server.jump and remote.ProxyConnectionArgs(
            host=server.jump.host,
            port=server.jump.port,
            user=server.jump.user,
            host_key=server.jump.host_key,
            private_key=key,
            dial_error_limit=DIALS,
            per_dial_timeout=DIAL_TIMEOUT,
        )
        return remote.ConnectionArgs(
            host=server.host,
            port=server.port,
            user=server.user,
            host_key=server.host_key,
            private_key=key,
            dial_error_limit=DIALS,
            per_dial_timeout=DIAL_TIMEOUT,
            proxy=proxy,
        )

    def _specification(self) -> str:
        """SHA-256 of everything besides the image that makes a rollout another one."""
        args = self._args
        return specification(args.settings, args.server, args.compose_file.text if args.compose_file else None)

    def _name_dependants(self) -> None:
        """Names, in the preview already, what else is interrupted; on the server's own file, `pull` does."""
        services, compose_file = self._args.settings.app.services, self._args.compose_file
        for dependant in compose_file.dependants(services) if compose_file else ():
            pulumi.log.warn(dependant, self)


@functools.cache
def program() -> Program:
    """What runs on servers, as this checkout has it."""
    return Program.read(SERVER)


def actor() -> str:
    """Who is rolling out, for the server's history: the CI's account where there is one, else user@machine."""
    name = os.environ.get("GITHUB_ACTOR") or os.environ.get("GITLAB_USER_LOGIN")
    return re.sub(r"[^A-Za-z0-9@._+-]", "_", name or f"{_login()}@{socket.gethostname()}")


def _login() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # the latter since Python 3.13
        return f"uid{os.getuid()}"  # containers of CI run under numbers that no account has
