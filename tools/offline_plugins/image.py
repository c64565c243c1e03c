"""The plugin `docker`: builds an image with the Docker Engine at hand and pushes it."""
# ruff: noqa: N802  # the protocol names its methods

import json
import os
import platform
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from . import build_context, local
from .docker_login import docker_login, registry_host
from .output import Output, Stream
from .properties import UNKNOWN, Properties, changes, reveal, secret, unmarshal
from .protocol import provider_pb2
from .provider import Context, Provider, StepError

_IMAGE = "docker:index/image:Image"
_INPUTS = frozenset({"build", "buildOnPreview", "imageName", "registry", "skipPush"})
_BUILD_INPUTS = frozenset(
    {"args", "builderVersion", "cacheFrom", "context", "contextDigest", "dockerfile", "platform", "target"}
)
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
_LINES_IN_ERROR = 60


class ImageProvider(Provider):
    """`docker:index/image:Image`.

    Checking hashes the build context, so that its content is an input like the others. Creating and updating build and
    push, whatever the registry holds. Deleting does nothing.
    """

    name = "docker"
    version = "5.1.0"
    configuration = provider_pb2.ConfigureResponse(supportsPreview=True, supports_autonaming_configuration=True)

    async def DiffConfig(self, _request: provider_pb2.DiffRequest, _context: Context) -> provider_pb2.DiffResponse:
        """The plugin has no configuration that could differ."""
        return provider_pb2.DiffResponse()

    async def check(self, resource_type: str, urn: str, inputs: Properties) -> Properties:
        """Adds the digest of the build context and the platform."""
        if resource_type != _IMAGE:
            self.refuse(f"resources of type {resource_type}")
        self.refuse_unknown(inputs, _INPUTS, urn)
        build = dict(reveal(inputs.get("build", {})))
        self.refuse_unknown(build, _BUILD_INPUTS, f"{urn}, build")
        if build.get("builderVersion", "BuilderBuildKit") != "BuilderBuildKit":
            self.refuse(f"builds with {build['builderVersion']}")
        if inputs.get("buildOnPreview"):
            self.refuse("builds on preview")
        name = reveal(inputs["imageName"])
        if not inputs.get("skipPush") and name != UNKNOWN and registry_host(name) is None:
            raise StepError(f"the image name must be fully qualified, as in docker.io/repository/image:tag: {name}")

        build["contextDigest"] = build_context.digest(*_paths(build))
        if "platform" not in build:
            build["platform"] = f"linux/{_ARCHITECTURES.get(platform.machine(), platform.machine())}"
            await self.engine.info(urn, f"building for {build['platform']}; set `platform` to choose another")
        return {**inputs, "build": build}

    def diff(self, request: provider_pb2.DiffRequest) -> provider_pb2.DiffResponse:
        """Every changed input is an update, but the registry's credentials: they change without the image."""
        old = reveal(unmarshal(request.olds)).get("__inputs", {})
        detailed = {
            top: provider_pb2.PropertyDiff(kind=kind if path == top else provider_pb2.PropertyDiff.UPDATE)
            for path, kind in changes(old, reveal(unmarshal(request.news))).items()
            if path not in {"registry.username", "registry.password"}
            for top in [path.split(".")[0].split("[")[0]]
        }
        return provider_pb2.DiffResponse(
            changes=provider_pb2.DiffResponse.DIFF_SOME if detailed else provider_pb2.DiffResponse.DIFF_NONE,
            detailedDiff=detailed,
            hasDetailedDiff=bool(detailed),
        )

    def preview(self, _resource_name: str, inputs: Properties) -> tuple[str, Properties]:
        """Builds nothing: the outputs are unknown."""
        return "", inputs

    async def create(self, request: provider_pb2.CreateRequest, inputs: Properties) -> tuple[str, Properties]:
        """Builds and pushes; the image's name becomes the id."""
        return reveal(inputs["imageName"]), await self._build_and_push(request.urn, inputs)

    async def update(self, request: provider_pb2.UpdateRequest, inputs: Properties) -> Properties:
        """Builds and pushes again."""
        return await self._build_and_push(request.urn, inputs)

    async def delete(self, request: provider_pb2.DeleteRequest, state: Properties) -> None:
        """Leaves the image in the registry."""

    async def _build_and_push(self, urn: str, inputs: Properties) -> Properties:
        plain = reveal(inputs)
        name, build, registry = plain["imageName"], plain["build"], plain.get("registry", {})
        context, dockerfile = _paths(build)
        docker = partial(self._docker, urn)
        state = {
            "__inputs": secret(plain),
            "baseImageName": name,
            "context": context,
            "dockerfile": _relative(dockerfile, context),
            "imageName": name,
            "platform": build["platform"],
            "registryServer": registry.get("server", ""),
        }
        with docker_login(name, registry) as environment:
            await docker(environment, "buildx", "build", *_build_options(name, build), context)
            if not plain.get("skipPush"):
                await docker(environment, "push", name)
                inspect = ("image", "inspect", "--format", "{{json .RepoDigests}}")
                digests = await docker(environment, *inspect, name, logging="none")
                state["repoDigest"] = _own_digest(name, json.loads(digests))
        return state

    async def _docker(
        self, urn: str, environment: Mapping[str, str], *arguments: str, logging: str | None = None
    ) -> str:
        """What the Docker client prints on standard output; its progress is shown, its end is in the error."""
        output = Output(logging, partial(self.engine.status, urn))
        try:
            await local.run(["docker", *arguments], output, directory=None, environment=environment)
        except StepError as error:
            end = "\n".join(output.both.splitlines()[-_LINES_IN_ERROR:])
            raise StepError(f"docker {arguments[0]} {arguments[1]}: {error}:\n{end}") from error
        return output.text(Stream.STDOUT)


def _paths(build: Properties) -> tuple[str, str]:
    """Context and Dockerfile; a relative one is relative to the program's directory."""
    context = build.get("context", ".")
    return context, build.get("dockerfile", str(Path(context) / "Dockerfile"))


def _relative(dockerfile: str, context: str) -> str:
    return os.path.relpath(dockerfile, context)


def _build_options(name: str, build: Properties) -> list[str]:
    _, dockerfile = _paths(build)
    # Without attestations the pushed image is the plain manifest that the engine's own build API makes.
    options = ["--progress=plain", "--load", "--provenance=false", f"--tag={name}", f"--file={dockerfile}"]
    options += [f"--platform={build['platform']}"]
    options += [f"--build-arg={key}={value}" for key, value in build.get("args", {}).items()]
    options += [f"--cache-from={image}" for image in build.get("cacheFrom", {}).get("images", [])]
    return options + ([f"--target={build['target']}"] if "target" in build else [])


def _repository(image: str) -> str:
    directory, slash, name = image.rpartition("/")
    return directory + slash + name.partition(":")[0]


def _own_digest(image: str, repo_digests: list[str]) -> str:
    """Of the digests under which the engine knows the image, the one in the repository it was pushed to."""
    own = [digest for digest in repo_digests if digest.partition("@")[0] == _repository(image)]
    return (own or repo_digests)[0]
