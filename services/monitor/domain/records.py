"""What a chunk of the prediction log says, as values."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import numpy.typing as npt

from services.monitor.domain.drift.rows import SampledRows

CLASSES_MAX = 1000
"""Class names that one group may count apart; the rest are counted together, so that labels cannot grow without end."""
OTHER = "__other__"


class Kind(IntEnum):
    """Why a request was made."""

    CALLER = 0
    RETRY = 1
    SHADOW = 2
    WARM_UP = 3
    BATCH_JOB = 4


CALLER_KINDS = (Kind.CALLER, Kind.BATCH_JOB)
"""The kinds that count as traffic."""
ANSWERED_KINDS = (Kind.CALLER, Kind.RETRY, Kind.BATCH_JOB)
"""The kinds whose answers callers got: a retry is no traffic of its own, but its answer is the only one they know."""


@dataclass(frozen=True, slots=True)
class Labels:
    """What was predicted for the rows of one request: classes, or numbers where the version has none."""

    classes: Sequence[str] = ()
    numbers: Sequence[float] = ()


NO_LABELS = Labels()
"""Of a request that failed, or whose version is not under test."""


@dataclass(frozen=True, slots=True)
class ShadowExample:
    """A request that two versions answered differently; the outputs of the first different row as JSON."""

    request_id: str
    time_us: int
    row: int
    primary_output: str
    shadow_output: str
    difference: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """How a version's answers to shadow copies compare with those of the version that answered the callers."""

    primary_version: str
    compared_count: int
    disagreed_count: int
    dropped_count: int
    failed_by_reason: Mapping[str, int]
    examples: Sequence[ShadowExample]


@dataclass(frozen=True)
class Group:
    """Finished requests of one version. All arrays have the same length; a column that was not sent is filled in."""

    model: str
    version: str
    deployment: str
    times_us: npt.NDArray[np.int64]
    latencies_us: npt.NDArray[np.int64]
    rows: npt.NDArray[np.int64]
    codes: npt.NDArray[np.int64]
    reasons: npt.NDArray[np.int64]
    kinds: npt.NDArray[np.int64]
    request_ids: Sequence[str]
    users: Sequence[str]
    teams: Sequence[str]
    input_hashes: Sequence[bytes]
    outputs: Sequence[str]
    trace_ids: Sequence[bytes]
    by_class: Mapping[str, int]
    by_confidence: Mapping[str, int]
    compute_us: npt.NDArray[np.int64]
    """What each used of model servers: its share, by rows, of its batches' time."""
    gpus: float = 0.0
    """Of each replica of the deployment."""
    labels: Sequence[Labels] = ()
    """One for each request, or none at all: outcomes are not waited for."""
    comparisons: Sequence[Comparison] = ()
    sampled: SampledRows | None = None
    """Some of the rows themselves, for drift."""


@dataclass(frozen=True, order=True)
class StreamKey:
    """One run of one batcher: its sequence numbers count from 1."""

    batcher_id: str
    epoch_us: int


@dataclass(frozen=True)
class Chunk:
    """One message of the log."""

    stream: StreamKey
    sequence: int
    dropped_total: int
    groups: Sequence[Group]
    refused_groups: int
    """Groups that were not understood and so are not in `groups`."""


def bounded_classes(by_class: Mapping[str, int]) -> Mapping[str, int]:
    """At most `CLASSES_MAX` classes, the most frequent ones; the rest summed up under `OTHER`."""
    if len(by_class) <= CLASSES_MAX:
        return by_class
    ordered = sorted(by_class.items(), key=lambda item: (-item[1], item[0]))
    kept = dict(ordered[: CLASSES_MAX - 1])
    kept[OTHER] = kept.get(OTHER, 0) + sum(count for _, count in ordered[CLASSES_MAX - 1 :])
    return kept
