"""RouterService over the engines."""

from collections.abc import AsyncIterator
from typing import Any, cast

import grpc
from infermesh.router.v1 import router_service_pb2, traffic_pb2, traffic_rule_pb2

from services.common.access.book import AccessBook
from services.common.access.policy import rule_of
from services.common.grpc.identity import current_identity
from services.common.page import check_page_size
from services.router.convert import (
    batcher_to_proto,
    call_from_proto,
    change_to_proto,
    gateway_to_proto,
    missed_to_proto,
    plan_to_proto,
    resolution_to_proto,
    rule_to_proto,
    view_to_proto,
    wish_from_proto,
)
from services.router.convert_canary import canary_wish_from_proto
from services.router.engines.ab_tests import AbTests
from services.router.engines.batchers import Batchers
from services.router.engines.canaries import Canaries
from services.router.engines.fleet import FleetKeeper
from services.router.engines.publisher import Publisher
from services.router.engines.traffic import Plan, Traffic
from services.router.ports import Gateways
from services.router.servicers.ab_tests import AbTestCalls
from services.router.servicers.canary import CanaryCalls
from services.router.servicers.description import DescriptionCalls

_Context = grpc.aio.ServicerContext[Any, Any]
_ROLL_BACK = "/infermesh.router.v1.RouterService/RollBack"
_MOVE_S = 1.0
"""Kept back of a caller's deadline while a version is deployed again: the traffic must still be moved."""


class RouterServicer(CanaryCalls, AbTestCalls, DescriptionCalls):
    """The public calls."""

    def __init__(
        self,
        *,
        traffic: Traffic,
        publisher: Publisher,
        batchers: Batchers,
        fleet: FleetKeeper,
        gateways: Gateways,
        canaries: Canaries,
        ab_tests: AbTests,
        book: AccessBook,
        description: bytes,
    ) -> None:
        CanaryCalls.__init__(self, canaries)
        AbTestCalls.__init__(self, ab_tests)
        DescriptionCalls.__init__(self, description)
        self._traffic = traffic
        self._publisher = publisher
        self._batchers = batchers
        self._fleet = fleet
        self._gateways = gateways
        self._book = book

    async def UpdateTraffic(
        self, request: router_service_pb2.UpdateTrafficRequest, _context: _Context
    ) -> traffic_pb2.Traffic:
        """Changes a model's traffic."""
        if request.validate_only:
            return view_to_proto((await self._planned(request)).after)
        call, wish = call_from_proto(request, actor=current_identity().actor), wish_from_proto(request)
        if request.canary_config.enabled:
            return view_to_proto(
                await self._canaries.starts.start(call, wish, canary_wish_from_proto(request.canary_config))
            )
        return view_to_proto(await self._traffic.update(call, wish))

    async def PlanTraffic(
        self, request: router_service_pb2.UpdateTrafficRequest, _context: _Context
    ) -> router_service_pb2.TrafficPlan:
        """What a change would do."""
        return plan_to_proto(await self._planned(request))

    async def _planned(self, request: router_service_pb2.UpdateTrafficRequest) -> Plan:
        call, wish = call_from_proto(request, actor=current_identity().actor), wish_from_proto(request)
        if request.canary_config.enabled:
            return await self._canaries.starts.plan(call, wish, canary_wish_from_proto(request.canary_config))
        return await self._traffic.plan(call, wish)

    async def GetTraffic(
        self, request: router_service_pb2.GetTrafficRequest, _context: _Context
    ) -> traffic_pb2.Traffic:
        """The traffic of a model."""
        return view_to_proto(self._traffic.get(request.model_name))

    async def ListTraffic(
        self, request: router_service_pb2.ListTrafficRequest, _context: _Context
    ) -> router_service_pb2.ListTrafficResponse:
        """A page of models' traffic."""
        views, token = self._traffic.page(
            page_size=request.page_size, page_token=request.page_token, sight=self._book.sight(current_identity())
        )
        return router_service_pb2.ListTrafficResponse(
            traffic=[view_to_proto(view) for view in views], next_page_token=token
        )

    async def WatchTraffic(
        self, request: router_service_pb2.WatchTrafficRequest, _context: _Context
    ) -> AsyncIterator[traffic_pb2.Traffic]:
        """Streams the traffic of a model."""
        async for view in self._traffic.watch(request.model_name):
            yield view_to_proto(view)

    async def ListTrafficChanges(
        self, request: router_service_pb2.ListTrafficChangesRequest, _context: _Context
    ) -> router_service_pb2.ListTrafficChangesResponse:
        """A page of history."""
        changes, token = await self._traffic.changes(
            request.model_name, page_size=request.page_size, page_token=request.page_token
        )
        return router_service_pb2.ListTrafficChangesResponse(
            changes=[change_to_proto(change) for change in changes], next_page_token=token
        )

    async def UndoTraffic(
        self, request: router_service_pb2.UndoTrafficRequest, _context: _Context
    ) -> traffic_pb2.Traffic:
        """Brings back what held before."""
        return view_to_proto(await self._traffic.undo(call_from_proto(request, actor=current_identity().actor)))

    async def RollBack(self, request: router_service_pb2.RollBackRequest, context: _Context) -> traffic_pb2.Traffic:
        """Gives all traffic to one version, within the caller's deadline."""
        call = call_from_proto(request, actor=current_identity().actor)
        # None where the caller set no deadline, whatever the stubs say.
        left_s = cast("float | None", context.time_remaining())
        timeout_s = max(0.0, (rule_of(_ROLL_BACK).patience_s if left_s is None else left_s) - _MOVE_S)
        return view_to_proto(await self._traffic.roll_back(call, request.to_version, timeout_s=timeout_s))

    async def ResolveRoute(
        self, request: router_service_pb2.ResolveRouteRequest, _context: _Context
    ) -> router_service_pb2.ResolveRouteResponse:
        """Where a request would go."""
        resolution, revision = self._traffic.resolve(
            request.model_name, version=request.version, headers=request.headers
        )
        return resolution_to_proto(resolution, revision=revision)

    async def ListTrafficRules(
        self, request: router_service_pb2.ListTrafficRulesRequest, _context: _Context
    ) -> router_service_pb2.ListTrafficRulesResponse:
        """A page of a model's rules."""
        rules, token = await self._traffic.shown_rules(
            request.model_name, page_size=request.page_size, page_token=request.page_token
        )
        return router_service_pb2.ListTrafficRulesResponse(
            traffic_rules=[rule_to_proto(rule) for rule in rules], next_page_token=token
        )

    async def GetTrafficRule(
        self, request: router_service_pb2.GetTrafficRuleRequest, _context: _Context
    ) -> traffic_rule_pb2.TrafficRule:
        """One rule."""
        return rule_to_proto(await self._traffic.shown_rule(request.model_name, request.rule_name))

    async def ListGateways(
        self, request: router_service_pb2.ListGatewaysRequest, _context: _Context
    ) -> router_service_pb2.ListGatewaysResponse:
        """The gateways that are connected; they are few, so they fit a page."""
        check_page_size(request.page_size)
        newest = self._publisher.routing.revision
        return router_service_pb2.ListGatewaysResponse(
            gateways=[gateway_to_proto(state, newest=newest) for state in self._gateways.connected()],
            revision=newest,
        )

    async def ListBatchers(
        self, request: router_service_pb2.ListBatchersRequest, _context: _Context
    ) -> router_service_pb2.ListBatchersResponse:
        """The batchers, connected or missed; they are few, so they fit a page."""
        check_page_size(request.page_size)
        newest = self._batchers.table.revision
        return router_service_pb2.ListBatchersResponse(
            batchers=[
                *(batcher_to_proto(session, newest=newest) for session in self._batchers.connected),
                *(missed_to_proto(name, address) for name, address in self._fleet.missed),
            ],
            revision=newest,
        )
