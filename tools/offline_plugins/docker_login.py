"""Credentials given in the program, for the Docker client, without a trace in the user's own Docker configuration."""

import base64
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

# How Docker's configuration calls its own registry, which image names call docker.io.
_DOCKER_HUB = "https://index.docker.io/v1/"
_DOCKER_HUB_HOSTS = frozenset({"docker.io", "index.docker.io", "registry-1.docker.io"})


def registry_host(image: str) -> str | None:
    """The registry in a fully qualified image name, such as `localhost:5000/app:1`; None for a short name."""
    host, slash, _ = image.partition("/")
    return host if slash and (host == "localhost" or "." in host or ":" in host) else None


@contextmanager
def docker_login(image: str, registry: Mapping[str, str]) -> Iterator[dict[str, str]]:
    """The environment in which the Docker client knows the credentials.

    Args:
        image: the image to push, which names the registry where `registry` does not
        registry: server, username and password, each optional; without both of the latter the user's own login counts

    The credentials lie in a directory of their own, beside links to all else of the user's; it is gone afterwards.
    """
    environment = dict(os.environ)
    if not (registry.get("username") and registry.get("password")):
        yield environment
        return
    # Path.home() raises where a user id has neither HOME nor an account.
    own = Path(environment.get("DOCKER_CONFIG") or f"{environment.get('HOME', '')}/.docker")
    with tempfile.TemporaryDirectory(prefix="releve-docker-") as name:
        directory = Path(name)
        for entry in own.iterdir() if own.is_dir() else ():
            if entry.name != "config.json":
                (directory / entry.name).symlink_to(entry)
        file = own / "config.json"
        configuration = json.loads(file.read_text()) if file.exists() else {}
        address = _address(registry.get("server") or registry_host(image) or "docker.io")
        login = base64.b64encode(f"{registry['username']}:{registry['password']}".encode()).decode()
        configuration.setdefault("auths", {})[address] = {"auth": login}
        # An empty helper: this registry's login is in this file, even where all others' are in a credential store.
        configuration.setdefault("credHelpers", {})[address] = ""
        (directory / "config.json").write_text(json.dumps(configuration))
        yield {**environment, "DOCKER_CONFIG": str(directory)}


def _address(server: str) -> str:
    host = server.removeprefix("https://").removeprefix("http://").partition("/")[0]
    return _DOCKER_HUB if host in _DOCKER_HUB_HOSTS else host
