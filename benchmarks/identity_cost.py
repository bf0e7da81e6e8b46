"""What knowing the caller costs a prediction: `python -m benchmarks.identity_cost`.

One typed request after the other goes through the whole face, from its bytes to the answer's, over an engine that
answers at once: without the headers that the gateway sets, with those of one key, and with those of many in turns. What
differs is the look at the headers and the check of the model. Processor time of the thread, and of several rounds the
median: other load on the machine hardly changes it.
"""

import asyncio
import gc
import statistics
import time
from collections.abc import Mapping, Sequence
from itertools import cycle, islice

from inference import grpc_service_pb2 as pb

from services.batcher.bridge.messages import Request
from services.batcher.codec.frames import frame
from services.batcher.codec.oip_proto import TensorRequests
from services.batcher.domain.request import InferRequest, InferResult, Tensor
from services.batcher.domain.serving import Backend, ServedModel, ServedVersion, ServingTable
from services.batcher.faces.catalog import Catalog
from services.batcher.faces.core import Core
from services.batcher.faces.grpc_unary import UnaryMethod
from services.batcher.faces.oip import infer_tensors
from services.common.clock import SystemClock
from services.common.schema import DataType, ModelSchema, TensorSpec

_ROUNDS = 15
_REQUESTS = 20_000
"""In one round."""
_HEADERS = {b":path": b"/x", b":method": b"POST", b"content-type": b"application/grpc", b"te": b"trailers"}


class _Echo:
    """Answers at once with what it was sent."""

    async def infer(self, request: InferRequest) -> InferResult:
        return InferResult((Tensor("y", DataType.FP32, (request.rows, 4), request.inputs[0].data),))


class _NoLog:
    """Keeps nothing."""

    def add(self, call: object, **_said: object) -> None:
        """Nothing is kept."""

    def add_copy(self, copy: object) -> None:
        """Nothing is kept."""


def _method() -> UnaryMethod:
    schema = ModelSchema((TensorSpec("x", DataType.FP32, (4,)),), (TensorSpec("y", DataType.FP32, (4,)),))
    served = ServedVersion("m", "v1.0.0", "d", schema, backends=(Backend("b", "b:1", "b:1", "m"),), team="search")
    catalog = Catalog()
    catalog.apply(ServingTable(1, {"m": ServedModel("m", "v1.0.0", {"v1.0.0": served}, team="search")}))
    core = Core(
        catalog=catalog,
        engine=_Echo(),
        features=None,  # type: ignore[arg-type] # the version has none
        request_log=_NoLog(),
        clock=SystemClock(),
        deadline_default_s=30.0,
        deadline_max_s=300.0,
    )
    requests = TensorRequests()

    async def answer(call: object, data: bytes) -> bytes:
        answered = await infer_tensors(core, call, requests.read(data))  # type: ignore[arg-type]
        return answered.plan.wire.response(answered.result, answered.request_id)

    return UnaryMethod("ModelInfer", answer, core=core)


def _body() -> bytes:
    tensor = pb.ModelInferRequest.InferInputTensor(name="x", datatype="FP32", shape=[1, 4])
    return frame(
        pb.ModelInferRequest(model_name="m", inputs=[tensor], raw_input_contents=[bytes(16)]).SerializeToString()
    )


def _keys(count: int) -> list[Mapping[bytes, bytes]]:
    return [
        {
            b"x-infermesh-user": b"",
            b"x-infermesh-team": b"search",
            b"x-infermesh-role": b"viewer",
            b"x-infermesh-key": b"key_%020d" % number,
            b"x-infermesh-scopes": b"predict models.read",
        }
        for number in range(count)
    ]


async def _round_s(method: UnaryMethod, said: Sequence[Mapping[bytes, bytes]]) -> float:
    body = _body()
    # Headers come as bytes of their own with every request, so their hashes are not known.
    requests = [
        Request(
            "POST", "/x", {**_HEADERS, **{name: bytes(bytearray(value)) for name, value in keys.items()}}, body, True
        )
        for keys in islice(cycle(said), _REQUESTS)
    ]
    began_s = time.thread_time()
    for request in requests:
        answered = await method(request)
        assert answered.trailers is not None
        assert answered.trailers[0] == (b"grpc-status", b"0"), answered.trailers
    return (time.thread_time() - began_s) / _REQUESTS


async def _measure() -> None:
    method = _method()
    kinds: Mapping[str, Sequence[Mapping[bytes, bytes]]] = {
        "no identity headers": [{}],
        "one key": _keys(1),
        "1,000 keys in turns": _keys(1000),
    }
    seconds: dict[str, list[float]] = {kind: [] for kind in kinds}
    for _ in range(_ROUNDS):
        for kind, said in kinds.items():
            seconds[kind].append(await _round_s(method, said))
    for kind, measured in seconds.items():
        print(f"{kind:>22}: {statistics.median(measured) * 1e9:,.0f} ns a request")


def main() -> None:
    """Prints nanoseconds of processor time a request."""
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)
    asyncio.run(_measure())


if __name__ == "__main__":
    main()
