import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from configuration.load import ConfigurationError, load
from configuration.tree import Settings
from server.request import StepName, Strategy

pytestmark = pytest.mark.unit

PROJECT = Path(__file__).resolve().parents[2]

HOST_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHJycnJycnJycnJycnJycnJycnJycnJycnJycnJycnJy"


def configuration(**changes: Any) -> dict[str, Any]:
    server = {"name": "server1", "host": "192.0.2.1", "user": "deploy", "hostKey": HOST_KEY}
    config: dict[str, Any] = {
        "tag": "1.0.0",
        "image": {"repository": "ghcr.io/fablab/fabmanager"},
        "app": {"directory": "/apps/fabmanager", "services": ["fabmanager"]},
        "servers": [server],
    }
    return config | changes


def loaded(config: dict[str, Any], stack_file: Path = Path("Pulumi.test.yaml")) -> Settings:
    """Delivers the configuration as Pulumi does: strings as they are, everything else as JSON."""
    delivered = {
        f"releve:{key}": value if isinstance(value, str) else json.dumps(value) for key, value in config.items()
    }
    return load(delivered, stack_file)


def refusal(config: dict[str, Any], stack_file: Path = Path("Pulumi.test.yaml")) -> str:
    with pytest.raises(ConfigurationError) as caught:
        loaded(config, stack_file)
    return str(caught.value)


def test_what_is_not_configured_has_its_documented_default() -> None:
    settings = loaded(configuration())
    assert settings.image.platform == "linux/amd64"
    assert settings.image.source is None
    assert settings.app.strategy is Strategy.STAGED
    assert (settings.app.port, settings.app.assets) == (3000, ())
    assert settings.app.precompile == ("bundle", "exec", "rails", "assets:precompile")
    assert (settings.health.path, settings.health.status, settings.health.timeout) == ("/", 200, 120)
    assert settings.servers[0].port == 22


def test_every_key_of_a_full_configuration_arrives_typed() -> None:
    config = configuration(
        image={
            "repository": "ghcr.io/fablab/fabmanager",
            "platform": "linux/arm64",
            "source": {
                "path": "../app",
                "context": "web",
                "dockerfile": "docker/Dockerfile",
                "target": "app",
                "args": {"A": "1"},
            },
        },
        health={"path": "/health", "contains": ['"postgresql":true'], "headers": {"X-Probe": "releve"}, "timeout": 5},
    )
    config["app"] |= {
        "assets": ["/srv/public/packs"],
        "stepTimeouts": {"purge-assets": 30},
        "composeFile": "compose.yml",
    }
    settings = loaded(config)
    assert settings.image.source is not None
    assert settings.image.source.args == {"A": "1"}
    assert settings.app.step_timeouts == {StepName.PURGE_ASSETS: 30}
    assert settings.health.headers == {"X-Probe": "releve"}


@pytest.mark.parametrize(
    ("where", "value", "words"),
    [
        (("tag",), "latest", "tag: 'latest': `latest` moves"),
        (("tag",), "", "a tag has 1 to 128"),
        (("tag",), "a b", "a tag has 1 to 128"),
        (("tag",), "1;reboot", "a tag has 1 to 128"),
        (("tag",), "$(reboot)", "a tag has 1 to 128"),
        (("tag",), "1.0\n2", "a tag has 1 to 128"),
        (("tag",), "x" * 200, "a tag has 1 to 128"),
        (("tag",), "build-0123", "not released yet"),
        (("image", "repository"), "ghcr.io/a:1", "image.repository: 'ghcr.io/a:1': give the repository alone"),
        (("image", "repository"), 7, "image.repository: 7: expected text: put it in quotes"),
        (("image", "platform"), "amd64", "image.platform: 'amd64': expected os/architecture"),
        (("image", "source"), {"path": "a", "args": {"V": 1.1}}, "image.source.args.V: 1.1: expected text"),
        (("image", "source"), {"path": "a", "dockerfile": "../D"}, "does not leave its directory"),
        (("image", "source"), {"path": "a", "target": "0"}, "image.source.target: '0': expected a stage's name"),
        (("image", "source"), {"path": "a", "labels": {"A b": "c"}}, "expected a label's name in lower case"),
        (("image", "source"), {"path": "a", "labels": {"a": "b\nUSER root"}}, "expected one line of text"),
        (("image", "source"), {"path": "a", "cacheFrom": ["fab:1"]}, "image.source.cacheFrom[0]: 'fab:1': expected"),
        (("image", "source"), {"path": "a", "cacheFrom": ["ghcr.io/fab:1 2"]}, "expected registry/path:tag"),
        (("registry",), {"username": "fablab"}, "registry: an object: username and password go together"),
        (("app", "directory"), "apps", "app.directory: 'apps': expected an absolute path"),
        (("app", "directory"), "/", "expected an absolute path below /"),
        (("app", "directory"), "/apps/../etc", "without '.', '..' or '//'"),
        (("app", "directory"), "/apps/a\nb", "one line of text"),
        (("app", "services"), [], "app.services: a list: name the services"),
        (("app", "services"), ["a", "a"], "names a service twice"),
        (("app", "oneShots"), ["a", "a"], "app.oneShots: a list: names a service twice"),
        (("app", "oneShots"), ["fabmanager"], "oneShots: 'fabmanager' is in services, too"),
        (("app", "services"), ["nginx; rm -rf /"], "app.services[0]: 'nginx; rm -rf /': expected a service's name"),
        (("app", "services"), "fabmanager", "app.services"),
        (
            ("app", "strategy"),
            "blue-green",
            "app.strategy: 'blue-green': input should be 'staged', 'rolling' or 'in-place'",
        ),
        (("app", "port"), "3000", "app.port: '3000': input should be a valid integer"),
        (("app", "port"), 70000, "less than or equal to 65535"),
        (("app", "maintenancePage"), "../page.html", "app.maintenancePage: '../page.html': expected a relative path"),
        (("app", "maintenancePage"), "/srv/../page.html", "expected an absolute path below /"),
        (("app", "assets"), ["public/packs"], "app.assets[0]: 'public/packs': expected an absolute path"),
        (("app", "stepTimeouts"), {"pul": 3}, "app.stepTimeouts.pul"),
        (("app", "stepTimeouts"), {"verify": 3}, "how long `verify` may take is health.timeout"),
        (("app", "stepTimeouts"), {"gate": 3}, "how long `gate` may take is health.timeout"),
        (("app", "stepTimeouts"), {"pull": 1000000}, "less than or equal to 86400"),
        (("app", "precompile"), ["--version"], "expected a command and its arguments"),
        (("app", "services"), ["-x"], "expected a service's name"),
        (("app", "assets"), ["/srv//packs"], "without '.', '..' or '//'"),
        (("health",), {"path": "health"}, "health.path: 'health': expected a path that starts with /"),
        (("health",), {"timeout": 0}, "health.timeout: 0: input should be greater than or equal to 1"),
        (("health",), {"headers": {"X-A": "1\r\nX-B: 2"}}, "one line of text"),
        (("health",), "yes", "health: 'yes'"),
        (("servers",), [], "servers: a list: 0 servers: exactly one"),
    ],
)
def test_a_value_that_cannot_be_used_is_refused_with_its_key_and_what_is_expected(
    where: tuple[str, ...], value: object, words: str
) -> None:
    config = configuration()
    target = config
    for key in where[:-1]:
        target = target[key]
    target[where[-1]] = value
    assert words in refusal(config)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("hostKey", None, "servers[0].hostKey: is missing\n      get it with: ssh-keyscan"),
        ("hostKey", "ssh-rsa AAAAB3NzaC1yc2E=", "expected the server's ed25519 host key"),
        ("hostKey", "AAAAC3NzaC1lZDI1NTE5", "expected the server's ed25519 host key"),
        ("host", "a b", "servers[0].host: 'a b': expected a host name"),
        ("host", "-oProxyCommand=id", "expected a host name"),
        ("user", "a$b", "expected a login name"),
        ("url", "fab.example.org", "expected http://host or https://host"),
        ("url", "https://me:secret@fab.example.org", "expected http://host or https://host"),
        ("jump", {"host": "bastion", "user": "me"}, "servers[0].jump.hostKey: is missing"),
    ],
)
def test_a_server_that_cannot_be_reached_safely_is_refused(key: str, value: object, words: str) -> None:
    config = configuration()
    config["servers"][0][key] = value
    if value is None:
        del config["servers"][0][key]
    assert words in refusal(config)


def test_all_mistakes_are_named_at_once() -> None:
    message = refusal(
        {"tag": "latest", "image": {}, "app": {"directory": "x", "services": ["a"]}, "servers": [], "tga": "1"}
    )
    assert message.startswith("5 mistakes in Pulumi.test.yaml; nothing was built or changed:")
    for key in ("tag:", "image.repository:", "app.directory:", "servers:", "tga:"):
        assert f"\n  {key}" in message


@pytest.mark.parametrize(
    ("path", "known"),
    [
        (("imgae",), "tag, preset, image, registry, app, health, backup, env, keepReleases, upgrade, notify, servers"),
        (("image", "source", "pth"), "path, context, dockerfile, target, args"),
        (("app", "service"), "directory, services, oneShots, composeFile"),
        (("servers", 0, "hostkey"), "name, host, port, user, hostKey"),
        (("servers", 0, "jump", "prt"), "host, port, user, hostKey"),
    ],
)
def test_an_unknown_key_is_refused_with_the_keys_known_there(path: tuple[Any, ...], known: str) -> None:
    config = configuration(image={"repository": "a/b", "source": {"path": "x"}})
    config["servers"][0]["jump"] = {"host": "h", "user": "u", "hostKey": HOST_KEY}
    target: Any = config
    for key in path[:-1]:
        target = target[key]
    target[path[-1]] = "x"
    assert f"is not a key; known here: {known}" in refusal(config)


@pytest.mark.parametrize("written", ["1.10", "010", "1e3", "0x1f", "0o17", "1_000", "2024-05-21", "true", ".5", "7"])
def test_a_tag_without_quotes_that_yaml_reads_as_something_else_is_refused(tmp_path: Path, written: str) -> None:
    stack_file = tmp_path / "Pulumi.prod.yaml"
    stack_file.write_text(f"config:\n  releve:tag: {written}\n")
    message = refusal(configuration(tag=written), stack_file)
    assert f"tag: is not in quotes, so YAML takes {written}" in message
    assert "pulumi config set tag" in message


def test_a_tag_without_quotes_is_refused_without_the_prefix_too_which_pulumi_accepts(tmp_path: Path) -> None:
    stack_file = tmp_path / "Pulumi.prod.yaml"
    stack_file.write_text("config:\n  tag: 1.10\n")
    assert "tag: is not in quotes" in refusal(configuration(tag="1.1"), stack_file)


@pytest.mark.parametrize("written", ['"1.10"', "'010'", "1.1.0", "6.5.10-lab", "v1e3", '"1e3"'])
def test_a_tag_that_yaml_reads_as_text_is_taken_as_it_is(tmp_path: Path, written: str) -> None:
    stack_file = tmp_path / "Pulumi.prod.yaml"
    stack_file.write_text(f"config:\n  releve:tag: {written}\n")
    tag = written.strip("'\"")
    assert loaded(configuration(tag=tag), stack_file).tag == tag


def test_a_private_key_is_never_shown() -> None:
    config = configuration()
    config["servers"][0]["privateKey"] = "hunter2"
    message = refusal(config)
    assert "servers[0].privateKey: is not a private key" in message
    assert "hunter2" not in message
    config["servers"][0]["privateKey"] = "-----BEGIN OPENSSH PRIVATE KEY-----\nhunter2"
    assert "hunter2" not in repr(loaded(config))


@pytest.mark.parametrize("password", [12345, "", "hunter2\nhunter2", ["hunter2"]])
def test_a_registry_password_that_cannot_be_one_is_refused_and_never_shown(password: object) -> None:
    message = refusal(configuration(registry={"username": "fablab", "password": password}))
    assert "registry.password: " in message
    assert "pulumi config set --secret --path registry.password" in message
    assert "hunter2" not in message
    assert "12345" not in message


def test_a_registry_password_does_not_show_in_the_settings() -> None:
    settings = loaded(configuration(registry={"username": "fablab", "password": "hunter2", "caFile": "ca.pem"}))
    assert settings.registry.password is not None
    assert settings.registry.password.get_secret_value() == "hunter2"
    assert "hunter2" not in repr(settings)
    message = refusal(configuration(registry={"password": "hunter2"}))
    assert "hunter2" not in message


def test_keys_of_other_projects_and_of_providers_are_left_alone() -> None:
    config = {f"releve:{k}": v if isinstance(v, str) else json.dumps(v) for k, v in configuration().items()}
    assert load(config | {"docker:host": "unix:///var/run/docker.sock"}, Path("Pulumi.test.yaml")).tag == "1.0.0"


def smoke_test(**values: Any) -> dict[str, Any]:
    return configuration(image={"repository": "ghcr.io/fablab/fabmanager", "smokeTest": values})


def test_an_empty_smoke_test_asks_for_the_front_page_and_its_files() -> None:
    settings = loaded(smoke_test()).image.smoke_test
    assert settings
    assert [(path.path, path.status) for path in settings.paths] == [("/", 200)]
    assert (settings.port, settings.assets, settings.timeout, settings.memory) == (3000, True, 120, None)


def test_a_path_of_a_smoke_test_may_be_written_alone_or_with_what_it_must_answer() -> None:
    settings = loaded(smoke_test(paths=["/", {"path": "/health", "contains": ["ok"]}])).image.smoke_test
    assert settings
    assert [(path.path, path.contains) for path in settings.paths] == [("/", ()), ("/health", ("ok",))]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"paths": []}, "image.smokeTest.paths: a list: name a path to ask"),
        ({"paths": ["health"]}, "image.smokeTest.paths[0].path: 'health': expected a path that starts with /"),
        ({"memory": "512 MB"}, "image.smokeTest.memory: '512 MB': expected a size, for example 512m"),
        ({"fatal": ["("]}, "image.smokeTest.fatal[0]: '(': is no regular expression"),
        ({"needs": {"app": "postgres:15"}}, "'app' is the name of the application itself"),
        ({"composeFile": "smoke.yml", "needs": {"db": "postgres:15"}}, "needs would be ignored: with composeFile"),
        ({"composeFile": "../smoke.yml"}, "does not leave its directory"),
        ({"needs": {"-db": "postgres:15"}}, "a service's name"),
    ],
)
def test_a_smoke_test_that_cannot_be_meant_is_refused(values: dict[str, Any], words: str) -> None:
    assert words in refusal(smoke_test(**values))


def test_a_value_of_a_smoke_tests_environment_is_never_shown() -> None:
    assert "hunter2" not in repr(loaded(smoke_test(env={"A": "hunter2"})))
    assert "31337" not in refusal(smoke_test(env={"A": 31337}))


def test_unknown_rules_and_levels_are_refused_with_those_there_are() -> None:
    image = {"repository": "ghcr.io/fablab/fabmanager", "checks": {"no-root": "warn", "env-file": "maybe"}}
    message = refusal(configuration(image=image))
    assert "image.checks.no-root" in message
    assert "'non-root-user'" in message
    assert "image.checks.env-file: 'maybe'" in message


def test_the_configuration_imports_neither_pulumi_nor_what_uses_it() -> None:
    program = "import sys, configuration.load; print(*{name.partition('.')[0] for name in sys.modules})"
    imported = subprocess.run([sys.executable, "-c", program], cwd=PROJECT, capture_output=True, text=True, check=True)
    assert {"pulumi", "release", "components", "operations"}.isdisjoint(imported.stdout.split())
