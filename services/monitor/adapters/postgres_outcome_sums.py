"""Sums of outcomes in PostgreSQL, by the moment of the prediction. Whoever calls this holds the joining lock."""

from collections.abc import Sequence

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from services.monitor.domain.outcomes import OutcomeDelta

_JOINING_LOCK = 0x1F3C
_LOCK = text("SELECT pg_advisory_xact_lock(:lock)")
# As decimals of 15 digits before and after the point: what leaves a sum is exactly what had entered it.
_ADD = text("""
    INSERT INTO outcome_sums AS known
        (model_id, granularity, "timestamp", version_id, metric_name, value_count, value_sum, square_sum)
    SELECT model, granularity, date_trunc(granularity, moment, 'UTC') AS step, version, metric,
           sum(sign), sum(sign * round(value::numeric, 15)),
           sum(sign * round(value::numeric, 15) * round(value::numeric, 15))
    FROM unnest(CAST(:models AS text[]), CAST(:versions AS text[]), CAST(:metrics AS text[]),
                CAST(:moments AS timestamptz[]), CAST(:signs AS int[]), CAST(:values AS float8[]))
        AS changed (model, version, metric, moment, sign, value)
    CROSS JOIN (VALUES ('second'), ('minute'), ('hour')) AS step (granularity)
    GROUP BY model, granularity, step, version, metric
    ON CONFLICT (model_id, granularity, "timestamp", version_id, metric_name)
    DO UPDATE SET value_count = known.value_count + excluded.value_count,
                  value_sum = known.value_sum + excluded.value_sum,
                  square_sum = known.square_sum + excluded.square_sum
""")


async def lock_joining(connection: AsyncConnection) -> None:
    """Makes this transaction the only one that joins: of a prediction and its outcome, the one that is stored second
    sees the first.
    """
    await connection.execute(_LOCK, {"lock": _JOINING_LOCK})


async def add_outcomes(connection: AsyncConnection, changes: Sequence[OutcomeDelta]) -> None:
    """Changes the sums."""
    if changes:
        await connection.execute(
            _ADD,
            {
                "models": [change.model for change in changes],
                "versions": [change.version for change in changes],
                "metrics": [change.metric for change in changes],
                "moments": [change.time for change in changes],
                "signs": [change.sign for change in changes],
                "values": [change.value for change in changes],
            },
        )
