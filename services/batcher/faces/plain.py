"""Plain HTTP: liveness, readiness, metrics, and the answer to paths that are none."""

from collections.abc import Callable, Mapping, Sequence
from ipaddress import ip_address

import orjson
from prometheus_client import CollectorRegistry

from services.batcher.bridge.messages import SOURCE_ADDRESS, Answer, Handler, Request, answer
from services.batcher.faces.grpc_unary import error_answer, speaks_grpc
from services.batcher.telemetry.exposition import exposition
from services.common.errors import MeshError, Reason

_HEADER_FORWARDED = b"x-forwarded-for"
JSON_TYPE = (b"content-type", b"application/json")


class PlainFace:
    """What operators and probes ask."""

    def __init__(
        self,
        *,
        unready: Callable[[], Sequence[str]],
        registry: CollectorRegistry,
        page: Callable[[], Mapping[str, object]],
    ) -> None:
        self._unready = unready
        self._registry = registry
        self._page = page

    def handlers(self) -> Mapping[str, Handler]:
        """What answers each path."""
        return {
            "/health": self._health,
            "/ready": self._ready,
            "/metrics": self._metrics,
            "/debug/batcher": self._debug,
        }

    async def _health(self, _request: Request) -> Answer:
        return answer(200, b'{"status":"ok"}', [JSON_TYPE])

    async def _ready(self, _request: Request) -> Answer:
        unready = self._unready()
        body = {"status": "unready", "waiting_for": list(unready)} if unready else {"status": "ready"}
        return answer(503 if unready else 200, orjson.dumps(body), [JSON_TYPE])

    async def _metrics(self, request: Request) -> Answer:
        accept = request.headers.get(b"accept", b"").decode("latin-1")
        text, content_type = await exposition(self._registry, accept)
        return answer(200, text, [(b"content-type", content_type.encode())])

    async def _debug(self, request: Request) -> Answer:
        """The page for operators. It names models, requests and errors, so only this machine gets it, whatever address
        the batcher listens on."""
        if not _is_local(request):
            body = orjson.dumps({"error": f"{request.path} is answered to callers on this machine only"})
            return answer(403, body, [JSON_TYPE])
        return answer(200, orjson.dumps(self._page(), option=orjson.OPT_INDENT_2, default=str), [JSON_TYPE])


def _is_local(request: Request) -> bool:
    if _HEADER_FORWARDED in request.headers:
        return False  # a proxy is on this machine, its caller need not be
    host, _, _ = request.headers.get(SOURCE_ADDRESS, b"").decode("latin-1").rpartition(":")
    try:
        address = ip_address(host.strip("[]"))
    except ValueError:
        return False
    # An IPv4 caller of a listener for both kinds comes as ::ffff:127.0.0.1.
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback


async def not_found(request: Request) -> Answer:
    """No face answers this path: said in the caller's protocol."""
    if speaks_grpc(request.headers):
        return error_answer(
            MeshError(Reason.NOT_IMPLEMENTED, f"{request.path} is no method here; see the protos of infermesh")
        )
    return answer(404, orjson.dumps({"error": f"nothing answers at {request.method} {request.path}"}), [JSON_TYPE])
