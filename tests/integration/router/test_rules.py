"""What a rule holds beside shares, over real gRPC and a real PostgreSQL: conditions, shadows, sticky keys, rollouts."""

from collections.abc import AsyncIterator

import pytest
from infermesh.router.v1 import router_service_pb2 as pb
from infermesh.router.v1 import traffic_pb2, traffic_rule_pb2

from services.common.database import create_engine
from services.common.errors import Reason
from services.router.adapters.postgres import SCHEMA
from services.router.adapters.rule_store import PostgresRuleStore
from services.router.domain.rules import NewChange, Split, with_weights
from services.router.domain.sticky import place_of, version_at
from tests.integration.router.driving import PlayedBatcher, Router, Surroundings, move, refusal, served
from tests.support.router_fakes import ready, without
from tests.support.waiting import eventually

OLD, NEW = "v1.0.0", "v1.1.0"
BOTH = ready("digits", OLD, NEW, deployments={OLD: "old", NEW: "new"})
DIGITS = pb.GetTrafficRequest(model_name="digits")


@pytest.fixture
async def router(around: Surroundings) -> AsyncIterator[Router]:
    """A router; both versions of digits are ready, and the old one has the traffic."""
    around.deployer.state.put(BOTH)
    async with around.router() as running:
        await served(running, [OLD, NEW])
        yield running


def shadow(version: str, percent: int = 0) -> traffic_rule_pb2.Shadow:
    return traffic_rule_pb2.Shadow(version=version, percent=percent)


def for_region(*regions: str, version: str = NEW) -> traffic_rule_pb2.RouteCondition:
    return traffic_rule_pb2.RouteCondition(attribute="region", values=regions, version=version)


def status(shown: traffic_pb2.Traffic, kind: str = "Honoured") -> tuple[str, str]:
    """Reason and message of a status condition."""
    return next((one.reason, one.message) for one in shown.status_conditions if one.type == kind)


def routed_by(router: Router) -> list[tuple[str, tuple[str, ...], str]]:
    """The conditions that gateways have."""
    return [(one.header, one.values, one.version) for one in router.gateways.table.models["digits"].conditions]


@pytest.mark.parametrize(
    ("request_", "reason", "word"),
    [
        (move({}, shadows=[shadow(NEW), shadow("v7.7.7")]), Reason.VERSION_NOT_DEPLOYED, "shadows[1].version"),
        (move({}, shadows=[shadow(NEW, 101)]), Reason.INVALID_FIELD, "shadows[0].percent"),
        (move({}, shadows=[shadow(NEW), shadow("1.1.0")]), Reason.INVALID_FIELD, "once"),
        (move({}, conditions=[for_region("eu", version="v7.7.7")]), Reason.VERSION_NOT_DEPLOYED, "conditions[0]"),
        (move({}, conditions=[for_region("eu"), for_region()]), Reason.INVALID_FIELD, "conditions[1].values"),
        (move({}, conditions=[for_region("eu")], clear=["conditions"]), Reason.INVALID_FIELD, "clear"),
        (move({}, clear=["shares"]), Reason.INVALID_FIELD, "shares"),
    ],
)
async def test_what_cannot_be_is_refused_and_changes_nothing(
    router: Router, request_: pb.UpdateTrafficRequest, reason: Reason, word: str
) -> None:
    before = await router.api.GetTraffic(DIGITS)
    for call in (router.api.UpdateTraffic, router.api.PlanTraffic):
        error = await refusal(call(request_))
        assert error.reason is reason
        assert word in error.message
    assert await router.api.GetTraffic(DIGITS) == before


async def test_conditions_hold_while_their_version_is_ready(router: Router, around: Surroundings) -> None:
    asked = move({}, conditions=[for_region("eu", "us"), for_region("asia", version=OLD)])
    plan = await router.api.PlanTraffic(asked)
    assert plan.moved_percent == 0
    assert list(plan.changes) == [
        f'condition 1: region is "eu", "us" → {NEW}',
        f'condition 2: region is "asia" → {OLD}',
    ]
    changed = await router.api.UpdateTraffic(asked)
    assert list(plan.after.conditions) == list(changed.conditions)
    assert [one.match for one in changed.conditions] == ["exact", "exact"]
    assert dict(changed.traffic_split) == {OLD: 100}
    assert routed_by(router) == [("x-region", ("eu", "us"), NEW), ("x-region", ("asia",), OLD)]
    resolved = await router.api.ResolveRoute(pb.ResolveRouteRequest(model_name="digits", headers={"X-Region": "eu"}))
    assert (resolved.version, resolved.decided_by, dict(resolved.split)) == (NEW, "condition", {OLD: 100})
    around.deployer.state.put(without(BOTH, NEW))
    await served(router, [OLD])
    assert routed_by(router) == [("x-region", ("asia",), OLD)]
    shown = await router.api.GetTraffic(DIGITS)
    assert list(shown.conditions) == list(changed.conditions)
    assert status(shown) == ("VersionNotReady", f"condition 1 is skipped while {NEW} is not ready")
    # What waits for its version stands in the way of no other change.
    kept = await router.api.UpdateTraffic(move({OLD: 100}, routing_strategy="sticky"))
    assert list(kept.conditions) == list(changed.conditions)
    around.deployer.state.put(BOTH)
    await served(router, [OLD, NEW])
    assert len(routed_by(router)) == 2
    assert not (await router.api.UpdateTraffic(move({}, clear=["conditions"]))).conditions
    undone = await router.api.UndoTraffic(pb.UndoTrafficRequest(model_name="digits"))
    assert list(undone.conditions) == list(changed.conditions)
    history = await router.api.ListTrafficChanges(pb.ListTrafficChangesRequest(model_name="digits"))
    assert list(history.changes[-1].changes) == list(plan.changes)
    assert list(history.changes[1].changes) == [
        f'no longer: region is "eu", "us" → {NEW}',
        f'no longer: region is "asia" → {OLD}',
    ]
    back = await router.api.RollBack(pb.RollBackRequest(model_name="digits", to_version=OLD))
    assert [one.version for one in back.conditions] == [OLD]


async def test_shadows_reach_batchers_before_the_answer_and_gateways_hear_nothing(
    router: Router, around: Surroundings
) -> None:
    batcher = PlayedBatcher(router.channel)
    await eventually(lambda: batcher.models == {"digits": [OLD, NEW]})
    published = len(router.gateways.published)
    changed = await router.api.UpdateTraffic(move({}, shadows=[shadow(NEW, 10)]))
    (sent,) = batcher.served["digits"].shadows
    assert (sent.version, sent.percent, sent.comparison.top_k) == (NEW, 10, 5)
    assert sent.comparison.relative_tolerance == pytest.approx(1e-3)
    assert [(one.version, one.percent) for one in changed.shadows] == [(NEW, 10)]
    assert len(router.gateways.published) == published
    page = await router.api.ListTrafficRules(pb.ListTrafficRulesRequest(model_name="digits", page_size=1))
    (first,) = page.traffic_rules
    assert (first.rule_name, first.rule_type, dict(first.version_weights)) == ("shadow", "shadow", {NEW: 10})
    rest = await router.api.ListTrafficRules(
        pb.ListTrafficRulesRequest(model_name="digits", page_token=page.next_page_token)
    )
    assert [(one.rule_name, dict(one.version_weights)) for one in rest.traffic_rules] == [("split", {OLD: 100})]
    around.deployer.state.put(without(BOTH, NEW))
    await eventually(lambda: not batcher.served["digits"].shadows)
    shown = await router.api.GetTraffic(DIGITS)
    assert [one.version for one in shown.shadows] == [NEW]
    assert status(shown) == ("VersionNotReady", f"{NEW} gets no copies while it is not ready")
    around.deployer.state.put(BOTH)
    await eventually(lambda: len(batcher.served["digits"].shadows) == 1)
    await router.api.UpdateTraffic(move({}, clear=["shadows"]))
    assert not batcher.served["digits"].shadows
    ended = await router.api.GetTrafficRule(pb.GetTrafficRuleRequest(model_name="digits", rule_name="shadow"))
    assert ended.status == "completed"
    assert ended.HasField("end_time")
    await batcher.leave()


async def test_a_sticky_key_can_be_asked_for_and_a_plan_says_how_many_move(router: Router) -> None:
    sticky = await router.api.UpdateTraffic(move({OLD: 60, NEW: 40}, routing_strategy="sticky"))
    plan = await router.api.PlanTraffic(move({OLD: 40, NEW: 60}))
    assert plan.moved_percent == 20
    assert "20 % of the keys of x-user-id move to another version, 80 % stay" in plan.changes
    keys = [f"user-{number}" for number in range(200)]
    before = versions_of(router, keys)
    for key in keys[:20]:
        resolved = await router.api.ResolveRoute(
            pb.ResolveRouteRequest(model_name="digits", headers={"x-user-id": key})
        )
        assert (resolved.version, resolved.decided_by) == (before[key], "sticky")
        assert f"place {place_of('digits', key)}" in resolved.explanation
        assert resolved.revision == sticky.revision
    await router.api.UpdateTraffic(move({OLD: 40, NEW: 60}))
    after = versions_of(router, keys)
    assert all(after[key] == NEW for key in keys if before[key] == NEW)
    chance = await router.api.ResolveRoute(pb.ResolveRouteRequest(model_name="digits"))
    assert (chance.version, chance.decided_by) == ("", "chance")
    named = pb.ResolveRouteRequest(model_name="digits", version="1.0.0", headers={"x-user-id": keys[0]})
    assert (await router.api.ResolveRoute(named)).decided_by == "requested"
    unknown = pb.ResolveRouteRequest(model_name="digits", headers={"x-model-version": "v7.7.7"})
    assert (await refusal(router.api.ResolveRoute(unknown))).reason is Reason.VERSION_NOT_SERVED
    weighted = await router.api.UpdateTraffic(move({}, routing_strategy="weighted"))
    assert (weighted.routing_strategy, weighted.sticky_key_header) == ("weighted", "")


def versions_of(router: Router, keys: list[str]) -> dict[str, str]:
    """Where gateways send each key."""
    runs = router.gateways.table.models["digits"].shares
    return {key: version_at(runs, place_of("digits", key)) for key in keys}


async def test_the_same_places_come_back_after_a_restart_and_with_an_undo(around: Surroundings) -> None:
    three = ready("digits", OLD, NEW, "v2.0.0")
    around.deployer.state.put(three)
    async with around.router() as router:
        await served(router, [OLD, NEW, "v2.0.0"])
        await router.api.UpdateTraffic(move({OLD: 60, NEW: 40}, routing_strategy="sticky"))
        await router.api.UpdateTraffic(move({OLD: 54, NEW: 36, "v2.0.0": 10}))
        split = router.gateways.table.models["digits"].shares
        assert len(split) == 4
        await router.api.UpdateTraffic(move({"v2.0.0": 100}))
        await router.api.UndoTraffic(pb.UndoTrafficRequest(model_name="digits"))
        assert router.gateways.table.models["digits"].shares == split
        around.deployer.state.put(without(three, NEW))
        await served(router, [OLD, "v2.0.0"])
        assert router.gateways.table.models["digits"].shares != split
    around.deployer.state.put(three)
    async with around.router() as router:
        await served(router, [OLD, NEW, "v2.0.0"])
        assert router.gateways.table.models["digits"].shares == split


async def test_while_a_rollout_decides_the_shares_only_what_is_beside_them_may_change(
    router: Router, around: Surroundings
) -> None:
    await router.api.UpdateTraffic(move({OLD: 90, NEW: 10}, routing_strategy="sticky"))
    batcher = PlayedBatcher(router.channel)
    await govern(around, "canary-1")
    await eventually(lambda: "digits" in batcher.served)
    # Another router wrote that, or this one's rollouts: the next reading finds it.
    await eventually(lambda: governed_by(router, "canary-1"), what="the rollout is seen")
    await eventually(lambda: batcher.served["digits"].log_labels, what="batchers are told to log labels")
    for request in (move({OLD: 50, NEW: 50}), move({}, routing_strategy="random"), move({}, sticky_key_header="x-a")):
        error = await refusal(router.api.UpdateTraffic(request))
        assert error.reason is Reason.ROLLOUT_IN_PROGRESS
        assert error.metadata["rollout"] == "canary-1"
        assert "AbortCanary" in error.message
    undo = pb.UndoTrafficRequest(model_name="digits")
    assert (await refusal(router.api.UndoTraffic(undo))).reason is Reason.ROLLOUT_IN_PROGRESS
    changed = await router.api.UpdateTraffic(move({}, conditions=[for_region("eu")], shadows=[shadow(NEW)]))
    assert (changed.governing_rule, len(changed.conditions), len(changed.shadows)) == ("canary-1", 1, 1)
    assert batcher.served["digits"].log_labels
    back = await router.api.RollBack(pb.RollBackRequest(model_name="digits", to_version=OLD))
    assert (back.governing_rule, dict(back.traffic_split)) == ("split", {OLD: 100})
    await eventually(lambda: not batcher.served["digits"].log_labels)
    assert dict((await router.api.UpdateTraffic(move({NEW: 100}))).traffic_split) == {NEW: 100}
    await batcher.leave()


async def governed_by(router: Router, name: str) -> bool:
    """Whether that rollout decides the shares."""
    return bool((await router.api.GetTraffic(DIGITS)).governing_rule == name)


async def govern(around: Surroundings, name: str) -> None:
    """Stores a rollout's change as rollouts do: beside the router."""
    engine = create_engine(around.database_url, schema=SCHEMA)
    store = PostgresRuleStore(engine)
    rule = await store.find("digits")
    assert rule is not None
    change = NewChange(
        model_name="digits",
        deployment_name="",
        action="canary",
        actor="",
        reason="stage 2",
        before=rule.split,
        after=with_weights(rule.split, {OLD: 80, NEW: 20}),
        governing=name,
        log_labels=True,
    )
    assert await store.save(change, generation=rule.generation) is not None
    await engine.dispose()


def test_a_split_is_what_its_weights_say() -> None:
    with pytest.raises(ValueError, match="places"):
        Split({OLD: 100}, runs=Split({NEW: 100}).runs)
