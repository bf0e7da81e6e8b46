"""What a comparison of many features comes to.

A feature drifts where three things hold at once: enough rows on both sides, an effect beyond the threshold, and a
p-value that survives Benjamini and Hochberg's correction (1995) over all features of the report. With a thousand quiet
features someone is always unlucky; under the correction that stays as rare as with one.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from services.monitor.domain.drift.classifier import DomainTest, domain_test
from services.monitor.domain.drift.compare import Comparison, compare_categories, compare_numbers
from services.monitor.domain.drift.rows import FeatureKey
from services.monitor.domain.drift.statistics import corrected
from services.monitor.domain.drift.summary import Summary

NONE, MODERATE, HIGH = "none", "moderate", "high"
SEVERITIES = (NONE, MODERATE, HIGH)
"""Ascending."""
ROWS_MIN = 1000
"""Of the baseline and of the window."""
_ALARMS_PER_DAY_MAX = 0.01
_REPORTS_PER_DAY = 24


@dataclass(frozen=True)
class Thresholds:
    """When a difference matters. The statistic is the Kolmogorov–Smirnov one of numbers and the population stability
    index of categories."""

    moderate: float = 0.1
    high: float = 0.2
    alarm_rate: float = _ALARMS_PER_DAY_MAX / _REPORTS_PER_DAY
    """How often a report may raise an alarm where nothing drifts: one day in a hundred, with a report each hour."""
    joint_auc: float = 0.6
    """Where the classifier of rows tells window from baseline at least so well, they differ."""


@dataclass(frozen=True)
class FeatureDrift:
    """One feature's comparison. `p_value` is the corrected one."""

    key: FeatureKey
    severity: str
    p_value: float
    comparison: Comparison


@dataclass(frozen=True)
class Verdict:
    """All features, the worst first, and what the classifier of whole rows found."""

    severity: str
    features: Sequence[FeatureDrift]
    domain: DomainTest | None = None

    def joint_drift(self, thresholds: Thresholds) -> bool:
        """Whether whole rows differ, which single features may not show."""
        domain = self.domain
        return domain is not None and domain.auc >= thresholds.joint_auc and domain.p_value <= thresholds.alarm_rate


def judge(
    baseline: Summary, window: Summary, *, chance: np.random.Generator, thresholds: Thresholds | None = None
) -> Verdict:
    """Compares a window with its baseline. What only one of the two has is missing in every row of the other, as long
    as both are of the same kind; an output that the baseline has no column of is not compared."""
    limits = thresholds or Thresholds()
    baseline = _named_like(baseline, window)
    enough = min(baseline.rows, window.rows) >= ROWS_MIN
    found = {
        **{
            key: compare_numbers(baseline.numbers[key], window.numbers[key])
            for key in baseline.numbers.keys() & window.numbers.keys()
        },
        **{
            key: compare_categories(baseline.categories[key], window.categories[key])
            for key in baseline.categories.keys() & window.categories.keys()
        },
    }
    found = {key: one for key, one in found.items() if baseline.rows and window.rows}
    features = grade(found, limits, enough=enough)
    worst = max((SEVERITIES.index(one.severity) for one in features), default=0)
    domain = domain_test(baseline.sample, window.sample, chance) if enough else None
    return Verdict(SEVERITIES[worst], features, domain)


def grade(found: dict[FeatureKey, Comparison], limits: Thresholds, *, enough: bool) -> Sequence[FeatureDrift]:
    """Every feature's severity after correction, the worst first."""
    if not found:
        return ()
    keys = sorted(found)
    p_values = corrected([found[key].p_value for key in keys])
    features = [
        FeatureDrift(key, _severity(found[key].effect, float(p), limits) if enough else NONE, float(p), found[key])
        for key, p in zip(keys, p_values, strict=True)
    ]
    return sorted(features, key=lambda one: (-SEVERITIES.index(one.severity), -one.comparison.effect, one.key))


def _named_like(baseline: Summary, window: Summary) -> Summary:
    """The baseline, with columns of a sample as outputs where they are that in traffic: a file does not say which."""
    outputs = {key.name for key in (*window.numbers, *window.categories) if key.output}
    inputs = {key.name for key in (*window.numbers, *window.categories) if not key.output}

    def named(key: FeatureKey) -> FeatureKey:
        return FeatureKey(key.name, output=key.output or (key.name in outputs and key.name not in inputs))

    return replace(
        baseline,
        numbers={named(key): one for key, one in baseline.numbers.items()},
        categories={named(key): one for key, one in baseline.categories.items()},
    )


def _severity(effect: float, p_value: float, limits: Thresholds) -> str:
    if p_value > limits.alarm_rate or effect <= limits.moderate:
        return NONE
    return HIGH if effect > limits.high else MODERATE
