"""The catalogue is total, the domain's reasons are the contract's, and an error survives the wire."""

import pytest
from google.rpc import error_details_pb2, status_pb2
from infermesh.common.v1 import error_reason_pb2

from services.common.errors import CATALOGUE, Code, FieldViolation, MeshError, Reason, invalid, shown
from services.common.grpc.status import error_from_status, http_status, status_from_error


def test_every_reason_has_a_code() -> None:
    assert set(CATALOGUE) == set(Reason)


def test_reasons_are_those_of_the_contract() -> None:
    contract = {name.removeprefix("ERROR_REASON_") for name in error_reason_pb2.ErrorReason.keys()}  # noqa: SIM118
    assert contract - {"UNSPECIFIED"} == {reason.value for reason in Reason}


def test_every_code_has_an_http_status() -> None:
    assert {code: http_status(code) for code in Code}[Code.FAILED_PRECONDITION] == 412


@pytest.mark.parametrize("reason", list(Reason))
def test_an_error_survives_the_wire(reason: Reason) -> None:
    error = MeshError(
        reason,
        "the queue of digits is full; try again",
        metadata={"model": "digits"},
        violations=[FieldViolation("instances[0].X", "has 3 values; allowed: 64")],
        retry_after_s=1.5,
    )
    rebuilt = error_from_status(status_pb2.Status.FromString(status_from_error(error).SerializeToString()))
    assert (rebuilt.reason, rebuilt.message, rebuilt.code) == (reason, error.message, error.code)
    assert rebuilt.metadata == {"model": "digits"}
    assert rebuilt.violations == error.violations
    assert rebuilt.retry_after_s == 1.5


def test_a_foreign_status_keeps_its_code_where_a_reason_fits() -> None:
    rebuilt = error_from_status(status_pb2.Status(code=int(Code.UNAVAILABLE), message="connection refused"))
    assert rebuilt.reason is Reason.DEPENDENCY_UNAVAILABLE
    assert rebuilt.code is Code.UNAVAILABLE


def test_a_reason_of_another_domain_is_not_taken_for_ours() -> None:
    status = status_pb2.Status(code=int(Code.NOT_FOUND), message="no such thing")
    status.details.add().Pack(error_details_pb2.ErrorInfo(reason="MODEL_NOT_FOUND", domain="example.com"))
    assert error_from_status(status).reason is not Reason.MODEL_NOT_FOUND


def test_invalid_names_field_value_and_what_is_allowed() -> None:
    error = invalid("page_size", 5000, "0 to 1000")
    assert error.code is Code.INVALID_ARGUMENT
    assert error.message == "page_size is 5000; allowed: 0 to 1000"
    assert error.violations == (FieldViolation("page_size", "is 5000; allowed: 0 to 1000"),)


def test_long_values_are_cut() -> None:
    assert shown("x" * 1000).endswith("(1002 characters)")
    assert len(shown("x" * 1000)) < 150
