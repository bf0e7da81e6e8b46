"""The router over real gRPC and a real PostgreSQL: order, restarts, refusals, history, health and reflection."""

import asyncio
from collections.abc import AsyncIterator
from itertools import pairwise
from typing import Any

import grpc
import psycopg
import pytest
from grpc_health.v1 import health_pb2
from grpc_health.v1._async import HealthServicer
from grpc_health.v1.health_pb2_grpc import add_HealthServicer_to_server
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from infermesh.router.v1 import router_service_pb2 as pb
from infermesh.router.v1 import traffic_rule_pb2

from services.common.errors import MeshError, Reason
from tests.integration.router.driving import PlayedBatcher, Router, Surroundings, move, refusal, served
from tests.support.router_fakes import ready, without
from tests.support.waiting import eventually

OLD, NEW = "v1.0.0", "v1.1.0"
BOTH = ready("digits", OLD, NEW, deployments={OLD: "old", NEW: "new"})


@pytest.fixture
async def router(around: Surroundings) -> AsyncIterator[Router]:
    """A router; both versions of digits are ready, and a batcher has them."""
    around.deployer.state.put(ready("digits", OLD, deployments={OLD: "old"}))
    async with around.router() as running:
        await served(running, [OLD])
        around.deployer.state.put(BOTH)
        await served(running, [OLD, NEW])
        yield running


def shares(router: Router) -> dict[str, int]:
    return {share.version: share.percent for share in router.gateways.table.models["digits"].shares}


async def test_a_new_version_gets_nothing_until_it_is_given_a_share(router: Router) -> None:
    assert shares(router) == {OLD: 100}
    shown = await router.api.GetTraffic(pb.GetTrafficRequest(model_name="digits"))
    assert dict(shown.traffic_split) == dict(shown.effective_split) == {OLD: 100}
    assert not shown.explicit
    assert list(shown.ready_versions) == [OLD, NEW]
    changed = await router.api.UpdateTraffic(move({"1.0.0": 75, NEW: 25}, deployment_name="new", reason="try it"))
    # What was answered has reached the gateways.
    assert shares(router) == {OLD: 75, NEW: 25}
    assert dict(changed.traffic_split) == dict(changed.effective_split) == {OLD: 75, NEW: 25}
    assert (changed.explicit, changed.reason, changed.routing_strategy) == (True, "try it", "random")
    assert {one.type: one.status for one in changed.status_conditions} == {"Honoured": "True", "Propagated": "True"}
    assert await router.api.GetTraffic(pb.GetTrafficRequest(model_name="digits")) == changed
    again = await router.api.UpdateTraffic(move({OLD: 100, NEW: 0}))
    assert dict(again.traffic_split) == {OLD: 100}


@pytest.mark.parametrize(
    ("request_", "reason", "word"),
    [
        (move({OLD: 50}), Reason.WEIGHTS_INVALID, "50"),
        (move({OLD: 60, NEW: 60}), Reason.WEIGHTS_INVALID, "120"),
        (move({}), Reason.WEIGHTS_INVALID, "traffic_split"),
        (move({OLD: 50, "v7.7.7": 50}), Reason.VERSION_NOT_DEPLOYED, "v7.7.7"),
        (move({OLD: 100, "v7.7.7": 0}), Reason.VERSION_NOT_DEPLOYED, "v7.7.7"),
        (move({OLD: 50, "new": 50}), Reason.INVALID_FIELD, "'new'"),
        (move({OLD: 50, "1.0.0": 50}), Reason.INVALID_FIELD, "twice"),
        (move({OLD: 100}, deployment_name="nobody"), Reason.DEPLOYMENT_NOT_FOUND, "nobody"),
        (move({OLD: 100}, etag="g7"), Reason.ETAG_MISMATCH, "digits"),
        (move({OLD: 100}, routing_strategy="fair"), Reason.INVALID_FIELD, "fair"),
        (move({OLD: 100}, routing_strategy="round_robin"), Reason.NOT_IMPLEMENTED, "round_robin"),
        (move({OLD: 100}, sticky_key_header="x-user"), Reason.INVALID_FIELD, "sticky"),
        (
            move({OLD: 100}, canary_config=traffic_rule_pb2.CanaryConfig(enabled=True)),
            Reason.INVALID_FIELD,
            "deployment_name",
        ),
        (
            pb.UpdateTrafficRequest(model_name="nothing", traffic_split={OLD: 100}),
            Reason.MODEL_NOT_SERVED,
            "nothing",
        ),
    ],
)
async def test_what_cannot_be_is_refused_and_changes_nothing(
    router: Router, request_: pb.UpdateTrafficRequest, reason: Reason, word: str
) -> None:
    before = await router.api.GetTraffic(pb.GetTrafficRequest(model_name="digits"))
    published = len(router.gateways.published)
    error = await refusal(router.api.UpdateTraffic(request_))
    assert error.reason is reason
    assert word in error.message
    assert (await refusal(router.api.PlanTraffic(request_))).reason is reason
    assert await router.api.GetTraffic(pb.GetTrafficRequest(model_name="digits")) == before
    assert len(router.gateways.published) == published


async def batchers_of(router: Router, expected: list[tuple[str, str, bool]] | None = None) -> object:
    """Name, address and whether it is connected of each batcher; or whether they are those."""
    listed = await router.api.ListBatchers(pb.ListBatchersRequest())
    found = [(one.batcher_id, one.address, one.connected) for one in listed.batchers]
    assert [one.HasField("connected_at") for one in listed.batchers] == [connected for *_, connected in found]
    return found if expected is None else found == expected


async def test_a_batcher_that_took_the_table_gets_requests_beside_those_of_the_settings(around: Surroundings) -> None:
    around.deployer.state.put(BOTH)
    async with around.router() as router:
        await served(router, [OLD, NEW])
        batcher = PlayedBatcher(router.channel, "batcher-7")
        configured = f"127.0.0.1:{around.batcher_port}"
        await eventually(lambda: list(router.gateways.batchers) == [configured, "batcher-7:1"])
        assert await batchers_of(router) == [("batcher-7", "batcher-7:1", True), ("", configured, False)]
        await batcher.leave()
        await eventually(
            lambda: batchers_of(router, [("", configured, False), ("batcher-7", "batcher-7:1", False)]),
            what="the one that left is shown as missed for as long as gateways send to it",
        )


async def test_batchers_know_a_version_before_gateways_route_to_it(around: Surroundings) -> None:
    around.deployer.state.put(without(BOTH, NEW))
    async with around.router() as router:
        await served(router, [OLD])
        batcher = PlayedBatcher(router.channel)
        await eventually(lambda: batcher.models == {"digits": [OLD]})
        assert batcher.steps[0].full
        batcher.silent = True
        around.deployer.state.put(BOTH)
        await eventually(lambda: batcher.models == {"digits": [OLD, NEW]})
        # It has not acknowledged, so gateways wait for it, though not for ever.
        assert list(router.gateways.table.models["digits"].versions) == [OLD]
        await served(router, [OLD, NEW])
        listed = await router.api.ListBatchers(pb.ListBatchersRequest())
        assert [(one.batcher_id, one.current) for one in listed.batchers if one.connected] == [("batcher-0", False)]
        assert router.gateways.table.revision == listed.revision == batcher.revision
        await batcher.leave()


async def test_gateways_leave_a_version_before_batchers_forget_it(around: Surroundings) -> None:
    around.deployer.state.put(BOTH)
    async with around.router() as router:
        await served(router, [OLD, NEW])
        batcher = PlayedBatcher(router.channel)
        await eventually(lambda: batcher.models == {"digits": [OLD, NEW]})
        router.gateways.delay_s = 0.5
        around.deployer.state.put(without(BOTH, NEW))
        await served(router, [OLD])
        assert batcher.models == {"digits": [OLD, NEW]}
        await eventually(lambda: batcher.models == {"digits": [OLD]})
        listed = await router.api.ListGateways(pb.ListGatewaysRequest())
        assert [(one.gateway_id, one.current) for one in listed.gateways] == [("gateway-0", True)]
        await batcher.leave()


async def test_a_share_goes_to_the_others_while_its_version_is_away(router: Router, around: Surroundings) -> None:
    await router.api.UpdateTraffic(move({OLD: 25, NEW: 75}))
    around.deployer.state.put(without(BOTH, NEW))
    await served(router, [OLD])
    assert shares(router) == {OLD: 100}
    shown = await router.api.GetTraffic(pb.GetTrafficRequest(model_name="digits"))
    assert dict(shown.traffic_split) == {OLD: 25, NEW: 75}
    assert dict(shown.effective_split) == {OLD: 100}
    honoured = next(one for one in shown.status_conditions if one.type == "Honoured")
    assert (honoured.status, honoured.reason) == ("False", "VersionNotReady")
    assert NEW in honoured.message
    around.deployer.state.put(BOTH)
    await served(router, [OLD, NEW])
    assert shares(router) == {OLD: 25, NEW: 75}


async def test_a_restart_keeps_rules_revision_and_the_last_table(around: Surroundings) -> None:
    around.deployer.state.put(BOTH)
    async with around.router() as router:
        await served(router, [OLD, NEW])
        kept = await router.api.UpdateTraffic(move({OLD: 40, NEW: 60}, routing_strategy="sticky"))
        assert kept.sticky_key_header == "x-user-id"
        await eventually(lambda: saved_rows(around), what="the table is saved")
    await around.deployer.stop()
    # The deployer is away, so what was ready last is all there is to go by.
    async with around.router() as router:
        await served(router, [OLD, NEW])
        assert shares(router) == {OLD: 40, NEW: 60}
        routes = router.gateways.table
        assert routes.revision > kept.revision
        assert routes.models["digits"].sticky_header == "x-user-id"
        shown = await router.api.GetTraffic(pb.GetTrafficRequest(model_name="digits"))
        assert (dict(shown.traffic_split), shown.etag) == ({OLD: 40, NEW: 60}, kept.etag)
        batcher = PlayedBatcher(router.channel)
        await eventually(lambda: batcher.models == {"digits": [OLD, NEW]})
        assert batcher.defaults == {"digits": NEW}
        # It is back, and its word counts again.
        around.deployer.state.models.clear()
        around.deployer.state.put(without(BOTH, OLD))
        await around.deployer.start()
        await served(router, [NEW])
        await eventually(lambda: batcher.models == {"digits": [NEW]})
        await batcher.leave()


async def test_history_undo_and_roll_back(router: Router) -> None:
    first = await router.api.UpdateTraffic(move({OLD: 50, NEW: 50}, reason="half"))
    second = await router.api.UpdateTraffic(move({NEW: 100}, etag=first.etag, reason="all"))
    assert (await refusal(router.api.UpdateTraffic(move({OLD: 100}, etag=first.etag)))).reason is Reason.ETAG_MISMATCH
    undone = await router.api.UndoTraffic(pb.UndoTrafficRequest(model_name="digits", reason="no"))
    assert dict(undone.traffic_split) == {OLD: 50, NEW: 50} == shares(router)
    redone = await router.api.UndoTraffic(pb.UndoTrafficRequest(model_name="digits"))
    assert dict(redone.traffic_split) == {NEW: 100}
    assert redone.etag not in (first.etag, second.etag, undone.etag)
    back = await router.api.RollBack(pb.RollBackRequest(model_name="digits", reason="High error rate"))
    assert dict(back.traffic_split) == {OLD: 100} == shares(router)
    named = await router.api.RollBack(pb.RollBackRequest(model_name="digits", to_version="1.1.0"))
    assert dict(named.traffic_split) == {NEW: 100}
    listed = await router.api.ListTrafficChanges(pb.ListTrafficChangesRequest(model_name="digits", page_size=4))
    rest = await router.api.ListTrafficChanges(
        pb.ListTrafficChangesRequest(model_name="digits", page_size=4, page_token=listed.next_page_token)
    )
    changes = [*listed.changes, *rest.changes]
    assert [one.action for one in changes] == ["rollback", "rollback", "undo", "undo", "update", "update"]
    assert [one.reason for one in changes][-2:] == ["all", "half"]
    assert dict(changes[-1].before) == {OLD: 100}
    assert all(dict(later.before) == dict(earlier.after) for later, earlier in pairwise(changes))


async def test_a_repeated_call_counts_once(router: Router) -> None:
    asked = move({OLD: 10, NEW: 90}, request_id="once")
    first = await router.api.UpdateTraffic(asked)
    await router.api.UpdateTraffic(move({OLD: 100}))
    repeated = await router.api.UpdateTraffic(asked)
    assert dict(first.traffic_split) == {OLD: 10, NEW: 90}
    assert dict(repeated.traffic_split) == {OLD: 100}
    error = await refusal(router.api.UpdateTraffic(move({NEW: 100}, request_id="once")))
    assert error.reason is Reason.REQUEST_ID_REUSED


async def test_many_at_once_are_all_kept_in_some_order(router: Router) -> None:
    await asyncio.gather(
        *(router.api.UpdateTraffic(move({OLD: 10 * place, NEW: 100 - 10 * place})) for place in range(1, 5))
    )
    listed = await router.api.ListTrafficChanges(pb.ListTrafficChangesRequest(model_name="digits"))
    assert len(listed.changes) == 4
    assert dict(listed.changes[0].after) == shares(router)


async def test_a_plan_says_what_would_be_and_changes_nothing(router: Router) -> None:
    plan = await router.api.PlanTraffic(move({OLD: 70, NEW: 30}, routing_strategy="sticky"))
    assert dict(plan.before.traffic_split) == {OLD: 100}
    assert dict(plan.after.traffic_split) == {OLD: 70, NEW: 30}
    assert plan.moved_percent == 30
    assert any(NEW in sentence for sentence in plan.changes)
    assert dict(plan.before.effective_split) == {OLD: 100}
    assert dict(plan.after.effective_split) == {OLD: 70, NEW: 30}
    only_checked = await router.api.UpdateTraffic(move({OLD: 70, NEW: 30}, validate_only=True))
    assert dict(only_checked.traffic_split) == {OLD: 70, NEW: 30}
    assert shares(router) == {OLD: 100}
    assert not (await router.api.GetTraffic(pb.GetTrafficRequest(model_name="digits"))).explicit


async def test_traffic_can_be_watched_and_listed(router: Router) -> None:
    watch: Any = aiter(router.api.WatchTraffic(pb.WatchTrafficRequest(model_name="digits")))
    assert dict((await anext(watch)).traffic_split) == {OLD: 100}
    await router.api.UpdateTraffic(move({OLD: 5, NEW: 95}))
    async with asyncio.timeout(30):
        while dict((await anext(watch)).effective_split) != {OLD: 5, NEW: 95}:
            pass
    await watch.aclose()
    listed = await router.api.ListTraffic(pb.ListTrafficRequest())
    assert [one.model_name for one in listed.traffic] == ["digits"]
    rules = await router.api.ListTrafficRules(pb.ListTrafficRulesRequest(model_name="digits"))
    assert dict(rules.traffic_rules[0].version_weights) == {OLD: 5, NEW: 95}


async def test_health_of_every_public_service_and_reflection(router: Router, around: Surroundings) -> None:
    check = router.channel.unary_unary(
        "/grpc.health.v1.Health/Check",
        request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
        response_deserializer=health_pb2.HealthCheckResponse.FromString,
    )

    async def health(service: str) -> str:
        answer = await check(health_pb2.HealthCheckRequest(service=service), timeout=30)
        return health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)

    registry, prediction = "infermesh.registry.v1.RegistryService", "infermesh.prediction.v1.PredictionService"
    await eventually(lambda: health("infermesh.router.v1.RouterService"))
    assert await health(registry) == await health(prediction) == "NOT_SERVING"
    others, states = grpc.aio.server(), HealthServicer()
    add_HealthServicer_to_server(states, others)
    others.add_insecure_port(f"127.0.0.1:{around.others_port}")
    await states.set(registry, health_pb2.HealthCheckResponse.SERVING)
    await others.start()
    batcher = await asyncio.start_server(_ready, "127.0.0.1", around.batcher_port)

    async def serving() -> bool:
        return await health(registry) == await health(prediction) == "SERVING"

    await eventually(serving)
    # It runs, but does not know the service: then neither does the gateway.
    with pytest.raises(MeshError):
        await health("infermesh.registry.v1.TeamService")
    await others.stop(grace=None)
    batcher.close()
    await batcher.wait_closed()

    listed = await asyncio.to_thread(_reflected, router.port)
    assert {registry, prediction, "infermesh.router.v1.RouterService", "inference.GRPCInferenceService"} <= listed
    assert not any("ServingTable" in name or "Backend" in name for name in listed)


def saved_rows(around: Surroundings) -> bool:
    with psycopg.connect(around.database_url.replace("+psycopg", "")) as connection:
        row = connection.execute("SELECT count(*) FROM router.serving_models").fetchone()
    return row is not None and row[0] > 0


async def _ready(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    line = await reader.readline()
    writer.write(b"HTTP/1.1 200 OK\r\n\r\n" if line.startswith(b"GET /ready ") else b"HTTP/1.1 404 Not Found\r\n\r\n")
    await writer.drain()
    writer.close()


def _reflected(port: int) -> set[str]:
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        return set(ProtoReflectionDescriptorDatabase(channel).get_services())
