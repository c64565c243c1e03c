"""How the program gets to a server: what is sent there, and what an unfit server makes of it."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from release.program import Program
from server.request import Request, StepName

pytestmark = pytest.mark.unit

SERVER = Path(__file__).parents[2] / "server"
MAIN = """\
from pathlib import Path

def main(arguments, text, program):
    print(arguments, text.strip() == Path(__file__).with_name("request").read_text(), program.name)
    files = [path for path in program.rglob("*") if path.is_file()]
    print(sorted(str(path.relative_to(program)) for path in files))
    print({oct(path.parent.stat().st_mode & 0o777) for path in (program, *files)})
    print({oct(path.stat().st_mode & 0o777) for path in files})
    return {status}
"""
REQUEST = Request(directory="/apps/é", services=("web",), limits={"install": 60})


def made(tmp_path: Path, status: str = "0") -> Program:
    """The real bootstrap with a program of the test's own, which says what it was given."""
    return Program(
        {
            "__main__.py": "",
            "server/__init__.py": "",
            "server/program.py": MAIN.replace("{status}", status),
            "server/request": request_line(),
        },
        (SERVER / "bootstrap.py").read_text(),
    )


def request_line() -> str:
    return Program({}, "").install_input(REQUEST).splitlines()[1]


def install(
    command: Sequence[str], sent: str, tmp_path: Path, python: str = sys.executable
) -> subprocess.CompletedProcess[str]:
    """Runs the command line of `install` on this machine, with this `python3`."""
    path = tmp_path / "bin"
    path.mkdir()
    (path / "python3").symlink_to(python)
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    done = subprocess.run(
        command,
        input=sent, capture_output=True, text=True, check=False,
        env={"PATH": f"{path}:/usr/bin:/bin", "TMPDIR": str(temporary), "HOME": str(tmp_path)},
    )  # fmt: skip
    assert list(temporary.iterdir()) == [], "nothing is left"
    return done


def through(shell: str, program: Program) -> list[str]:
    """As a login shell runs what sshd hands it."""
    return [shell, "-c", program.install_command()]


def test_what_is_sent_depends_on_the_content_alone(tmp_path: Path) -> None:
    copy = tmp_path / "server"
    shutil.copytree(SERVER, copy, ignore=shutil.ignore_patterns("__pycache__"))
    (copy / "notes.txt").write_text("is not sent")
    (copy / "__pycache__").mkdir()
    (copy / "__pycache__" / "x.pyc").write_text("")
    one, other = Program.read(SERVER), Program.read(copy)
    assert one.install_input(REQUEST) == other.install_input(REQUEST)
    assert (one.sha256, one.name) == (other.sha256, other.sha256[:12])
    (copy / "request.py").write_text("# another version\n")
    assert Program.read(copy).sha256 != one.sha256


def test_the_programs_own_directory_runs_and_holds_the_package() -> None:
    files = Program.read(SERVER).files
    assert {"__main__.py", "server/__init__.py", "server/request.py", "server/in_container/publish.sh"} <= set(files)
    assert "server/bootstrap.py" not in files


def test_any_login_shell_passes_the_command_line_on() -> None:
    command = Program.read(SERVER).install_command()
    quoted = command.removeprefix("sh -c '").removesuffix("'")
    assert command == f"sh -c '{quoted}'"
    assert not set("'!\\\n") & set(quoted)


@pytest.mark.parametrize("shell", ["sh", "bash", "dash", "zsh", "fish", "csh", "tcsh"])
def test_the_program_is_unpacked_elsewhere_and_installs_itself(shell: str, tmp_path: Path) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not on this machine")
    program = made(tmp_path)
    done = install(through(shell, program), program.install_input(REQUEST), tmp_path)
    assert done.stdout.splitlines() == [
        f"['install'] True {program.name}",
        "['__main__.py', 'server/__init__.py', 'server/program.py', 'server/request']",
        "{'0o700'}",
        "{'0o600'}",
    ]
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(("status", "expected"), [("3", 3), ("1 / 0", 1), ("__import__('sys').exit(4)", 4)])
def test_however_the_installation_ends_nothing_is_left_and_its_status_is_told(
    status: str, expected: int, tmp_path: Path
) -> None:
    program = made(tmp_path, status)
    assert install(through("sh", program), program.install_input(REQUEST), tmp_path).returncode == expected


def cut_lines(sent: str) -> str:
    return sent[: sent.rindex("\n", 0, -1) + 1]


@pytest.mark.parametrize(
    "damage",
    [lambda _: "", cut_lines, lambda sent: sent[:-100], lambda sent: sent[:-20] + "AAAA" + sent[-16:]],
    ids=["nothing", "no archive", "cut", "changed"],
)
def test_what_arrives_damaged_is_refused(damage: object, tmp_path: Path) -> None:
    program = made(tmp_path)
    assert callable(damage)
    done = install(through("sh", program), damage(program.install_input(REQUEST)), tmp_path)
    assert done.returncode == 1
    assert done.stdout == ""
    assert "What arrived is damaged." in done.stderr
    assert "Try again." in done.stderr


def test_a_server_without_python_is_told_what_to_install(tmp_path: Path) -> None:
    program = made(tmp_path)
    (tmp_path / "sh").symlink_to("/bin/sh")
    done = subprocess.run(
        ["/bin/sh", "-c", program.install_command()],
        input="", capture_output=True, text=True, check=False, env={"PATH": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 1
    assert "install: The server has no command python3." in done.stderr
    assert "apt-get install python3 python3-yaml" in done.stderr


def interpreter(version: str) -> str:
    found = sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python3"))
    if not found:
        pytest.skip(f"there is no Python {version} on this machine")
    return str(found[0])


@pytest.mark.parametrize("version", ["3.6", "3.7", "3.8"])
def test_a_python_that_is_too_old_is_named(version: str, tmp_path: Path) -> None:
    program = made(tmp_path)
    done = install(through("sh", program), program.install_input(REQUEST), tmp_path, interpreter(version))
    assert done.returncode == 1
    assert f"install: The server's python3 is Python {version}." in done.stderr
    assert "3.9 or newer is needed" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_python_without_yaml_is_told_the_package(tmp_path: Path) -> None:
    # That of the virtual environment, run as if it were not in one.
    bare = Path(sys.base_prefix) / "bin" / f"python{sys.version_info.major}.{sys.version_info.minor}"
    if subprocess.run([bare, "-I", "-c", "import yaml"], capture_output=True, check=False).returncode == 0:
        pytest.skip("this machine's Python has PyYAML")
    program = made(tmp_path)
    done = install(through("sh", program), program.install_input(REQUEST), tmp_path, str(bare))
    assert done.returncode == 1
    assert "has no PyYAML" in done.stderr
    assert "apt-get install python3-yaml" in done.stderr


@pytest.mark.parametrize("directory", ["/apps/fabmanager", "/apps/a b", "/apps/it's", "/apps/$(id)"])
def test_a_step_is_started_by_its_name_and_nothing_else(directory: str) -> None:
    program = Program.read(SERVER)
    words = shlex.split(program.step_command(StepName.UP, directory))
    assert words == ["python3", "-I", f"{directory}/.releve/bin/{program.name}", "up"]


def test_python_runs_a_programs_directory_with_the_package_in_it(tmp_path: Path) -> None:
    program = Program({"__main__.py": "import server; print(server.NAME)", "server/__init__.py": "NAME = 'it'"}, "")
    for path, text in program.files.items():
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text(text)
    words = [sys.executable, "-I", str(tmp_path), "up"]
    done = subprocess.run(words, cwd="/", env=dict(os.environ), capture_output=True, text=True, check=False)
    assert done.stdout == "it\n", done.stderr
