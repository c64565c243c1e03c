import gzip
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from configuration.rules import Level, Rule
from release import image_check
from release.checks import Finding
from release.image_check import Request

pytestmark = pytest.mark.unit

KEY = b"-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n"
SOUND = {
    "Env": ["PATH=/usr/bin", "RAILS_ENV=production", "RACK_ENV=production", "NODE_ENV=production"],
    "User": "app",
    "WorkingDir": "/srv/app",
    "Entrypoint": ["bin/docker-entrypoint"],
    "Cmd": ["bundle", "exec", "puma"],
}


def archive(files: Mapping[str, bytes], prefix: str = "") -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(prefix + name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return stream.getvalue()


def findings(
    layers: Sequence[Mapping[str, bytes]] = (), *, compress: bool = False, prefix: str = "", **config: Any
) -> list[Finding]:
    """The findings in an image, in the form that `docker save` gives it."""
    tars = [archive(files, prefix) for files in layers]
    if compress:
        tars = [gzip.compress(tar) for tar in tars]
    history = [{"created_by": "ENV A=1", "empty_layer": True}]
    history += [{"created_by": f"RUN /bin/sh -c step {i} # buildkit"} for i in range(len(tars))]
    blobs = {f"blobs/sha256/{i}": tar for i, tar in enumerate(tars)}
    blobs["blobs/sha256/config"] = json.dumps({"config": SOUND | config, "history": history}).encode()
    manifest = [{"Config": "blobs/sha256/config", "Layers": [f"blobs/sha256/{i}" for i in range(len(tars))]}]
    saved = archive({**blobs, "manifest.json": json.dumps(manifest).encode()})
    return list(image_check.parse(io.BytesIO(saved)).findings())


def found(*layers: Mapping[str, bytes], **options: Any) -> list[tuple[Rule, str]]:
    return [(finding.rule, finding.place) for finding in findings(layers, **options)]


def test_nothing_is_objected_to_in_a_sound_image() -> None:
    assert found({"srv/app/config.ru": b"run App\n", "srv/app/log/.keep": b""}) == []


@pytest.mark.parametrize("options", [{}, {"compress": True}, {"prefix": "./"}])
def test_a_file_is_found_in_the_layer_that_brought_it_however_the_layer_is_packed(options: Any) -> None:
    assert found({"etc/hosts": b""}, {"srv/app/.env": b"A=1"}, **options) == [
        (Rule.ENV_FILE, "/srv/app/.env, in the layer of `step 1`")
    ]


def former_archive(layers: Mapping[str, bytes], links: Mapping[str, str], order: Sequence[str]) -> bytes:
    """What `docker save` of an Engine before 25 writes: a directory a layer, with files of its own."""
    stream = io.BytesIO()
    manifest = [{"Config": "config.json", "Layers": [f"{name}/layer.tar" for name in order]}]
    documents = {
        "config.json": json.dumps({"config": SOUND}),
        "manifest.json": json.dumps(manifest),
        "repositories": "{}",
    }
    with tarfile.open(fileobj=stream, mode="w") as tar:

        def add(name: str, content: str | bytes) -> None:
            member = tarfile.TarInfo(name)
            encoded = content.encode() if isinstance(content, str) else content
            member.size = len(encoded)
            tar.addfile(member, io.BytesIO(encoded))

        for name in order:
            directory = tarfile.TarInfo(name)
            directory.type = tarfile.DIRTYPE
            tar.addfile(directory)
            add(f"{name}/VERSION", "1.0")
            add(f"{name}/json", "{}")
            if name in layers:
                add(f"{name}/layer.tar", layers[name])
            else:
                link = tarfile.TarInfo(f"{name}/layer.tar")
                link.type, link.linkname = tarfile.SYMTYPE, links[name]
                tar.addfile(link)
        for name, content in documents.items():
            add(name, content)
    return stream.getvalue()


def test_what_older_engines_save_is_read_with_layers_that_are_links_to_others() -> None:
    layers = {"a": archive({"srv/app/.env": b"A=1"}), "c": archive({"etc/hosts": b""})}
    saved = former_archive(layers, {"b": "../a/layer.tar", "d": "../b/layer.tar"}, "bacd")
    image = image_check.parse(io.BytesIO(saved))
    assert [layer.suspects for layer in image.layers] == [["srv/app/.env"]] * 2 + [["etc/hosts"], ["srv/app/.env"]]
    assert [finding.rule for finding in image.findings()] == [Rule.ENV_FILE]


@pytest.mark.parametrize("links", [{"b": "../none/layer.tar"}, {"b": "../b/layer.tar"}])
def test_a_layer_that_is_missing_or_no_archive_is_an_image_that_cannot_be_read(links: Mapping[str, str]) -> None:
    for layers, order in (({"a": archive({"x": b""})}, "ab"), ({"a": b"nothing of the kind"}, "a")):
        with pytest.raises(KeyError):
            image_check.parse(io.BytesIO(former_archive(layers, links, order)))


@pytest.mark.parametrize("whiteout", ["srv/app/.wh..env", "srv/.wh.app", "srv/app/.wh..wh..opq"])
def test_a_file_that_a_later_layer_deletes_is_still_in_the_image(whiteout: str) -> None:
    ((rule, place),) = found({"srv/app/.env": b"A=1"}, {whiteout: b""})
    assert rule is Rule.ENV_FILE
    assert "a later layer deletes it" in place


def test_a_private_key_is_known_by_its_content_except_among_installed_packages() -> None:
    layer = {
        "srv/app/config/saml.pem": KEY,
        "srv/app/certificate.pem": b"-----BEGIN CERTIFICATE-----\n",
        "usr/local/bundle/gems/net-ssh/test/key": KEY,
        "usr/lib/python3/test/key.pem": KEY,
        "srv/app/vendor/bundle/ruby/3.3.0/gems/puma/examples/key.pem": KEY,
        "srv/app/large.bin": KEY + b"\0" * image_check.LARGEST_KEY,
    }
    assert found(layer) == [(Rule.CREDENTIALS, "/srv/app/config/saml.pem, in the layer of `step 0`")]


@pytest.mark.parametrize("user", ["", "root", "0", "0:0", "root:root"])
def test_root_is_found_under_every_name(user: str) -> None:
    assert [rule for rule, _ in found(User=user)] == [Rule.NON_ROOT_USER]


@pytest.mark.parametrize(
    ("entrypoint", "command", "rules"),
    [
        (None, None, [Rule.COMMAND]),
        (None, ["irb"], [Rule.COMMAND]),
        (None, ["/bin/sh", "-c", "puma -p 3000"], [Rule.EXEC_FORM]),
        (["/bin/sh", "-c", "bin/start"], None, [Rule.EXEC_FORM]),
        (None, ["/bin/sh", "-c", "exec puma"], []),
        (["tini", "--"], ["bash"], []),
    ],
)
def test_an_image_says_what_to_run_as_a_list(entrypoint: Any, command: Any, rules: list[Rule]) -> None:
    assert [rule for rule, _ in found(Entrypoint=entrypoint, Cmd=command)] == rules


def test_modes_that_are_not_production_and_secrets_are_found_in_the_environment() -> None:
    env = ["RAILS_ENV=production", "RACK_ENV=staging", "SECRET_KEY_BASE=hunter2", "DATABASE_URL=pg://a:hunter2@db/x"]
    result = findings(Env=env)
    assert [finding.rule for finding in result] == [Rule.PRODUCTION_ENV] * 2 + [Rule.SECRET_VARIABLE] * 2
    assert "hunter2" not in str(result)


def test_a_request_arrives_as_it_was_sent() -> None:
    request = Request("app:1@sha256:0", "linux/amd64", {Rule.NON_ROOT_USER: Level.WARN}, "hunter2")
    assert "hunter2" not in repr(request)
    assert Request.load(request.dump()) == request
