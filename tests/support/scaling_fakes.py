"""What autoscaling follows, in memory. The store and the forecaster pass the contract tests that their real twins pass;
the two that measure say what they are told."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from services.common.clock import Clock
from services.common.errors import MeshError, Reason
from services.deployer.domain.forecast import Outlook
from services.deployer.domain.history import Bucket, Key
from services.deployer.domain.usage import CopyUse
from services.deployer.engines.demand import Demand
from services.deployer.engines.forecasts import Forecasts
from services.deployer.engines.history import RequestHistory
from services.deployer.engines.scaling import Scaling
from services.deployer.engines.usage import Usage


class MemoryRequestHistory:
    """A `RequestHistoryStore`."""

    def __init__(self) -> None:
        self.rows: dict[Key, dict[datetime, Bucket]] = {}
        self.away = False

    async def add(self, buckets: Mapping[Key, Sequence[Bucket]]) -> None:
        """Adds up."""
        self._reach()
        for key, added in buckets.items():
            rows = self.rows.setdefault(key, {})
            for one in added:
                rows[one.started_at] = rows[one.started_at].plus(one) if one.started_at in rows else one

    async def read(self, key: Key, since: datetime) -> Sequence[Bucket]:
        """In order."""
        self._reach()
        return sorted(
            (one for one in self.rows.get(key, {}).values() if one.started_at >= since), key=lambda one: one.started_at
        )

    async def prune(self, before: datetime) -> None:
        """Removes what is older."""
        self._reach()
        for rows in self.rows.values():
            for start in [start for start in rows if start < before]:
                del rows[start]

    def _reach(self) -> None:
        if self.away:
            raise MeshError(Reason.DEPENDENCY_UNAVAILABLE, "the store does not answer")


@dataclass
class FakeForecaster:
    """A `Forecaster` that says that the next day is as the last."""

    error: float = 0.1
    problem: MeshError | None = None
    asked: list[int] = field(default_factory=list)
    """How long the series were."""
    tries: int = 0
    """How often there was something to forecast."""

    async def outlooks(self, series: Sequence[Sequence[float]], *, day: int) -> Sequence[Outlook]:
        """As it was."""
        self.tries += bool(series)
        if self.problem is not None:
            raise self.problem
        if any(len(one) <= 2 * day for one in series):
            raise MeshError(Reason.DEPENDENCY_UNAVAILABLE, "a series is too short")
        self.asked += [len(one) for one in series]
        return [Outlook(tuple(one[-day:]), self.error) for one in series]


@dataclass
class FakeCopyUsage:
    """A `CopyUsage`."""

    uses: dict[str, dict[str, CopyUse]] = field(default_factory=dict)
    samples: int = 0

    async def sample(self) -> Mapping[str, Mapping[str, CopyUse]]:
        """As it was set."""
        self.samples += 1
        return {server: dict(models) for server, models in self.uses.items()}


@dataclass
class FakeGpuUsage:
    """A `GpuUsage`."""

    percents: dict[str, float] = field(default_factory=dict)

    async def sample(self) -> Mapping[str, float]:
        """As it was set."""
        return dict(self.percents)


@dataclass
class ScalingParts:
    """All of autoscaling over fakes."""

    demand: Demand
    clock: Clock
    store: MemoryRequestHistory = field(default_factory=MemoryRequestHistory)
    forecaster: FakeForecaster = field(default_factory=FakeForecaster)
    copies: FakeCopyUsage = field(default_factory=FakeCopyUsage)
    gpus: FakeGpuUsage = field(default_factory=FakeGpuUsage)

    def __post_init__(self) -> None:
        self.history = RequestHistory(store=self.store, demand=self.demand, clock=self.clock)
        self.forecasts = Forecasts(store=self.store, forecaster=self.forecaster, history=self.history, clock=self.clock)
        self.usage = Usage(copies=self.copies, gpus=self.gpus, clock=self.clock, threads_default=1)
        self.scaling = Scaling(
            demand=self.demand,
            usage=self.usage,
            history=self.history,
            forecasts=self.forecasts,
            clock=self.clock,
        )
