"""Streams that are cut short, and what trailers say of errors in any script."""

import base64
from urllib.parse import unquote

import pytest
from google.rpc import status_pb2
from hypothesis import given
from hypothesis import strategies as st

from services.batcher.codec.frames import FrameReader, error_trailers, frame
from services.common.errors import FieldViolation, MeshError, Reason

MESSAGES = st.lists(st.binary(max_size=300), max_size=8)


@given(MESSAGES.filter(bool), st.data())
def test_a_stream_that_is_cut_short_says_so(messages: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(map(frame, messages))
    boundaries = {sum(len(frame(message)) for message in messages[:count]) for count in range(len(messages) + 1)}
    end = data.draw(st.integers(0, len(stream)).filter(lambda at: at not in boundaries))
    reader = FrameReader()
    complete = list(reader.feed(stream[:end]))
    assert complete == messages[: len(complete)]
    with pytest.raises(MeshError) as caught:
        reader.finish()
    assert caught.value.reason is Reason.MALFORMED_BODY


@given(
    st.text(st.characters(codec="utf-8"), max_size=3000),
    st.lists(st.text(st.characters(codec="utf-8"), max_size=400), max_size=16),
)
def test_trailers_are_printable_bounded_and_say_what_the_error_said(message: str, fields: list[str]) -> None:
    error = MeshError(Reason.SCHEMA_VIOLATION, message, violations=[FieldViolation(field, field) for field in fields])
    trailers = error_trailers(error)
    assert sum(len(name) + len(value) for name, value in trailers) < 8192
    assert all(0x20 <= byte < 0x7F for _, value in trailers for byte in value)
    said = unquote(dict(trailers)[b"grpc-message"].decode())
    assert said == message or (said.endswith("…") and message.startswith(said[:-1]))
    details = dict(trailers)[b"grpc-status-details-bin"]
    status = status_pb2.Status.FromString(base64.b64decode(details + b"=" * (-len(details) % 4)))
    assert (status.code, status.message) == (int(error.code), said)
    assert status.details
