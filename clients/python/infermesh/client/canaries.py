"""Canaries: a version that takes over in stages, and is taken back where it breaks a limit."""

from collections.abc import Iterator, Sequence

from infermesh.client.polling import OUTAGE_TIMEOUT_S, PERIOD_S, followed
from infermesh.client.transport import Transport, all_pages, new_request_id
from infermesh.router.v1 import canary_pb2, router_service_pb2, router_service_pb2_grpc, traffic_rule_pb2

ENDED = frozenset({"promoted", "rolled_back", "aborted"})
"""The statuses that a canary never leaves."""
WATCH_TIMEOUT_S = 30 * 86_400.0
"""How long a canary is watched where nothing else is said: about as long as one stage may last."""
_PAGE_SIZE = 200


class Canaries:
    """Versions on trial. A model has one canary or A/B test at a time."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._stub = router_service_pb2_grpc.RouterServiceStub(transport.channel)

    def start(
        self,
        model: str,
        deployment: str,
        *,
        stages: Sequence[traffic_rule_pb2.CanaryStage] = (),
        criteria: traffic_rule_pb2.SuccessCriteria | None = None,
        hold_minutes_max: float = 0.0,
        etag: str = "",
        reason: str = "",
        request_id: str = "",
        timeout_s: float | None = None,
    ) -> canary_pb2.Canary:
        """Starts a canary of the version of a deployment, and returns it in its first stage.

        Without `stages`: 1 % for 10 minutes, 10 % for 30, 50 % for 60, then 100 %. Without `criteria`: an error rate of
        at most 1 %. A stage whose evidence decides nothing is held for up to `hold_minutes_max` (0: a day). The same
        `request_id` again is the same canary. Raises DEPLOYMENT_NOT_FOUND, ROLLOUT_IN_PROGRESS, INVALID_FIELD.
        """
        request = self._wish(model, deployment, stages, criteria, hold_minutes_max)
        request.etag, request.reason = etag, reason
        request.request_id = request_id or new_request_id()
        self._transport.call(self._stub.UpdateTraffic, request, timeout_s=timeout_s)
        return self.get(model, timeout_s=timeout_s)

    def plan(
        self,
        model: str,
        deployment: str,
        *,
        stages: Sequence[traffic_rule_pb2.CanaryStage] = (),
        criteria: traffic_rule_pb2.SuccessCriteria | None = None,
        hold_minutes_max: float = 0.0,
        timeout_s: float | None = None,
    ) -> router_service_pb2.TrafficPlan:
        """What the first stage of `start` with the same arguments would change; it fails as that would."""
        request = self._wish(model, deployment, stages, criteria, hold_minutes_max)
        return self._transport.call(self._stub.PlanTraffic, request, timeout_s=timeout_s)

    def get(self, model: str, *, timeout_s: float | None = None) -> canary_pb2.Canary:
        """The model's canary that runs, or its last one. Raises TRAFFIC_RULE_NOT_FOUND where there was none."""
        request = router_service_pb2.GetCanaryRequest(model_name=model)
        return self._transport.call(self._stub.GetCanary, request, timeout_s=timeout_s)

    def list(
        self, model: str, *, limit: int | None = None, timeout_s: float | None = None
    ) -> Iterator[canary_pb2.Canary]:
        """The canaries of a model, newest first."""
        size = _PAGE_SIZE if limit is None else max(1, min(limit, _PAGE_SIZE))

        def fetch(token: str) -> router_service_pb2.ListCanariesResponse:
            request = router_service_pb2.ListCanariesRequest(model_name=model, page_size=size, page_token=token)
            return self._transport.call(self._stub.ListCanaries, request, timeout_s=timeout_s)

        return all_pages(fetch, lambda page: page.canaries, limit=limit)

    def pause(
        self, model: str, *, etag: str = "", reason: str = "", timeout_s: float | None = None
    ) -> canary_pb2.Canary:
        """Keeps the canary at its stage; limits are still watched. Raises ROLLOUT_STATE_INVALID, ETAG_MISMATCH."""
        request = router_service_pb2.PauseCanaryRequest(model_name=model, etag=etag, reason=reason)
        return self._transport.call(self._stub.PauseCanary, request, timeout_s=timeout_s)

    def resume(
        self, model: str, *, etag: str = "", reason: str = "", timeout_s: float | None = None
    ) -> canary_pb2.Canary:
        """Lets a paused canary go on; its stage begins anew. Raises ROLLOUT_STATE_INVALID, ETAG_MISMATCH."""
        request = router_service_pb2.ResumeCanaryRequest(model_name=model, etag=etag, reason=reason)
        return self._transport.call(self._stub.ResumeCanary, request, timeout_s=timeout_s)

    def promote(
        self, model: str, *, etag: str = "", reason: str = "", timeout_s: float | None = None
    ) -> canary_pb2.Canary:
        """Gives the canary all traffic now, its stages that are left skipped. Raises as `pause` does."""
        request = router_service_pb2.PromoteCanaryRequest(model_name=model, etag=etag, reason=reason)
        return self._transport.call(self._stub.PromoteCanary, request, timeout_s=timeout_s)

    def abort(
        self, model: str, *, etag: str = "", reason: str = "", timeout_s: float | None = None
    ) -> canary_pb2.Canary:
        """Ends the canary: the version that it was to replace gets its traffic back. Raises as `pause` does."""
        request = router_service_pb2.AbortCanaryRequest(model_name=model, etag=etag, reason=reason)
        return self._transport.call(self._stub.AbortCanary, request, timeout_s=timeout_s)

    def watch(
        self,
        model: str,
        *,
        timeout_s: float = WATCH_TIMEOUT_S,
        period_s: float = PERIOD_S,
        outage_timeout_s: float = OUTAGE_TIMEOUT_S,
    ) -> Iterator[canary_pb2.Canary]:
        """The canary as it is, then whenever it changes, until it has ended; the last one is the ended canary.

        It is looked at every `period_s` seconds. Raises DEADLINE_EXCEEDED after `timeout_s` seconds, what the first
        look meets at once, and what breaks off for longer than `outage_timeout_s`.
        """
        return followed(
            lambda left_s: self.get(model, timeout_s=min(left_s, self._transport.timeout_s)),
            ended=lambda canary: canary.status in ENDED,
            what=f"the canary of {model}",
            timeout_s=timeout_s,
            period_s=period_s,
            outage_timeout_s=outage_timeout_s,
        )

    @staticmethod
    def _wish(
        model: str,
        deployment: str,
        stages: Sequence[traffic_rule_pb2.CanaryStage],
        criteria: traffic_rule_pb2.SuccessCriteria | None,
        hold_minutes_max: float,
    ) -> router_service_pb2.UpdateTrafficRequest:
        config = traffic_rule_pb2.CanaryConfig(
            enabled=True, stages=stages, success_criteria=criteria, hold_minutes_max=hold_minutes_max
        )
        return router_service_pb2.UpdateTrafficRequest(
            model_name=model, deployment_name=deployment, canary_config=config
        )
