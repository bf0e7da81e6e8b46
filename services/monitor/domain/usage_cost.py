"""What usage costs: exact fractions, so that costs of parts add up to the cost of the whole."""

from dataclasses import dataclass, field
from datetime import datetime
from fractions import Fraction

from services.monitor.domain.usage import Used

US_PER_S = 1_000_000
GPU_UNIT_PER_S = 1000 * US_PER_S
BYTES_PER_GB = 10**9
_S_PER_HOUR = 3600
_HOURS_PER_MONTH = 720
_NOTHING = Fraction(0)


@dataclass(frozen=True, slots=True)
class Prices:
    """In the table's currency; 0 costs nothing."""

    per_1000_requests: Fraction = _NOTHING
    per_compute_hour: Fraction = _NOTHING
    per_gpu_hour: Fraction = _NOTHING
    per_gb_month: Fraction = _NOTHING
    """For 10^9 bytes over 720 hours."""


@dataclass(frozen=True, slots=True)
class PriceTable:
    """What prices are now. `revision` grows with every change; 0: none was ever set."""

    currency: str = ""
    prices: Prices = field(default_factory=Prices)
    revision: int = 0
    updated_at: datetime | None = None


def cost(used: Used, stored_byte_hours: int, prices: Prices) -> Fraction:
    """What all of that costs."""
    return (
        prices.per_1000_requests * Fraction(used.requests, 1000)
        + prices.per_compute_hour * Fraction(used.compute_us, US_PER_S * _S_PER_HOUR)
        + prices.per_gpu_hour * Fraction(used.gpu_milli_us, GPU_UNIT_PER_S * _S_PER_HOUR)
        + prices.per_gb_month * Fraction(stored_byte_hours, BYTES_PER_GB * _HOURS_PER_MONTH)
    )


def cost_per_1000(costs: Fraction, predictions: int) -> Fraction:
    """For each 1,000 predictions; 0 where none were made."""
    return costs * 1000 / predictions if predictions else _NOTHING
