"""`grpc.health.v1.Health`: Check. Watch is refused, as the protocol allows."""

from collections.abc import Callable, Mapping

from grpc_health.v1 import health_pb2

from services.batcher.bridge.messages import Handler
from services.batcher.codec.oip_proto import parse
from services.batcher.faces.call import Call
from services.batcher.faces.caller import Asks
from services.batcher.faces.core import Core
from services.batcher.faces.grpc_unary import UnaryMethod
from services.common.errors import MeshError, Reason, shown

_SERVICE = "grpc.health.v1.Health"
_KNOWN = frozenset({"", "infermesh.prediction.v1.PredictionService", "inference.GRPCInferenceService"})


class HealthMethods:
    """Whether the batcher takes requests."""

    def __init__(self, core: Core, *, ready: Callable[[], bool]) -> None:
        self._core = core
        self._ready = ready

    def handlers(self) -> Mapping[str, Handler]:
        """What answers each path."""
        return {
            f"/{_SERVICE}/{name}": UnaryMethod(name, answer, core=self._core, asks=Asks.HEALTH)
            for name, answer in (("Check", self._check), ("Watch", self._watch))
        }

    async def _check(self, _call: Call, data: bytes) -> bytes:
        service = parse(health_pb2.HealthCheckRequest, data).service
        if service not in _KNOWN:
            raise MeshError(
                Reason.MODEL_NOT_SERVED, f"no service {shown(service)} here; ask for one of {sorted(_KNOWN)}"
            )
        status = health_pb2.HealthCheckResponse
        answer: bytes = status(status=status.SERVING if self._ready() else status.NOT_SERVING).SerializeToString()
        return answer

    async def _watch(self, _call: Call, _data: bytes) -> bytes:
        raise MeshError(Reason.NOT_IMPLEMENTED, "health is not streamed; call Check again, or GET /ready")
