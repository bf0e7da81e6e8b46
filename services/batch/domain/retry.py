"""What a failed request means for its rows and for the job."""

from enum import Enum, auto

from services.common.errors import MeshError, Reason

_PASSING = frozenset(
    {
        Reason.DEPENDENCY_UNAVAILABLE,
        Reason.SHUTTING_DOWN,
        Reason.DEADLINE_TOO_SHORT,
        Reason.QUOTA_EXCEEDED,
        Reason.QUEUE_FULL,
        Reason.BACKEND_UNAVAILABLE,
        Reason.FEATURE_STORE_UNAVAILABLE,
        Reason.EXPLANATION_NOT_READY,
        # A version that is being loaded again, or whose deployment moves, is back within moments.
        Reason.MODEL_NOT_SERVED,
        Reason.VERSION_NOT_SERVED,
        # Unforeseen and without a reason of its own, so as likely to pass as not.
        Reason.INTERNAL,
        Reason.CALLER_CANCELLED,
    }
)
_OF_ROWS = frozenset(
    {
        Reason.SCHEMA_VIOLATION,
        Reason.INVALID_FIELD,
        Reason.MODEL_FAILED,
        Reason.FEATURE_MISSING,
        Reason.MALFORMED_BODY,
        Reason.MESSAGE_TOO_LARGE,
        # The version can be explained, or there would be no job: it is this row whose mixtures give no number.
        Reason.EXPLANATION_UNAVAILABLE,
    }
)
_NOT_SERVED = frozenset({Reason.MODEL_NOT_SERVED, Reason.VERSION_NOT_SERVED})
_NOT_SERVED_PATIENCE_S = 60.0
_DELAY_MIN_S = 0.05
_DELAY_MAX_S = 5.0


class Verdict(Enum):
    """What to do about a failed request."""

    AGAIN = auto()
    """Send it again after a while: the cause may pass."""
    HALVE = auto()
    """Some of its rows are to blame: send them in halves, until each bad row is alone."""
    GIVE_UP = auto()
    """No row of the job can be predicted."""


def judge(error: MeshError) -> Verdict:
    """What a failure means."""
    if error.reason in _PASSING:
        return Verdict.AGAIN
    return Verdict.HALVE if error.reason in _OF_ROWS else Verdict.GIVE_UP


def patience(error: MeshError, outage_timeout_s: float) -> float:
    """How long failures of this kind may go on without any answer, in seconds. A version that is loaded again is back
    within a minute; one that is not served after it was probably never deployed, and the caller should hear of it."""
    return min(_NOT_SERVED_PATIENCE_S, outage_timeout_s) if error.reason in _NOT_SERVED else outage_timeout_s


def delay_s(attempt: int, asked_s: float | None, chance: float) -> float:
    """How long to wait before attempt number `attempt` + 1, in seconds: doubling from 50 ms to 5 s, never less than the
    server asked for, and spread by `chance` (0 to 1) so that requests that failed together do not return together."""
    backoff_s = min(_DELAY_MAX_S, _DELAY_MIN_S * 2 ** min(attempt - 1, 16))
    spread_s: float = backoff_s * (0.5 + chance / 2)
    return max(spread_s, min(asked_s or 0.0, 60.0))
