"""The numbers by which the prediction log knows reasons."""

from collections.abc import Mapping

from infermesh.common.v1 import error_reason_pb2

from services.common.errors import Reason

REASON_NUMBERS: Mapping[Reason, int] = {
    reason: error_reason_pb2.ErrorReason.Value(f"ERROR_REASON_{reason.value}") for reason in Reason
}
