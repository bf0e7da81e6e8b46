"""gRPC's frames, time limits and status trailers."""

import base64
from urllib.parse import unquote

import pytest
from google.rpc import status_pb2

from services.batcher.bridge.messages import Pairs
from services.batcher.codec.frames import FrameReader, error_trailers, frame, timeout_s, unframe
from services.common.errors import Code, FieldViolation, MeshError, Reason
from services.common.grpc.server import MESSAGE_MAX_BYTES
from services.common.grpc.status import error_from_status

TRAILERS_MAX_BYTES = 8192


def value_of(trailers: Pairs, name: bytes) -> bytes:
    (value,) = [value for key, value in trailers if key == name]
    return value


def told(trailers: Pairs) -> MeshError:
    """The error as a client reads it out of the details."""
    details = value_of(trailers, b"grpc-status-details-bin")
    return error_from_status(status_pb2.Status.FromString(base64.b64decode(details + b"=" * (-len(details) % 4))))


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", Reason.MALFORMED_BODY),
        (b"\0\0\0\0", Reason.MALFORMED_BODY),
        (b"\0\0\0\0\x02a", Reason.MALFORMED_BODY),
        (b"\0\0\0\0\x01ab", Reason.MALFORMED_BODY),
        (frame(b"one") + frame(b"two"), Reason.MALFORMED_BODY),
        (b"\0\xff\xff\xff\xffabc", Reason.MESSAGE_TOO_LARGE),
        (b"\x01\0\0\0\x01a", Reason.NOT_IMPLEMENTED),
        (b"\x80\0\0\0\0", Reason.NOT_IMPLEMENTED),
    ],
)
def test_bodies_that_are_not_one_plain_message_are_refused(body: bytes, reason: Reason) -> None:
    with pytest.raises(MeshError) as caught:
        unframe(body)
    assert caught.value.reason is reason


def test_the_largest_message_is_taken_and_one_byte_more_is_not() -> None:
    head = b"\0" + MESSAGE_MAX_BYTES.to_bytes(4, "big")
    assert list(FrameReader().feed(head)) == []
    with pytest.raises(MeshError) as caught:
        list(FrameReader().feed(b"\0" + (MESSAGE_MAX_BYTES + 1).to_bytes(4, "big")))
    assert caught.value.reason is Reason.MESSAGE_TOO_LARGE
    assert caught.value.metadata == {"bytes_max": str(MESSAGE_MAX_BYTES)}


def test_a_compressed_message_on_a_stream_is_refused_before_it_is_complete() -> None:
    with pytest.raises(MeshError) as caught:
        list(FrameReader().feed(b"\x01\0\0\0\x09"))
    assert caught.value.reason is Reason.NOT_IMPLEMENTED


@pytest.mark.parametrize("rest", [b"\0", b"\0\0\0\0", b"\0\0\0\0\x02a"])
def test_a_stream_that_ends_inside_a_message_is_malformed(rest: bytes) -> None:
    reader = FrameReader()
    assert list(reader.feed(frame(b"whole") + rest)) == [b"whole"]
    with pytest.raises(MeshError, match="middle of a message"):
        reader.finish()


def test_a_stream_that_ends_between_messages_is_fine() -> None:
    reader = FrameReader()
    assert list(reader.feed(frame(b"") + frame(b"x"))) == [b"", b"x"]
    reader.finish()


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (b"1H", 3600.0),
        (b"2M", 120.0),
        (b"3S", 3.0),
        (b"250m", 0.25),
        (b"250u", 250e-6),
        (b"250n", 250e-9),
        (b"0S", 0.0),
        (b"00000001S", 1.0),
        (b"99999999H", 99999999 * 3600.0),
    ],
)
def test_every_unit_of_a_time_limit_is_read(value: bytes, seconds: float) -> None:
    assert timeout_s(value) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "value",
    [b"", b"S", b"1", b"10", b"-1S", b"+1S", b"1.5S", b" 1S", b"1 S", b"1s", b"1h", b"123456789S", b"\xb2S", b"1\0"],
)
def test_what_is_no_time_limit_is_malformed(value: bytes) -> None:
    with pytest.raises(MeshError) as caught:
        timeout_s(value)
    assert caught.value.reason is Reason.MALFORMED_BODY


def test_an_error_is_told_with_its_code_message_details_and_delay() -> None:
    error = MeshError(
        Reason.QUEUE_FULL, "100% full\nla café", metadata={"model": "m"}, retry_after_s=2.25, violations=()
    )
    trailers = error_trailers(error)
    assert value_of(trailers, b"grpc-status") == str(int(Code.RESOURCE_EXHAUSTED)).encode()
    assert value_of(trailers, b"grpc-message") == b"100%25 full%0Ala caf%C3%A9"
    assert value_of(trailers, b"retry-after") == b"2"
    back = told(trailers)
    assert (back.reason, back.message, back.retry_after_s) == (error.reason, error.message, 2.25)
    assert back.metadata == {"model": "m"}


def test_an_error_that_time_does_not_mend_has_no_delay() -> None:
    trailers = error_trailers(MeshError(Reason.INVALID_FIELD, "no"))
    assert b"retry-after" not in dict(trailers)
    assert told(trailers).retry_after_s is None


def test_a_delay_below_a_second_is_a_second_to_http() -> None:
    assert value_of(error_trailers(MeshError(Reason.SHUTTING_DOWN, "", retry_after_s=0.1)), b"retry-after") == b"1"


@pytest.mark.parametrize("letter", ["a", "é", "語", "🙂", "%", "\n"])
def test_a_message_of_any_script_is_cut_so_that_trailers_stay_within_what_proxies_take(letter: str) -> None:
    violations = [FieldViolation(f"instances[{row}].{letter * 100}", letter * 100) for row in range(16)]
    trailers = error_trailers(MeshError(Reason.SCHEMA_VIOLATION, letter * 5000, violations=violations))
    assert sum(len(name) + len(value) for name, value in trailers) < TRAILERS_MAX_BYTES
    message = unquote(value_of(trailers, b"grpc-message").decode())
    assert message.endswith("…")
    assert set(message[:-1]) == {letter}
    back = told(trailers)
    assert back.reason is Reason.SCHEMA_VIOLATION
    assert back.message == message


def test_violations_that_fit_are_kept() -> None:
    violations = (FieldViolation("instances[0].x", "is missing"), FieldViolation("instances[1].x", "is missing"))
    trailers = error_trailers(MeshError(Reason.SCHEMA_VIOLATION, "two", violations=violations))
    assert told(trailers).violations == violations


def test_the_delay_and_the_first_violation_outlive_those_that_do_not_fit() -> None:
    violations = [FieldViolation("x" * 1000, "y" * 1000) for _ in range(16)]
    back = told(error_trailers(MeshError(Reason.SCHEMA_VIOLATION, "many", violations=violations, retry_after_s=1.0)))
    assert 1 <= len(back.violations) < 16
    assert back.violations[0].field.startswith("xxx")
    assert back.retry_after_s == 1.0
