"""`python -m benchmarks.service_times`: how long Triton takes over batches of digits, as `policy_world` has it.

A bare Triton serves the digits model in one instance without a window; the batcher's own client sends it one batch at a
time over HTTP, sizes in turn so that a slow moment of the machine falls on all of them. The line is fitted through the
medians of the sizes, its scatter is the middle half of the logarithms over it (robust: other work on the machine makes
outliers). What the client spends itself is in the fixed part.
"""

import asyncio
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from math import log
from pathlib import Path
from statistics import linear_regression, median, quantiles

from benchmarks.bare_triton import DIGITS_SERVED, Setting, bare_triton
from services.batcher.adapters.triton import TritonClient
from services.batcher.domain.failure import BackendFailure
from services.batcher.domain.request import Tensor
from services.batcher.domain.serving import Backend
from services.batcher.domain.shape import CallShape, InputShape
from services.common.clock import SystemClock
from services.common.schema import DataType

_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
_ROUNDS = 300
_WARM_UP_ROUNDS = 20
_TIMEOUT_S = 10.0
_ROW_BYTES = 64 * 4
_QUARTILES_OF_NORMAL = 1.349
"""The middle half of a normal distribution is so many deviations wide."""


class _Answer:
    """Awaits one batch."""

    def __init__(self) -> None:
        self.came: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.traceparent = b""

    def answered(self, outputs: Sequence[Tensor]) -> None:  # noqa: ARG002
        self.came.set_result(None)

    def failed(self, failure: BackendFailure) -> None:
        self.came.set_exception(RuntimeError(failure.message))


async def measure() -> Mapping[int, list[float]]:
    """Seconds of each batch by its rows. Raises PartFailedError, RuntimeError where a batch fails, TimeoutError."""
    setting = Setting(max(_SIZES))
    shape = CallShape("digits", "1", (InputShape("X", DataType.FP32, (64,), _ROW_BYTES),), (), ())
    took_s: dict[int, list[float]] = {rows: [] for rows in _SIZES}
    with tempfile.TemporaryDirectory() as folder:
        async with bare_triton(Path(folder), clock=SystemClock()) as triton:
            await triton.load(DIGITS_SERVED, setting)
            client = TritonClient(triton.http_address)
            try:
                place = Backend("triton-0", triton.http_address, "", setting.model_name(DIGITS_SERVED))
                call = client.prepare(shape, backend=place)
                for number in range(_WARM_UP_ROUNDS + _ROUNDS):
                    for rows in _SIZES:
                        answer, began_s = _Answer(), time.perf_counter()
                        call.send(rows, [rows * _ROW_BYTES], [bytes(rows * _ROW_BYTES)], answer)
                        async with asyncio.timeout(_TIMEOUT_S):
                            await answer.came
                        if number >= _WARM_UP_ROUNDS:
                            took_s[rows].append(time.perf_counter() - began_s)
            finally:
                await client.close()
    return took_s


def main() -> int:
    """Prints the medians and the line."""
    took_s = asyncio.run(measure())
    medians_s = {rows: median(times) for rows, times in took_s.items()}
    row_s, fixed_s = linear_regression(list(medians_s), list(medians_s.values()))
    over = [log(one / medians_s[rows]) for rows, times in took_s.items() for one in times]
    low, _, high = quantiles(over, n=4)
    for rows, usual_s in medians_s.items():
        print(f"{rows:4d} rows {usual_s * 1e6:7.0f} µs")
    print(
        f"fixed {fixed_s * 1e6:.0f} µs, a row {row_s * 1e6:.2f} µs, scatter {(high - low) / _QUARTILES_OF_NORMAL:.2f}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
