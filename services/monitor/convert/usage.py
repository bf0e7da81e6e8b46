"""Between protobuf and usage."""

import math
from fractions import Fraction

from infermesh.monitor.v1 import model_metrics_pb2

from services.common.errors import MeshError, Reason, invalid
from services.monitor.domain.usage_cost import BYTES_PER_GB, GPU_UNIT_PER_S, US_PER_S, Prices, PriceTable
from services.monitor.engines.usage import Bill

_PRICE_MAX = 1e12


def usage_to_proto(bill: Bill) -> model_metrics_pb2.TeamUsage:
    """One entry."""
    key, used = bill.metered.key, bill.metered.used
    return model_metrics_pb2.TeamUsage(
        team_name=key.team,
        model_name=key.model,
        version=key.version,
        request_count=used.requests,
        prediction_count=used.predictions,
        serving_seconds=used.serving_us / US_PER_S,
        compute_seconds=used.compute_us / US_PER_S,
        gpu_seconds=used.gpu_milli_us / GPU_UNIT_PER_S,
        stored_gb_hours=bill.metered.stored_byte_hours / BYTES_PER_GB,
        cost=float(bill.cost),
        cost_per_1000_predictions=float(bill.cost_per_1000),
    )


def prices_to_proto(table: PriceTable) -> model_metrics_pb2.PriceTable:
    """The table as it is."""
    prices = table.prices
    message = model_metrics_pb2.PriceTable(
        currency=table.currency,
        per_1000_requests=float(prices.per_1000_requests),
        per_compute_hour=float(prices.per_compute_hour),
        per_gpu_hour=float(prices.per_gpu_hour),
        per_gb_month=float(prices.per_gb_month),
        etag=str(table.revision),
    )
    if table.updated_at is not None:
        message.updated_at.FromDatetime(table.updated_at)
    return message


def prices_from_proto(message: model_metrics_pb2.PriceTable) -> tuple[PriceTable, int | None]:
    """A new table, and the revision that its etag expects; None: any. Raises INVALID_FIELD, and ETAG_MISMATCH for what
    is no etag."""
    prices = Prices(
        per_1000_requests=_price("per_1000_requests", message.per_1000_requests),
        per_compute_hour=_price("per_compute_hour", message.per_compute_hour),
        per_gpu_hour=_price("per_gpu_hour", message.per_gpu_hour),
        per_gb_month=_price("per_gb_month", message.per_gb_month),
    )
    etag = message.etag
    if etag and not (etag.isascii() and etag.isdigit() and len(etag) < len(str(2**63))):
        raise MeshError(Reason.ETAG_MISMATCH, f"etag {etag[:64]!r} is none of the prices'; read them and use theirs")
    return PriceTable(message.currency, prices), int(etag) if etag else None


def _price(field: str, value: float) -> Fraction:
    if not (math.isfinite(value) and 0 <= value <= _PRICE_MAX):
        raise invalid(f"price_table.{field}", value, f"0 to {_PRICE_MAX:g}")
    # As it was written: 0.1 is a tenth, not the nearest number of base two.
    return Fraction(repr(value))
