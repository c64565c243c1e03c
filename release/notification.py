"""What people are told of a rollout, and how it reaches them. Nothing secret is in it, and no failure ends anything."""

from __future__ import annotations

import re
from dataclasses import dataclass

from configuration.events import Event
from configuration.tree import NotifySettings
from language import _, decimal

_PUT_BACK = re.compile(r"was put back and serves|What was there before was put back")
_LONGEST = 300
"""Characters of a reason."""


@dataclass(frozen=True)
class Notification:
    """One message."""

    event: Event
    title: str
    text: str


def released(stack: str, server: str, tag: str, address: str, downtime: float | None) -> Notification:
    """That a release serves. downtime: seconds without an answer, None: not measured."""
    text = _("{tag} serves on {server} ({address}).", tag=tag, server=server, address=address)
    if downtime is not None:
        text = f"{text} {_('The site did not answer for {seconds} s.', seconds=decimal(downtime))}"
    return Notification(Event.RELEASED, _("{stack}: {tag} serves", stack=stack, tag=tag), text)


def failed(stack: str, server: str, tag: str, step: str, error: str) -> Notification:
    """That a rollout has failed, and whether the old release serves again. error: what the step said."""
    restored = _PUT_BACK.search(error) is not None
    event = Event.RESTORED if restored else Event.FAILED
    then = _("The old release serves again." if restored else "See  ./releve status  and  ./releve logs --rollout")
    reason = next((line for line in error.splitlines() if line.startswith(f"{step}: ")), _("{step} failed", step=step))
    title = _("{stack}: {tag} was put back" if restored else "{stack}: {tag} failed", stack=stack, tag=tag)
    what = _("{tag} failed on {server}.", tag=tag, server=server)
    return Notification(event, title, f"{what} {reason[:_LONGEST]}\n{then}")


def not_released(stack: str, tag: str, step: str) -> Notification:
    """That an image was not built, or does not pass. What the step said is not for everybody: it quotes logs."""
    text = f"{tag} was not released: its {step} failed. No server was touched."
    return Notification(Event.FAILED, f"{stack}: {tag} failed", text)


def drifted(stack: str, found: dict[str, list[str]]) -> Notification:
    """That servers are not as they were released. found: server → what differs."""
    lines = [f"{server}: {what}" for server, items in found.items() for what in items]
    title = _("{stack}: {count} differences from what was released", stack=stack, count=len(lines))
    return Notification(Event.DRIFT, title, "\n".join(lines))


def send(settings: NotifySettings, notification: Notification) -> list[str]:
    """Sends it to whoever wants such ones. Returns what failed, without any address: these hold passwords."""
    if notification.event not in settings.on:
        return []
    # Imported here: it takes a while, and most runs tell nobody.
    import logging  # noqa: PLC0415

    from apprise import Apprise  # noqa: PLC0415

    logging.getLogger("apprise").setLevel(logging.CRITICAL)
    problems = []
    for number, url in enumerate(settings.urls):
        secret = url.get_secret_value()
        target = Apprise()
        where = f"notify.urls[{number}] ({secret.partition(':')[0]})"
        if not target.add(secret):
            problems.append(f"{where} is none that Apprise knows")
        elif not target.notify(title=notification.title, body=notification.text):
            problems.append(f"{where} was not reached, or did not take the message")
    return problems
