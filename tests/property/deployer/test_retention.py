"""Older versions: they leave only for those who have taken over, in order, and are there for a rollback as promised."""

from dataclasses import replace
from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from services.deployer.domain.deployment import (
    Deployment,
    Health,
    NewDeployment,
    Progress,
    ServingOptions,
    Status,
    Wish,
)
from services.deployer.domain.family import Family
from services.deployer.domain.plan import (
    BringUp,
    FallAsleep,
    Forget,
    Halt,
    Rest,
    Route,
    ServerState,
    Unite,
    Unload,
    Withdraw,
    next_step,
)
from services.deployer.domain.retention import Discard, Lineage, Retention, Retire, step_of_older
from tests.support.clock import NOON
from tests.support.deployer_fakes import recipe

statuses = st.sampled_from([Status.PENDING, Status.DEPLOYING, Status.ACTIVE, Status.FAILED])
seconds = st.floats(0, 1e6)
bakes = st.integers(0, 604_800)
PLAIN = Wish()


def deployment(version: str, *, successor: str = "", wish: Wish = PLAIN, **progress: object) -> Deployment:
    new = NewDeployment("m", version, "d", wish)
    state = Progress(**progress)  # type: ignore[arg-type]
    return Deployment(f"id-{version}", new, recipe(), wish, state, 1, NOON, NOON, successor=successor)


@given(status=statuses, observed=st.integers(0, 1), routed=st.booleans(), bake_s=bakes)
def test_nothing_retires_before_its_successor_answers_and_has_the_traffic(
    status: Status, observed: int, routed: bool, bake_s: int
) -> None:
    newer = deployment(
        "v2.0.0",
        wish=Wish(serving=ServingOptions(bake_time_s=bake_s)),
        status=status,
        observed_generation=observed,
        traffic_routed=routed,
    )
    older = deployment("v1.0.0", successor="id-v2.0.0", loaded={"t": "f"}, status=Status.ACTIVE, observed_generation=1)
    step = step_of_older(older, Lineage(newer), NOON, Retention())
    took_over = status is Status.ACTIVE and observed == 1 and routed
    assert step == (Retire(NOON + timedelta(seconds=bake_s)) if took_over else None)


@given(warm_s=seconds, after_s=seconds, idle_s=seconds)
def test_it_sleeps_only_after_its_bake_time_and_when_nobody_asks(warm_s: float, after_s: float, idle_s: float) -> None:
    until, now = NOON + timedelta(seconds=warm_s), NOON + timedelta(seconds=after_s)
    older = deployment(
        "v1.0.0",
        successor="id-v2.0.0",
        loaded={"t": "f"},
        status=Status.ACTIVE,
        observed_generation=1,
        ready_replicas=1,
        warm_until=until,
        health=Health.HEALTHY,
    )
    step = next_step(
        older,
        observed={"t": ServerState(True, frozenset({"m--v1.0.0"}))},
        wanted="f",
        now=now,
        drain_s=3,
        asked=False,
        idle_s=idle_s,
        lineage=Lineage(deployment("v2.0.0")),
    )
    assert isinstance(step, FallAsleep) == (now >= until and idle_s >= 10)
    assert isinstance(step, FallAsleep | Rest)


@given(count=st.integers(1, 8), keep=st.integers(0, 8), slept_s=st.lists(seconds, min_size=8, max_size=8))
def test_of_sleeping_ones_the_youngest_are_kept(count: int, keep: int, slept_s: list[float]) -> None:
    rows = [deployment("v9.0.0", status=Status.ACTIVE, observed_generation=1, traffic_routed=True)]
    rows += [
        deployment(
            f"v{number}.0.0",
            successor="id-v9.0.0",
            loaded={"t": "f"},
            status=Status.ACTIVE,
            warm_until=NOON + timedelta(seconds=number),
            asleep_since=NOON + timedelta(seconds=slept_s[number]),
        )
        for number in range(count)
    ]
    family, retention = Family(rows), Retention(keep_s=1e9, versions_max=keep)
    now = NOON + timedelta(seconds=2e6)
    kept = [row for row in rows[1:] if step_of_older(row, family.lineage(row), now, retention) is None]
    assert [row.new.version for row in kept] == [f"v{number}.0.0" for number in range(count)][max(0, count - keep) :]
    assert set(family.versions(rows[0])) == {row.new.version for row in rows[1:]}


@given(slept_s=seconds, keep_s=seconds)
def test_what_nobody_asked_for_goes_when_its_time_is_over(slept_s: float, keep_s: float) -> None:
    older = deployment(
        "v1.0.0", successor="id-v2.0.0", loaded={"t": "f"}, status=Status.ACTIVE, warm_until=NOON, asleep_since=NOON
    )
    now, newer = NOON + timedelta(seconds=slept_s), deployment("v2.0.0")
    step = step_of_older(older, Lineage(newer), now, Retention(keep_s))
    assert isinstance(step, Discard) == (now >= NOON + timedelta(seconds=keep_s))


def test_what_never_answered_is_not_kept() -> None:
    older = deployment("v1.0.0", successor="id-v2.0.0", status=Status.FAILED)
    assert isinstance(step_of_older(older, Lineage(deployment("v2.0.0")), NOON, Retention()), Discard)


@given(loaded=st.booleans(), held=st.booleans(), since_s=st.none() | st.floats(0, 10))
def test_without_replicas_it_is_withdrawn_drained_and_unloaded_in_that_order(
    loaded: bool, held: bool, since_s: float | None
) -> None:
    wish = Wish(resources=replace(Wish().resources, replicas=0))
    since = NOON if since_s is not None else None
    one = deployment("v1.0.0", wish=wish, loaded={"t": "f"} if loaded else {}, withdrawn_at=since)
    ready = frozenset({"m--v1.0.0"}) if held else frozenset[str]()
    now = NOON + timedelta(seconds=since_s or 0)
    step = next_step(one, observed={"t": ServerState(True, ready)}, wanted="f", now=now, drain_s=3)
    if loaded and since is None:
        assert step == Withdraw()
    elif since_s is not None and since_s < 3:
        assert step == Rest()
    else:
        assert step == (Unload(("t",)) if held else Halt())
    assert not isinstance(step, BringUp | Unite | Route | Forget)


@given(held=st.booleans(), generation=st.integers(1, 2))
def test_with_replicas_again_it_is_brought_up_also_where_it_is_loaded_still(held: bool, generation: int) -> None:
    one = deployment(
        "v1.0.0", loaded={"t": "f"}, withdrawn_at=NOON, status=Status.ACTIVE, observed_generation=generation
    )
    ready = frozenset({"m--v1.0.0"}) if held else frozenset[str]()
    step = next_step(one, observed={"t": ServerState(True, ready)}, wanted="f", now=NOON, drain_s=3)
    assert step == BringUp(() if held else ("t",))
