"""How the parts of the monitor that log, search and export predictions are put together."""

from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncEngine

from services.common.clock import Clock
from services.common.lifecycle import Lifecycle
from services.monitor.adapters.export_files import Folders
from services.monitor.adapters.postgres_exports import PostgresExportStore
from services.monitor.adapters.postgres_log_search import PostgresLogReader
from services.monitor.adapters.postgres_policies import PostgresPolicyStore
from services.monitor.engines.log_exports import ExportRunner, LogExports
from services.monitor.engines.log_search import LogSearch
from services.monitor.engines.logging_policies import LoggingPolicies
from services.monitor.settings import MonitorSettings


@dataclass(frozen=True)
class LogParts:
    """The parts."""

    policies: LoggingPolicies
    search: LogSearch
    exports: LogExports
    runner: ExportRunner

    def add_to(self, lifecycle: Lifecycle) -> None:
        """Their background tasks, once the database is there."""
        lifecycle.add("logging policies", start=self.policies.load)
        lifecycle.add_task("logging policies' changes", self.policies.run)
        lifecycle.add_task("exports of the log", self.runner.run)


def build_log(
    engine: AsyncEngine,
    policies: LoggingPolicies,
    settings: MonitorSettings,
    *,
    stored: Callable[[], bool],
    clock: Clock,
) -> LogParts:
    """The parts over a database. `stored`: whether it takes the log."""
    reader, store, files = PostgresLogReader(engine), PostgresExportStore(engine), Folders()
    days = settings.log_retention_days
    return LogParts(
        policies,
        LogSearch(reader=reader, stored=stored, clock=clock, retention_days=days),
        LogExports(store=store, files=files, clock=clock, retention_days=days),
        ExportRunner(store=store, reader=reader, files=files, clock=clock, owner=settings.instance),
    )


def build_policies(engine: AsyncEngine, settings: MonitorSettings, *, clock: Clock) -> LoggingPolicies:
    """The logging policies, which the recorder asks for its shares."""
    return LoggingPolicies(store=PostgresPolicyStore(engine), clock=clock, default_rate=settings.log_sample_rate)
