"""What one run of one batcher said and is not stored yet."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from services.monitor.domain.aggregate import MINUTE_S, Cells, tallies
from services.monitor.domain.drift.rows import SampledRows
from services.monitor.domain.drift.slices import SliceKey, slot_minute
from services.monitor.domain.drift.summary import Summary
from services.monitor.domain.labels import Prediction, labelled
from services.monitor.domain.log_rows import LogRow, sampled_rows
from services.monitor.domain.measures import ReasonName
from services.monitor.domain.records import Group, ShadowExample, StreamKey
from services.monitor.domain.seconds import SecondKey, Seconds
from services.monitor.domain.shadows import ShadowPair, newest, pair_examples
from services.monitor.domain.usage import Usage
from services.monitor.ports import Batch


@dataclass(frozen=True, kw_only=True)
class RecorderLimits:
    """Bounds and rhythm."""

    flush_period_s: float
    cells_max: int
    rows_max: int
    sample_rate: float
    """Of versions that `rate_of` says nothing of."""
    seconds_max: int = 10_000
    predictions_max: int = 100_000
    usage_max: int = 100_000
    slices_max: int = 200
    output_bytes_max: int = 32 * 1024 * 1024
    rate_of: Callable[[str, str], float | None] = lambda _model, _version: None
    """The share of a version's successful requests that is logged."""

    def rate(self, model: str, version: str) -> float:
        """The share that holds."""
        found = self.rate_of(model, version)
        return self.sample_rate if found is None else found


@dataclass
class Waiting:
    """What waits to be stored, summed up."""

    cells: Cells = field(default_factory=Cells)
    seconds: Seconds = field(default_factory=Seconds)
    coarse: set[tuple[str, int]] = field(default_factory=set)
    rows: list[LogRow] = field(default_factory=list)
    output_bytes: int = 0
    """Of `rows`."""
    unkept: int = 0
    """Requests that were to be among `rows` and found no room."""
    predictions: list[Prediction] = field(default_factory=list)
    examples: dict[ShadowPair, list[ShadowExample]] = field(default_factory=dict)
    usage: Usage = field(default_factory=Usage)
    slices: dict[SliceKey, Summary] = field(default_factory=dict)

    def add(
        self,
        group: Group,
        *,
        now_us: int,
        reason_name: ReasonName,
        limits: RecorderLimits,
        chance: np.random.Generator | None = None,
    ) -> Cells:
        """Counts a group; the cells that it alone adds up to. Without `chance`, rows for drift are left out."""
        counted = Cells()
        for second, tally in tallies(group, now_us=now_us, reason_name=reason_name):
            counted.add_tally(group, second, tally)
            if tally.counts:
                self.seconds[SecondKey(second, group.model, group.version)].add(tally)
        self.cells.merge(counted)
        self.usage.add_group(group, now_us=now_us, reason_name=reason_name)
        self._keep(group, now_us=now_us, reason_name=reason_name, limits=limits)
        # Not bounded here: what outcomes wait for may not be lost, so the stream is not read while there is no room.
        self.predictions.extend(labelled(group, now_us=now_us))
        for pair, examples in pair_examples(group, now_us=now_us):
            self.examples[pair] = newest([*self.examples.get(pair, ()), *examples])
        if group.sampled is not None and group.version and chance is not None:
            self._add_sampled(group, group.sampled, now_us=now_us, slices_max=limits.slices_max, chance=chance)
        return counted

    def _keep(self, group: Group, *, now_us: int, reason_name: ReasonName, limits: RecorderLimits) -> None:
        rate = limits.rate(group.model, group.version)
        for row in sampled_rows(group, sample_rate=rate, now_us=now_us, reason_name=reason_name):
            if len(self.rows) >= limits.rows_max or self.output_bytes >= limits.output_bytes_max:
                self.unkept += 1
            else:
                self.rows.append(row)
                self.output_bytes += len(row.output)

    def half_full(self, limits: RecorderLimits) -> bool:
        """Whether rows should be stored soon, lest there be no room for more."""
        return 2 * len(self.rows) > limits.rows_max or 2 * self.output_bytes > limits.output_bytes_max

    def _add_sampled(
        self, group: Group, sampled: SampledRows, *, now_us: int, slices_max: int, chance: np.random.Generator
    ) -> None:
        """A sample may be lost, so it is where there is no room."""
        key = SliceKey(group.model, group.version, slot_minute(sampled.time_us, now_us=now_us))
        if key in self.slices or len(self.slices) < slices_max:
            self.slices.setdefault(key, Summary()).add(sampled.rows, chance)

    def give_up_seconds(self) -> None:
        """Keeps only which minutes are no longer known by the second."""
        self.coarse.update((key.model, key.second // MINUTE_S) for key in self.seconds)
        self.seconds = Seconds()


@dataclass
class Stream:
    """A stream: how far it was received, how far it is stored, and what waits in between."""

    key: StreamKey
    received: int
    durable: int
    dropped_total: int = 0
    taken_us: int = 0
    waiting: Waiting = field(default_factory=Waiting)
    in_flight: Batch | None = None
    sessions: int = 0
    lost: bool = False

    @property
    def settled(self) -> bool:
        """Nothing waits to be stored."""
        return self.durable >= self.received

    @property
    def cells_waiting(self) -> int:
        """Aggregates in memory."""
        return len(self.waiting.cells) + (len(self.in_flight.cells) if self.in_flight else 0)

    @property
    def seconds_waiting(self) -> int:
        """Sums by the second in memory."""
        return len(self.waiting.seconds) + (len(self.in_flight.seconds) if self.in_flight else 0)

    @property
    def predictions_waiting(self) -> int:
        """Requests under test in memory."""
        return len(self.waiting.predictions) + (len(self.in_flight.predictions) if self.in_flight else 0)

    @property
    def usage_waiting(self) -> int:
        """Sums by hour, team and version in memory."""
        return len(self.waiting.usage) + (len(self.in_flight.usage) if self.in_flight else 0)

    def to_store(self) -> Batch | None:
        """The batch to store next: one whose fate is unknown first, as it was, so that its position still tells."""
        if self.in_flight is None and not self.settled:
            waiting, self.waiting = self.waiting, Waiting()
            self.in_flight = Batch(
                self.key,
                self.durable,
                self.received,
                self.dropped_total,
                cells=waiting.cells,
                rows=waiting.rows,
                seconds=waiting.seconds,
                coarse=waiting.coarse,
                predictions=waiting.predictions,
                examples=waiting.examples,
                taken_us=self.taken_us,
                usage=waiting.usage,
                unkept=waiting.unkept,
                slices=waiting.slices,
            )
        return self.in_flight
