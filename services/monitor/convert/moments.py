"""Between protobuf and moments."""

from datetime import UTC, datetime

from google.protobuf.timestamp_pb2 import Timestamp

from services.common.errors import invalid


def moment_from_proto(message: Timestamp, *, given: bool, field: str) -> datetime | None:
    """The moment, None where it was not given. Raises INVALID_FIELD outside the years 1 to 9999."""
    if not given:
        return None
    try:
        return message.ToDatetime(tzinfo=UTC)
    except (ValueError, OverflowError):
        raise invalid(field, f"{message.seconds} s since 1970", "a moment of the years 1 to 9999") from None
