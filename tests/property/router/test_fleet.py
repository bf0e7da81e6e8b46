"""Which batchers gateways send to, after any comings and goings."""

from hypothesis import given
from hypothesis import strategies as st

from services.router.domain.fleet import Fleet

CONFIGURED = ("a:1", "b:1")
OTHERS = ("b:1", "c:1", "d:1", "e:1")
GRACE_S = 30.0

looks = st.lists(
    st.tuples(st.sampled_from([0.0, 1.0, 10.0, 29.0, 30.0, 100.0]), st.frozensets(st.sampled_from(OTHERS)))
)


@given(looks)
def test_nobody_is_dropped_early_or_kept_for_ever_and_the_last_one_stays(
    history: list[tuple[float, frozenset[str]]],
) -> None:
    fleet, now_s = Fleet(CONFIGURED, GRACE_S), 0.0
    last_there_s: dict[str, float] = {}
    before: frozenset[str] = frozenset()
    for passed_s, present in history:
        now_s += passed_s
        last_there_s |= dict.fromkeys(before | present, now_s)
        before = present
        fleet = fleet.seen(present, now_s=now_s)
        used = fleet.addresses
        assert used[: len(CONFIGURED)] == CONFIGURED
        assert len(used) == len(set(used))
        assert present <= set(used)
        for address, there_s in last_there_s.items():
            if now_s < there_s + GRACE_S:
                assert address in used
            elif present and address not in CONFIGURED:
                assert address not in used
        # Whatever becomes of streams, one that was seen alive stays in use.
        assert not last_there_s or set(used) & set(last_there_s)


@given(looks)
def test_nothing_changes_before_the_next_look_and_something_does_then(
    history: list[tuple[float, frozenset[str]]],
) -> None:
    fleet, now_s = Fleet(CONFIGURED, GRACE_S), 0.0
    for passed_s, present in history:
        now_s += passed_s
        fleet = fleet.seen(present, now_s=now_s)
    next_s = fleet.next_look_s
    if next_s is None:
        assert fleet.seen(fleet.present, now_s=now_s + 10_000) == fleet
    else:
        assert next_s > now_s
        assert fleet.seen(fleet.present, now_s=next_s - 0.001) == fleet
        assert fleet.seen(fleet.present, now_s=next_s).left_s != fleet.left_s


@given(st.sampled_from(["", "c", ":1", "c:", "c:0", "c:70000", "0.0.0.0:8110", "[::]:8110"]))
def test_an_address_that_nobody_can_reach_does_not_count(address: str) -> None:
    assert Fleet(CONFIGURED, GRACE_S).seen([address, "c:1"], now_s=0.0).addresses == (*CONFIGURED, "c:1")
