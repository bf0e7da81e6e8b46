"""What sampling rows for drift costs each request: `python -m benchmarks.drift_cost [--rate 4000] [--rows-per-s 20]`.

Processor time of the thread for a version of 64 numbers and ten probabilities: looking at each request, and reading and
packing the sample every quarter of a second, shared among the requests between. Of several rounds the median.
"""

import argparse
import random
import statistics
import sys
import time
from collections.abc import Sequence

import numpy as np

from services.batcher.adapters.row_samples import RowSamples
from services.batcher.domain.request import InferRequest, InferResult, Tensor
from services.batcher.domain.serving import ServedVersion
from services.batcher.faces.call import Call
from services.batcher.faces.caller import Callers
from services.batcher.faces.catalog import VersionPlan
from services.batcher.telemetry.version_stats import VersionStats
from services.common.schema import DataType, ModelSchema, PredictionMapping, TensorSpec

_PERIOD_S = 0.25
_PERIODS = 40
_ROUNDS = 15
_FEATURES, _CLASSES = 64, 10


def _call() -> tuple[Call, VersionPlan]:
    specs = ModelSchema(
        (TensorSpec("X", DataType.FP32, (_FEATURES,)),),
        (TensorSpec("label", DataType.INT64), TensorSpec("probabilities", DataType.FP32, (_CLASSES,))),
    )
    served = ServedVersion("digits", "v1.0.0", "main", specs, mapping=PredictionMapping("label", "probabilities"))
    plan = VersionPlan(served, VersionStats("digits", "v1.0.0"))
    call = Call({}, arrived_s=0.0, caller=Callers().of({}, 0.0))
    call.model_name, call.plan, call.rows = "digits", plan, 1
    pixels = np.zeros(_FEATURES, dtype="<f4").tobytes()
    call.request = InferRequest(served, 1, (Tensor("X", DataType.FP32, (1, _FEATURES), pixels),), 1.0)
    chances = np.full(_CLASSES, 0.1, dtype="<f4").tobytes()
    call.result = InferResult(
        (
            Tensor("label", DataType.INT64, (1,), bytes(8)),
            Tensor("probabilities", DataType.FP32, (1, _CLASSES), chances),
        )
    )
    call.scores = plan.outputs.scores(call.result, 1)
    return call, plan


def cost_us(*, rate: float, rows_per_s: float) -> tuple[float, float]:
    """Microseconds a request: looking at it, and its share of reading samples."""
    call, plan = _call()
    samples = RowSamples(period_s=_PERIOD_S, chance=random.Random(1).random)
    samples.ask_for(rows_per_s)
    requests = max(1, round(rate * _PERIOD_S))
    looked, read = [], []
    for turn in range(_ROUNDS):
        looking_ns = reading_ns = 0
        for period in range(_PERIODS):
            began_ns = time.thread_time_ns()
            for _ in range(requests):
                samples.offer(call, plan)
            between_ns = time.thread_time_ns()
            now_s = (turn * _PERIODS + period) * _PERIOD_S
            for _, message in samples.drain(now_s=now_s, time_us=0):
                message.SerializeToString()
            ended_ns = time.thread_time_ns()
            looking_ns += between_ns - began_ns
            reading_ns += ended_ns - between_ns
        looked.append(looking_ns / 1000 / (requests * _PERIODS))
        read.append(reading_ns / 1000 / (requests * _PERIODS))
    return statistics.median(looked), statistics.median(read)


def main(arguments: Sequence[str]) -> int:
    """Prints the cost with sampling and without."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.drift_cost", description=__doc__)
    parser.add_argument("--rate", type=float, default=4000.0, help="requests a second (default 4000)")
    parser.add_argument("--rows-per-s", type=float, default=20.0, help="rows that the monitor asks for (default 20)")
    options = parser.parse_args(arguments)
    for name, rows_per_s in (("not asked for", 0.0), (f"{options.rows_per_s:g} rows/s", options.rows_per_s)):
        looked, read = cost_us(rate=options.rate, rows_per_s=rows_per_s)
        print(f"{name:>14}: {looked:.2f} µs a request, and {read:.2f} µs for reading, at {options.rate:,.0f}/s")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
