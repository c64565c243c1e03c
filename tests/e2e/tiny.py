"""The smallest application that can be released: for what depends on registries and stacks rather than on Rails."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.e2e.harness import Application, Project, Sandbox, project_of

DOCKERFILE = """\
ARG BASE_IMAGE
FROM ${BASE_IMAGE}
WORKDIR /app
COPY server.pl version ./
USER nobody
CMD ["perl", "server.pl"]
"""
# perl-base is part of every Debian.
SERVER = r"""
use IO::Socket::INET;
open my $file, '<', 'version'; my $version = <$file>;
$SIG{TERM} = sub { exit };
my $server = IO::Socket::INET->new(LocalPort => 3000, Listen => 16, ReuseAddr => 1) or die $!;
while (my $client = $server->accept) {
    while (<$client>) { last if /^\r?$/ }
    print $client "HTTP/1.1 200 OK\r\nContent-Length: ", length $version, "\r\nConnection: close\r\n\r\n", $version;
    close $client;
}
"""
COMPOSE_FILE = """\
services:
  web:
    image: {repository}:none
    ports: ["{port}:3000"]
    restart: always
"""


@contextmanager
def tiny_application(
    sandbox: Sandbox, name: str, source: Path, *, port: int, registry: str = ""
) -> Iterator[Application]:
    """An application with a directory of its own on the server and no release yet; removed in every outcome.

    source:   an empty directory, which becomes its checkout
    registry: where its image is to lie; by default the sandbox's usual one
    """
    git = ["git", "-C", str(source)]
    for file, text in (("Dockerfile", DOCKERFILE), ("server.pl", SERVER), ("version", "1.0.0")):
        (source / file).write_text(text)
    for arguments in (
        ["init", "--quiet"],
        ["config", "user.name", "test"],
        ["config", "user.email", "test@example.org"],
        ["add", "--all"],
        ["commit", "--quiet", "--message", "1.0.0"],
    ):
        subprocess.run([*git, *arguments], check=True)
    application = Application(sandbox, name, source, port)
    # A sandbox that was kept holds what earlier runs released.
    application.repository = f"{registry or sandbox.registry}/{name}-{os.getpid()}"
    try:
        sandbox.as_root("install", "-d", "-o", "deploy", "-g", "deploy", application.directory)
        yield application
    finally:
        sandbox.command("remove", sandbox.server, application.directory)


@contextmanager
def tiny_project(application: Application, directory: Path) -> Iterator[Project]:
    """A project that releases it, and keeps its Compose file."""
    with project_of(application, directory) as project:
        compose_file = COMPOSE_FILE.format(repository=application.repository, port=application.port)
        (directory / "compose.yml").write_text(compose_file)
        project.config["releve:app"] = {
            "directory": application.directory,
            "services": ["web"],
            "composeFile": "compose.yml",
            "migrate": [],
        }
        project.config["releve:image"].pop("smokeTest", None)
        project.config["releve:health"] = {"path": "/", "settle": 0}
        project.write()
        yield project
