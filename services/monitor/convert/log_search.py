"""Between protobuf and the log as it is searched."""

from datetime import datetime
from uuid import UUID

from google.protobuf import json_format
from google.protobuf.struct_pb2 import Value
from infermesh.monitor.v1 import inference_log_pb2, monitor_service_pb2

from services.common.errors import MeshError, Reason
from services.monitor.domain.log_search import FoundRow, Position
from services.monitor.engines.log_search import LogHealth

_PARTS = 2


def found_to_proto(found: FoundRow) -> inference_log_pb2.InferenceLog:
    """One entry."""
    row = found.row
    message = inference_log_pb2.InferenceLog(
        request_id=row.request_id,
        model_name=row.model,
        version=row.version,
        deployment_name=row.deployment,
        input_hash=row.input_hash,
        output=json_format.Parse(row.output, Value()) if row.output else None,
        latency_ms=row.latency_ms,
        error_message=row.error_message,
        user_id=row.user_id,
        metadata=row.metadata,
    )
    message.timestamp.FromDatetime(found.position.moment)
    return message


def health_to_proto(health: LogHealth) -> monitor_service_pb2.LogHealth:
    """How the log does."""
    return monitor_service_pb2.LogHealth(
        stored=health.stored,
        dropped_count=health.losses.dropped,
        unkept_count=health.losses.unkept,
        window_minutes=health.minutes,
    )


def position_from_token(parts: tuple[str, ...]) -> Position | None:
    """Where a page goes on. Raises INVALID_PAGE_TOKEN."""
    if not parts:
        return None
    try:
        if len(parts) == _PARTS:
            return Position(datetime.fromisoformat(parts[0]), str(UUID(parts[1])))
    except ValueError:
        pass
    raise MeshError(Reason.INVALID_PAGE_TOKEN, "page_token is none of this list; leave it out to begin again")
