"""How the monitor's drift is put together."""

from dataclasses import dataclass

from prometheus_client import CollectorRegistry
from sqlalchemy.ext.asyncio import AsyncEngine

from services.common.clock import Clock
from services.common.lifecycle import Lifecycle
from services.monitor.adapters.postgres_baselines import PostgresBaselineStore
from services.monitor.adapters.postgres_reports import PostgresReportStore
from services.monitor.adapters.postgres_slices import PostgresSliceStore
from services.monitor.adapters.prometheus_drift import PrometheusDriftBoard
from services.monitor.adapters.samples import FileSamples
from services.monitor.engines.baselines import Baselines
from services.monitor.engines.drift import Drift
from services.monitor.ports import MetricReader
from services.monitor.settings import MonitorSettings


@dataclass(frozen=True)
class DriftParts:
    """What watches drift."""

    baselines: Baselines
    reports: Drift

    def add_to(self, lifecycle: Lifecycle) -> None:
        """Once the database is there."""
        lifecycle.add_task("baseline reader", self.baselines.run)
        lifecycle.add_task("drift reports", self.reports.run)


def build_drift(
    settings: MonitorSettings, engine: AsyncEngine, registry: CollectorRegistry, *, reader: MetricReader, clock: Clock
) -> DriftParts:
    """The parts, not started yet."""
    store, slices = PostgresBaselineStore(engine), PostgresSliceStore(engine)
    baselines = Baselines(
        store=store,
        slices=slices,
        samples=FileSamples(settings.sample_dir),
        clock=clock,
        retention_days=settings.drift_retention_days,
    )
    reports = Drift(
        baselines=store,
        reports=PostgresReportStore(engine),
        slices=slices,
        reader=reader,
        board=PrometheusDriftBoard(registry),
        clock=clock,
        retention_days=settings.metrics_retention_days,
    )
    return DriftParts(baselines, reports)
