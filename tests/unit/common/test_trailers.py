"""Errors that say more than trailers carry: cut, and never lost."""

import pytest
from google.rpc import status_pb2

from services.common.errors import FieldViolation, MeshError, Reason
from services.common.grpc.status import error_from_status, status_from_error
from services.common.grpc.trailers import (
    DETAILS_BYTES_MAX,
    MESSAGE_BYTES_MAX,
    escaped,
    fitting_details,
    fitting_message,
)


def carried(error: MeshError) -> MeshError:
    status = status_from_error(error)
    status.message = fitting_message(error.message)
    details = fitting_details(status)
    assert len(details) <= DETAILS_BYTES_MAX
    assert len(escaped(status.message)) <= MESSAGE_BYTES_MAX + len(escaped("…"))
    return error_from_status(status_pb2.Status.FromString(details))


@pytest.mark.parametrize("count", [1, 2, 200, 5000])
@pytest.mark.parametrize("letter", ["a", "\U0001f600"])
def test_the_reason_and_the_first_field_always_arrive(count: int, letter: str) -> None:
    violations = [FieldViolation(f"items[{place}]", letter * 900) for place in range(count)]
    back = carried(MeshError(Reason.INVALID_FIELD, letter * 30_000, violations=violations, retry_after_s=2.0))
    assert back.reason is Reason.INVALID_FIELD
    assert back.violations[0].field == "items[0]"
    assert back.violations[0].description.startswith(letter * 90)
    assert back.retry_after_s == 2.0


def test_what_fits_is_as_it_was() -> None:
    violations = (FieldViolation("a", "is wrong"), FieldViolation("b", "too"))
    back = carried(MeshError(Reason.INVALID_FIELD, "two are wrong", violations=violations))
    assert (back.message, back.violations) == ("two are wrong", violations)


def test_metadata_without_measure_does_not_keep_an_error_from_arriving() -> None:
    back = fitting_details(status_from_error(MeshError(Reason.LOAD_FAILED, "no", metadata={"log": "x" * 100_000})))
    assert len(back) <= DETAILS_BYTES_MAX
    assert error_from_status(status_pb2.Status.FromString(back)).reason is Reason.LOAD_FAILED
