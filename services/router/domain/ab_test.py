"""A/B tests: what one is, and what a caller may ask of one. Immutable."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from math import isfinite

from services.common.errors import invalid
from services.common.names import SemanticVersion, check_model_name, check_version
from services.router.domain.headers import check_header
from services.router.domain.places import Runs
from services.router.domain.rules import SHADOW_RULE, SPLIT_RULE, STICKY_HEADER_DEFAULT, Strategy

DURATION_DEFAULT_DAYS = 7.0
DURATION_MAX_DAYS = 90.0
LATENCY = "latency"
ERROR_RATE = "error_rate"
ACCURACY = "accuracy"
METRICS_DEFAULT = (LATENCY, ERROR_RATE)
METRICS_MAX = 16
VERSIONS_MAX = 16
"""The monitor has evidence on so many versions at once."""
SETTLED = timedelta(seconds=3)
"""Requests count from so long after a test has begun, in full seconds: until then gateways may route as before."""


class AbTestStatus(StrEnum):
    """How a test stands."""

    RUNNING = "running"
    COMPLETED = "completed"
    """Its time is over, or it was concluded."""
    STOPPED = "stopped"
    """Without a conclusion."""
    ROLLED_BACK = "rolled_back"
    """A version failed too often."""


@dataclass(frozen=True, slots=True)
class AbTestWish:
    """A test as it was sent."""

    name: str
    versions: Mapping[str, int] = field(default_factory=dict)
    duration_days: float = 0.0
    metrics: Sequence[str] = ()
    rollback_on_error_rate: float = 0.0
    auto_promote: bool = False
    sticky_key_header: str = ""


@dataclass(frozen=True, slots=True)
class AbTestPlan:
    """A test as it is asked for, checked."""

    versions: Mapping[str, int]
    """Whole percent by canonical version, adding up to 100; in the order of the versions."""
    duration_s: float
    metrics: tuple[str, ...]
    """The first decides who wins."""
    error_rate_max: float
    """Above this error rate of a version it ends at once; 0: never."""
    auto_promote: bool
    sticky_header: str

    @property
    def control(self) -> str:
        """What the others are compared to: the version with the largest share, of equal ones the lowest."""
        return max(self.versions, key=lambda version: self.versions[version])

    @property
    def others(self) -> tuple[str, ...]:
        """All but the control."""
        return tuple(version for version in self.versions if version != self.control)

    @property
    def waits_for_outcomes(self) -> bool:
        """Whether a metric is of what outcomes report, so that predictions must be logged in full."""
        return any(metric not in (LATENCY, ERROR_RATE) for metric in self.metrics)


@dataclass(frozen=True, slots=True)
class SplitBefore:
    """What a model's split was before a test, as far as the test changes it."""

    weights: Mapping[str, int]
    runs: Runs
    strategy: Strategy
    sticky_header: str


@dataclass(frozen=True, slots=True)
class AbTest:
    """How far a test is."""

    test_id: str
    name: str
    model_name: str
    plan: AbTestPlan
    before: SplitBefore
    started_at: datetime
    status: AbTestStatus = AbTestStatus.RUNNING
    status_reason: str = ""
    labels_before: bool = False
    """Whether predictions were logged in full before it."""

    @property
    def running(self) -> bool:
        """Whether it decides the shares."""
        return self.status is AbTestStatus.RUNNING

    @property
    def ends_at(self) -> datetime:
        """The planned end."""
        return self.started_at + timedelta(seconds=self.plan.duration_s)

    @property
    def counted_from(self) -> datetime:
        """Since when requests count, a full second; see `SETTLED`."""
        return (self.started_at + SETTLED).replace(microsecond=0)


def checked_plan(wish: AbTestWish) -> AbTestPlan:
    """The test that is asked for, with what was left out. Raises INVALID_FIELD that names the field."""
    check_model_name(wish.name, "name")
    if wish.name in (SPLIT_RULE, SHADOW_RULE) or wish.name.startswith("canary-"):
        raise invalid("name", wish.name, f'no name of other rules: "{SPLIT_RULE}", "{SHADOW_RULE}" or "canary-…"')
    days, limit = wish.duration_days, wish.rollback_on_error_rate
    if not (isfinite(days) and 0.0 <= days <= DURATION_MAX_DAYS):
        raise invalid("duration_days", days, f"above 0 to {DURATION_MAX_DAYS:g}, or 0 for {DURATION_DEFAULT_DAYS:g}")
    if not 0.0 <= limit <= 1.0:
        raise invalid("rollback_on_error_rate", limit, "0 to 1; 0 never ends the test")
    header = wish.sticky_key_header
    return AbTestPlan(
        versions=_checked_versions(wish.versions),
        duration_s=(days or DURATION_DEFAULT_DAYS) * 86_400.0,
        metrics=_checked_metrics(wish.metrics),
        error_rate_max=limit,
        auto_promote=wish.auto_promote,
        sticky_header=check_header(header, "sticky_key_header") if header else STICKY_HEADER_DEFAULT,
    )


def ab_test_digest(model_name: str, wish: AbTestWish) -> str:
    """Equal for calls that ask for the same."""
    asked = ["ab_test", model_name, {**asdict(wish), "versions": sorted(wish.versions.items())}]
    return hashlib.sha256(json.dumps(asked, separators=(",", ":"), sort_keys=True, default=list).encode()).hexdigest()


def _checked_versions(versions: Mapping[str, int]) -> Mapping[str, int]:
    if not 2 <= len(versions) <= VERSIONS_MAX:
        raise invalid("versions", f"{len(versions)} versions", f"2 to {VERSIONS_MAX} versions with their shares")
    checked: dict[str, int] = {}
    for text, share in versions.items():
        version = check_version(text, f"versions[{text!r}]")
        if version in checked:
            raise invalid("versions", text, f"each version once; it names {version} twice")
        if not 1 <= share <= 99:
            raise invalid(f"versions[{text!r}]", share, "whole percent from 1 to 99")
        checked[version] = share
    if sum(checked.values()) != 100:
        raise invalid("versions", f"{sum(checked.values())} % in all", "shares that add up to 100")
    return {version: checked[version] for version in sorted(checked, key=SemanticVersion.parse)}


def _checked_metrics(metrics: Sequence[str]) -> tuple[str, ...]:
    if len(metrics) > METRICS_MAX:
        raise invalid("metrics", f"{len(metrics)} metrics", f"at most {METRICS_MAX}")
    for place, metric in enumerate(metrics):
        check_model_name(metric, f"metrics[{place}]")
        if metric in metrics[:place]:
            raise invalid(f"metrics[{place}]", metric, "each metric once")
    return tuple(metrics) or METRICS_DEFAULT
