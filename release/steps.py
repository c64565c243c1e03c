"""A rollout as ordered steps, and what each of them is asked to do. How they do it is in server/."""

from __future__ import annotations

import re

from configuration.tree import DEFAULT_TIMEOUTS, AppSettings, ServerSettings, Settings
from release import environment, registry
from release.compose_file import ComposeFile
from release.reference import ImageReference
from server.request import (
    Assets,
    AssetsFrom,
    Check,
    Database,
    Delivery,
    Health,
    Image,
    Request,
    StepName,
    Strategy,
    Upgrade,
)

COMPILES_AGAIN = ": a change compiles the assets again"
"""What a preview says of each variable of `env`, behind its fingerprint among the triggers of `precompile`."""


def plan(settings: Settings) -> tuple[StepName, ...]:
    """The steps of a rollout in order, after `install`."""
    app = settings.app
    # Without assets on volumes there is nothing to purge, and what a precompile wrote would be lost with its container.
    compiles = bool(app.assets and app.precompile)
    match app.strategy:
        case Strategy.STAGED | Strategy.ROLLING:
            # Those that the image holds are taken when it is pulled.
            compiles = compiles and app.assets_from is AssetsFrom.COMPILE
            precompile = [StepName.PRECOMPILE] if compiles else []
            # Whether a release has tasks, only `pull` knows.
            after_up = [StepName.AFTER_UP] if app.after_up or settings.upgrade.changelog else []
            return (StepName.PULL, *precompile, StepName.UP, *after_up, StepName.PURGE)
        case Strategy.IN_PLACE:
            precompile = [StepName.PURGE_ASSETS, StepName.PRECOMPILE] if compiles else []
            return (StepName.PULL, StepName.STOP, *precompile, StepName.UP, StepName.VERIFY)


def delivery_of(settings: Settings, compose_file: ComposeFile | None, image: ImageReference) -> Delivery:
    """What the repository and the configuration hold of the project on the server, for a release of `image`."""
    values = environment.values_of(settings)
    return Delivery(
        compose_file.with_image(settings.app.services, str(image), settings.app.one_shots) if compose_file else None,
        None if values is None else environment.env_file(values),
    )


def request_of(
    step: StepName,
    settings: Settings,
    server: ServerSettings,
    *,
    image: ImageReference | None = None,
    delivery: Delivery | None = None,
    actor: str = "",
    restored: str | None = None,
    upgrade: Upgrade | None = None,
) -> Request:
    """What a step is asked to do.

    image:    of the release, with its tag and digest; None: the step is about none
    delivery: what goes with the release; `pull` alone gets it, the others are told which one it is
    actor:    who rolls out
    restored: the dump to restore, by the name of its file
    upgrade:  what the release's changelog asks for; `pull` alone gets it, which decides what is done
    """
    app, backup = settings.app, settings.backup
    # A rehearsal prepares and pulls as well.
    delivery, is_pull = delivery or Delivery(), step in (StepName.PULL, StepName.REHEARSE)
    account = registry.account(settings.registry) if is_pull and image else None
    return Request(
        directory=app.directory,
        services=app.services,
        one_shots=app.one_shots,
        limits=_limits(settings),
        strategy=app.strategy,
        image=_image(image) if image else None,
        actor=actor,
        keeps_compose_file=app.compose_file is not None,
        keeps_environment=settings.env is not None,
        delivery=delivery if is_pull else None,
        delivered=delivery.sha256,
        registry_login=registry.docker_configuration(image.registry, account) if image and account else None,
        assets=_assets(app),
        health=_health(settings, server),
        database=Database(
            migrate=app.migrate,
            pending=app.pending,
            migrations=app.migrations,
            service=backup.service,
            name=backup.database,
            user=backup.user,
            command=backup.command,
            keep=backup.keep,
            restore_on_failure=backup.restore_on_failure,
        ),
        entrypoint=app.entrypoint,
        before_up=app.before_up,
        after_up=app.after_up,
        worker_quiet=app.worker_quiet,
        maintenance_page=app.maintenance_page,
        downtime_budget=app.downtime_budget,
        keep_releases=settings.keep_releases,
        backup=restored,
        upgrade=upgrade if step is StepName.PULL else None,
        acknowledged=settings.upgrade.acknowledged if settings.upgrade.changelog else None,
    )


def _image(image: ImageReference) -> Image:
    if image.tag is None or image.digest is None:
        raise ValueError(f"{image} has no tag or no digest: it is no release")
    return Image(image.repository, image.tag, image.digest)


def _assets(app: AppSettings) -> Assets:
    in_place = app.strategy is Strategy.IN_PLACE
    compiles = bool(app.assets and app.precompile) and (in_place or app.assets_from is AssetsFrom.COMPILE)
    # Where nothing makes them there are none to stage.
    has_assets = in_place or compiles or app.assets_from is AssetsFrom.IMAGE
    return Assets(
        paths=tuple(path.rstrip("/") for path in app.assets) if has_assets else (),
        source=app.assets_from,
        precompile=app.precompile if compiles else (),
        memory=app.precompile_memory,
        inputs=app.asset_inputs if compiles else (),
    )


def _health(settings: Settings, server: ServerSettings) -> Health:
    health = settings.health
    return Health(
        port=settings.app.port,
        path=health.path,
        status=health.status,
        contains=health.contains,
        headers=dict(health.headers),
        url=server.url,
        settle=health.settle,
        interval=health.interval,
        checks=tuple(
            Check(path=check.path, status=check.status, contains=check.contains, headers=dict(check.headers))
            for check in health.checks
        ),
        log_files=settings.app.log_files,
    )


def _limits(settings: Settings) -> dict[str, int]:
    limits = {**DEFAULT_TIMEOUTS, **settings.app.step_timeouts}
    limits |= {
        StepName.GATE: settings.health.timeout,
        StepName.VERIFY: settings.health.timeout,
        StepName.AFTER_UP: limits[StepName.TASK],
    }
    return {str(name): seconds for name, seconds in limits.items()}


FIRST = "nothing served before"
"""What the step `up` says besides that a release serves, where none did."""


def downtime_of(output: str) -> float | None:
    """The seconds without an answer that the step `up` measured, from what it printed; None where it says nothing."""
    found = re.search(r"the site did not answer for ([0-9.]+) s", output or "")
    return float(found[1]) if found else None
