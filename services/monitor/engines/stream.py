"""What one run of one batcher said and is not stored yet."""

from dataclasses import dataclass, field

from services.monitor.domain.aggregate import MINUTE_S, Cells, tallies
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
    seconds_max: int = 10_000
    predictions_max: int = 100_000
    usage_max: int = 100_000


@dataclass
class Waiting:
    """What waits to be stored, summed up."""

    cells: Cells = field(default_factory=Cells)
    seconds: Seconds = field(default_factory=Seconds)
    coarse: set[tuple[str, int]] = field(default_factory=set)
    rows: list[LogRow] = field(default_factory=list)
    predictions: list[Prediction] = field(default_factory=list)
    examples: dict[ShadowPair, list[ShadowExample]] = field(default_factory=dict)
    usage: Usage = field(default_factory=Usage)

    def add(self, group: Group, *, now_us: int, reason_name: ReasonName, limits: RecorderLimits) -> Cells:
        """Counts a group; the cells that it alone adds up to."""
        counted = Cells()
        for second, tally in tallies(group, now_us=now_us, reason_name=reason_name):
            counted.add_tally(group, second, tally)
            if tally.counts:
                self.seconds[SecondKey(second, group.model, group.version)].add(tally)
        self.cells.merge(counted)
        self.usage.add_group(group, now_us=now_us, reason_name=reason_name)
        rows = sampled_rows(group, sample_rate=limits.sample_rate, now_us=now_us, reason_name=reason_name)
        room = max(0, limits.rows_max - len(self.rows))
        self.rows.extend(row for row, _ in zip(rows, range(room), strict=False))
        # Not bounded here: what outcomes wait for may not be lost, so the stream is not read while there is no room.
        self.predictions.extend(labelled(group, now_us=now_us))
        for pair, examples in pair_examples(group, now_us=now_us):
            self.examples[pair] = newest([*self.examples.get(pair, ()), *examples])
        return counted

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
            )
        return self.in_flight
