"""What ./releve adopt makes of an installation: the decision alone, from what a server would tell."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from configuration.load import PREFIX
from configuration.tree import Settings
from configuration.written import plain
from release.adoption import UNKNOWN_TAG, Adoption, AdoptionError, Login, adopt
from server.identity import Placed
from server.survey import Database, Installation, Passing, Running, Survey, load, places_of, services_of
from tests.unit.test_configuration import HOST_KEY, loaded

pytestmark = pytest.mark.unit

LOGIN = Login("fab.example.org", 22, "deploy", HOST_KEY)


def port(target: int, published: str, address: str = "") -> dict[str, Any]:
    return {"target": target, "published": published, "host_ip": address, "protocol": "tcp"}


def bind(source: str, target: str) -> dict[str, Any]:
    return {"type": "bind", "source": source, "target": target}


# What Compose makes of these applications' own Compose files, as far as it is looked at.
MASTODON = {
    "db": {"image": "postgres:14-alpine", "restart": "always", "environment": {"POSTGRES_HOST_AUTH_METHOD": "trust"}},
    "redis": {"image": "redis:7-alpine", "restart": "always"},
    "web": {
        "image": "ghcr.io/mastodon/mastodon:v4.3.17",
        "restart": "always",
        "command": ["bundle", "exec", "puma", "-C", "config/puma.rb"],
        "environment": {"LOCAL_DOMAIN": "social.example.org", "SECRET_KEY_BASE": "hunter2"},
        "ports": [port(3000, "3000", "127.0.0.1")],
        "healthcheck": {"test": ["CMD-SHELL", "curl -s --noproxy localhost localhost:3000/health | grep -q 'OK'"]},
        "volumes": [bind("/srv/mastodon/public/system", "/mastodon/public/system")],
    },
    "streaming": {
        "image": "ghcr.io/mastodon/mastodon-streaming:v4.3.17",
        "restart": "always",
        "command": ["node", "./streaming/index.js"],
        "environment": {"LOCAL_DOMAIN": "social.example.org", "SECRET_KEY_BASE": "hunter2"},
        "ports": [port(4000, "4000", "127.0.0.1")],
    },
    "sidekiq": {
        "image": "ghcr.io/mastodon/mastodon:v4.3.17",
        "restart": "always",
        "command": ["bundle", "exec", "sidekiq"],
        "environment": {"LOCAL_DOMAIN": "social.example.org", "SECRET_KEY_BASE": "hunter2"},
    },
}
CHATWOOT = {
    "base": {"image": "chatwoot/chatwoot:latest", "environment": {"FRONTEND_URL": "https://chat.example.org"}},
    "rails": {
        "image": "chatwoot/chatwoot:latest",
        "command": ["bundle", "exec", "rails", "s"],
        "environment": {"RAILS_ENV": "production", "FRONTEND_URL": "https://chat.example.org"},
        "ports": [port(3000, "3000", "127.0.0.1")],
        "restart": "always",
    },
    "sidekiq": {
        "image": "chatwoot/chatwoot:latest",
        "command": ["bundle", "exec", "sidekiq"],
        "environment": {"RAILS_ENV": "production", "FRONTEND_URL": "https://chat.example.org"},
        "restart": "always",
    },
    "postgres": {"image": "pgvector/pgvector:pg16", "restart": "always", "ports": [port(5432, "5432", "127.0.0.1")]},
    "redis": {"image": "redis:alpine", "restart": "always", "ports": [port(6379, "6379", "127.0.0.1")]},
}
REDMINE = {
    "redmine": {
        "image": "redmine:5.1.4",
        "restart": "always",
        "ports": [port(3000, "8080")],
        "environment": {"REDMINE_DB_MYSQL": "db", "REDMINE_DB_PASSWORD": "hunter2"},
        "volumes": [{"type": "volume", "source": "files", "target": "/usr/src/redmine/files"}],
    },
    "db": {"image": "mysql:8.0", "restart": "always", "environment": {"MYSQL_ROOT_PASSWORD": "hunter2"}},
}
FABMANAGER = {
    "fabmanager": {
        "image": "ghcr.io/lab/fabmanager:6.5.10-lab",
        "restart": "always",
        "environment": {
            "RAILS_ENV": "production", "DEFAULT_HOST": "fab.example.org", "DEFAULT_PROTOCOL": "https",
            "SECRET_KEY_BASE": "hunter2", "FULLCALENDAR_LOCALE": "fr", "SUMMERNOTE_LOCALE": "fr-FR",
        },
        "volumes": [
            bind("/apps/fabmanager/public/packs", "/usr/src/app/public/packs"),
            bind("/apps/fabmanager/log", "/var/log/supervisor"),
            bind("/apps/fabmanager/plugins", "/usr/src/app/plugins"),
        ],
    },
    "postgres": {"image": "postgres:9.6", "restart": "always"},
    "elasticsearch": {"image": "elasticsearch:5.6", "restart": "always"},
    "redis": {"image": "redis:6-alpine", "restart": "always"},
    "nginx": {"image": "nginx:1.27", "restart": "always", "ports": [port(80, "80"), port(443, "443")]},
}  # fmt: skip


def installation(services: Mapping[str, Any], directory: str = "/srv/app", **fields: Any) -> Installation:
    """As the server tells it: with every service running, as its Compose file says."""
    found = tuple(
        dataclasses.replace(it, running=Running(it.image, (it.image,), "", ()))
        for it in services_of({"services": services})
    )
    database = next((name for name, it in services.items() if it["image"].startswith(("postgres", "pgvector"))), None)
    told: dict[str, Any] = {
        "passing": (),
        "postgres": (database,) if database else (),
        "databases": (Database(database, "app_production", is_migrated=True),) if database else (),
    }
    return Installation(directory=directory, project="app", services=found, **{**told, **fields})


def fabmanager(**fields: Any) -> Installation:
    databases = (Database("postgres", "postgres", is_migrated=False), Database("postgres", "fablab_production", True))
    passing = (Passing("nginx", "fabmanager", "fab.example.org", tls=True),)
    return installation(FABMANAGER, "/apps/fabmanager", **{"databases": databases, "passing": passing, **fields})


def changed(services: Mapping[str, Any], name: str, **keys: Any) -> dict[str, Any]:
    return {**services, name: {**services[name], **keys}}


def decided(found: Installation, login: Login = LOGIN) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The keys that were decided on, and what is open; the file that is written must load, and be the same."""
    adoption = adopt(found, login)
    assert read(adoption) == plain(adoption.config)
    return read(adoption), adoption.open


def read(adoption: Adoption) -> dict[str, Any]:
    text = adoption.text("prod", "/srv/app", "fab.example.org")
    config = {key.removeprefix(PREFIX): value for key, value in yaml.safe_load(text)["config"].items()}
    assert isinstance(loaded(config), Settings)
    assert "hunter2" not in text
    return config


def test_a_fabmanager_that_is_set_up_as_upstream_does_is_its_preset_and_what_is_the_labs_own() -> None:
    config, questions = decided(fabmanager())
    assert config == {
        "tag": "6.5.10-lab",
        "preset": "fabmanager",
        "image": {"repository": "ghcr.io/lab/fabmanager"},
        "servers": [
            {
                "name": "fab", "host": "fab.example.org", "user": "deploy", "hostKey": HOST_KEY,
                "url": "https://fab.example.org",
            }
        ],
    }  # fmt: skip
    assert questions == ()


def test_what_a_lab_does_otherwise_than_the_preset_is_written() -> None:
    services = changed(FABMANAGER, "postgres", environment={"POSTGRES_USER": "fab"})
    services["db"] = services.pop("postgres")
    databases = (Database("db", "fab_production", is_migrated=True),)
    found = installation(services, "/home/lab/fab", postgres=("db",), databases=databases)
    config, _ = decided(found)
    # Its plugins are elsewhere, too: nothing of that name is in its directory.
    assert config["app"] == {"directory": "/home/lab/fab", "assetInputs": []}
    assert config["backup"] == {"service": "db", "user": "fab", "database": "fab_production"}


def test_an_image_that_is_called_like_fabmanager_alone_is_not_taken_for_it() -> None:
    services = changed(FABMANAGER, "fabmanager", environment={"RAILS_ENV": "production"})
    config, questions = decided(installation(services))
    assert "preset" not in config
    assert config["app"]["assets"] == ["/usr/src/app/public/packs"]
    assert any("preset: fabmanager" in it for it in questions)


def test_mastodon_is_its_web_server_and_sidekiq_and_not_its_streaming_server() -> None:
    config, questions = decided(installation(MASTODON))
    assert config["image"] == {"repository": "ghcr.io/mastodon/mastodon"}
    assert config["tag"] == "v4.3.17"
    assert config["app"] == {"directory": "/srv/app", "services": ["web", "sidekiq"]}
    assert config["health"] == {"path": "/health"}
    assert config["servers"][0]["url"] == "https://social.example.org"
    assert "backup" not in config
    assert [it.partition(":")[0] for it in questions] == ["Where compiled assets are kept"]


def test_chatwoot_is_rails_and_sidekiq_without_the_service_that_both_merge_and_without_a_tag() -> None:
    config, questions = decided(installation(CHATWOOT))
    assert config["app"]["services"] == ["rails", "sidekiq"]
    assert config["tag"] == UNKNOWN_TAG
    assert any("chatwoot/chatwoot:latest runs, and that is no tag that stays" in it for it in questions)
    assert config["servers"][0]["url"] == "https://chat.example.org"


def test_redmine_on_mysql_says_how_its_database_would_be_dumped() -> None:
    config, questions = decided(installation(REDMINE))
    assert config["app"] == {"directory": "/srv/app", "services": ["redmine"]}
    assert config["servers"][0]["url"] == "http://fab.example.org:8080"
    assert any("backup.service: db" in it and "mysqldump" in it for it in questions)


def test_a_tag_that_moves_gives_way_to_another_one_of_the_same_image() -> None:
    found = fabmanager()
    image = "ghcr.io/lab/fabmanager:latest"
    tags = ("else/where:1.0", image, "ghcr.io/lab/fabmanager:6.5.9-lab")
    services = tuple(
        dataclasses.replace(it, image=image, running=Running(image, tags, "", (3000,)))
        if it.name == "fabmanager"
        else it
        for it in found.services
    )
    assert decided(dataclasses.replace(found, services=services))[0]["tag"] == "6.5.9-lab"


def test_a_container_that_was_made_from_an_images_id_is_known_by_the_images_tag() -> None:
    found = installation(REDMINE)
    running = Running(f"sha256:{'ab' * 32}", ("redmine:5.1.3",), "", ())
    services = tuple(dataclasses.replace(it, running=running) if it.name == "redmine" else it for it in found.services)
    config, _ = decided(dataclasses.replace(found, services=services))
    assert (config["image"]["repository"], config["tag"]) == ("redmine", "5.1.3")


@pytest.mark.parametrize("image", ["", "shop-web", f"sha256:{'ab' * 32}"])
def test_an_image_that_is_built_on_the_server_is_said_to_need_a_registry(image: str) -> None:
    services = changed(REDMINE, "redmine", image=image, build={"context": "."})
    config, questions = decided(installation(services))
    assert config["tag"] == UNKNOWN_TAG
    assert any(it.startswith("The registry: the image is built on the server") for it in questions)


def test_what_runs_is_released_and_not_what_somebody_has_written_since() -> None:
    found = installation(REDMINE)
    services = tuple(
        dataclasses.replace(it, image="redmine:6.0.0") if it.name == "redmine" else it for it in found.services
    )
    config, questions = decided(dataclasses.replace(found, services=services))
    assert config["tag"] == "5.1.4"
    assert any("redmine:5.1.4 runs, and the Compose file says redmine:6.0.0" in it for it in questions)


def test_an_application_that_does_not_run_is_taken_as_the_compose_file_has_it() -> None:
    found = installation(REDMINE)
    services = tuple(dataclasses.replace(it, running=None) for it in found.services)
    config, questions = decided(dataclasses.replace(found, services=services))
    assert config["tag"] == "5.1.4"
    assert any("no container of redmine does" in it for it in questions)


def test_the_service_that_a_proxy_names_is_the_web_service() -> None:
    services = {
        "worker": {"image": "shop/app:1", "restart": "always", "ports": [port(9394, "9394")]},
        "web": {"image": "shop/app:1", "restart": "always"},
    }
    assert decided(installation(services))[0]["app"]["services"] == ["worker", "web"]
    passing = (Passing("nginx", "web", "shop.example.org", tls=True),)
    config, _ = decided(installation(services, passing=passing))
    assert config["app"]["services"] == ["web", "worker"]
    assert config["servers"][0]["url"] == "https://shop.example.org"


def test_a_port_is_written_where_it_is_another_than_the_usual_one() -> None:
    services = changed(REDMINE, "redmine", ports=[port(8080, "80")])
    assert decided(installation(services))[0]["app"]["port"] == 8080


def test_what_runs_to_its_end_is_none_of_the_services_and_neither_is_another_image() -> None:
    services = {
        **REDMINE,
        "migrate": {"image": "redmine:5.1.4", "restart": "no", "command": ["rake", "db:migrate"]},
        "old": {"image": "redmine:4.0.0", "restart": "always", "command": ["sidekiq"]},
    }
    config, questions = decided(installation(services))
    assert config["app"]["services"] == ["redmine"]
    assert any("Why old is on redmine:4.0.0" in it for it in questions)


def test_several_databases_and_several_addresses_are_questions() -> None:
    passing = (Passing("nginx", "fabmanager", "www.example.org", tls=True),)
    config, questions = decided(fabmanager(postgres=("postgres", "other"), passing=passing))
    assert config["servers"][0]["url"] == "https://fab.example.org"
    assert any("PostgreSQL runs in postgres or other. Set backup.service" in it for it in questions)
    assert any("fab.example.org or www.example.org (servers[0].url)" in it for it in questions)


@pytest.mark.parametrize(
    ("environment", "url"),
    [
        ({"DEFAULT_HOST": "fab.example.org", "DEFAULT_PROTOCOL": "http"}, "http://fab.example.org"),
        ({"DEFAULT_HOST": "fab.example.org:8080", "DEFAULT_PROTOCOL": "http"}, "http://fab.example.org:8080"),
        ({"DEFAULT_HOST": "localhost:5000"}, "https://192.0.2.7"),
        ({"FRONTEND_URL": "http://user:hunter2@fab.example.org/x"}, "http://fab.example.org"),
        ({"VIRTUAL_HOST": "a.example.org,b.example.org"}, "https://a.example.org"),
        ({"LOCAL_DOMAIN": "javascript:alert(1)"}, "https://192.0.2.7"),
    ],
)
def test_the_public_address_is_what_the_application_says_of_itself_else_what_is_published(
    environment: dict[str, str], url: str
) -> None:
    services = changed(FABMANAGER, "fabmanager", environment=environment)
    passing = (Passing("nginx", "fabmanager", "", tls=True),)
    config, _ = decided(
        installation(services, passing=passing), dataclasses.replace(LOGIN, host="192.0.2.7", port=2222)
    )
    (server,) = config["servers"]
    assert server["url"] == url
    assert (server["name"], server["port"]) == ("app", 2222)


def test_a_project_without_an_application_is_refused_with_what_there_is() -> None:
    with pytest.raises(AdoptionError, match=r"no service in /srv/app looks like an application; there are: db \(postg"):
        adopt(installation({"db": {"image": "postgres:15", "restart": "always"}}), LOGIN)


def test_what_a_server_tells_holds_of_an_environment_only_the_names_and_addresses() -> None:
    (web,) = (it for it in services_of({"services": MASTODON}) if it.name == "web")
    assert web.variables == ("LOCAL_DOMAIN", "SECRET_KEY_BASE")
    assert web.told == {"LOCAL_DOMAIN": "social.example.org"}
    assert "hunter2" not in repr(web)


def test_the_file_says_what_is_open_and_where_it_is_from(tmp_path: Path) -> None:
    text = adopt(installation(CHATWOOT), LOGIN).text("prod", "/srv/app", "fab.example.org")
    assert text.startswith("# yaml-language-server: $schema=docs/stack.schema.json\n")
    assert "#  - The release: chatwoot/chatwoot:latest runs" in text
    assert '  releve:tag: "set-me"  # not known' in text


def test_directories_of_projects_are_told_once_and_not_those_that_are_gone() -> None:

    containers = [
        Placed("a-1", "running", "x", project="a", directory="/srv/a"),
        Placed("a-2", "exited", "x", project="a", directory="/srv/a"),
        Placed("b-1", "running", "x", project="b", directory="/srv/gone", is_there=False),
        Placed("c-1", "running", "x"),
    ]
    (place,) = places_of(containers)
    assert (place.project, place.directory, place.running) == ("a", "/srv/a", 1)


def test_what_a_server_tells_is_read_back_as_the_same() -> None:

    survey = Survey((), fabmanager())

    assert load(json.dumps(dataclasses.asdict(survey))) == survey
