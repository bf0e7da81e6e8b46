"""Who calls: kept by the headers' bytes, forgotten in good time, and what the registry is told of used keys."""

import asyncio
from collections.abc import Mapping
from datetime import datetime, timedelta

import pytest

from services.batcher.adapters.key_use import KeyUses
from services.batcher.domain.serving import ServedModel
from services.batcher.faces.caller import INSIDE, Asks, Caller, Callers
from services.common.access.key_use import KEYS_MAX, PERIOD_S
from services.common.errors import MeshError, Reason
from services.common.grpc.identity import Identity
from tests.support.clock import NOON, FakeClock
from tests.support.waiting import eventually


def headers(**said: str) -> dict[bytes, bytes]:
    return {f"x-infermesh-{name}".encode(): value.encode() for name, value in said.items()}


def model(team: str = "", *shared_with: str) -> ServedModel:
    return ServedModel("m", "v1.0.0", {}, team, shared_with=shared_with)


def test_a_caller_who_comes_again_is_the_same() -> None:
    callers = Callers()
    ann = callers.of(headers(team="vision", role="viewer", key="k1"), 1.0)
    assert callers.of({**headers(team="vision", role="viewer", key="k1"), b"x-other": b"1"}, 2.0) is ann
    assert callers.of(headers(team="vision", role="admin", key="k1"), 2.0) is not ann
    assert (ann.team, ann.user, ann.used_s) == ("vision", "", 2.0)


@pytest.mark.parametrize("name", ["user", "team", "role", "key", "scopes", "models"])
def test_callers_who_differ_in_any_header_are_others(name: str) -> None:
    said = {"user": "u", "team": "t", "role": "viewer", "key": "k", "scopes": "predict", "models": "m"}
    callers = Callers()
    one = callers.of(headers(**said), 0.0)
    for other in ({**said, name: "x"}, {key: value for key, value in said.items() if key != name}):
        assert callers.of(headers(**other), 0.0) is not one
    assert len(callers) == 3


def test_only_so_many_are_remembered_and_those_who_come_are_not_forgotten() -> None:
    callers = Callers(callers_max=4)
    ann = callers.of(headers(key="ann"), 0.0)
    for number in range(1000):
        callers.of(headers(key=f"k{number}"), float(number))
        assert callers.of(headers(key="ann"), float(number)) is ann
        assert len(callers) <= 8
    assert callers.take_uses() == {"ann": 999.0, **{f"k{number}": float(number) for number in range(1000)}}


def test_uses_are_told_once_and_of_each_key_the_last() -> None:
    callers = Callers()
    callers.of(headers(key="k1", team="a"), 1.0)
    callers.of(headers(key="k1", team="b"), 5.0)
    callers.of(headers(key="k2"), 3.0)
    callers.of(headers(user="ann"), 4.0)
    assert callers.take_uses() == {"k1": 5.0, "k2": 3.0}
    assert callers.take_uses() == {}
    callers.of(headers(key="k2"), 6.0)
    assert callers.take_uses() == {"k2": 6.0}


@pytest.mark.parametrize(
    ("identity", "reason"),
    [
        (Identity(), None),
        (Identity(team="vision"), None),
        (Identity(role="viewer", team="vision"), None),
        (Identity(role="platform-admin"), None),
        (Identity(role="viewer", team="vision", scopes=frozenset({"predict", "batch"})), None),
        (Identity(role="anonymous"), Reason.UNAUTHENTICATED),
        (Identity(role="viewer"), Reason.UNAUTHENTICATED),
        (Identity(role="root", team="vision"), Reason.UNAUTHENTICATED),
        (Identity(role="anonymous", user="ann"), Reason.PERMISSION_DENIED),
        (Identity(role="admin", team="vision", scopes=frozenset({"batch"})), Reason.PERMISSION_DENIED),
        (Identity(role="admin", team="vision", scopes=frozenset({"telepathy"})), Reason.PERMISSION_DENIED),
    ],
)
def test_who_may_predict(identity: Identity, reason: Reason | None) -> None:
    caller = Caller(identity)
    assert caller.limited == (reason is not None)
    if reason is None:
        for asks in Asks:
            caller.check(asks)
        return
    with pytest.raises(MeshError) as caught:
        caller.check(Asks.PREDICTION)
    assert caught.value.reason is reason
    caller.check(Asks.HEALTH)


def test_home_is_where_no_look_at_the_model_is_needed() -> None:
    """It is a shortcut of `sees` and nothing else."""
    identities = [
        Identity(role=role, team=team, user=user, models=models)
        for role in ("", "anonymous", "viewer", "platform-admin", "root")
        for team in ("", "vision", "search")
        for user in ("", "ann")
        for models in (frozenset[str](), frozenset({"m"}), frozenset({"n"}))
    ]
    for caller in map(Caller, identities):
        for served in (model(), model("vision"), model("vision", "search"), model("search")):
            if served.team == caller.home:
                assert caller.sees(served), caller.identity
    assert INSIDE.sees(model("vision"))


class Registry:
    """Takes reports unless it is away."""

    def __init__(self) -> None:
        self.away = False
        self.told: list[Mapping[str, datetime]] = []

    async def report(self, uses: Mapping[str, datetime]) -> None:
        if self.away:
            raise MeshError(Reason.DEPENDENCY_UNAVAILABLE, "the registry is away")
        self.told.append(uses)


async def test_the_registry_is_told_once_a_minute_and_what_it_missed_later() -> None:
    clock, registry, callers = FakeClock(), Registry(), Callers()
    uses = KeyUses(registry.report, take=callers.take_uses, clock=clock)
    task = asyncio.create_task(uses.run())
    try:
        await asyncio.sleep(0)
        began_s = clock.monotonic()
        callers.of(headers(key="k1"), began_s + 10)
        callers.of(headers(key="k2"), began_s + 20)
        clock.advance(PERIOD_S)
        await eventually(lambda: len(registry.told) == 1, what="the first report")
        assert registry.told[0] == {"k1": NOON + timedelta(seconds=10), "k2": NOON + timedelta(seconds=20)}
        registry.away = True
        callers.of(headers(key="k1"), began_s + 70)
        clock.advance(PERIOD_S)
        await eventually(lambda: uses.held == 1, what="a use that is kept")
        registry.away = False
        clock.advance(PERIOD_S)
        await eventually(lambda: len(registry.told) == 2, what="the next report")
        assert registry.told[1] == {"k1": NOON + timedelta(seconds=70)}
        assert uses.held == 0
        await uses.flush()
        assert len(registry.told) == 2, "nothing was used since"
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_what_is_kept_for_the_registry_is_bounded() -> None:
    clock, registry = FakeClock(), Registry()
    registry.away = True
    taken = [{f"{part}-{number}": clock.monotonic() + part for number in range(KEYS_MAX)} for part in range(2)]
    uses = KeyUses(registry.report, take=lambda: taken.pop(0), clock=clock)
    await uses.flush()
    await uses.flush()
    assert uses.held == KEYS_MAX
    taken.append({})
    registry.away = False
    await uses.stop()
    assert all(key_id.startswith("1-") for key_id in registry.told[0]), "the least lately used went"
