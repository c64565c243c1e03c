"""The page that visitors see while the site is stopped.

A file in the project's directory; or, with an absolute path, one in the web service's containers, on a volume that a
proxy has of them by `volumes_from`, as Fab-manager's own nginx: that is not in any directory of the project.
"""

from __future__ import annotations

from pathlib import Path

from server.commands import Docker
from server.containers import listing
from server.errors import StepError
from server.project import Project
from server.run import Run

TEXT = """<!doctype html>
<html lang="fr">
<meta charset="utf-8">
<title>Maintenance</title>
<h1>Maintenance</h1>
<p>Le site est mis à jour. Il revient dans quelques minutes.</p>
<p lang="en">The site is being updated and will be back in a few minutes.</p>
</html>
"""


def show(run: Run, project: Project) -> None:
    """Puts it there: before the site is stopped. Raises Failure where it cannot be copied into a container."""
    page = run.request.maintenance_page
    if not page:
        return
    if not page.startswith("/"):
        _write(run.directory / page, run.directory / f"{page}.template")
        return
    file = run.scratch / "maintenance"
    _write(file, run.directory / f"{Path(page).name}.template")
    docker = run.docker.cleaning_up()
    for container in _web(run, docker, project):
        # A volume is in a container's file system for this, as long as the container is there.
        words = ("cp", str(file), f"{container}:{page}")
        docker.must(*words, failing=f"{page} cannot be written in the container.", remedy="See app.maintenancePage.")


def hide(run: Run, project: Project) -> None:
    """The site is back. What does not work is said: the release serves, or the old one does."""
    page = run.request.maintenance_page
    if not page:
        return
    run.questions.forget()  # what the page itself has answered
    if not page.startswith("/"):
        for path in (run.directory / page, run.directory / f"{page}.releve-new"):
            path.unlink(missing_ok=True)
        return
    docker = run.docker.cleaning_up()
    try:
        containers = _web(run, docker, project)
    except StepError as error:
        run.output.complain(error.message)
        return
    for container in containers:
        # The volume outlives the container that it was copied into: Compose hands it to the next one.
        if docker.run("exec", "--user", "0:0", container, "rm", "-f", page) != 0:
            remedy = f"docker compose exec --user 0:0 {run.request.web} rm -f {page}"
            run.output.complain(f"{page} may still be shown to visitors. Remove it:  {remedy}")


def _web(run: Run, docker: Docker, project: Project) -> list[str]:
    return listing(docker, project.name).of(run.request.web, states=("running",))


def _write(page: Path, template: Path) -> None:
    new = page.with_name(f"{page.name}.releve-new")
    new.write_text(template.read_text() if template.is_file() else TEXT)
    new.chmod(0o644)  # for the proxy's own user to read
    new.replace(page)
