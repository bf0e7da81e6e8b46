"""The price table in PostgreSQL: one row."""

from collections.abc import Sequence
from fractions import Fraction

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from services.common.clock import Clock
from services.monitor.adapters.database import transaction
from services.monitor.domain.usage_cost import Prices, PriceTable
from services.monitor.domain.usage_export import decimal

_COLUMNS = "currency, per_1000_requests, per_compute_hour, per_gpu_hour, per_gb_month, revision, updated_at"
_GET = text(f"SELECT {_COLUMNS} FROM price_table")  # noqa: S608 - nothing is put in
_PUT = text(f"""
    UPDATE price_table SET currency = :currency, per_1000_requests = CAST(:requests AS numeric),
        per_compute_hour = CAST(:compute AS numeric), per_gpu_hour = CAST(:gpu AS numeric),
        per_gb_month = CAST(:stored AS numeric), revision = revision + 1, updated_at = :now
    WHERE CAST(:expected AS bigint) IS NULL OR revision = :expected
    RETURNING {_COLUMNS}
""")  # noqa: S608
_PLACES = 400
"""As many as the smallest number that a caller can state has."""


class PostgresPriceStore:
    """A `PriceStore`."""

    def __init__(self, engine: AsyncEngine, *, clock: Clock) -> None:
        self._engine = engine
        self._clock = clock

    async def get(self) -> PriceTable:
        """As it is now."""
        async with transaction(self._engine) as connection:
            return _read((await connection.execute(_GET)).one())

    async def put(self, table: PriceTable, *, expected: int | None) -> PriceTable | None:
        """Replaces it where the revision is the expected one."""
        prices = table.prices
        values = {
            "currency": table.currency,
            "requests": decimal(prices.per_1000_requests, places=_PLACES),
            "compute": decimal(prices.per_compute_hour, places=_PLACES),
            "gpu": decimal(prices.per_gpu_hour, places=_PLACES),
            "stored": decimal(prices.per_gb_month, places=_PLACES),
            "now": self._clock.now(),
            "expected": expected,
        }
        async with transaction(self._engine) as connection:
            row = (await connection.execute(_PUT, values)).first()
        return None if row is None else _read(row)


def _read(row: Sequence[object]) -> PriceTable:
    currency, requests, compute, gpu, stored, revision, updated_at = row
    prices = Prices(*[Fraction(str(price)) for price in (requests, compute, gpu, stored)])
    return PriceTable(str(currency), prices, int(str(revision)), updated_at)  # type: ignore[arg-type]
