"""Where a request would go, and what callers may ask of it."""

import pytest

from services.common.errors import MeshError, Reason
from services.router.domain.conditions import ConditionWish, RouteCondition, checked_conditions
from services.router.domain.merge import ModelState, state_of
from services.router.domain.resolve import resolve
from services.router.domain.rules import Split, Strategy
from services.router.domain.shadows import Comparison, Shadow, checked_shadows
from services.router.domain.sticky import place_of
from tests.support.router_fakes import ready

OLD, NEW, AWAY = "v1.0.0", "v1.1.0", "v2.0.0"
RULE = Split(
    {NEW: 30, OLD: 70},
    Strategy.STICKY,
    "x-user-id",
    conditions=(
        RouteCondition("region", ("asia",), AWAY),
        RouteCondition("region", ("eu", "asia"), NEW),
        RouteCondition("header:x-tier", ("gold",), OLD, prefix=True),
    ),
)


def state(split: Split | None = RULE) -> ModelState:
    return state_of(ready("m", OLD, NEW), split, default=OLD, aliases={"champion": NEW, "next": AWAY})


@pytest.mark.parametrize(
    ("version", "headers", "chosen", "decided_by", "words"),
    [
        ("1.0.0", {"x-region": "eu"}, OLD, "requested", ("the request asks for v1.0.0",)),
        ("champion", {}, NEW, "requested", ("champion", "alias", NEW)),
        ("", {"X-Model-Version": "champion"}, NEW, "requested", ("x-model-version",)),
        ("", {"X-Region": "eu", "x-tier": "gold"}, NEW, "condition", ("x-region", "'eu'", NEW)),
        # The condition before names a version that is not ready, so gateways do not have it.
        ("", {"x-region": "asia"}, NEW, "condition", ("x-region",)),
        ("", {"x-region": "EU", "x-tier": "gold-1"}, OLD, "condition", ("begins with", "'gold'")),
        ("", {"x-user-id": ""}, "", "chance", ("no header x-user-id", f"{NEW} 30 %")),
        ("", {"x-tier": "silver"}, "", "chance", ("chance",)),
    ],
)
def test_what_decides(
    version: str, headers: dict[str, str], chosen: str, decided_by: str, words: tuple[str, ...]
) -> None:
    found = resolve(state(), version=version, headers=headers)
    assert (found.version, found.decided_by.value) == (chosen, decided_by)
    assert found.split == {NEW: 30, OLD: 70}
    assert all(word in found.explanation for word in words)


def test_a_sticky_key_goes_where_its_place_does() -> None:
    keys = [f"user-{number}" for number in range(100)]
    chosen = {key: resolve(state(), version="", headers={"x-user-id": key}) for key in keys}
    for key, found in chosen.items():
        place = place_of("m", key)
        assert found.version == (NEW if place < 30 else OLD)
        assert f"place {place}" in found.explanation
        assert ("0 to 29" if place < 30 else "30 to 99") in found.explanation
    assert {found.version for found in chosen.values()} == {OLD, NEW}


def test_one_version_needs_no_decision() -> None:
    found = resolve(state(None), version="", headers={"x-user-id": "ada"})
    assert (found.version, found.decided_by.value) == (OLD, "only_version")


@pytest.mark.parametrize("version", ["next", AWAY, "v7.7.7", "nonsense!"])
def test_what_would_be_refused_is_refused(version: str) -> None:
    with pytest.raises(MeshError) as raised:
        resolve(state(), version=version, headers={})
    assert raised.value.reason is Reason.VERSION_NOT_SERVED
    assert "champion" in raised.value.message


def wish(
    attribute: str = "region", values: tuple[str, ...] = ("eu",), match: str = "", version: str = OLD
) -> ConditionWish:
    return ConditionWish(attribute, values, match, version)


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        (wish(attribute="planet"), "conditions[1].attribute"),
        (wish(attribute="header:X-Upper"), "conditions[1].attribute"),
        (wish(attribute="header:"), "conditions[1].attribute"),
        (wish(attribute="header:x-mesh-model"), "conditions[1].attribute"),
        (wish(attribute="header:x-infermesh-team"), "conditions[1].attribute"),
        (wish(match="regex"), "conditions[1].match"),
        (wish(values=()), "conditions[1].values"),
        (wish(values=tuple(str(number) for number in range(1001))), "conditions[1].values"),
        (wish(values=("a", "")), "conditions[1].values[1]"),
        (wish(values=("a", "b", "x" * 257)), "conditions[1].values[2]"),
        (wish(values=(" a",)), "conditions[1].values[0]"),
        (wish(values=("a\nb",)), "conditions[1].values[0]"),
        (wish(version="old"), "conditions[1].version"),
    ],
)
def test_a_condition_that_cannot_be_is_refused_by_its_field(asked: ConditionWish, field: str) -> None:
    with pytest.raises(MeshError) as raised:
        checked_conditions([wish(), asked])
    assert raised.value.reason is Reason.INVALID_FIELD
    assert raised.value.message.startswith(f"{field} is ")


def test_conditions_have_a_bound_and_canonical_versions() -> None:
    (checked,) = checked_conditions([wish("team", ("a", "b", "a"), "prefix", "1.0.0")])
    assert checked == RouteCondition("team", ("a", "b"), OLD, prefix=True)
    assert checked.header == "x-infermesh-team"
    assert len(checked_conditions([wish()] * 32)) == 32
    with pytest.raises(MeshError, match="at most 32"):
        checked_conditions([wish()] * 33)


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        (Shadow("newest"), "shadows[1].version"),
        (Shadow(NEW, 101), "shadows[1].percent"),
        (Shadow("1.0.0"), "shadows[1].version"),
        (Shadow(NEW, 1, Comparison("regex")), "shadows[1].comparison.method"),
        (Shadow(NEW, 1, Comparison("top_k", 101)), "shadows[1].comparison.top_k"),
        (Shadow(NEW, 1, Comparison(absolute_tolerance=-1.0)), "shadows[1].comparison.absolute_tolerance"),
        (Shadow(NEW, 1, Comparison(relative_tolerance=float("nan"))), "shadows[1].comparison.relative_tolerance"),
    ],
)
def test_a_shadow_that_cannot_be_is_refused_by_its_field(asked: Shadow, field: str) -> None:
    with pytest.raises(MeshError) as raised:
        checked_shadows([Shadow(OLD), asked])
    assert raised.value.reason is Reason.INVALID_FIELD
    assert raised.value.message.startswith(f"{field} is ")
