"""A canary: a version that takes over in stages. What it is, and how it is kept. Immutable.

What happens to one is decided in `canary_steps`, in sentences for people in `canary_words`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from services.router.domain.criteria import CriterionResult, SuccessCriteria
from services.router.domain.places import Runs

STAGES_MAX = 20
DURATION_MAX_S = 43_200 * 60.0
HOLD_DEFAULT_S = 1_440 * 60.0
ALPHA = 0.01
"""The probability that a version which keeps all limits is rolled back, over all limits and stages together."""
EVIDENCE_LAG = timedelta(seconds=10)
"""The evidence on a moment may be so late; a stage is not held for it."""


class CanaryStatus(StrEnum):
    """How a canary stands."""

    RUNNING = "running"
    PAUSED = "paused"
    PROMOTED = "promoted"
    """It has all traffic."""
    ROLLED_BACK = "rolled_back"
    """It broke a limit, could not prove that it keeps them, or could not answer."""
    ABORTED = "aborted"
    """Someone ended it."""


class StageOutcome(StrEnum):
    """How a stage ended."""

    PASSED = "passed"
    BREACHED = "breached"
    NOT_ENOUGH_DATA = "not_enough_data"
    PROMOTED = "promoted"
    ABORTED = "aborted"
    ROLLED_BACK = "rolled_back"
    RESTARTED = "restarted"


@dataclass(frozen=True, slots=True)
class Stage:
    """A stage as it is asked for."""

    percent: int
    duration_s: float
    """At least so long."""


STAGES_DEFAULT = (Stage(1, 600.0), Stage(10, 1_800.0), Stage(50, 3_600.0), Stage(100, 0.0))


@dataclass(frozen=True, slots=True)
class CanaryConfig:
    """A canary as it is asked for, checked."""

    criteria: SuccessCriteria
    stages: tuple[Stage, ...] = STAGES_DEFAULT
    """Percentages grow, and the last is 100."""
    hold_s: float = HOLD_DEFAULT_S
    """How long a stage may be held for the want of evidence."""


@dataclass(frozen=True, slots=True)
class StageRecord:
    """A stage that has ended."""

    stage: int
    percent: int
    started_at: datetime
    ended_at: datetime
    outcome: StageOutcome
    results: tuple[CriterionResult, ...] = ()


@dataclass(frozen=True, slots=True)
class Canary:
    """How far a canary is."""

    canary_id: str
    name: str
    """What `Rule.governing` says while it runs."""
    model_name: str
    deployment_name: str
    version: str
    baseline_version: str
    config: CanaryConfig
    shares_before: Mapping[str, int]
    """The shares of the model before it, in their order; they come back where it fails."""
    places_before: Runs
    """Who had which place: each key gets back the version that it had."""
    stage_started_at: datetime
    status: CanaryStatus = CanaryStatus.RUNNING
    status_reason: str = ""
    stage: int = 0
    held_since: datetime | None = None
    labels_before: bool = False
    """Whether predictions were logged in full before it."""
    history: tuple[StageRecord, ...] = ()

    @property
    def running(self) -> bool:
        """Whether it decides the shares."""
        return self.status in (CanaryStatus.RUNNING, CanaryStatus.PAUSED)

    @property
    def percent(self) -> int:
        """The share of its version now."""
        if self.running:
            return self.config.stages[self.stage].percent
        return 100 if self.status is CanaryStatus.PROMOTED else self.shares_before.get(self.version, 0)

    @property
    def last_stage(self) -> bool:
        """Whether all stages before the last have ended."""
        return self.stage == len(self.config.stages) - 1

    @property
    def stage_ends_at(self) -> datetime:
        """When its stage ends at the earliest."""
        return self.stage_started_at + timedelta(seconds=self.config.stages[self.stage].duration_s)

    @property
    def hold_ends_at(self) -> datetime | None:
        """When it is rolled back if the evidence still decides nothing; None: it is not held."""
        return self.held_since + timedelta(seconds=self.config.hold_s) if self.held_since is not None else None

    @property
    def waits_for_outcomes(self) -> bool:
        """Whether a limit is of what outcomes report, so that predictions must be logged in full."""
        criteria = self.config.criteria
        return bool(criteria.metrics or criteria.accuracy_min is not None or criteria.accuracy_decrease_max is not None)

    @property
    def alpha(self) -> float:
        """The part of `ALPHA` that one stage has."""
        return ALPHA / len(self.config.stages)
