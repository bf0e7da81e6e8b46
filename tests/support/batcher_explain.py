"""Models as Python functions behind the engine's port, and reference samples in memory, for tests of explanations."""

import asyncio
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from services.batcher.domain.explained import not_ready
from services.batcher.domain.instances import InstancePlan
from services.batcher.domain.request import InferRequest, InferResult, Tensor
from services.batcher.domain.serving import ServedVersion
from services.batcher.domain.tensors import as_array, split_bytes
from services.common.schema import DataType

Floats = npt.NDArray[np.float64]
Columns = Mapping[str, npt.NDArray[np.generic]]


def columns_of(inputs: Sequence[Tensor]) -> Columns:
    """Each feature as an array with one row for each row."""
    made = {}
    for tensor in inputs:
        if tensor.data_type is DataType.BYTES:
            flat = np.array([value.decode() for value in split_bytes(tensor.data)])
        else:
            flat = as_array(tensor.data_type, tensor.data)
        made[tensor.name] = flat.reshape(tensor.shape)
    return made


class FunctionEngine:
    """An `InferEngine` whose model is a function of the features; each of its outputs is FP64. A row takes a
    model server a second."""

    def __init__(self, model: Callable[[Columns], Mapping[str, Floats]]) -> None:
        self._model = model
        self.requests: list[InferRequest] = []
        self.running = 0
        self.running_max = 0
        self.before: Callable[[InferRequest], None] = lambda _: None
        """Called with each request; may raise."""
        self.open = asyncio.Event()
        """While it is not set, requests of several rows are held."""
        self.open.set()
        self.held = asyncio.Event()
        """Set once one is."""

    @property
    def rows(self) -> int:
        """Rows that were asked about."""
        return sum(request.rows for request in self.requests)

    async def infer(self, request: InferRequest) -> InferResult:
        """What the function says."""
        self.requests.append(request)
        self.running += 1
        self.running_max = max(self.running, self.running_max)
        try:
            await asyncio.sleep(0)
            if request.rows > 1 and not self.open.is_set():
                self.held.set()
                await self.open.wait()
            self.before(request)
        finally:
            self.running -= 1
        outputs = self._model(columns_of(request.inputs))
        wanted = request.outputs or tuple(outputs)
        return InferResult(
            tuple(
                Tensor(name, DataType.FP64, outputs[name].shape, np.asarray(outputs[name], np.float64).tobytes())
                for name in wanted
            ),
            compute_s=float(request.rows),
        )


class MemoryReferences:
    """A `ReferenceSource`."""

    def __init__(self, samples: Mapping[str, Sequence[Mapping[str, object]]]) -> None:
        self.samples = dict(samples)
        """Instances by digest."""

    def check(self, served: ServedVersion) -> None:
        """Raises EXPLANATION_NOT_READY where there is none."""
        if served.reference_digest not in self.samples:
            raise not_ready(served, "the registry does not answer", retry_after_s=1.0)

    async def sample(self, plan: InstancePlan) -> tuple[Tensor, ...]:
        """The sample as tensors."""
        self.check(plan.served)
        return plan.tensors(self.samples[plan.served.reference_digest])
