"""Quotas, over any deployments."""

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.common.errors import MeshError, Reason
from services.deployer.domain.deployment import Autoscaling, Resources, Wish
from services.deployer.domain.quota import Quota, Use, amount, check_quota, use_of

replicas = st.integers(1, 9)
quantities = st.sampled_from(["500m", "1", "2.5", "16Gi", "512Mi", "3k", "7", "2e3", "500000u", ".5"])
wishes = st.builds(
    Wish,
    resources=st.builds(
        Resources, replicas=st.integers(1, 9), cpu=quantities, memory=quantities, gpu=st.integers(0, 4)
    ),
    autoscaling=st.none() | st.builds(Autoscaling, enabled=st.booleans(), max_replicas=replicas),
)
quotas = st.builds(
    Quota,
    team=st.just("red"),
    cpu=st.just("") | quantities,
    memory=st.just("") | quantities,
    gpu=st.none() | st.integers(0, 20),
)


def _refusal(quota: Quota, wish: Wish, others: list[Wish], before: Wish | None) -> MeshError | None:
    try:
        check_quota(quota, wish, others=others, before=before)
    except MeshError as error:
        return error
    return None


def _fits(quota: Quota, wish: Wish, others: list[Wish], before: Wish | None = None) -> bool:
    error = _refusal(quota, wish, others, before)
    if error is None:
        return True
    assert error.reason is Reason.QUOTA_EXCEEDED
    assert set(error.metadata) == {"limit", "team", "asked", "used", "allowed"}
    asked, used, allowed = (Decimal(error.metadata[name]) for name in ("asked", "used", "allowed"))
    assert asked + used > allowed
    return False


@given(quotas, wishes, st.lists(wishes, max_size=3))
def test_what_fits_is_within_every_limit(quota: Quota, wish: Wish, others: list[Wish]) -> None:
    if _fits(quota, wish, others):
        total = sum(map(use_of, [wish, *others]), Use())
        one = use_of(wish)
        assert not quota.cpu or not one.cpu or total.cpu <= amount(quota.cpu)
        assert not quota.memory or not one.memory or total.memory <= amount(quota.memory)
        assert quota.gpu is None or not one.gpu or total.gpu <= quota.gpu


@given(quotas, wishes, st.lists(wishes, max_size=3), wishes)
def test_less_beside_it_never_makes_it_worse(quota: Quota, wish: Wish, others: list[Wish], more: Wish) -> None:
    if _fits(quota, wish, [*others, more]):
        assert _fits(quota, wish, others)


@given(quotas, wishes, st.lists(wishes, max_size=3))
def test_who_takes_no_more_than_before_always_may(quota: Quota, wish: Wish, others: list[Wish]) -> None:
    assert _fits(quota, wish, others, before=wish)


@given(wishes, st.lists(wishes, max_size=3))
def test_without_limits_everything_fits(wish: Wish, others: list[Wish]) -> None:
    assert not Quota("red").limits
    assert _fits(Quota("red"), wish, others)


@given(wishes)
def test_a_deployment_counts_with_what_it_may_grow_to(wish: Wish) -> None:
    scaling = wish.autoscaling
    grows = scaling is not None and scaling.enabled
    count = max(wish.resources.replicas, scaling.max_replicas) if scaling and grows else wish.resources.replicas
    assert use_of(wish).gpu == count * wish.resources.gpu


@pytest.mark.parametrize(
    ("quantity", "expected"),
    [("", "0"), ("500m", "0.5"), ("2", "2"), ("1.5Gi", "1610612736"), ("2k", "2000"), ("2e3", "2000"), ("1E", "1e18")],
)
def test_quantities_are_read_as_kubernetes_does(quantity: str, expected: str) -> None:
    assert amount(quantity) == Fraction(expected)


@pytest.mark.parametrize("quantity", ["x", "1Zi", "1ii", "mm", "1.2.3"])
def test_what_is_no_quantity_is_refused(quantity: str) -> None:
    with pytest.raises(ValueError, match="no quantity"):
        amount(quantity)


def test_what_is_limited_must_be_stated() -> None:
    with pytest.raises(MeshError, match=r"resources\.cpu") as caught:
        check_quota(Quota("red", cpu="4"), Wish(), others=[])
    assert caught.value.reason is Reason.INVALID_FIELD
