"""Accuracy without labels, and whether the accuracy that outcomes show has fallen.

A version's mean confidence is its accuracy where it is calibrated (Hendrycks, Gimpel, ICLR 2017). Where its accuracy on
the baseline is known, the difference of confidences corrects that instead (Guillory et al., "Predicting with Confidence
on Unseen Distributions", ICCV 2021), and calibration matters no more.
"""

from dataclasses import dataclass

from services.monitor.domain.drift.statistics import at_most_p

OUTCOMES_MIN = 100
FALL_MIN = 0.05
"""A fall by less is none."""


@dataclass(frozen=True)
class Realised:
    """What outcomes say: so many of them, and the share of predictions that they confirm."""

    count: int
    accuracy: float


def expected_accuracy(
    confidence: float | None, *, baseline_confidence: float | None = None, baseline: Realised | None = None
) -> float | None:
    """The accuracy that a mean confidence lets expect, 0 to 1; None without confidences."""
    if confidence is None:
        return None
    if baseline is not None and baseline.count >= OUTCOMES_MIN and baseline_confidence is not None:
        return min(1.0, max(0.0, baseline.accuracy + confidence - baseline_confidence))
    return min(1.0, max(0.0, confidence))


def has_fallen(realised: Realised | None, *, expected: float | None, alarm_rate: float) -> bool:
    """Whether outcomes show an accuracy that is lower than expected, by `FALL_MIN` at least and by more than chance
    (a one-sided binomial test) at this rate of false alarms."""
    if realised is None or expected is None or realised.count < OUTCOMES_MIN:
        return False
    if expected - realised.accuracy < FALL_MIN:
        return False
    right = round(realised.accuracy * realised.count)
    # That the expectation is an estimate too is what the least fall is for.
    return at_most_p(right, realised.count, max(0.0, expected - FALL_MIN)) <= alarm_rate
