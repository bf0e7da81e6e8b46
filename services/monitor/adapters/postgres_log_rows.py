"""Rows of inference_logs into PostgreSQL."""

from collections.abc import Sequence

import numpy as np
import orjson
from sqlalchemy.ext.asyncio import AsyncConnection

from services.monitor.adapters.copying import NULL, copy_text, field
from services.monitor.domain.log_rows import LogRow

_COPY = """COPY inference_logs (request_id, model_id, version_id, deployment_id, input_hash, output, latency_ms,
    error_message, "timestamp", user_id, metadata) FROM STDIN"""


async def copy_log_rows(connection: AsyncConnection, rows: Sequence[LogRow]) -> None:
    """Writes rows within the connection's transaction; none at all without a round trip."""
    await copy_text(connection, _COPY, rows, _lines)


def _lines(rows: Sequence[LogRow]) -> str:
    moments = np.datetime_as_string(np.array([row.time_us for row in rows], dtype="datetime64[us]")).tolist()
    return "".join(
        [
            # Names of models, versions and deployments, hashes and reasons have no special characters.
            f"{field(row.request_id)}\t{row.model}\t{row.version}\t{row.deployment}\t{row.input_hash or NULL}\t"
            f"{field(row.output) or NULL}\t{row.latency_ms!r}\t{row.error_message or NULL}\t{moment}Z\t"
            f"{field(row.user_id) or NULL}\t{field(orjson.dumps(row.metadata).decode())}\n"
            for row, moment in zip(rows, moments, strict=True)
        ]
    )
