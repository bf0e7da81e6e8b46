"""The batcher's application over an engine that echoes: all faces are real, no model runs.

Each output row is made of the input: `label` is the first element, `probabilities` are highest at the label. What a
request's parameter `do` says happens: "wait" never answers, "slow" takes 0.3 s, "fail" and "crash" fail.
"""

import asyncio
import struct

from services.batcher.domain.priority import Priority
from services.batcher.domain.request import InferRequest, InferResult, Tensor
from services.batcher.faces.application import Application
from services.batcher.faces.catalog import Catalog
from services.batcher.faces.operations import Operations
from services.batcher.settings import BatcherSettings
from services.batcher.wiring import Batcher, assemble
from services.common.clock import SystemClock
from services.common.errors import MeshError, Reason
from services.common.lifecycle import Lifecycle
from services.common.schema import DataType
from services.common.settings import load
from services.common.telemetry.logging import configure_logging

SLOW_S = 0.3


class EchoEngine:
    """Answers at once, from the request alone."""

    def late(self, request: InferRequest, waited_s: float) -> MeshError:
        """Nobody follows another's computation here."""
        raise AssertionError(f"{request.request_id} waited {waited_s} s")

    async def infer(self, request: InferRequest) -> InferResult:
        """The label of each row is its first element."""
        match dict(request.parameters).get("do"):
            case "wait":
                await asyncio.Event().wait()
            case "slow":
                await asyncio.sleep(SLOW_S)
            case "fail":
                raise MeshError(Reason.QUEUE_FULL, "the queue is full; try again", retry_after_s=2.0)
            case "crash":
                raise RuntimeError("a secret of the inside")
        data = request.inputs[0].data
        width = len(data) // request.rows
        labels = [int(struct.unpack_from("<f", data, row * width)[0]) % 10 for row in range(request.rows)]
        match dict(request.parameters).get("do"):
            case "left":
                labels = [int(request.deadline_s - SystemClock().monotonic())] * request.rows
            case "background":
                labels = [int(request.priority is Priority.BACKGROUND)] * request.rows
        outputs = {
            "label": Tensor("label", DataType.INT64, (request.rows,), struct.pack(f"<{request.rows}q", *labels)),
            "probabilities": Tensor(
                "probabilities", DataType.FP32, (request.rows, 10), b"".join(_ONE_HOT[label % 10] for label in labels)
            ),
        }
        return InferResult(tuple(outputs[name] for name in request.outputs or outputs))


_ONE_HOT = [struct.pack("<10f", *(0.91 if place == label else 0.01 for place in range(10))) for label in range(10)]


def _built() -> Batcher:
    settings = load(BatcherSettings)
    configure_logging(service="batcher", instance=settings.instance, level=settings.log_level)
    clock = SystemClock()
    lifecycle = Lifecycle(name="batcher", clock=clock, stop_timeout_s=settings.shutdown_grace_s)
    return assemble(settings, clock=clock, lifecycle=lifecycle, catalog=Catalog(), engine=EchoEngine())


app = Application(_built)
operations = Operations(app)
