"""A real registry on this machine, for the images of the contract."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import httpx

from tests.engine.harness import CHECKOUT, output_of, tool, wait_until


@dataclass(frozen=True)
class Registry:
    """A registry on this machine, at `address`."""

    address: str

    def digest(self, repository: str, tag: str) -> str | None:
        """The digest of a tag's manifest, None where there is no such tag."""
        accept = "application/vnd.oci.image.manifest.v1+json,application/vnd.docker.distribution.manifest.v2+json"
        url = f"http://{self.address}/v2/{repository}/manifests/{tag}"
        answer = httpx.head(url, headers={"Accept": accept})
        return answer.headers["Docker-Content-Digest"] if answer.is_success else None


@contextmanager
def registry(name: str) -> Iterator[Registry]:
    """Runs a registry in a container of that name; images built for it leave the Docker Engine with it."""
    tool("docker-engine")
    builder = str(CHECKOUT / "sandbox/build-images")
    subprocess.run([builder], check=True)
    image = output_of(builder, "registry")
    run = ["docker", "run", "--detach", "--rm", "--name", name, "--publish", "127.0.0.1::5000", image]
    subprocess.run(run, check=True, stdout=subprocess.DEVNULL)
    address = "localhost:" + output_of("docker", "port", name, "5000/tcp").rpartition(":")[2]
    try:
        wait_until(lambda: _answers(f"http://{address}/v2/"), "the registry answers")
        yield Registry(address)
    finally:
        subprocess.run(["docker", "rm", "--force", "--volumes", name], check=True, stdout=subprocess.DEVNULL)
        images = output_of("docker", "image", "ls", "--quiet", "--filter", f"reference={address}/*").split()
        if images:
            subprocess.run(["docker", "image", "rm", "--force", *set(images)], check=True, stdout=subprocess.DEVNULL)


def _answers(url: str) -> bool:
    try:
        return httpx.get(url).is_success
    except httpx.TransportError:
        return False
