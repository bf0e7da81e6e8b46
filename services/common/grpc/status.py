"""Errors on the wire: `google.rpc.Status` with ErrorInfo, BadRequest and RetryInfo, and back again (AIP-193)."""

from google.protobuf import any_pb2, duration_pb2
from google.rpc import error_details_pb2, status_pb2

from services.common.errors import DOMAIN, Code, FieldViolation, MeshError, Reason

STATUS_DETAILS_KEY = "grpc-status-details-bin"
METADATA_REASON_MAX = 32
"""The most metadata entries that travel: trailers have a size bound of 8 KiB in most proxies."""

_HTTP_STATUS = {
    Code.OK: 200,
    Code.CANCELLED: 499,
    Code.UNKNOWN: 500,
    Code.INVALID_ARGUMENT: 400,
    Code.DEADLINE_EXCEEDED: 504,
    Code.NOT_FOUND: 404,
    Code.ALREADY_EXISTS: 409,
    Code.PERMISSION_DENIED: 403,
    Code.RESOURCE_EXHAUSTED: 429,
    Code.FAILED_PRECONDITION: 412,
    Code.ABORTED: 409,
    Code.OUT_OF_RANGE: 400,
    Code.UNIMPLEMENTED: 501,
    Code.INTERNAL: 500,
    Code.UNAVAILABLE: 503,
    Code.DATA_LOSS: 500,
    Code.UNAUTHENTICATED: 401,
}


def http_status(code: Code) -> int:
    """The HTTP status that fits a code, as SPEC's REST contract states it."""
    return _HTTP_STATUS[code]


def status_from_error(error: MeshError) -> status_pb2.Status:
    """The wire form of an error."""
    info = error_details_pb2.ErrorInfo(reason=error.reason.value, domain=DOMAIN)
    for key, value in list(error.metadata.items())[:METADATA_REASON_MAX]:
        info.metadata[key] = value
    details = [_pack(info)]
    if error.violations:
        bad_request = error_details_pb2.BadRequest(
            field_violations=[
                error_details_pb2.BadRequest.FieldViolation(field=violation.field, description=violation.description)
                for violation in error.violations
            ]
        )
        details.append(_pack(bad_request))
    if error.retry_after_s is not None:
        delay = duration_pb2.Duration()
        delay.FromNanoseconds(int(error.retry_after_s * 1e9))
        details.append(_pack(error_details_pb2.RetryInfo(retry_delay=delay)))
    return status_pb2.Status(code=int(error.code), message=error.message, details=details)


def error_from_status(status: status_pb2.Status) -> MeshError:
    """The error that `status_from_error` wrote. Without our reason: the nearest that keeps the code."""
    reason, metadata = _reason_for_code(status.code), dict[str, str]()
    violations: list[FieldViolation] = []
    retry_after_s: float | None = None
    info, bad_request, retry = (
        error_details_pb2.ErrorInfo(),
        error_details_pb2.BadRequest(),
        error_details_pb2.RetryInfo(),
    )
    for detail in status.details:
        if detail.Unpack(info) and info.domain == DOMAIN and info.reason in Reason.__members__:
            reason, metadata = Reason[info.reason], dict(info.metadata)
        elif detail.Unpack(bad_request):
            violations = [FieldViolation(item.field, item.description) for item in bad_request.field_violations]
        elif detail.Unpack(retry):
            retry_after_s = retry.retry_delay.ToNanoseconds() / 1e9
    return MeshError(reason, status.message, metadata=metadata, violations=violations, retry_after_s=retry_after_s)


_NEAREST = {
    Code.CANCELLED: Reason.CALLER_CANCELLED,
    Code.INVALID_ARGUMENT: Reason.INVALID_FIELD,
    Code.OUT_OF_RANGE: Reason.INVALID_FIELD,
    Code.DEADLINE_EXCEEDED: Reason.DEADLINE_TOO_SHORT,
    Code.PERMISSION_DENIED: Reason.PERMISSION_DENIED,
    Code.UNAUTHENTICATED: Reason.UNAUTHENTICATED,
    Code.RESOURCE_EXHAUSTED: Reason.QUOTA_EXCEEDED,
    Code.ABORTED: Reason.ETAG_MISMATCH,
    Code.UNIMPLEMENTED: Reason.NOT_IMPLEMENTED,
    Code.UNAVAILABLE: Reason.DEPENDENCY_UNAVAILABLE,
    Code.DATA_LOSS: Reason.ARTIFACT_CORRUPT,
}


def _reason_for_code(code: int) -> Reason:
    return _NEAREST.get(Code(code), Reason.INTERNAL) if code in set(Code) else Reason.INTERNAL


def _pack(
    message: error_details_pb2.ErrorInfo | error_details_pb2.BadRequest | error_details_pb2.RetryInfo,
) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(message)
    return packed
