"""How metering is put together."""

from dataclasses import dataclass

import grpc
from sqlalchemy.ext.asyncio import AsyncEngine

from services.common.clock import Clock
from services.monitor.adapters.postgres_usage_hours import PostgresUsageReader
from services.monitor.adapters.postgres_usage_prices import PostgresPriceStore
from services.monitor.adapters.postgres_usage_storage import PostgresStorageStore
from services.monitor.adapters.usage_registry import RegistryStorageSource
from services.monitor.engines.price_watch import PriceBoard, PriceWatch
from services.monitor.engines.usage import UsageReports
from services.monitor.engines.usage_storage import StorageMeter


@dataclass(frozen=True)
class Metering:
    """What answers, and what samples."""

    reports: UsageReports
    storage: StorageMeter
    prices: PriceWatch


def build_metering(engine: AsyncEngine, registry: grpc.aio.Channel, *, board: PriceBoard, clock: Clock) -> Metering:
    """Metering over the monitor's database; `registry` is asked what is stored."""
    prices = PostgresPriceStore(engine, clock=clock)
    return Metering(
        UsageReports(reader=PostgresUsageReader(engine), prices=prices, clock=clock),
        StorageMeter(source=RegistryStorageSource(registry), store=PostgresStorageStore(engine), clock=clock),
        PriceWatch(store=prices, board=board, clock=clock),
    )
