"""What is counted of each request of a version: plain integers, some 0.4 µs a request."""

from bisect import bisect_left
from collections.abc import Mapping

from services.batcher.domain.batch_run import BatchRun
from services.batcher.domain.outputs import OutputPlan, Scores
from services.batcher.telemetry.buckets import LATENCY_BOUNDS_S, add_counts, new_counts
from services.batcher.telemetry.labels import OTHER
from services.common.errors import CATALOGUE, Code, Reason

CONFIDENCE_HIGH = 0.8
CONFIDENCE_MEDIUM = 0.5
CLASSES_MAX = 1000
"""The most class names that are told apart; the rest is counted under "__other__"."""
STAGES = ("decode", "queue", "backend", "encode")
"""What a request goes through, in this order: read and checked; waiting for its batch; the batch at the model server;
its rows cut out and its answer written, with the wait for its turn on the loop. Their times add up to its latency."""


class VersionStats:
    """The counts of one version since the process started. All only grow. Times are in seconds."""

    __slots__ = (
        "by_class",
        "confidence_high",
        "confidence_low",
        "confidence_medium",
        "errors",
        "latency",
        "latency_s",
        "model_name",
        "ok",
        "stages",
        "stages_s",
        "version",
    )

    def __init__(self, model_name: str, version: str) -> None:
        self.model_name = model_name
        self.version = version
        self.ok = 0
        self.errors: dict[Reason, int] = {}
        self.latency = new_counts(LATENCY_BOUNDS_S)
        self.latency_s = 0.0
        self.stages = [new_counts(LATENCY_BOUNDS_S) for _ in STAGES]
        """One histogram for each stage, of answered requests."""
        self.stages_s = [0.0] * len(STAGES)
        self.by_class: dict[int, int] = {}
        self.confidence_high = 0
        self.confidence_medium = 0
        self.confidence_low = 0

    @property
    def requests(self) -> int:
        """All that were answered, with or without an error."""
        return self.ok + sum(self.errors.values())

    def answered(self, scores: Scores | None) -> None:
        """Counts a request that succeeded."""
        self.ok += 1
        if scores is None:
            return
        by_class = self.by_class
        for index in scores.classes:
            by_class[index] = by_class.get(index, 0) + 1
        for confidence in scores.confidences:
            if confidence >= CONFIDENCE_HIGH:
                self.confidence_high += 1
            elif confidence >= CONFIDENCE_MEDIUM:
                self.confidence_medium += 1
            else:
                self.confidence_low += 1

    def failed(self, reason: Reason) -> None:
        """Counts a request that did not."""
        self.errors[reason] = self.errors.get(reason, 0) + 1

    def took(self, seconds: float) -> None:
        """Counts the time of a request, from its arrival to its answer."""
        self.latency[bisect_left(LATENCY_BOUNDS_S, seconds)] += 1
        self.latency_s += seconds

    def went_through(self, arrived_s: float, queued_s: float, run: BatchRun, ended_s: float) -> None:
        """Counts where the time of an answered request went."""
        bounds, stages, sums = LATENCY_BOUNDS_S, self.stages, self.stages_s
        sent_s, landed_s = run.sent_s, run.landed_s
        decode_s, queue_s, backend_s, encode_s = (
            queued_s - arrived_s,
            sent_s - queued_s,
            run.seconds,
            ended_s - landed_s,
        )
        stages[0][bisect_left(bounds, decode_s)] += 1
        stages[1][bisect_left(bounds, queue_s)] += 1
        stages[2][bisect_left(bounds, backend_s)] += 1
        stages[3][bisect_left(bounds, encode_s)] += 1
        sums[0] += decode_s
        sums[1] += queue_s
        sums[2] += backend_s
        sums[3] += encode_s

    def classes(self, outputs: OutputPlan | None) -> dict[str, int]:
        """Predictions by class name."""
        named: dict[str, int] = {}
        for index, count in self.by_class.items():
            name = OTHER if index >= CLASSES_MAX else outputs.class_name(index) if outputs is not None else str(index)
            named[name] = named.get(name, 0) + count
        return named

    def by_code(self) -> Mapping[Code, int]:
        """Answers by status code."""
        by_code = {Code.OK: self.ok}
        for reason, count in self.errors.items():
            code = CATALOGUE[reason]
            by_code[code] = by_code.get(code, 0) + count
        return by_code

    def absorb(self, other: "VersionStats") -> None:
        """Adds another version's counts, its classes without telling them apart."""
        self.ok += other.ok
        for reason, count in other.errors.items():
            self.errors[reason] = self.errors.get(reason, 0) + count
        add_counts(self.latency, other.latency)
        self.latency_s += other.latency_s
        for mine, theirs in zip(self.stages, other.stages, strict=True):
            add_counts(mine, theirs)
        self.stages_s = [mine + theirs for mine, theirs in zip(self.stages_s, other.stages_s, strict=True)]
        predictions = sum(other.by_class.values())
        if predictions:
            self.by_class[CLASSES_MAX] = self.by_class.get(CLASSES_MAX, 0) + predictions
