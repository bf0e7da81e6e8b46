"""What rules need to see, put together so that one read serves all of them, and what was seen."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from services.monitor.domain.judging import DriftSeen, Seen, Sighting
from services.monitor.domain.rules import (
    COUNTED_METRICS,
    HOST_METRICS,
    LATENCIES,
    UNUSUAL_TRAFFIC,
    BurnRate,
    DriftAtLeast,
    RuleSpec,
    Threshold,
)

PLATFORM = ("", "")
"""What stands for the hosts in place of a model and a version."""
_SLOW_AFTER_S = 900
_PARTS = 60


@dataclass(frozen=True)
class Needs:
    """Lengths of windows in seconds; of which of them latencies are needed; and what else is."""

    windows: frozenset[int] = frozenset()
    sketched: frozenset[int] = frozenset()
    outcomes: Mapping[int, frozenset[str]] = field(default_factory=dict)
    hosts: frozenset[int] = frozenset()
    drift: bool = False
    deviation: bool = False


@dataclass(frozen=True)
class Measured:
    """What was seen: windows by version and length, drift by version, deviations of traffic by model."""

    windows: Mapping[tuple[str, str], Mapping[int, Seen]] = field(default_factory=dict)
    drift: Mapping[tuple[str, str], DriftSeen] = field(default_factory=dict)
    deviations: Mapping[str, float] = field(default_factory=dict)
    empty: Mapping[int, Seen] = field(default_factory=dict)
    """What was seen of whoever had no requests: nothing, over each length."""

    def of(self, model: str, version: str) -> Sighting:
        """All that is known of a version; of a model as a whole for an empty one."""
        found = {**self.empty, **self.windows.get((model, version), {})}
        deviation = None if version else self.deviations.get(model)
        return Sighting(found, self.drift.get((model, version)), deviation)

    def versions(self) -> set[tuple[str, str]]:
        """The versions that were seen. What was asked of no version is nobody's."""
        return {(model, version) for model, version in (*self.windows, *self.drift) if version}

    def models(self) -> set[tuple[str, str]]:
        """The models that were seen as a whole."""
        return {(model, "") for model in self.deviations}


def needs_of(rules: Iterable[RuleSpec]) -> Needs:
    """What all these rules need to see."""
    windows: set[int] = set()
    sketched: set[int] = set()
    hosts: set[int] = set()
    outcomes: dict[int, set[str]] = {}
    drift = deviation = False
    for spec in rules:
        condition = spec.condition
        if isinstance(condition, BurnRate):
            both = {condition.long_window_s, condition.short_window_s}
            windows |= both
            sketched |= both if condition.indicator == "latency" else set()
        elif isinstance(condition, DriftAtLeast):
            drift = True
        elif isinstance(condition, Threshold) and condition.metric == UNUSUAL_TRAFFIC:
            deviation = True
        elif isinstance(condition, Threshold) and condition.metric in HOST_METRICS:
            hosts.add(condition.window_s)
        elif isinstance(condition, Threshold) and condition.metric in COUNTED_METRICS:
            windows.add(condition.window_s)
            if condition.metric in LATENCIES:
                sketched.add(condition.window_s)
        elif isinstance(condition, Threshold):
            outcomes.setdefault(condition.window_s, set()).add(condition.metric)
    return Needs(
        frozenset(windows),
        frozenset(sketched),
        {length: frozenset(names) for length, names in outcomes.items()},
        frozenset(hosts),
        drift,
        deviation,
    )


def read_again_after_s(window_s: int) -> float:
    """For how long what was read of a window is good enough: nothing for short ones, a sixtieth of long ones."""
    return window_s / _PARTS if window_s > _SLOW_AFTER_S else 0.0
