"""The end of a log: the error is in it, however long its stack trace is."""

from __future__ import annotations

import pytest

from server.log_end import end_of

pytestmark = pytest.mark.unit

RUBY = "config.ru:1:in `require': no such host (SocketError)\n" + "".join(
    f"\tfrom /usr/share/gems/rack-2.2/lib/rack/builder.rb:{line}:in `block in eval'\n" for line in range(200)
)
LOGGER = "SocketError (no such host):\n" + "".join(f"app/models/visit.rb:{line}:in `host'\n" for line in range(99))
JAVASCRIPT = "TypeError: x is undefined\n" + "".join(f"    at step (/srv/app.js:{line}:7)\n" for line in range(99))


@pytest.mark.parametrize("trace", [RUBY, LOGGER, JAVASCRIPT])
def test_of_a_stack_trace_the_error_and_its_beginning_are_shown(trace: str) -> None:
    lines = end_of(f"starting\n{trace}ended\n", 20).splitlines()
    first, *frames = trace.splitlines()
    assert lines == ["starting", first, *frames[:3], f"\t… {len(frames) - 3} more", "ended"]


def test_a_trace_at_the_end_is_shortened_too() -> None:
    assert end_of(RUBY, 20).splitlines()[-1] == "\t… 197 more"


def test_of_other_lines_the_last_are_shown_as_they_are() -> None:
    text = "".join(f"{line}: GET /visits from 192.0.2.1 at noon\n" for line in range(30))
    assert end_of(text, 20) == "".join(text.splitlines(keepends=True)[-20:])
    assert end_of("", 20) == ""
