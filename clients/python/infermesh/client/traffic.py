"""Traffic: which share of a model's requests each version answers, how that changed, and how to take it back.

Nothing here needs two calls to be safe: a change is sent whole, carries an id that makes it safe to repeat, and with
the `etag` of what was read it fails where somebody else was quicker.
"""

from collections.abc import Iterator, Mapping, Sequence

from infermesh.client.transport import Transport, all_pages, new_request_id
from infermesh.router.v1 import (
    router_service_pb2,
    router_service_pb2_grpc,
    traffic_pb2,
    traffic_rule_pb2,
)

ROLL_BACK_TIMEOUT_S = 150.0
"""How long a rollback may take where nothing else is said: a version that is gone is deployed first."""
_PAGE_SIZE = 200


class Traffic:
    """Who answers what."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._stub = router_service_pb2_grpc.RouterServiceStub(transport.channel)

    def get(self, model: str, *, timeout_s: float | None = None) -> traffic_pb2.Traffic:
        """A model's traffic. Raises MODEL_NOT_SERVED where nothing of it is ready."""
        request = router_service_pb2.GetTrafficRequest(model_name=model)
        return self._transport.call(self._stub.GetTraffic, request, timeout_s=timeout_s)

    def list(self, *, limit: int | None = None, timeout_s: float | None = None) -> Iterator[traffic_pb2.Traffic]:
        """The traffic of every model that is served, in alphabetical order."""

        def fetch(token: str) -> router_service_pb2.ListTrafficResponse:
            request = router_service_pb2.ListTrafficRequest(page_size=_PAGE_SIZE, page_token=token)
            return self._transport.call(self._stub.ListTraffic, request, timeout_s=timeout_s)

        return all_pages(fetch, lambda page: page.traffic, limit=limit)

    def set(
        self,
        model: str,
        split: Mapping[str, int] | None = None,
        *,
        strategy: str = "",
        sticky_key_header: str = "",
        conditions: Sequence[traffic_rule_pb2.RouteCondition] = (),
        shadows: Sequence[traffic_rule_pb2.Shadow] = (),
        clear: Sequence[str] = (),
        deployment: str = "",
        etag: str = "",
        reason: str = "",
        request_id: str = "",
        timeout_s: float | None = None,
    ) -> traffic_pb2.Traffic:
        """Changes a model's traffic in one step and returns once every gateway routes by it.

        `split` is whole percent by version, adding up to 100; versions that it leaves out get none. `conditions` and
        `shadows` replace those there were; `clear` empties lists, "conditions" or "shadows". What is left empty stays
        as it is. Raises WEIGHTS_INVALID, VERSION_NOT_DEPLOYED, MODEL_NOT_SERVED, ROLLOUT_IN_PROGRESS, ETAG_MISMATCH;
        what is refused changes nothing.
        """
        request = router_service_pb2.UpdateTrafficRequest(
            model_name=model,
            deployment_name=deployment,
            traffic_split=split,
            routing_strategy=strategy,
            sticky_key_header=sticky_key_header,
            conditions=conditions,
            shadows=shadows,
            clear=clear,
            etag=etag,
            reason=reason,
            request_id=request_id or new_request_id(),
        )
        return self._transport.call(self._stub.UpdateTraffic, request, timeout_s=timeout_s)

    def plan(
        self,
        model: str,
        split: Mapping[str, int] | None = None,
        *,
        strategy: str = "",
        sticky_key_header: str = "",
        conditions: Sequence[traffic_rule_pb2.RouteCondition] = (),
        shadows: Sequence[traffic_rule_pb2.Shadow] = (),
        clear: Sequence[str] = (),
        deployment: str = "",
        etag: str = "",
        timeout_s: float | None = None,
    ) -> router_service_pb2.TrafficPlan:
        """What `set` with the same arguments would do; it fails as that would, and changes nothing."""
        request = router_service_pb2.UpdateTrafficRequest(
            model_name=model,
            deployment_name=deployment,
            traffic_split=split,
            routing_strategy=strategy,
            sticky_key_header=sticky_key_header,
            conditions=conditions,
            shadows=shadows,
            clear=clear,
            etag=etag,
        )
        return self._transport.call(self._stub.PlanTraffic, request, timeout_s=timeout_s)

    def undo(
        self, model: str, *, reason: str = "", etag: str = "", request_id: str = "", timeout_s: float | None = None
    ) -> traffic_pb2.Traffic:
        """Brings back what held before the last change. Raises TRAFFIC_RULE_NOT_FOUND, VERSION_NOT_DEPLOYED."""
        request = router_service_pb2.UndoTrafficRequest(
            model_name=model, reason=reason, etag=etag, request_id=request_id or new_request_id()
        )
        return self._transport.call(self._stub.UndoTraffic, request, timeout_s=timeout_s)

    def roll_back(
        self,
        model: str,
        *,
        to_version: str = "",
        reason: str = "",
        etag: str = "",
        request_id: str = "",
        timeout_s: float = ROLL_BACK_TIMEOUT_S,
    ) -> traffic_pb2.Traffic:
        """Gives all traffic to one version at once: the one named, else the one that had the most before.

        Ends a canary or A/B test that runs. A version that is named and not deployed is deployed first. Raises
        NOTHING_TO_ROLL_BACK, VERSION_NOT_DEPLOYED.
        """
        request = router_service_pb2.RollBackRequest(
            model_name=model,
            to_version=to_version,
            reason=reason,
            etag=etag,
            request_id=request_id or new_request_id(),
        )
        return self._transport.call(self._stub.RollBack, request, timeout_s=timeout_s)

    def resolve(
        self,
        model: str,
        *,
        version: str = "",
        headers: Mapping[str, str] | None = None,
        timeout_s: float | None = None,
    ) -> router_service_pb2.ResolveRouteResponse:
        """Which version a request would get, and why: one that asks for `version` (or an alias), with these headers."""
        lower = {name.lower(): value for name, value in (headers or {}).items()}
        request = router_service_pb2.ResolveRouteRequest(model_name=model, version=version, headers=lower)
        return self._transport.call(self._stub.ResolveRoute, request, timeout_s=timeout_s)

    def rules(
        self, model: str, *, limit: int | None = None, timeout_s: float | None = None
    ) -> Iterator[traffic_rule_pb2.TrafficRule]:
        """The rules of a model, by name."""

        def fetch(token: str) -> router_service_pb2.ListTrafficRulesResponse:
            request = router_service_pb2.ListTrafficRulesRequest(
                model_name=model, page_size=_PAGE_SIZE, page_token=token
            )
            return self._transport.call(self._stub.ListTrafficRules, request, timeout_s=timeout_s)

        return all_pages(fetch, lambda page: page.traffic_rules, limit=limit)

    def changes(
        self, model: str, *, limit: int | None = None, timeout_s: float | None = None
    ) -> Iterator[traffic_pb2.TrafficChange]:
        """Who changed a model's traffic, when and why, newest first."""
        size = _PAGE_SIZE if limit is None else max(1, min(limit, _PAGE_SIZE))

        def fetch(token: str) -> router_service_pb2.ListTrafficChangesResponse:
            request = router_service_pb2.ListTrafficChangesRequest(model_name=model, page_size=size, page_token=token)
            return self._transport.call(self._stub.ListTrafficChanges, request, timeout_s=timeout_s)

        return all_pages(fetch, lambda page: page.changes, limit=limit)
