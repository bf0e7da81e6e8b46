"""What becomes of deployments, as events that raise alerts and end them.

A deployment that failed raises `deployment_failed`, once for each time. It stays wrong while it is tried again, and
that ends once it answers or is being removed.
"""

import uuid
from dataclasses import dataclass
from datetime import datetime

from services.monitor.domain.alerts import DEPLOYMENT_FAILED, DEPLOYMENT_RECOVERED, SEVERITIES, RolloutEvent

_FAILED = "failed"
_OVER = ("active", "terminating")
_NAMES = uuid.UUID("b0f0a0c2-7a52-4c1a-9a55-0d5a3c1d8f6e")


@dataclass(frozen=True, slots=True)
class SeenDeployment:
    """A deployment as the deployer shows it."""

    deployment_id: str
    model: str
    name: str
    version: str
    served_version: str
    """What answers. Empty: nothing."""
    status: str
    problem: str
    """Why it does not answer, and what to do about it."""
    reason: str
    generation: int
    changed_at: datetime

    @property
    def subject(self) -> str:
        """What its alerts are about."""
        return subject_of(self.model, self.name)


def subject_of(model: str, name: str) -> str:
    """What the alerts of a deployment are about."""
    return f"deployment/{model}/{name}"


def deployment_of(subject: str) -> tuple[str, str]:
    """The model and the name that `subject_of` was made of."""
    _, model, name = subject.split("/")
    return model, name


def event_of(seen: SeenDeployment, *, removed: bool, known_failed: bool) -> RolloutEvent | None:
    """What its present state means; None where it means nothing new. `known_failed`: an alert says that it failed."""
    if seen.status == _FAILED and not removed:
        return _event(seen, DEPLOYMENT_FAILED, _severity(seen), _what_failed(seen))
    if known_failed and (removed or seen.status in _OVER):
        return recovered(seen.model, seen.name, seen.changed_at, what="was removed" if removed else f"is {seen.status}")
    return None


def recovered(model: str, name: str, moment: datetime, *, what: str) -> RolloutEvent:
    """That nothing is wrong with a deployment any more."""
    return RolloutEvent(
        event_id=str(uuid.uuid5(_NAMES, f"{model}/{name}/{what}/{moment.isoformat()}")),
        kind=DEPLOYMENT_RECOVERED,
        model=model,
        version="",
        subject=subject_of(model, name),
        severity=SEVERITIES[0],
        summary=f"deployment {name} of {model} {what}",
        probable_cause="",
        undo_command="",
        value=0.0,
        time=moment,
    )


def _event(seen: SeenDeployment, kind: str, severity: str, summary: str) -> RolloutEvent:
    return RolloutEvent(
        event_id=str(
            uuid.uuid5(_NAMES, f"{seen.deployment_id}/{kind}/{seen.generation}/{seen.changed_at.isoformat()}")
        ),
        kind=kind,
        model=seen.model,
        version=seen.version,
        subject=seen.subject,
        severity=severity,
        summary=summary,
        probable_cause=f"{seen.changed_at:%Y-%m-%d %H:%M:%S} UTC: {seen.version} was to be served"
        f" (change {seen.generation} of the deployment){f': {seen.reason}' if seen.reason else ''}",
        undo_command=f"infermesh restart {seen.model} {seen.name}",
        value=0.0,
        time=seen.changed_at,
    )


def _severity(seen: SeenDeployment) -> str:
    """Critical where nothing answers; a version that went on answering leaves time."""
    return SEVERITIES[1] if seen.served_version else SEVERITIES[2]


def _what_failed(seen: SeenDeployment) -> str:
    answers = f"; {seen.served_version} still answers" if seen.served_version else "; nothing answers"
    why = seen.problem or "the deployer did not say why: infermesh deployments shows it"
    return f"deployment {seen.name} of {seen.model} {seen.version} failed{answers}: {why}"
