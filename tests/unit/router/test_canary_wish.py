"""What may be asked of a canary, and how what may not be is refused."""

from math import inf, nan

import pytest

from services.common.errors import MeshError, Reason
from services.router.domain.canary import CanaryConfig, Stage
from services.router.domain.canary_wish import CanaryWish, StageWish, canary_digest, checked_config
from services.router.domain.criteria import SuccessCriteria

UP = (StageWish(10, 30.0), StageWish(100, 0.0))


def test_what_is_left_out_is_as_documented() -> None:
    config = checked_config(CanaryWish())
    assert [(stage.percent, stage.duration_s / 60) for stage in config.stages] == [
        (1, 10),
        (10, 30),
        (50, 60),
        (100, 0),
    ]
    assert config.criteria == SuccessCriteria(error_rate_max=0.01)
    assert config.criteria.requests_min == 100
    assert config.hold_s == 86_400.0


def test_what_is_asked_for_is_taken() -> None:
    criteria = SuccessCriteria(latency_p95_max_ms=120.0, requests_min=7)
    assert checked_config(CanaryWish(UP, criteria, 2.5)) == CanaryConfig(
        criteria, (Stage(10, 1800.0), Stage(100, 0.0)), 150.0
    )


def test_limits_that_say_only_how_many_requests_get_the_usual_one() -> None:
    config = checked_config(CanaryWish(criteria=SuccessCriteria(requests_min=7)))
    assert config.criteria == SuccessCriteria(error_rate_max=0.01, requests_min=7)


@pytest.mark.parametrize(
    ("wish", "field"),
    [
        (CanaryWish([StageWish(0, 1.0), *UP]), "canary_config.stages[0].percent"),
        (CanaryWish([*UP, StageWish(101, 1.0)]), "canary_config.stages[2].percent"),
        (CanaryWish([StageWish(10, 1.0), *UP]), "canary_config.stages[1].percent"),
        (CanaryWish(UP[:1]), "canary_config.stages[0].percent"),
        (CanaryWish([StageWish(10, -1.0), *UP[1:]]), "canary_config.stages[0].duration_minutes"),
        (CanaryWish([StageWish(10, nan), *UP[1:]]), "canary_config.stages[0].duration_minutes"),
        (CanaryWish([StageWish(10, 43_201.0), *UP[1:]]), "canary_config.stages[0].duration_minutes"),
        (CanaryWish([StageWish(number + 1, 1.0) for number in range(21)]), "canary_config.stages"),
        (CanaryWish(hold_minutes_max=-1.0), "canary_config.hold_minutes_max"),
        (CanaryWish(hold_minutes_max=inf), "canary_config.hold_minutes_max"),
        (CanaryWish(criteria=SuccessCriteria(error_rate_max=2.0)), "canary_config.success_criteria.error_rate_max"),
    ],
)
def test_what_cannot_be_is_refused_by_the_name_of_its_field(wish: CanaryWish, field: str) -> None:
    with pytest.raises(MeshError) as raised:
        checked_config(wish)
    assert raised.value.reason is Reason.INVALID_FIELD
    assert [violation.field for violation in raised.value.violations] == [field]


def test_calls_that_ask_for_the_same_are_known_by_it() -> None:
    one = canary_digest("digits", "new", CanaryWish(UP), beside="x")
    assert one == canary_digest("digits", "new", CanaryWish(UP), beside="x")
    others = {
        canary_digest("digits", "new", CanaryWish(), beside="x"),
        canary_digest("digits", "new", CanaryWish(UP, SuccessCriteria()), beside="x"),
        canary_digest("digits", "new", CanaryWish(UP), beside="y"),
        canary_digest("digits", "old", CanaryWish(UP), beside="x"),
    }
    assert len({one, *others}) == 5
