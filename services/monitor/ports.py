"""What the engines need from outside, each port as small as its user allows."""

from collections.abc import Collection, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from datetime import date, datetime
from enum import Enum, auto
from typing import Protocol

from services.common.access.book import EVERYTHING, Sight
from services.monitor.domain.aggregate import Cell, CellKey
from services.monitor.domain.alerts import Alert, RolloutEvent
from services.monitor.domain.drift.slices import SliceKey
from services.monitor.domain.drift.summary import Summary
from services.monitor.domain.evidence import Sums, WatchKey
from services.monitor.domain.figures import Usage
from services.monitor.domain.gpus import GpuUse
from services.monitor.domain.labels import Prediction
from services.monitor.domain.log_rows import LogRow
from services.monitor.domain.outcomes import Outcome
from services.monitor.domain.records import ShadowExample, StreamKey
from services.monitor.domain.seconds import SecondCell, SecondKey
from services.monitor.domain.shadows import ShadowPair
from services.monitor.domain.team_tallies import TeamTally
from services.monitor.domain.usage import UsageKey, Used


@dataclass(frozen=True)
class Batch:
    """What one stream said after chunk `base`, up to and including chunk `last`, summed up."""

    stream: StreamKey
    base: int
    last: int
    dropped_total: int
    cells: Mapping[CellKey, Cell]
    rows: Sequence[LogRow]
    seconds: Mapping[SecondKey, SecondCell] = field(default_factory=dict)
    """The same requests as in `cells`, by the second."""
    coarse: AbstractSet[tuple[str, int]] = frozenset()
    """Models and minutes of which `seconds` do not have all: they were given up to save memory."""
    predictions: Sequence[Prediction] = ()
    """Every request of versions under test; outcomes are joined to them."""
    examples: Mapping[ShadowPair, Sequence[ShadowExample]] = field(default_factory=dict)
    """Shadow copies that were answered differently, the newest of each pair."""
    taken_us: int = 0
    """When the last chunk came."""
    usage: Mapping[UsageKey, Used] = field(default_factory=dict)
    """What is charged for the same requests."""
    unkept: int = 0
    """Requests that are counted and were to be among `rows`, and found no room."""
    slices: Mapping[SliceKey, Summary] = field(default_factory=dict)
    """Samples of their rows, summed up for drift."""


class Applied(Enum):
    """What became of a batch."""

    COUNTED = auto()
    """It is stored now."""
    COUNTED_BEFORE = auto()
    """It was stored already; nothing was added."""
    CONFLICT = auto()
    """Someone else stored a part of it: nothing was added, and the batcher must send again from the stored position."""


class ExampleStore(Protocol):
    """Shadow copies that were answered differently. Raises MeshError DEPENDENCY_UNAVAILABLE where it cannot."""

    async def examples(
        self, model: str, *, first: datetime, end: datetime, limit: int
    ) -> Mapping[ShadowPair, Sequence[ShadowExample]]:
        """The newest examples of each pair of the model's versions within a window, at most so many of each."""
        ...

    async def forget(self, *, before: datetime) -> None:
        """Removes examples of before that moment."""
        ...


class LogStore(Protocol):
    """Where the log is counted. Raises MeshError DEPENDENCY_UNAVAILABLE where it cannot be reached."""

    async def position(self, stream: StreamKey) -> int:
        """The last chunk of the stream that is counted; 0 for none."""
        ...

    async def apply(self, batch: Batch) -> Applied:
        """Counts a batch and moves the stream's position, both or neither, if the position is the batch's base."""
        ...


class EvidenceStore(Protocol):
    """Windows that begin at a second. Raises MeshError DEPENDENCY_UNAVAILABLE where it cannot be reached."""

    async def register(self, key: WatchKey, *, now: datetime) -> None:
        """Keeps the seconds that the window begins with for as long as it is asked for. Again, it changes nothing."""
        ...

    async def read(self, keys: Sequence[WatchKey], *, now: datetime) -> Mapping[WatchKey, Sums]:
        """All that is stored of these windows, of one and the same moment."""
        ...

    async def forget(self, *, now: datetime) -> None:
        """Removes seconds that no window begins with, and windows that nobody asked for any more."""
        ...


class OutcomeStore(Protocol):
    """What became of predictions. Raises MeshError DEPENDENCY_UNAVAILABLE where it cannot be reached."""

    async def report(
        self, outcomes: Sequence[Outcome], *, now: datetime, sight: Sight = EVERYTHING
    ) -> Sequence[Outcome]:
        """Takes outcomes, all or none, each in place of what the same team reported before, and corrects the sums. They
        come back in the same order, with what was predicted where that is known and of a model that the caller sees."""
        ...

    async def find(self, request_id: str, *, after: int, limit: int, sight: Sight = EVERYTHING) -> Sequence[Outcome]:
        """The outcomes of a request, of instances after that one, in their order: those of models that the caller sees,
        and what the caller's team reported of requests that it knows nothing of."""
        ...

    async def forget(self, *, before: datetime) -> None:
        """Removes outcomes that were reported before that moment; the sums stay."""
        ...


@dataclass(frozen=True)
class AlertQuery:
    """Alerts of a model (any where ""), of a status (any where ""), of these severities."""

    model: str
    status: str
    severities: Sequence[str]
    models: Collection[str] | None = None
    """Only of these models; None: of any."""


@dataclass(frozen=True)
class AlertState:
    """The number of the last change of any alert, and how many fire, by severity."""

    last_change: int
    firing: Mapping[str, int]


class AlertStore(Protocol):
    """Alerts and the events that raise them. Raises MeshError DEPENDENCY_UNAVAILABLE where it cannot be reached."""

    async def report(self, events: Sequence[RolloutEvent], *, now: datetime) -> None:
        """Takes events in their order, all or none, each once, and changes alerts as they say."""
        ...

    async def get(self, alert_id: str) -> Alert | None:
        """One alert; None where there is none of that id."""
        ...

    async def find(self, query: AlertQuery, *, after: tuple[datetime, str] | None, limit: int) -> Sequence[Alert]:
        """Alerts, the one that fired last first, from behind the one that fired then and is called so."""
        ...

    async def acknowledge(self, alert_id: str, *, by: str, note: str, now: datetime) -> Alert | None:
        """The alert once someone looks after it; None where there is none of that id."""
        ...

    async def state(self) -> AlertState:
        """What has changed so far, and what fires."""
        ...

    async def changed(
        self, *, after: int, model: str, limit: int, models: Collection[str] | None = None
    ) -> Sequence[tuple[int, Alert]]:
        """Alerts that changed after that change, each as it is now, in the order of their last change."""
        ...

    async def expire(self, *, now: datetime) -> None:
        """Ends alerts of which no more is heard."""
        ...

    async def forget(self, *, before: datetime) -> None:
        """Removes alerts that ended, and events that came, before that moment."""
        ...


@dataclass(frozen=True)
class MetricQuery:
    """Cells of a model, from minute `first` to before `end`, in steps of so many minutes; 0 is one step for all."""

    model: str
    version: str | None
    deployment: str | None
    first: int
    end: int
    step_minutes: int = 0


class MetricReader(Protocol):
    """Reads what was counted. Raises MeshError DEPENDENCY_UNAVAILABLE where it cannot."""

    async def read(self, query: MetricQuery) -> Mapping[tuple[str, int], Cell]:
        """The cells by version and by the minute at which their step begins."""
        ...


class UsageStore(Protocol):
    """Samples of what hosts use, by minute."""

    async def add(self, host: str, minute: int, usage: Usage) -> None:
        """Adds one sample."""
        ...

    async def average(self, first: int, end: int) -> Usage:
        """The mean of all hosts' samples in the minutes from `first` to before `end`; zeros without samples. Of GPUs
        that of the samples that have them; None where none has."""
        ...

    async def forget(self, before: int) -> None:
        """Removes the samples of minutes before that one."""
        ...


class HostProbe(Protocol):
    """Looks at this host."""

    def sample(self) -> Usage:
        """CPU and memory that it used since the sample before."""
        ...


class GpuProbe(Protocol):
    """Looks at this host's GPUs."""

    def sample(self) -> Sequence[GpuUse]:
        """What each does now; none where there are none or they cannot be read. Never fails."""
        ...


class PartitionStore(Protocol):
    """Makes and drops daily partitions. Safe to run in several processes at once."""

    async def existing(self, table: str) -> Sequence[str]:
        """The names of the table's partitions."""
        ...

    async def create(self, table: str, partition: str, day: date) -> None:
        """Makes the partition of one day where it is not there yet."""
        ...

    async def drop(self, partition: str) -> None:
        """Drops a partition and what it holds."""
        ...


@dataclass(frozen=True)
class ModelUse:
    """What the processes of one version use on this host. `cpu_cores` is 1 for one core busy all the time."""

    model: str
    version: str
    cpu_cores: float
    memory_bytes: int
    pids: frozenset[int] = frozenset()
    gpu_utilization: float | None = None
    """Of the GPUs that they compute on, in percent; None: they compute on none, or it cannot be read."""


class ModelProbe(Protocol):
    """Looks at the processes in which models run on this host."""

    def sample(self) -> Sequence[ModelUse]:
        """What they used since the sample before."""
        ...


@dataclass(frozen=True)
class LiveFigure:
    """How a version does now."""

    model: str
    version: str
    deployment: str
    throughput_per_sec: float
    latency_p95_ms: float


class RollupStore(Protocol):
    """Adds up minutes to hours."""

    async def until(self) -> int:
        """The minute before which all is rolled up, a whole hour; 0 where there is nothing to roll up."""
        ...

    async def roll_up(self, hour: int) -> None:
        """Adds up the hour that begins at that minute, once, however often and from wherever it is asked."""
        ...


class Board(Protocol):
    """Shows operators what goes on. Never fails and never waits."""

    def chunk(self, result: str, requests: int) -> None:
        """A chunk came: "counted", "duplicate" or "refused", with so many requests."""
        ...

    def flushed(self, result: str, seconds: float) -> None:
        """A batch was written ("counted", "counted_before", "conflict") or not ("failed"), in so many seconds."""
        ...

    def dropped(self, batcher_id: str, dropped_total: int) -> None:
        """So many requests a batcher dropped from its log since its start."""
        ...

    def unkept(self, rows: int) -> None:
        """So many requests were counted and were to be logged, and found no room."""
        ...

    def teams(self, tallies: Sequence[TeamTally]) -> None:
        """What a chunk's requests were to the teams that made them."""
        ...

    def live(self, figures: Sequence[LiveFigure]) -> None:
        """How every version with traffic does now; versions that are missing have none."""
        ...

    def alerts(self, firing: Mapping[str, int]) -> None:
        """So many alerts fire now, by severity."""
        ...

    def models(self, uses: Sequence[ModelUse]) -> None:
        """What every model process on this host uses now."""
        ...

    def gpus(self, uses: Sequence[GpuUse]) -> None:
        """What every GPU of this host does now."""
        ...
