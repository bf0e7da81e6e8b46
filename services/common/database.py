"""PostgreSQL, the same way in every service: one schema a service, bounds on everything, migrations."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from prometheus_client import CollectorRegistry
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from services.common.telemetry.database import DatabaseMetrics

_STATEMENT_TIMEOUT_MS = 15_000
_CONNECT_TIMEOUT_S = 5
_POOL_WAIT_S = 5.0
_SILENT_S = 15
"""A host that has gone without a word (power, network, a failover) is given up after so long, and not after the quarter
of an hour that TCP goes on: until then whoever asked would wait, on each connection of the pool in turn."""
_PROBE_S = 5
_STANDSTILL_TIMEOUT_MS = 10_000
"""Who stands still (a paused machine, a debugger) in the middle of a transaction keeps what it has locked for
so long, and is then rolled back: a lease among it would otherwise stay with it for good."""
_MIGRATION_LOCK = 0x1F3A
"""The advisory lock under which one process migrates while the others wait."""
_SERVICES = Path(__file__).parent.parent


def create_engine(
    url: str, *, schema: str, pool_size: int = 10, metrics: CollectorRegistry | None = None
) -> AsyncEngine:
    """An engine whose statements see `schema` first, over at most `pool_size` connections to postgresql+psycopg://…
    What it does is shown in `metrics`."""
    engine = create_async_engine(
        url,
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=_POOL_WAIT_S,
        pool_pre_ping=True,
        connect_args=_connect_args(
            schema, statement_timeout_ms=_STATEMENT_TIMEOUT_MS, standstill_timeout_ms=_STANDSTILL_TIMEOUT_MS
        ),
    )
    if metrics is not None:
        DatabaseMetrics(metrics, engine)
    return engine


async def migrate(url: str, *, service: str) -> None:
    """Brings the schema `service` to the newest revision in services/<service>/migrations. Safe to run in parallel."""
    # No timeouts: a migration may rewrite a large table, and think for long.
    connect_args = _connect_args(service, statement_timeout_ms=0, standstill_timeout_ms=0)
    engine = create_async_engine(url, poolclass=NullPool, connect_args=connect_args)
    try:
        async with engine.begin() as connection:
            await connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _MIGRATION_LOCK})
            await connection.execute(text(f'CREATE SCHEMA IF NOT EXISTS "{service}"'))
            await connection.run_sync(_upgrade, service)
    finally:
        await engine.dispose()


def _upgrade(connection: Connection, service: str) -> None:
    config = Config()
    config.set_main_option("script_location", str(_SERVICES / "common" / "migrations"))
    config.set_main_option("version_locations", str(_SERVICES / service / "migrations" / "versions"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    config.attributes["schema"] = service
    command.upgrade(config, "head")


def _connect_args(schema: str, *, statement_timeout_ms: int, standstill_timeout_ms: int) -> dict[str, object]:
    settings = {
        "search_path": f"{schema},public",
        "statement_timeout": statement_timeout_ms,
        "idle_in_transaction_session_timeout": standstill_timeout_ms,
    }
    return {
        "options": " ".join(f"-c {name}={value}" for name, value in settings.items()),
        "connect_timeout": _CONNECT_TIMEOUT_S,
        "application_name": f"infermesh-{schema}",
        # Bytes that were sent and not acknowledged; and probes while an answer is waited for.
        "tcp_user_timeout": _SILENT_S * 1000,
        "keepalives_idle": _PROBE_S,
        "keepalives_interval": _PROBE_S,
        "keepalives_count": _SILENT_S // _PROBE_S,
    }
