"""What is counted of each request of a version: plain integers, half a microsecond a request."""

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from services.batcher.domain.outputs import OutputPlan, Scores, TableScores
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


class TracedLatency(NamedTuple):
    """A request whose trace shows what its bucket is like."""

    trace_id: bytes
    seconds: float
    ended_at_s: float


class VersionStats:
    """The counts of one version since the process started. All only grow. Times are in seconds."""

    __slots__ = (
        "backend",
        "backend_s",
        "by_class",
        "confidence_high",
        "confidence_low",
        "confidence_medium",
        "decode",
        "decode_s",
        "encode",
        "encode_s",
        "errors",
        "exemplars",
        "latency",
        "latency_s",
        "model_name",
        "ok",
        "queue",
        "queue_s",
        "version",
    )

    def __init__(self, model_name: str, version: str) -> None:
        self.model_name = model_name
        self.version = version
        self.ok = 0
        self.errors: dict[Reason, int] = {}
        self.latency = new_counts(LATENCY_BOUNDS_S)
        self.latency_s = 0.0
        self.exemplars: dict[int, TracedLatency] = {}
        """Of each bucket of `latency` the newest request that is traced, where there was one."""
        self.decode, self.decode_s = new_counts(LATENCY_BOUNDS_S), 0.0
        self.queue, self.queue_s = new_counts(LATENCY_BOUNDS_S), 0.0
        self.backend, self.backend_s = new_counts(LATENCY_BOUNDS_S), 0.0
        self.encode, self.encode_s = new_counts(LATENCY_BOUNDS_S), 0.0
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
        if isinstance(scores, TableScores):
            self._count(scores)
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

    def _count(self, scores: TableScores) -> None:
        """The same of many rows."""
        counts = np.bincount(scores.index)
        for index in np.flatnonzero(counts).tolist():
            self.by_class[index] = self.by_class.get(index, 0) + int(counts[index])
        high = int(np.count_nonzero(scores.confidence >= CONFIDENCE_HIGH))
        medium = int(np.count_nonzero(scores.confidence >= CONFIDENCE_MEDIUM))
        self.confidence_high += high
        self.confidence_medium += medium - high
        self.confidence_low += len(scores.index) - medium

    def failed(self, reason: Reason) -> None:
        """Counts a request that did not."""
        self.errors[reason] = self.errors.get(reason, 0) + 1

    def took(self, seconds: float) -> None:
        """Counts the time of a request, from its arrival to its answer."""
        self.latency[bisect_left(LATENCY_BOUNDS_S, seconds)] += 1
        self.latency_s += seconds

    def traced(self, trace_id: bytes, seconds: float, *, ended_at_s: float) -> None:
        """A traced request took so long, and ended then, in seconds since 1970. It is counted elsewhere."""
        self.exemplars[bisect_left(LATENCY_BOUNDS_S, seconds)] = TracedLatency(trace_id, seconds, ended_at_s)

    def took_all(self, counts: Sequence[Sequence[int]], seconds: Sequence[float]) -> None:
        """Counts the times of requests that were answered in batches: histograms and sums of the whole, then of each
        stage."""
        self.latency_s += seconds[0]
        add_counts(self.latency, counts[0])
        for stage, some, spent in zip(STAGES, counts[1:], seconds[1:], strict=True):
            self._add(stage, some, spent)

    def stages(self) -> Iterable[tuple[str, list[int], float]]:
        """Of each stage its name, its histogram and its seconds."""
        for stage in STAGES:
            yield stage, getattr(self, stage), getattr(self, f"{stage}_s")

    def classes(self, outputs: OutputPlan | None) -> dict[str, int]:
        """Predictions by class name."""
        named: dict[str, int] = {}
        for index, count in self.by_class.items():
            name = OTHER if index >= CLASSES_MAX else outputs.class_name(index) if outputs is not None else str(index)
            named[name] = named.get(name, 0) + count
        return named

    def by_confidence(self) -> Mapping[str, int]:
        """Predictions by how sure the model was; of a version that says nothing of it, none at all."""
        counts = {"high": self.confidence_high, "medium": self.confidence_medium, "low": self.confidence_low}
        return counts if any(counts.values()) else {}

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
        for stage, counts, seconds in other.stages():
            self._add(stage, counts, seconds)
        self.confidence_high += other.confidence_high
        self.confidence_medium += other.confidence_medium
        self.confidence_low += other.confidence_low
        predictions = sum(other.by_class.values())
        if predictions:
            self.by_class[CLASSES_MAX] = self.by_class.get(CLASSES_MAX, 0) + predictions

    def _add(self, stage: str, counts: Sequence[int], seconds: float) -> None:
        add_counts(getattr(self, stage), counts)
        setattr(self, f"{stage}_s", getattr(self, f"{stage}_s") + seconds)
