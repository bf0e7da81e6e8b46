"""The monitor's stores, in memory and in PostgreSQL."""

from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from services.common.database import create_engine, migrate
from services.monitor.adapters.postgres_alerts import PostgresAlertStore
from services.monitor.adapters.postgres_evidence import PostgresEvidenceStore
from services.monitor.adapters.postgres_log import PostgresLogStore
from services.monitor.adapters.postgres_metrics import PostgresMetricReader
from services.monitor.adapters.postgres_outcomes import PostgresOutcomeStore
from services.monitor.adapters.postgres_partitions import PostgresPartitionStore
from services.monitor.adapters.postgres_shadows import PostgresExampleStore
from services.monitor.domain.outcomes import Reporter
from services.monitor.domain.partitions import PartitionedTable
from services.monitor.engines.keeper import PartitionKeeper
from services.monitor.ports import AlertStore, EvidenceStore, ExampleStore, LogStore, MetricReader, OutcomeStore
from tests.support.clock import FakeClock
from tests.support.monitor_alerts import MemoryAlertStore
from tests.support.monitor_evidence import MemoryEvidenceStore
from tests.support.monitor_outcomes import MemoryOutcomeStore
from tests.support.monitor_shadows import MemoryExampleStore
from tests.support.monitor_stores import MemoryStore

TABLES = tuple(
    PartitionedTable(name, 30) for name in ("model_metrics", "latency_sketches", "inference_logs", "prediction_labels")
)


@dataclass(frozen=True)
class EvidenceStores:
    """Where the log is counted, and where evidence and metrics are read from it."""

    log: LogStore
    evidence: EvidenceStore
    metrics: MetricReader
    outcomes: OutcomeStore
    examples: ExampleStore


@pytest.fixture(params=["memory", "postgres"])
def url(request: pytest.FixtureRequest) -> str:
    """Where the stores are; "" for memory."""
    return str(request.getfixturevalue("database_url")) if request.param == "postgres" else ""


@pytest.fixture
async def engine(url: str) -> AsyncIterator[AsyncEngine | None]:
    """The migrated database, with its partitions; None for memory."""
    if not url:
        yield None
        return
    await migrate(url, service="monitor")
    made = create_engine(url, schema="monitor")
    await PartitionKeeper(store=PostgresPartitionStore(made), tables=TABLES, clock=FakeClock()).keep()
    yield made
    await made.dispose()


def may_join(reporter: Reporter, model: str) -> bool:
    """Of the teams, red alone sees digits."""
    limited = reporter.models is not None and model not in reporter.models
    return not limited and reporter.team in {"", "red"}


@pytest.fixture
def evidence_stores(engine: AsyncEngine | None) -> EvidenceStores:
    """The stores of evidence."""
    if engine is None:
        memory = MemoryStore()
        memory.may_join = may_join
        return EvidenceStores(
            memory, MemoryEvidenceStore(memory), memory, MemoryOutcomeStore(memory), MemoryExampleStore(memory)
        )
    return EvidenceStores(
        PostgresLogStore(engine, may_join=may_join),
        PostgresEvidenceStore(engine),
        PostgresMetricReader(engine),
        PostgresOutcomeStore(engine),
        PostgresExampleStore(engine),
    )


@pytest.fixture
def alert_store(engine: AsyncEngine | None) -> AlertStore:
    """The store of alerts."""
    return MemoryAlertStore() if engine is None else PostgresAlertStore(engine)
