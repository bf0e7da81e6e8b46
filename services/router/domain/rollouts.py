"""Rollouts, canaries and A/B tests alike: what is kept of one, and what keeping it can fail by. Immutable.

A rollout drives the one rule of its model. What it is in detail is its `document`, which the module of its kind reads
and writes; what all kinds share is here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from services.router.domain.rules import Rule

Json = None | bool | int | float | str | Sequence["Json"] | Mapping[str, "Json"]
Document = Mapping[str, Json]
"""A JSON object. Of a rollout's document the keys "success_criteria" (an object) and "auto_promote" (a boolean) are
also shown in the table `traffic_rules`."""

RUNNING = "running"
PAUSED = "paused"
ROLLOUTS_LEASE = "rollouts"
"""The lease of the one router that acts on rollouts."""


class RolloutKind(StrEnum):
    """What a rollout is."""

    CANARY = "canary"
    AB_TEST = "ab_test"


class Severity(StrEnum):
    """How much an event matters: those of INFO raise no alert."""

    INFO = "info"
    WARNING = "warning"
    CRITICAL = "critical"


@dataclass(frozen=True, slots=True)
class Rollout:
    """A rollout as it is kept."""

    rollout_id: str
    """A UUID."""
    model_name: str
    name: str
    """Unique within the model, over all kinds and also those that have ended; what `Rule.governing` says of it."""
    kind: RolloutKind
    status: str
    """`RUNNING`, `PAUSED`, or how it ended in the words of its kind."""
    document: Document
    created_at: datetime
    updated_at: datetime
    ended_at: datetime | None = None
    created_by: str = ""
    request_id: str = ""
    """Of the call that started it; empty: that cannot be repeated safely."""
    request_digest: str = ""
    """Tells whether a repeated call asks for the same."""
    generation: int = 0
    """How often it was changed; 0: it is not stored yet."""
    number: int = 0
    """Grows from rollout to rollout; given by the store."""
    results: Document = field(default_factory=dict)
    """What it shows at the moment; kept now and then, without a new generation."""

    @property
    def running(self) -> bool:
        """Whether it decides its model's shares: it runs or is paused."""
        return self.status in (RUNNING, PAUSED)

    @property
    def etag(self) -> str:
        """Changes with every change."""
        return f"r{self.generation}"


@dataclass(frozen=True, slots=True)
class RolloutEvent:
    """What happened in a rollout and people must know: see `infermesh.monitor.v1.RolloutEvent`."""

    event_id: str
    kind: str
    """"canary_failed", "canary_held", "canary_promoted", "rolled_back" or "ab_test_ended"."""
    model_name: str
    version: str
    subject: str
    """The canary's id or the test's name: a later event of one subject resolves the alert of an earlier one."""
    severity: Severity
    summary: str
    time: datetime
    probable_cause: str = ""
    undo_command: str = ""
    value: float = 0.0
    """What was found, in the metric's unit."""


@dataclass(frozen=True, slots=True)
class Saved:
    """A rollout was stored, and its change of the rule where there was one."""

    rollout: Rollout
    rule: Rule | None


class Mismatch(StrEnum):
    """Why nothing was stored."""

    FENCE = "fence"
    """Another router leads now."""
    ROLLOUT = "rollout"
    """The rollout is not of the generation that was read."""
    RULE = "rule"
    """The rule is not of the generation that was read, or the change's request id was taken."""
    RUNNING = "running"
    """The model has another rollout that runs."""
    NAME = "name"
    """A rollout or another rule of the model had this name before."""
    REQUEST = "request"
    """The rollout's request id was taken before."""
