"""Who is asked again, and when."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from contextlib import suppress

import pytest

from server.answers import Answer, NoAnswer
from server.public import Downtime, Measured, Target
from server.questions import Questions, wait_of

pytestmark = pytest.mark.unit

LONG = 3600.0


def answer(status: int, retry_after: float | None = None) -> Answer:
    return Answer("http://shop/", status, "", is_html=False, text="", retry_after=retry_after)


class Site:
    """Gives one answer after the other, and the last one for ever; None is no answer."""

    def __init__(self, *answers: Answer | None) -> None:
        self.answers = list(answers)
        self.asked = 0

    def __call__(self, _: float = 0) -> Answer:
        given = self.answers[min(self.asked, len(self.answers) - 1)]
        self.asked += 1
        if given is None:
            raise NoAnswer("nobody listens")
        return given


def test_who_has_answered_is_not_asked_again_for_a_while_by_whomever() -> None:
    questions, site = Questions(), Site(answer(200))
    assert questions.ask("shop", LONG, site) == questions.ask("shop", LONG, site)
    assert site.asked == 1
    questions.ask("another", LONG, site)
    questions.ask("shop", 0, site)
    questions.forget()
    questions.ask("shop", LONG, site)
    assert site.asked == 4


@pytest.mark.parametrize("given", [None, answer(502), answer(504)])
def test_who_does_not_answer_may_be_asked_again_at_once(given: Answer | None) -> None:
    questions, site = Questions(), Site(given)
    for _ in range(3):
        with suppress(NoAnswer):
            questions.ask("shop", LONG, site)
    assert site.asked == 3


def test_of_who_asks_to_be_left_alone_the_answer_before_counts() -> None:
    questions, site = Questions(), Site(answer(500), answer(429), answer(200))
    questions.ask("shop", 0, site)
    said = questions.ask("shop", 0, site)
    assert (said.answer.status, said.wait > 0) == (500, True)
    # However short the interval is.
    assert questions.ask("shop", 0, site) == said
    assert site.asked == 2


@pytest.mark.parametrize(
    ("given", "seconds"),
    [
        (answer(200), 0),
        (answer(503), 0),
        (answer(503, 3), 3),
        (answer(429), 1),
        (answer(429, 7), 7),
        (answer(429, 300), 10),
        (answer(200, 60), 0),
    ],
)
def test_too_many_and_unavailable_are_waited_out_for_a_while(given: Answer, seconds: float) -> None:
    assert wait_of(given) == seconds


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_that_the_application_ceases_to_listen_is_noticed_although_the_site_is_not_asked() -> None:
    site = Site(answer(200), None)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        measured = Measured([Target("shop", site)], [os.getpid()], listener.getsockname()[1])
        downtime = Downtime(Questions(), LONG, lambda: measured)
        until(lambda: site.asked == 1)
        time.sleep(0.5)
        assert site.asked == 1
    # From then on it is asked until it answers.
    until(lambda: site.asked > 3)
    site.answers = [answer(200)]
    asked = site.asked
    until(lambda: site.asked > asked)
    assert downtime.stop() > 0
