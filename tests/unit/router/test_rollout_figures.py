"""What Prometheus is shown of divided traffic and of rollouts, as a canary goes its way in virtual time."""

from dataclasses import replace

import pytest

from services.router.domain.figures import MODELS_MAX, Part, parts
from services.router.domain.rules import Rule, Split
from services.router.domain.shadows import Shadow
from tests.support.clock import NOON
from tests.support.rollout_router import RolloutRouter
from tests.unit.router.test_canary_driver import BROKEN, MODEL, NEW, OLD, opened


def figure(router: RolloutRouter, name: str, **labels: str) -> float | None:
    return router.metrics.get_sample_value(name, labels)


def shares(router: RolloutRouter) -> list[float | None]:
    return [
        figure(router, "router_traffic_percent", model=MODEL, version=version, role="share") for version in (NEW, OLD)
    ]


@pytest.mark.looptime
async def test_a_canary_is_shown_while_it_runs_and_counted_when_it_ends() -> None:
    async with opened() as (stage, router):
        await stage.live(20)
        assert figure(router, "router_rollouts", kind="canary", status="running") == 1
        assert figure(router, "router_rollouts", kind="ab_test", status="running") == 0
        assert shares(router) == [10, 90]
        verdict = {"model": MODEL, "version": NEW, "kind": "canary"}
        assert figure(router, "router_rollout_verdicts", **verdict, verdict="passing") == 1
        ended = {"kind": "canary", "status": "rolled_back"}
        assert figure(router, "router_rollouts_ended_total", **ended) == 0, "shown before it happens"
        await stage.live(12, BROKEN)
        assert figure(router, "router_rollouts_ended_total", **ended) == 1
        assert figure(router, "router_rollouts", kind="canary", status="running") == 0
        assert figure(router, "router_rollout_verdicts", **verdict, verdict="passing") is None
        assert shares(router) == [0, 100]


def rule_of(name: str, split: Split) -> Rule:
    return Rule("id", name, "", split, 1, "", NOON, "", NOON)


def test_only_divided_traffic_is_shown() -> None:
    whole, divided = Split({OLD: 100}), Split({NEW: 5, OLD: 95})
    copied = replace(whole, shadows=(Shadow(NEW, percent=30),))
    rules = [rule_of("whole", whole), rule_of("divided", divided), rule_of("copied", copied)]
    assert list(parts(rules)) == [
        Part("copied", OLD, "share", 100),
        Part("copied", NEW, "shadow", 30),
        Part("divided", NEW, "share", 5),
        Part("divided", OLD, "share", 95),
    ]


def test_models_that_are_shown_are_bounded() -> None:
    divided = Split({NEW: 5, OLD: 95})
    found = list(parts([rule_of(f"m{number:04}", divided) for number in range(MODELS_MAX + 9)]))
    assert len(found) == 2 * MODELS_MAX
    assert found[-1].model == f"m{MODELS_MAX - 1:04}"
