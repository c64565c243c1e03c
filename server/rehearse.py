"""The step `rehearse`: a release's migrations on a copy of the database, while the site serves, and how long they take.

The application is told of the copy by DATABASE_URL, which Rails puts over its config/database.yml; whether it heeds
that is asked before anything is migrated.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from server.asking import Asking
from server.commands import Docker
from server.containers import Compose, project_answer
from server.database import Database, Dump, newest_dumps
from server.errors import Refusal
from server.migrations import migrated, named, run_migrations, status_of
from server.placement import read_project
from server.preparation import prepare
from server.pull import pull_image
from server.request import StepName
from server.restoring import make_beside
from server.run import Run

VARIABLE = "DATABASE_URL"


def rehearse(run: Run) -> None:
    """Raises Refusal where that cannot be done here, Failure where the migrations fail."""
    docker, asked = run.docker, run.request.database
    if asked.command or asked.pending or not asked.migrate:
        raise Refusal("Only the migrations of a Rails application on PostgreSQL can be rehearsed.")
    candidate = prepare(run, docker)
    pull_image(run, docker)
    dump = _dump(run, docker)
    beside = make_beside(run, run.begin(StepName.DUMP), dump)
    run.tell("restored {file} beside, as {name}", file=dump.file.name, name=beside.name)
    try:
        asking = Asking(run, _with_database(run, docker, candidate.compose, beside.name), candidate.project)
        _migrate(run, asking, beside.name)
    finally:
        if not beside.drop(docker.cleaning_up()):
            run.say(f"notice: the copy stays as {beside.name}; drop it by hand")


def _dump(run: Run, docker: Docker) -> Dump:
    """The newest one, or one that is made now."""
    project = read_project(run, docker)
    database = Database.find(run, docker, project, named(run, docker, project))
    if len(database.names) != 1:
        raise Refusal("The application has several databases: a rehearsal is for those with one.")
    newest = newest_dumps(run.state)
    if len(newest) == 1:
        return Dump(newest[0], database.names[0], database.server.service)
    return database.dump(run.begin(StepName.DUMP), Compose(run.directory), "rehearsal")[0]


def _with_database(run: Run, docker: Docker, compose: Compose, name: str) -> Compose:
    """The project, in which the web service is told of another database. In a file: the address may hold a password."""
    resolved: Mapping[str, Any] = json.loads(project_answer(docker, compose).text or "{}")
    service = (resolved.get("services") or {}).get(run.request.web) or {}
    address = database_address(str((service.get("environment") or {}).get(VARIABLE) or ""), name)
    overlay: Path = run.scratch / "rehearsal.json"
    # `$` would be a variable of Compose's.
    environment = {VARIABLE: address.replace("$", "$$")}
    overlay.write_text(json.dumps({"services": {run.request.web: {"environment": environment}}}))
    return compose.with_file(overlay)


def database_address(given: str, name: str) -> str:
    """The address of another database of the same server. given: the application's own, or "": database.yml has it."""
    return urlunsplit(urlsplit(given)._replace(path=f"/{name}")) if given else f"postgresql:///{name}"


def _migrate(run: Run, asking: Asking, name: str) -> None:
    docker = run.begin(StepName.PENDING)
    found = migrated(status_of(run, docker, asking))
    if [database.name for database in found] != [name]:
        raise Refusal(
            f"The application does not take another database from {VARIABLE}, so nothing was migrated.",
            "A rehearsal needs a config/database.yml that Rails completes by that variable, as it does by default.",
        )
    pending = sum(not is_up for database in found for is_up in database.known.values())
    docker, began = run.begin(StepName.MIGRATE), time.monotonic()
    if not run_migrations(run, docker, asking.compose):
        raise docker.failure("The migrations fail on a copy of the database.", "The site was not touched.")
    took = time.monotonic() - began
    run.tell(
        "{count} migrations were pending; on the copy they took {seconds} s, with the start of the application",
        count=pending,
        seconds=f"{took:.0f}",
    )
