"""What a Compose file should have for rolling: each change that is missing is named, and none that is there."""

from __future__ import annotations

from typing import Any

import pytest

from server.rolling_advice import advice

pytestmark = pytest.mark.unit

RAILS = ["bundle", "exec", "rails", "server", "-u", "puma"]


@pytest.mark.parametrize(
    ("web", "started", "said"),
    [
        ({}, ("/usr/bin/python3", "/usr/bin/supervisord", "-c", "x"), "'web' runs supervisord"),
        ({}, ("/usr/bin/supervisord",), "'web' runs supervisord"),
        ({"command": RAILS}, ("bundle",), "'web' is a `rails server`"),
        ({"command": ["bin/rails", "s"]}, (), "'web' is a `rails server`"),
        ({"stop_grace_period": None}, (), "'web' has no stop_grace_period"),
    ],
)
def test_what_is_missing_is_named_with_what_to_do(web: dict[str, Any], started: tuple[str, ...], said: str) -> None:
    services = {"web": {"stop_grace_period": "40s"} | web}
    ((what, remedy),) = advice(services, ["web"], started)
    assert what.startswith(said)
    assert remedy


@pytest.mark.parametrize("service", [{"tmpfs": ["/usr/src/app/tmp/pids:size=1m"]}, {"command": [*RAILS, "-P", "/x"]}])
def test_of_a_file_that_has_it_nothing_is_said(service: dict[str, Any]) -> None:
    web = {"command": RAILS, "stop_grace_period": "40s"} | service
    worker = {"command": ["bundle", "exec", "sidekiq"], "stop_grace_period": "40s"}
    assert list(advice({"web": web, "worker": worker}, ["web", "worker"], ("bundle", "exec", "rails", "server"))) == []


def test_each_service_of_the_application_needs_its_time_to_stop() -> None:
    services = {"web": {"stop_grace_period": "40s"}, "worker": {}, "nginx": {}}
    assert [what.partition(":")[0] for what, _ in advice(services, ["web", "worker"], ())] == [
        "'worker' has no stop_grace_period"
    ]
