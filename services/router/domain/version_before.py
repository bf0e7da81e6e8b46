"""Which version had the traffic before a rollout."""

from services.router.domain.ab_document import ab_test_of
from services.router.domain.canary_document import canary_of
from services.router.domain.rollouts import Rollout, RolloutKind


def version_before(rollout: Rollout) -> str:
    """The version that a rollout is a risk to: a canary's baseline, or who had most before an A/B test."""
    if rollout.kind is RolloutKind.CANARY:
        return canary_of(rollout).baseline_version
    weights = ab_test_of(rollout).before.weights
    return max(weights, key=lambda version: weights[version])
