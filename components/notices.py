"""What is said at the end of a server's rollout, here and to those who are notified."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pulumi

from configuration.tree import ServerSettings, Settings
from language import _, decimal
from release import notification, steps
from release.notification import Notification
from server.request import StepName


@dataclass
class Notices:
    """Of one server.

    previous: the tag that serves when the rollout begins; "" for none
    downtime: seconds without an answer, once the step `up` has told them
    is_first: it has told that nothing served before
    """

    name: str
    settings: Settings
    server: ServerSettings
    previous: str
    downtime: float | None = None
    is_first: bool = False

    def hooks(self, step: StepName) -> pulumi.ResourceHookBinding:
        """For a step: Pulumi calls them when it has run, and when it has failed; never in a preview."""
        last = step is steps.plan(self.settings)[-1]
        after = [self._hook("told", step, self._note_downtime)] if step is StepName.UP else []
        after += [self._hook("done", step, self._tell_end)] if last else []
        on_error = [pulumi.ErrorHook(f"{self.name}-{step}-failed", self._failed(step))]
        return pulumi.ResourceHookBinding(
            after_create=[*after], on_error=on_error if self.settings.notify.urls else None
        )

    def _hook(self, what: str, step: StepName, function: Any) -> pulumi.ResourceHook:
        return pulumi.ResourceHook(f"{self.name}-{step}-{what}", function)

    def _note_downtime(self, told: pulumi.ResourceHookArgs) -> None:
        said = str((told.new_outputs or {}).get("stdout") or "")
        self.downtime, self.is_first = steps.downtime_of(said), steps.FIRST in said

    def _tell_end(self, _told: pulumi.ResourceHookArgs) -> None:
        tag, address = self.settings.tag, self.server.url or self.server.host
        away = _("none, as nothing served before") if self.is_first else _("was not measured")
        away = away if self.downtime is None else f"{decimal(self.downtime)} s"
        stack = f"-s {pulumi.get_stack()}"
        commands = f"pulumi config set tag {self.previous} {stack} && pulumi up {stack}"
        back = commands if self.previous else _("there is no release before")
        pulumi.log.info(end(self.name, tag, address, away=away, back=back))
        send(self.settings, notification.released(pulumi.get_stack(), self.name, tag, address, self.downtime))

    def _failed(self, step: StepName) -> pulumi.ErrorHookFunction:
        def tell(told: pulumi.ErrorHookArgs) -> bool:
            error = "\n".join(told.errors[:1])
            send(self.settings, notification.failed(pulumi.get_stack(), self.name, self.settings.tag, step, error))
            return False  # no retry

        return tell


def of_image(settings: Settings, step: str) -> pulumi.ResourceHookBinding | None:
    """For a part of making the image, which nobody need be told of unless it fails."""

    def tell(_told: pulumi.ErrorHookArgs) -> bool:
        send(settings, notification.not_released(pulumi.get_stack(), settings.tag, step))
        return False  # no retry

    hook = pulumi.ErrorHook(f"image-{step}-failed", tell) if settings.notify.urls else None
    return pulumi.ResourceHookBinding(on_error=[hook]) if hook else None


def send(settings: Settings, message: Notification) -> None:
    """Tells those of notify.urls, which changes no outcome: what cannot be sent is a warning."""
    try:
        problems = notification.send(settings.notify, message)
    except Exception as error:  # noqa: BLE001 - whatever it is, the outcome is what it was
        problems = [type(error).__name__]
    for problem in problems:
        pulumi.log.warn(f"nobody was told there: {problem}")


def end(server: str, tag: str, address: str, *, away: str, back: str) -> str:
    """What is said when a rollout has ended well: what serves, for how long the site was away, and how to go back.

    away: that time; back: the commands that go back; both in words where there is none
    """
    return "\n".join(
        (
            _("{server} serves {tag} at {address}", server=server, tag=tag, address=address),
            _("time without an answer: {time}", time=away),
            _("to go back: {command}", command=back),
        )
    )
