"""A failed call becomes one error that says what is wrong, in a word for programs, and what to do."""

import grpc
import pytest
from google.protobuf import any_pb2, duration_pb2
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from infermesh.client.cli.failures import ExitCode, exit_code, paragraph
from infermesh.client.errors import GATEWAY_UNREACHABLE, InfermeshError, error_from_rpc, error_from_status


def packed(message: Message) -> any_pb2.Any:
    wrapped = any_pb2.Any()
    wrapped.Pack(message)
    return wrapped


def rpc_error(
    code: grpc.StatusCode, details: str, trailing: tuple[tuple[str, str | bytes], ...] = ()
) -> grpc.aio.AioRpcError:
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(*trailing), details=details)


def full_status() -> status_pb2.Status:
    info = error_details_pb2.ErrorInfo(reason="SCHEMA_VIOLATION", domain="infermesh", metadata={"instance": "0"})
    bad = error_details_pb2.BadRequest(
        field_violations=[
            error_details_pb2.BadRequest.FieldViolation(field="instances[0].X", description="has 3 values, expected 64")
        ]
    )
    return status_pb2.Status(code=3, message="1 instance does not fit", details=[packed(info), packed(bad)])


def test_details_are_rebuilt() -> None:
    error = error_from_rpc(
        rpc_error(
            grpc.StatusCode.INVALID_ARGUMENT,
            "1 instance does not fit",
            (("grpc-status-details-bin", full_status().SerializeToString()),),
        ),
        address="mesh:1",
        timeout_s=1.0,
    )
    assert error.code is grpc.StatusCode.INVALID_ARGUMENT
    assert error.reason == "SCHEMA_VIOLATION"
    assert error.metadata == {"instance": "0"}
    assert [(item.field, item.description) for item in error.violations] == [
        ("instances[0].X", "has 3 values, expected 64")
    ]
    assert str(error) == "1 instance does not fit; instances[0].X: has 3 values, expected 64"
    assert "infermesh models show" in error.advice
    assert not error.is_transient


def test_advice_names_what_the_error_is_about() -> None:
    def about(**metadata: str) -> str:
        return InfermeshError("x", code=grpc.StatusCode.NOT_FOUND, reason="MODEL_NOT_SERVED", metadata=metadata).advice

    assert about() == "`infermesh deploy MODEL VERSION` makes a registered version answer."
    assert about(model_name="iris") == "`infermesh deploy iris VERSION` makes a registered version answer."
    # What the mesh sends is text, never a pattern.
    assert about(model_name=r"\1") == r"`infermesh deploy \1 VERSION` makes a registered version answer."


def test_retry_delay_becomes_advice() -> None:
    retry = error_details_pb2.RetryInfo(retry_delay=duration_pb2.Duration(seconds=2, nanos=500_000_000))
    error = error_from_status(status_pb2.Status(code=8, message="the queue is full", details=[packed(retry)]))
    assert error.retry_after_s == 2.5
    assert error.advice == "Try again in 2.5 s."
    assert error.is_transient


def test_foreign_details_keep_the_code() -> None:
    info = error_details_pb2.ErrorInfo(reason="SOMETHING", domain="elsewhere")
    unreadable = any_pb2.Any(type_url="type.googleapis.com/google.rpc.BadRequest", value=b"\xff\xff")
    error = error_from_status(status_pb2.Status(code=5, message="gone", details=[packed(info), unreadable]))
    assert (error.reason, error.code) == ("NOT_FOUND", grpc.StatusCode.NOT_FOUND)


def test_unknown_code_is_unknown() -> None:
    assert error_from_status(status_pb2.Status(code=99, message="odd")).code is grpc.StatusCode.UNKNOWN


def test_unreadable_details_fall_back_to_the_status_line() -> None:
    error = error_from_rpc(
        rpc_error(grpc.StatusCode.NOT_FOUND, "no such thing", (("grpc-status-details-bin", b"\xff\xff\xff"),)),
        address="mesh:1",
        timeout_s=None,
    )
    assert (error.reason, error.message) == ("NOT_FOUND", "no such thing")


@pytest.mark.parametrize(
    "details",
    [
        "failed to connect to all addresses; last error: UNKNOWN: ipv4:127.0.0.1:1: Failed to connect to remote host",
        "connections to all backends failing; last error: Connection refused",
    ],
)
def test_no_gateway_says_how_to_start_one(details: str) -> None:
    error = error_from_rpc(rpc_error(grpc.StatusCode.UNAVAILABLE, details), address="127.0.0.1:1", timeout_s=1.0)
    assert error.reason == GATEWAY_UNREACHABLE
    assert "127.0.0.1:1" in error.message
    assert "make run" in error.advice


def test_a_dead_service_behind_a_living_gateway_is_not_a_missing_gateway() -> None:
    details = "upstream connect error or disconnect/reset before headers. transport failure reason: Connection refused"
    error = error_from_rpc(rpc_error(grpc.StatusCode.UNAVAILABLE, details), address="mesh:1", timeout_s=1.0)
    assert error.reason == "UNAVAILABLE"
    assert "infermesh status" in error.advice


def test_own_deadline_names_address_and_seconds() -> None:
    error = error_from_rpc(
        rpc_error(grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded"), address="mesh:1", timeout_s=1.5
    )
    assert error.message == "the gateway at mesh:1 gave no answer within 1.5 s"


def test_every_status_has_an_exit_code_and_success_has_none() -> None:
    for code in grpc.StatusCode:
        error = InfermeshError("x", code=code, reason=code.name)
        assert exit_code(error) != ExitCode.OK
    assert exit_code(InfermeshError("x", code=grpc.StatusCode.NOT_FOUND, reason="x")) == 3
    assert exit_code(InfermeshError("x", code=grpc.StatusCode.UNAVAILABLE, reason="x")) == 4


def test_paragraph_escapes_markup_and_ends_sentences() -> None:
    text = paragraph(error_from_status(full_status()))
    assert "1 instance does not fit." in text
    assert r"instances\[0].X" in text or "instances[0].X" in text
    hostile = InfermeshError("[bold]no[/bold] model", code=grpc.StatusCode.NOT_FOUND, reason="MODEL_NOT_FOUND")
    assert r"\[bold]no" in paragraph(hostile)
