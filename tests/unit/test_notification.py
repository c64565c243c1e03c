"""What people are told of a rollout: to whom it goes, what is in it, and that no failure of it ends anything."""

from __future__ import annotations

import email
import email.policy

import pytest

from configuration.events import Event
from configuration.tree import NotifySettings
from release import notification
from tests.unit.sinks import mail_server, webhook

pytestmark = pytest.mark.unit

PUT_BACK = """\
Process exited with status 1: running "python3 -I /apps/shop/.releve/bin/abc up":
up: 'web' does not answer as it should: http://172.18.0.3:3000/ answers 500, not 200.
 ! more
Putting back 1.0-abc.
The release 1.0-abc was put back and serves. The site did not answer for 3.1 s.
"""


def settings(*urls: str, **more: object) -> NotifySettings:
    return NotifySettings.model_validate({"urls": list(urls), **more})


def test_a_release_is_told_to_a_webhook_and_by_mail() -> None:
    message = notification.released("prod", "s1", "1.1", "https://shop.example", 1.62)
    with webhook() as (port, posted), mail_server() as (mail_port, mails):
        urls = (f"json://127.0.0.1:{port}/", f"mailto://127.0.0.1:{mail_port}?from=a@example.org&to=b@example.org")
        assert notification.send(settings(*urls), message) == []
    assert posted[0]["title"] == "prod: 1.1 serves"
    assert posted[0]["message"] == "1.1 serves on s1 (https://shop.example). The site did not answer for 1.6 s."
    mail = email.message_from_string(mails[0], policy=email.policy.default)
    assert mail["Subject"] == "prod: 1.1 serves"
    assert "The site did not answer for 1.6 s." in str(mail)


def test_what_failed_and_was_put_back_is_told_as_that_with_the_reason() -> None:
    message = notification.failed("prod", "s1", "1.1", "up", PUT_BACK)
    assert message.event is Event.RESTORED
    assert message.title == "prod: 1.1 was put back"
    assert "up: 'web' does not answer as it should" in message.text
    assert "The old release serves again." in message.text


def test_what_failed_and_stays_so_says_where_to_look() -> None:
    message = notification.failed("prod", "s1", "1.1", "pull", "pull: The image cannot be pulled.")
    assert message.event is Event.FAILED
    assert "./releve logs --rollout" in message.text
    assert "pull: The image cannot be pulled." in message.text


def test_only_what_is_wanted_is_sent() -> None:
    message = notification.released("prod", "s1", "1.1", "https://shop.example", None)
    with webhook() as (port, posted):
        assert notification.send(settings(f"json://127.0.0.1:{port}/", on=["failed"]), message) == []
    assert posted == []


@pytest.mark.parametrize(
    ("url", "problem"),
    [("json://user:secret@127.0.0.1:1/", "notify.urls[0] (json) was not reached, or did not take the message"),
     ("nonsense://secret", "notify.urls[0] (nonsense) is none that Apprise knows")],
)  # fmt: skip
def test_what_cannot_be_sent_is_said_without_the_address_and_the_others_get_it(url: str, problem: str) -> None:
    message = notification.drifted("prod", {"s1": ["image: shop-web-1 runs another"]})
    with webhook() as (port, posted):
        assert notification.send(settings(url, f"json://127.0.0.1:{port}/"), message) == [problem]
    assert posted[0]["message"] == "s1: image: shop-web-1 runs another"
