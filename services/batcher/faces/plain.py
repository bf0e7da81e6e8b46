"""Plain HTTP: liveness, readiness, metrics, and the answer to paths that are none."""

from collections.abc import Callable, Mapping, Sequence

import orjson
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from services.batcher.faces.asgi import Handler, Receive, Scope, Send, respond
from services.batcher.faces.grpc_unary import send_error, speaks_grpc
from services.batcher.telemetry.exposition import exposition
from services.common.errors import MeshError, Reason

JSON_TYPE = (b"content-type", b"application/json")


class PlainFace:
    """What operators and probes ask."""

    def __init__(self, *, unready: Callable[[], Sequence[str]], registry: CollectorRegistry) -> None:
        self._unready = unready
        self._registry = registry

    def handlers(self) -> Mapping[str, Handler]:
        """What answers each path."""
        return {"/health": self._health, "/ready": self._ready, "/metrics": self._metrics}

    async def _health(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        await respond(send, 200, b'{"status":"ok"}', [JSON_TYPE])

    async def _ready(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        unready = self._unready()
        body = {"status": "unready", "waiting_for": list(unready)} if unready else {"status": "ready"}
        await respond(send, 503 if unready else 200, orjson.dumps(body), [JSON_TYPE])

    async def _metrics(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        text = await exposition(self._registry)
        await respond(send, 200, text, [(b"content-type", CONTENT_TYPE_LATEST.encode())])


async def not_found(scope: Scope, _receive: Receive, send: Send) -> None:
    """No face answers this path: said in the caller's protocol."""
    if speaks_grpc(dict(scope["headers"])):
        await send_error(
            send, MeshError(Reason.NOT_IMPLEMENTED, f"{scope['path']} is no method here; see the protos of infermesh")
        )
        return
    body = orjson.dumps({"error": f"nothing answers at {scope['method']} {scope['path']}"})
    await respond(send, 404, body, [JSON_TYPE])
