"""The router: what it knows of a model's last change, and what may be done to canaries; and the registry's changes."""

from datetime import UTC, datetime

import grpc
from infermesh.registry.v1 import registry_service_pb2, registry_service_pb2_grpc
from infermesh.router.v1 import canary_pb2, router_service_pb2, router_service_pb2_grpc, traffic_pb2

from services.common.errors import MeshError, Reason
from services.monitor.domain.alerts import Alert
from services.monitor.ports_alerts import ModelChange

_DEADLINE_S = 2.5
_ACTION_S = 8.0
_RUNNING = ("running", "paused")
_REASON_MAX = 1000
_LOOKED_AT = 20
"""The newest changes of a model's traffic among which one is looked for that changed anything: deployments that come
and go record others."""


class RouterCanaries:
    """`Canaries` over RouterService."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._router = router_service_pb2_grpc.RouterServiceStub(channel)

    async def act(self, alert: Alert, action: str) -> str:
        """Holds the canary, or rolls it back. Whether it was done before is read off the canary, which has the alert's
        id in its reason: a call whose answer was lost is not made again."""
        try:
            request = router_service_pb2.GetCanaryRequest(model_name=alert.model)
            canary = await self._router.GetCanary(request, timeout=_ACTION_S)
        except MeshError as error:
            if error.reason is Reason.TRAFFIC_RULE_NOT_FOUND:
                return f"there was no canary of {alert.model} to {_verb(action)}"
            raise
        name = f"the canary of {alert.model} {canary.version}"
        if alert.alert_id in canary.status_reason:
            return f"{name} was {_past(action)}"
        if canary.status not in _RUNNING:
            return f"there was no canary of {alert.model} in progress to {_verb(action)}"
        if canary.created_at.ToDatetime(UTC) > alert.fired_at:
            return f"{name} began after the alert fired and was let alone"
        if action == "hold" and canary.status == "paused":
            return f"{name} was on hold already"
        return await self._asked(alert, action, canary, name)

    async def _asked(self, alert: Alert, action: str, canary: canary_pb2.Canary, name: str) -> str:
        reason = f"alert {alert.alert_id}: {alert.summary}"[:_REASON_MAX]
        try:
            if action == "hold":
                pause = router_service_pb2.PauseCanaryRequest(model_name=alert.model, etag=canary.etag, reason=reason)
                await self._router.PauseCanary(pause, timeout=_ACTION_S)
            else:
                abort = router_service_pb2.AbortCanaryRequest(model_name=alert.model, etag=canary.etag, reason=reason)
                await self._router.AbortCanary(abort, timeout=_ACTION_S)
        except MeshError as error:
            if error.reason in (Reason.ROLLOUT_STATE_INVALID, Reason.PERMISSION_DENIED):
                return f"{name} could not be {_past(action)}: {error.message}"
            # ETAG_MISMATCH too: it moved on in between, and is looked at again.
            raise
        return f"{name} was {_past(action)}"


class LastChanges:
    """A `ChangeSource`: the newest of what the router and the registry know to have changed of a model."""

    def __init__(self, *, router: grpc.aio.Channel, registry: grpc.aio.Channel) -> None:
        self._router = router_service_pb2_grpc.RouterServiceStub(router)
        self._registry = registry_service_pb2_grpc.RegistryServiceStub(registry)

    async def last(self, model: str) -> ModelChange | None:
        """The newest change of traffic, or of the model's entry in the registry where that is newer."""
        found = [change for change in (await self._traffic(model), await self._entry(model)) if change is not None]
        return max(found, key=lambda change: change[0])[1] if found else None

    async def _traffic(self, model: str) -> tuple[datetime, ModelChange] | None:
        request = router_service_pb2.ListTrafficChangesRequest(model_name=model, page_size=_LOOKED_AT)
        try:
            answer = await self._router.ListTrafficChanges(request, timeout=_DEADLINE_S)
        except MeshError as error:
            if error.reason is Reason.TRAFFIC_RULE_NOT_FOUND:
                return None
            raise
        change = next((change for change in answer.changes if _moved(change) or change.changes), None)
        if change is None:
            return None
        moment = change.time.ToDatetime(UTC)
        undo = await self._undo(change, newest=change is answer.changes[0])
        return moment, ModelChange(_traffic_words(change, moment), undo)

    async def _undo(self, change: traffic_pb2.TrafficChange, *, newest: bool) -> str:
        """What undoes it: a change of a canary in progress is undone by ending that, as any other would be refused; one
        that is not the newest, by the shares that held before it."""
        if change.action == "ab_test" or not change.before:
            return ""
        if change.action == "canary":
            request = router_service_pb2.GetCanaryRequest(model_name=change.model_name)
            canary = await self._router.GetCanary(request, timeout=_DEADLINE_S)
            if canary.status in _RUNNING:
                return f"infermesh canary abort {change.model_name}"
        if newest:
            return f"infermesh traffic undo {change.model_name}"
        shares = " ".join(f"{version}={share}" for version, share in sorted(change.before.items()))
        return f"infermesh traffic set {change.model_name} {shares}" if _moved(change) else ""

    async def _entry(self, model: str) -> tuple[datetime, ModelChange] | None:
        request = registry_service_pb2.ListChangesRequest(resource_type="model", resource_name=model, page_size=1)
        answer = await self._registry.ListChanges(request, timeout=_DEADLINE_S)
        if not answer.changes:
            return None
        change = answer.changes[0]
        moment = change.time.ToDatetime(UTC)
        words = f"{_when(moment)}: the model was {change.action}{_by(change.actor)}{_why(change.reason)}"
        return moment, ModelChange(words)


def _moved(change: traffic_pb2.TrafficChange) -> bool:
    return dict(change.before) != dict(change.after)


def _traffic_words(change: traffic_pb2.TrafficChange, moment: datetime) -> str:
    shares = ", ".join(f"{version} {share} %" for version, share in sorted(change.after.items()))
    before = ", ".join(f"{version} {share} %" for version, share in sorted(change.before.items()))
    what = f"traffic went from {before} to {shares}" if before else f"traffic went to {shares}"
    if not _moved(change):
        what = f"of the traffic, {'; '.join(change.changes)}"
    return f"{_when(moment)}: {what} ({change.action}){_by(change.actor)}{_why(change.reason)}"


def _when(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"


def _by(actor: str) -> str:
    return f", by {actor}" if actor else ""


def _why(reason: str) -> str:
    return f": {reason}" if reason else ""


def _verb(action: str) -> str:
    return "hold" if action == "hold" else "roll back"


def _past(action: str) -> str:
    return "put on hold" if action == "hold" else "rolled back"
