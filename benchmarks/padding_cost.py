"""What filling up costs: bytes joined with bytes, against the same with numpy; and a batch of equal rows, unpadded.

Prints microseconds of CPU for each row, the best of several rounds.
"""

import time
from collections.abc import Callable

import numpy as np

from services.batcher.domain.padding import PaddingPlan
from services.batcher.domain.queue import Waiter
from services.batcher.domain.request import InferRequest, InferResult, Tensor
from services.batcher.domain.rows import gather
from services.batcher.domain.serving import Padding, ServedVersion
from services.batcher.domain.shape import call_shape
from services.common.schema import DataType, ModelSchema, TensorSpec

ROUNDS = 7
ROWS = 32
SPEC = TensorSpec("ids", DataType.INT64, (-1,))
SERVED = ServedVersion("m", "v1.0.0", "d", ModelSchema((SPEC,), (TensorSpec("y", DataType.FP32),)))
PADDING = Padding(waste_max=0.5)


class _Nobody:
    def done(self) -> bool:
        return True

    def set_result(self, result: InferResult, /) -> None:
        raise AssertionError(result)

    def set_exception(self, exception: Exception, /) -> None:
        raise exception


def members(sizes: list[int]) -> list[Waiter]:
    """One request of one row for each size."""
    tensors = [Tensor("ids", DataType.INT64, (1, size), bytes(8 * size)) for size in sizes]
    return [Waiter(_Nobody(), (one,), 1, arrived_s=0, deadline_s=9, size=len(one.data)) for one in tensors]


def with_numpy(waiters: list[Waiter], longest: int) -> bytes:
    """The same batch, filled up in an array."""
    whole = np.zeros((len(waiters), longest), "<i8")
    for row, waiter in enumerate(waiters):
        tensor = waiter.inputs[0]
        whole[row, : tensor.shape[1]] = np.frombuffer(tensor.data, "<i8")
    return whole.tobytes()


def us_per_row(work: Callable[[], object]) -> float:
    """CPU time of this thread for each row, the best of several rounds."""
    best = float("inf")
    for _ in range(ROUNDS):
        begin_s = time.thread_time()
        for _ in range(500):
            work()
        best = min(best, time.thread_time() - begin_s)
    return best / 500 / ROWS * 1e6


def costs(longest: int) -> tuple[float, float, float]:
    """Of equal rows, of rows of half to all of `longest` by bytes, and of the same by numpy."""
    ragged = members([max(1, longest - longest * at // (2 * ROWS)) for at in range(ROWS)])
    equal = members([longest] * ROWS)
    plan = PaddingPlan(InferRequest(SERVED, 1, ragged[0].inputs, 9.0), PADDING)
    shape = call_shape(InferRequest(SERVED, 1, equal[0].inputs, 9.0))
    assert b"".join(plan.pad(ragged, ROWS).buffers) == with_numpy(ragged, longest)
    return (
        us_per_row(lambda: b"".join(gather(shape, equal, ROWS)[0])),
        us_per_row(lambda: b"".join(plan.pad(ragged, ROWS).buffers)),
        us_per_row(lambda: with_numpy(ragged, longest)),
    )


def main() -> None:
    """Prints the table."""
    print("longest  equal rows  filled by bytes  filled by numpy  (microseconds of CPU for each row of 32, joined)")
    for longest in (16, 128, 512, 2048):
        equal, by_bytes, by_numpy = costs(longest)
        print(f"{longest:7}  {equal:10.2f}  {by_bytes:15.2f}  {by_numpy:15.2f}")


if __name__ == "__main__":
    main()
