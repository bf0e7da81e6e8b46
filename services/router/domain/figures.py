"""What is shown of traffic that is divided and of rollouts that run: as many series as there are of these.

A model whose traffic goes to one version says nothing that its requests do not say: thousands of models cost nothing.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from services.router.domain.ab_document import shown_by
from services.router.domain.canary_document import canary_of, results_of
from services.router.domain.rollouts import Rollout, RolloutKind
from services.router.domain.rules import Rule

MODELS_MAX = 200
"""The most models whose traffic is shown, by name: twice as many as tests that run at one time."""


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a model's traffic. `role` is "share" of what callers are answered by, or "shadow" of what is copied."""

    model: str
    version: str
    role: str
    percent: int


@dataclass(frozen=True, slots=True)
class Judged:
    """How many of a rollout's comparisons of one version have this verdict."""

    model: str
    version: str
    kind: RolloutKind
    verdict: str
    count: int


def parts(rules: Iterable[Rule]) -> Iterator[Part]:
    """How divided traffic is divided, of at most MODELS_MAX models."""
    divided = [rule for rule in rules if len(rule.split.weights) > 1 or rule.split.shadows]
    for rule in sorted(divided, key=lambda one: one.model_name)[:MODELS_MAX]:
        for version, percent in rule.split.weights.items():
            yield Part(rule.model_name, version, "share", percent)
        for shadow in rule.split.shadows:
            yield Part(rule.model_name, shadow.version, "shadow", shadow.percent)


def standing(running: Iterable[Rollout]) -> Mapping[tuple[RolloutKind, str], int]:
    """How many rollouts run or are paused, by kind and status."""
    return Counter((one.kind, one.status) for one in running)


def verdicts(running: Iterable[Rollout]) -> Iterator[Judged]:
    """What rollouts show so far, of at most MODELS_MAX models."""
    for rollout in sorted(running, key=lambda one: one.model_name)[:MODELS_MAX]:
        for (version, verdict), count in _verdicts(rollout).items():
            yield Judged(rollout.model_name, version, rollout.kind, verdict, count)


def _verdicts(rollout: Rollout) -> Mapping[tuple[str, str], int]:
    if rollout.kind is RolloutKind.CANARY:
        version = canary_of(rollout).version
        return Counter((version, one.verdict.value) for one in results_of(rollout)[0])
    results = shown_by(rollout)
    return Counter((one.version, one.verdict.value) for one in results.comparisons) if results is not None else {}
