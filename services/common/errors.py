"""The one error type of the mesh, its reasons and the catalogue from reason to status code. Transport-free.

A `MeshError` is raised where the failure is understood; the gRPC face turns it into `google.rpc` details and the
channel of the caller turns those back, so an error keeps its meaning over any number of hops. Whatever is not a
`MeshError` is unforeseen: it is logged with an id, and only the id leaves the process.

Messages are sentences: what is wrong, with the value, then what to do about it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum, StrEnum, auto
from types import MappingProxyType

DOMAIN = "infermesh"
"""`google.rpc.ErrorInfo.domain` of every error."""


class Code(IntEnum):
    """The canonical status codes, numbered as `google.rpc.Code`."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


class Reason(StrEnum):
    """Why a call failed: `infermesh.common.v1.ErrorReason` without its prefix. The proto documents each."""

    @staticmethod
    def _generate_next_value_(name: str, start: int, count: int, last_values: list[str]) -> str:  # noqa: ARG004
        return name

    INTERNAL = auto()
    INVALID_FIELD = auto()
    NOT_IMPLEMENTED = auto()
    DEADLINE_TOO_SHORT = auto()
    DEPENDENCY_UNAVAILABLE = auto()
    SHUTTING_DOWN = auto()
    ETAG_MISMATCH = auto()
    REQUEST_ID_REUSED = auto()
    INVALID_PAGE_TOKEN = auto()
    CALLER_CANCELLED = auto()
    UNAUTHENTICATED = auto()
    PERMISSION_DENIED = auto()
    QUOTA_EXCEEDED = auto()
    MESSAGE_TOO_LARGE = auto()

    MODEL_NOT_FOUND = auto()
    VERSION_NOT_FOUND = auto()
    VERSION_EXISTS = auto()
    ARTIFACT_NOT_FOUND = auto()
    ARTIFACT_INVALID = auto()
    SCHEMA_MISMATCH = auto()
    SCHEMA_REQUIRED = auto()
    ALIAS_NOT_FOUND = auto()
    STAGE_TRANSITION_INVALID = auto()
    ARTIFACT_CORRUPT = auto()
    RESOURCE_IN_USE = auto()
    TEAM_NOT_FOUND = auto()
    KEY_NOT_FOUND = auto()
    MEMBER_NOT_FOUND = auto()
    TEAM_EXISTS = auto()
    UPLOAD_NOT_FOUND = auto()
    SIGNATURE_REQUIRED = auto()

    DEPLOYMENT_NOT_FOUND = auto()
    DEPLOYMENT_EXISTS = auto()
    DEPLOYMENT_TERMINATING = auto()
    FRAMEWORK_UNSUPPORTED = auto()
    LOAD_FAILED = auto()
    WARMUP_FAILED = auto()
    VERSION_ARCHIVED = auto()
    ENVIRONMENT_FAILED = auto()
    QUANTISATION_REFUSED = auto()
    CLUSTER_REFUSED = auto()
    MEMORY_EXHAUSTED = auto()

    VERSION_NOT_DEPLOYED = auto()
    WEIGHTS_INVALID = auto()
    TRAFFIC_RULE_NOT_FOUND = auto()
    AB_TEST_NOT_FOUND = auto()
    NOTHING_TO_ROLL_BACK = auto()
    ROLLOUT_IN_PROGRESS = auto()
    ROLLOUT_STATE_INVALID = auto()
    AB_TEST_EXISTS = auto()

    MODEL_NOT_SERVED = auto()
    VERSION_NOT_SERVED = auto()
    SCHEMA_VIOLATION = auto()
    QUEUE_FULL = auto()
    MODEL_FAILED = auto()
    BACKEND_UNAVAILABLE = auto()
    BACKEND_PROTOCOL = auto()
    MALFORMED_BODY = auto()
    FEATURE_MISSING = auto()
    FEATURE_STORE_UNAVAILABLE = auto()
    EXPLANATION_UNAVAILABLE = auto()
    EXPLANATION_NOT_READY = auto()

    JOB_NOT_FOUND = auto()
    JOB_STATE_INVALID = auto()
    INPUT_UNREADABLE = auto()
    OUTPUT_UNWRITABLE = auto()
    SCHEDULE_NOT_FOUND = auto()
    SCHEDULE_EXISTS = auto()
    WORKERS_FAILED = auto()

    ALERT_NOT_FOUND = auto()
    LOG_EXPORT_NOT_FOUND = auto()
    ALERT_RULE_EXISTS = auto()
    CHANNEL_NOT_FOUND = auto()
    CHANNEL_EXISTS = auto()
    SILENCE_NOT_FOUND = auto()
    BASELINE_NOT_FOUND = auto()
    DRIFT_REPORT_NOT_FOUND = auto()
    BASELINE_REQUIRED = auto()
    TOO_FEW_PREDICTIONS = auto()


CATALOGUE: Mapping[Reason, Code] = MappingProxyType(
    {
        Reason.INTERNAL: Code.INTERNAL,
        Reason.INVALID_FIELD: Code.INVALID_ARGUMENT,
        Reason.NOT_IMPLEMENTED: Code.UNIMPLEMENTED,
        Reason.DEADLINE_TOO_SHORT: Code.DEADLINE_EXCEEDED,
        Reason.DEPENDENCY_UNAVAILABLE: Code.UNAVAILABLE,
        Reason.SHUTTING_DOWN: Code.UNAVAILABLE,
        Reason.ETAG_MISMATCH: Code.ABORTED,
        Reason.REQUEST_ID_REUSED: Code.ALREADY_EXISTS,
        Reason.INVALID_PAGE_TOKEN: Code.INVALID_ARGUMENT,
        Reason.CALLER_CANCELLED: Code.CANCELLED,
        Reason.UNAUTHENTICATED: Code.UNAUTHENTICATED,
        Reason.PERMISSION_DENIED: Code.PERMISSION_DENIED,
        Reason.QUOTA_EXCEEDED: Code.RESOURCE_EXHAUSTED,
        Reason.MESSAGE_TOO_LARGE: Code.INVALID_ARGUMENT,
        Reason.MODEL_NOT_FOUND: Code.NOT_FOUND,
        Reason.VERSION_NOT_FOUND: Code.NOT_FOUND,
        Reason.VERSION_EXISTS: Code.ALREADY_EXISTS,
        Reason.ARTIFACT_NOT_FOUND: Code.NOT_FOUND,
        Reason.ARTIFACT_INVALID: Code.INVALID_ARGUMENT,
        Reason.SCHEMA_MISMATCH: Code.INVALID_ARGUMENT,
        Reason.SCHEMA_REQUIRED: Code.INVALID_ARGUMENT,
        Reason.ALIAS_NOT_FOUND: Code.NOT_FOUND,
        Reason.STAGE_TRANSITION_INVALID: Code.FAILED_PRECONDITION,
        Reason.ARTIFACT_CORRUPT: Code.DATA_LOSS,
        Reason.RESOURCE_IN_USE: Code.FAILED_PRECONDITION,
        Reason.TEAM_NOT_FOUND: Code.NOT_FOUND,
        Reason.KEY_NOT_FOUND: Code.NOT_FOUND,
        Reason.MEMBER_NOT_FOUND: Code.NOT_FOUND,
        Reason.TEAM_EXISTS: Code.ALREADY_EXISTS,
        Reason.UPLOAD_NOT_FOUND: Code.NOT_FOUND,
        Reason.SIGNATURE_REQUIRED: Code.FAILED_PRECONDITION,
        Reason.DEPLOYMENT_NOT_FOUND: Code.NOT_FOUND,
        Reason.DEPLOYMENT_EXISTS: Code.ALREADY_EXISTS,
        Reason.DEPLOYMENT_TERMINATING: Code.FAILED_PRECONDITION,
        Reason.FRAMEWORK_UNSUPPORTED: Code.FAILED_PRECONDITION,
        Reason.LOAD_FAILED: Code.FAILED_PRECONDITION,
        Reason.WARMUP_FAILED: Code.FAILED_PRECONDITION,
        Reason.VERSION_ARCHIVED: Code.FAILED_PRECONDITION,
        Reason.ENVIRONMENT_FAILED: Code.FAILED_PRECONDITION,
        Reason.QUANTISATION_REFUSED: Code.FAILED_PRECONDITION,
        Reason.CLUSTER_REFUSED: Code.FAILED_PRECONDITION,
        Reason.MEMORY_EXHAUSTED: Code.RESOURCE_EXHAUSTED,
        Reason.VERSION_NOT_DEPLOYED: Code.FAILED_PRECONDITION,
        Reason.WEIGHTS_INVALID: Code.INVALID_ARGUMENT,
        Reason.TRAFFIC_RULE_NOT_FOUND: Code.NOT_FOUND,
        Reason.AB_TEST_NOT_FOUND: Code.NOT_FOUND,
        Reason.NOTHING_TO_ROLL_BACK: Code.FAILED_PRECONDITION,
        Reason.ROLLOUT_IN_PROGRESS: Code.FAILED_PRECONDITION,
        Reason.ROLLOUT_STATE_INVALID: Code.FAILED_PRECONDITION,
        Reason.AB_TEST_EXISTS: Code.ALREADY_EXISTS,
        Reason.MODEL_NOT_SERVED: Code.NOT_FOUND,
        Reason.VERSION_NOT_SERVED: Code.NOT_FOUND,
        Reason.SCHEMA_VIOLATION: Code.INVALID_ARGUMENT,
        Reason.QUEUE_FULL: Code.RESOURCE_EXHAUSTED,
        Reason.MODEL_FAILED: Code.INTERNAL,
        Reason.BACKEND_UNAVAILABLE: Code.UNAVAILABLE,
        Reason.BACKEND_PROTOCOL: Code.INTERNAL,
        Reason.MALFORMED_BODY: Code.INVALID_ARGUMENT,
        Reason.FEATURE_MISSING: Code.FAILED_PRECONDITION,
        Reason.FEATURE_STORE_UNAVAILABLE: Code.UNAVAILABLE,
        Reason.EXPLANATION_UNAVAILABLE: Code.FAILED_PRECONDITION,
        Reason.EXPLANATION_NOT_READY: Code.UNAVAILABLE,
        Reason.JOB_NOT_FOUND: Code.NOT_FOUND,
        Reason.JOB_STATE_INVALID: Code.FAILED_PRECONDITION,
        Reason.INPUT_UNREADABLE: Code.INVALID_ARGUMENT,
        Reason.OUTPUT_UNWRITABLE: Code.FAILED_PRECONDITION,
        Reason.SCHEDULE_NOT_FOUND: Code.NOT_FOUND,
        Reason.SCHEDULE_EXISTS: Code.ALREADY_EXISTS,
        Reason.WORKERS_FAILED: Code.FAILED_PRECONDITION,
        Reason.ALERT_NOT_FOUND: Code.NOT_FOUND,
        Reason.LOG_EXPORT_NOT_FOUND: Code.NOT_FOUND,
        Reason.ALERT_RULE_EXISTS: Code.ALREADY_EXISTS,
        Reason.CHANNEL_NOT_FOUND: Code.NOT_FOUND,
        Reason.CHANNEL_EXISTS: Code.ALREADY_EXISTS,
        Reason.SILENCE_NOT_FOUND: Code.NOT_FOUND,
        Reason.BASELINE_NOT_FOUND: Code.NOT_FOUND,
        Reason.DRIFT_REPORT_NOT_FOUND: Code.NOT_FOUND,
        Reason.BASELINE_REQUIRED: Code.FAILED_PRECONDITION,
        Reason.TOO_FEW_PREDICTIONS: Code.FAILED_PRECONDITION,
    }
)
"""The one place that decides which status code a reason has. A test proves it total."""


@dataclass(frozen=True, slots=True)
class FieldViolation:
    """One wrong field: its path as the caller wrote it, and what is wrong with the value and what is allowed."""

    field: str
    description: str


class MeshError(Exception):
    """A failure that the mesh understands.

    `metadata` is for programs (short keys, short values), `violations` names wrong fields, and `retry_after_s`
    says when trying again makes sense; None where it does not.
    """

    def __init__(
        self,
        reason: Reason,
        message: str,
        *,
        metadata: Mapping[str, str] | None = None,
        violations: Sequence[FieldViolation] = (),
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.metadata: Mapping[str, str] = dict(metadata or {})
        self.violations = tuple(violations)
        self.retry_after_s = retry_after_s

    @property
    def code(self) -> Code:
        """The status code that the catalogue gives the reason."""
        return CATALOGUE[self.reason]

    def __str__(self) -> str:
        return f"{self.reason}: {self.message}"


def shown(value: object, *, length_max: int = 120) -> str:
    """`value` as an error message quotes it: its repr, cut at `length_max` characters."""
    text = repr(value)
    return text if len(text) <= length_max else f"{text[:length_max]}… ({len(text)} characters)"


def invalid(field: str, value: object, allowed: str) -> MeshError:
    """INVALID_FIELD for one field, naming the field, the value and what is allowed instead."""
    description = f"is {shown(value)}; allowed: {allowed}"
    return MeshError(Reason.INVALID_FIELD, f"{field} {description}", violations=(FieldViolation(field, description),))


def invalid_fields(violations: Sequence[FieldViolation]) -> MeshError:
    """INVALID_FIELD for several fields at once, so that the caller mends them in one round."""
    message = "; ".join(f"{violation.field} {violation.description}" for violation in violations)
    return MeshError(Reason.INVALID_FIELD, message, violations=violations)
