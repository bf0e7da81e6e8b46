"""Usage as comma-separated values (RFC 4180): exact decimals, and text in quotes where it needs them."""

from collections.abc import Iterable
from fractions import Fraction

from services.monitor.domain.usage import UsageKey, Used
from services.monitor.domain.usage_cost import BYTES_PER_GB, GPU_UNIT_PER_S, US_PER_S, PriceTable, cost
from services.monitor.domain.usage_window import hour_start

COLUMNS = (
    "hour",
    "team",
    "model",
    "version",
    "requests",
    "predictions",
    "serving_seconds",
    "compute_seconds",
    "gpu_seconds",
    "stored_gb_hours",
    "cost",
    "currency",
)
_END = "\r\n"
_SPECIAL = frozenset(',"\r\n')
_COST_PLACES = 12
"""Beyond these a cost is rounded."""


def header() -> str:
    """The first line."""
    return ",".join(COLUMNS) + _END


def line(key: UsageKey, used: Used, stored_byte_hours: int, table: PriceTable) -> str:
    """One hour of one team's usage of one version."""
    values: Iterable[str] = (
        f"{hour_start(key.hour):%Y-%m-%dT%H:%M:%SZ}",
        key.team,
        key.model,
        key.version,
        str(used.requests),
        str(used.predictions),
        decimal(Fraction(used.serving_us, US_PER_S), places=6),
        decimal(Fraction(used.compute_us, US_PER_S), places=6),
        decimal(Fraction(used.gpu_milli_us, GPU_UNIT_PER_S), places=9),
        decimal(Fraction(stored_byte_hours, BYTES_PER_GB), places=9),
        decimal(cost(used, stored_byte_hours, table.prices), places=_COST_PLACES),
        table.currency,
    )
    return ",".join(map(_quoted, values)) + _END


def decimal(value: Fraction, *, places: int) -> str:
    """A number of at least 0 without an exponent, rounded to so many places; zeros at the end are left out."""
    whole, rest = divmod(round(value * 10**places), 10**places)
    return f"{whole}.{rest:0{places}d}".rstrip("0").rstrip(".")


def _quoted(text: str) -> str:
    return f'"{text.replace(chr(34), chr(34) * 2)}"' if _SPECIAL & set(text) else text
