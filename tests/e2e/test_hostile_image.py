"""What an image may touch: one that attacks whoever runs it gets nowhere, in every strategy and step."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.e2e.conftest import PORTS
from tests.e2e.harness import Application, Project, Sandbox
from tests.e2e.tiny import tiny_application, tiny_project

pytestmark = pytest.mark.e2e

SECRET = "the-secret-of"
DOCKERFILE = """\
ARG BASE_IMAGE
FROM ${BASE_IMAGE}
WORKDIR /app
COPY server.pl version attack.pl ./
RUN mkdir /real packs && for name in sh find cp chroot cat; do \\
        cp -L "$(command -v "$name")" "/real/$name" \\
        && printf '#!/real/sh\\nperl /app/attack.pl\\nexec /real/%s "$@"\\n' "$name" >"/real/hostile-$name" \\
        && chmod 0755 "/real/hostile-$name"; \\
    done && for name in find cp chroot cat sh; do mv -f "/real/hostile-$name" "$(command -v "$name")"; done
CMD ["perl", "server.pl"]
"""
# Reads all that is mounted and what is beside that, and says what it finds; leaves a file wherever it can write.
ATTACK = r"""
use strict;
open my $mounts, '<', '/proc/self/mountinfo' or exit;
my @places = ('/host', '/releve', '/proc/1/root/apps', '/proc/1/root/etc');
while (<$mounts>) {
    my $place = (split)[4];
    push @places, $place, "$place/..", "$place/../.." unless $place =~ m{^/(proc|sys|dev|etc|$)};
}
my %seen;
for my $place (grep { -d $_ && !m{^/(\.\.|$)} && !$seen{$_}++ } @places) {
    for my $file (glob("$place/* $place/.[a-z]* $place/*/* $place/.[a-z]*/* $place/*/.env $place/.releve/*/*")) {
        next unless -f $file && -s _ < 1_000_000;
        open my $content, '<', $file or next;
        while (<$content>) { print STDERR "STOLEN $file\n" if /the-secre[t]-of/ }
    }
    # Of the service's own directories and of this release's, nothing else.
    if (open my $file, '>', "$place/pwned") { print $file "pwned"; close $file }
}
for my $file ('/host/etc/shadow', '/etc/shadow') {
    open my $shadow, '<', $file or next;
    while (<$shadow>) { print STDERR "STOLEN $file\n" if /the-secre[t]-of/ }
}
print STDERR "STOLEN docker\n" if -S '/var/run/docker.sock';
open my $status, '<', '/proc/self/status' or exit;
while (<$status>) {
    next unless /^CapEff:\s+(\S+)/;
    my $able = hex $1;
    print STDERR "STOLEN capability $_\n" for grep { $able & (1 << $_) } (12, 16, 19, 21); # net, module, ptrace, sys
}
"""
COMPOSE_FILE = """\
services:
  web:
    image: {repository}:none
    volumes: ["./packs:/app/packs"]
    init: true
"""


@pytest.fixture(scope="module")
def deployment(sandbox: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Application, Project]]:
    """The hostile application, on a server that has something to steal."""
    with ExitStack() as stack:
        source = tmp_path_factory.mktemp("hostile")
        application = stack.enter_context(tiny_application(sandbox, "hostile", source, port=next(PORTS)))
        project = stack.enter_context(tiny_project(application, tmp_path_factory.mktemp("hostile-project")))
        for name, text in (("Dockerfile", DOCKERFILE), ("attack.pl", ATTACK)):
            (source / name).write_text(text)
        application.git("add", "--all")
        (project.directory / "compose.yml").write_text(COMPOSE_FILE.format(repository=application.repository))
        project.config["releve:servers"][0].pop("url")
        project.config["releve:image"]["checks"] = {"non-root-user": "warn"}
        project.config["releve:app"] |= {
            "assets": ["/app/packs"],
            "precompile": ["sh", "-c", "cat version >packs/app-$(cat version).js"],
            "pending": ["sh", "-c", "exit 3"],
            "migrate": ["sh", "-c", "true"],
            "migrations": "compatible",
            "beforeUp": [["sh", "-c", "find packs"]],
            "afterUp": [["sh", "-c", "find packs"]],
        }
        project.config["releve:backup"] = {"service": "web", "command": ["sh", "-c", "echo dump"]}
        stack.callback(sandbox.as_root, "sh", "-c", f"sed -i /{SECRET}/d /etc/shadow; rm -rf /apps/other /pwned")
        state = f"{application.directory}/.releve"
        sandbox.as_root("install", "-d", "-o", "deploy", "-g", "deploy", "-m", "0700", state, f"{state}/backups")
        sandbox.as_root("install", "-d", "-o", "deploy", f"{application.directory}/packs", "/apps/other")
        for file in ("/etc/shadow", f"{state}/backups/0.dump", "/apps/other/.env"):
            sandbox.as_root("sh", "-c", 'echo "$1-$2:x" >>"$2"', "sh", SECRET, file)
        yield application, project


VERSIONS = itertools.count(1)


def commit(application: Application) -> str:
    version = f"1.{next(VERSIONS)}.0"
    application.commit("version", version)
    return version


@pytest.mark.parametrize("strategy", ["staged", "rolling", "in-place"])
def test_an_image_that_attacks_reads_and_writes_nothing_but_its_own(
    deployment: tuple[Application, Project], strategy: str
) -> None:
    application, project = deployment
    project.set("app.strategy", strategy)
    project.set("app.afterUp", [["sh", "-c", "find packs"]])
    project.release(commit(application))
    # One that fails, and is put back.
    if strategy != "in-place":
        project.set("app.migrate", ["sh", "-c", "exit 1"])
        project.set("tag", commit(application))
        assert "was put back" in project.up().output
        project.set("app.migrate", ["sh", "-c", "true"])
    log = application.sandbox.as_root("sh", "-c", 'cat "$1"/.releve/log/*', "sh", application.directory)
    assert "STOLEN" not in log, [line for line in log.splitlines() if "STOLEN" in line]
    written = application.sandbox.as_root(
        "find", "/", "/apps", "-xdev", "-path", "/var/lib/docker", "-prune", "-o", "-name", "pwned"
    )
    own = re.compile(
        rf"{application.directory}/(packs|\.releve/releases/[^/]+/assets-[^/]+)(/0)?/pwned|/var/lib/docker"
    )
    assert [file for file in written.splitlines() if not own.fullmatch(file)] == []
    assert any("/packs/pwned" in file or "/assets-" in file for file in written.splitlines()), "nobody has attacked"
