"""The lock of the build context."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from release.context import ContextLock

pytestmark = pytest.mark.unit

HOLDER = """
import sys
from pathlib import Path
from release.context import ContextLock
lock = ContextLock(Path(sys.argv[1]))
print(lock.take(), flush=True)
sys.stdin.read()
"""


def test_one_at_a_time_has_the_context_until_it_frees_it(tmp_path: Path) -> None:
    one, other = ContextLock(tmp_path / "new/context"), ContextLock(tmp_path / "new/context")
    assert one.take()
    assert one.take(), "it has it already"
    assert not other.take()
    one.free()
    assert other.take()
    assert not one.take()
    assert ContextLock(tmp_path / "context").take(), "another checkout's is another one"


def test_a_process_that_is_killed_has_it_no_longer(tmp_path: Path) -> None:
    lock = ContextLock(tmp_path / "context")
    command = [sys.executable, "-c", HOLDER, str(tmp_path / "context")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout
        assert holder.stdout.readline() == "True\n"
        assert not lock.take()
        holder.kill()
        holder.wait()
        assert lock.take()
