"""Who is to blame for each reason."""

import pytest

from services.common.errors import CATALOGUE, Code, Reason
from services.monitor.domain.faults import is_fault, is_judged


def test_it_is_decided_for_every_code() -> None:
    assert {code for code in Code if is_judged(code)} == set(Code) - {Code.OK}
    assert set(CATALOGUE.values()) <= {code for code in Code if is_judged(code)}


@pytest.mark.parametrize(
    "reason",
    [
        Reason.CALLER_CANCELLED,
        Reason.INVALID_FIELD,
        Reason.SCHEMA_VIOLATION,
        Reason.MALFORMED_BODY,
        Reason.MESSAGE_TOO_LARGE,
        Reason.MODEL_NOT_FOUND,
        Reason.UNAUTHENTICATED,
        Reason.PERMISSION_DENIED,
        Reason.QUOTA_EXCEEDED,
        Reason.EXPLANATION_UNAVAILABLE,
    ],
)
def test_what_callers_cause_is_no_fault(reason: Reason) -> None:
    assert not is_fault(reason)


@pytest.mark.parametrize(
    "reason",
    [
        Reason.MODEL_FAILED,
        Reason.INTERNAL,
        Reason.BACKEND_UNAVAILABLE,
        Reason.BACKEND_PROTOCOL,
        Reason.QUEUE_FULL,
        Reason.DEADLINE_TOO_SHORT,
        Reason.FEATURE_MISSING,
        Reason.FEATURE_STORE_UNAVAILABLE,
        Reason.VERSION_NOT_SERVED,
        "REASON_99999",
        "UNKNOWN",
    ],
)
def test_what_the_platform_or_a_model_causes_is_a_fault(reason: str) -> None:
    assert is_fault(reason)
