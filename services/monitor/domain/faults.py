"""Who is to blame for a failed request: the caller, or the platform and the model.

A rollout must stop for what it broke and for nothing else. A caller who sends nonsense, lacks permission, is over its
quota or hangs up would fail on any version; all the rest a new version may have caused.
"""

from collections.abc import Mapping

from services.common.errors import CATALOGUE, Code, Reason

_CALLERS_CODES = frozenset(
    {
        Code.CANCELLED,  # the caller hung up
        Code.INVALID_ARGUMENT,  # what it sent is wrong
        Code.NOT_FOUND,  # it named what is not there
        Code.ALREADY_EXISTS,
        Code.PERMISSION_DENIED,
        Code.UNAUTHENTICATED,
        Code.FAILED_PRECONDITION,  # it asked for what this model does not do
        Code.ABORTED,  # it was overtaken by another caller's change
        Code.OUT_OF_RANGE,
    }
)
_PLATFORMS_CODES = frozenset(
    {
        Code.UNKNOWN,
        Code.DEADLINE_EXCEEDED,  # a slow version runs into its callers' deadlines
        Code.RESOURCE_EXHAUSTED,  # a slow version fills its queue
        Code.UNIMPLEMENTED,
        Code.INTERNAL,
        Code.UNAVAILABLE,
        Code.DATA_LOSS,
    }
)
_EXCEPTIONS: Mapping[Reason, bool] = {
    # Shares its code with QUEUE_FULL, but a quota is the caller's.
    Reason.QUOTA_EXCEEDED: False,
    # Features that a version needs and the store does not have: the same request works on another version.
    Reason.FEATURE_MISSING: True,
    # Counted against a version under test, so it was sent there; that it is not there is not the caller's doing.
    Reason.MODEL_NOT_SERVED: True,
    Reason.VERSION_NOT_SERVED: True,
    Reason.VERSION_NOT_DEPLOYED: True,
    Reason.DEPLOYMENT_TERMINATING: True,
    Reason.LOAD_FAILED: True,
    Reason.WARMUP_FAILED: True,
}


def is_fault(reason: str) -> bool:
    """Whether a request that failed for that reason (an ErrorReason without prefix) counts against the version. One
    that is not known does: nobody has shown that it is the caller's.
    """
    if reason not in Reason.__members__:
        return True
    known = Reason(reason)
    return _EXCEPTIONS.get(known, CATALOGUE[known] in _PLATFORMS_CODES)


def is_judged(code: Code) -> bool:
    """Whether it is decided whose failures of this code are; OK is none."""
    return (code in _CALLERS_CODES) != (code in _PLATFORMS_CODES)
