"""Responses with a length or in chunks, cut anywhere: read as they were meant, or refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.batcher.adapters.http_chunks import AnyFramingParser
from services.batcher.adapters.http_wire import GarbledError, Response

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n"


@st.composite
def responses(draw: st.DrawFn) -> tuple[bytes, bytes]:
    """What is sent, and the body that it means."""
    parts = draw(st.lists(st.binary(min_size=1, max_size=40), max_size=5))
    body = b"".join(parts)
    if draw(st.booleans()):
        return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body), body
    extension = draw(st.sampled_from([b"", b";a=b"]))
    chunks = b"".join(b"%x%s\r\n%s\r\n" % (len(part), extension, part) for part in parts)
    trailer = draw(st.sampled_from([b"", b"Checked: yes\r\n"]))
    length = draw(st.sampled_from([b"", b"Content-Length: 3\r\n"]))
    interim = draw(st.sampled_from([b"", b"HTTP/1.1 100 Continue\r\n\r\n"]))
    return interim + CHUNKED + length + b"\r\n" + chunks + b"0\r\n" + trailer + b"\r\n", body


@given(st.lists(responses(), min_size=1, max_size=3), st.lists(st.integers(1, 60), max_size=12))
def test_however_they_are_cut_they_are_read_as_they_were_meant(
    sent: list[tuple[bytes, bytes]], cuts: list[int]
) -> None:
    parser = AnyFramingParser(body_bytes_max=1000)
    for raw, body in sent:
        assert parser.untouched
        found: list[Response] = []
        at = 0
        for size in [*cuts, len(raw)]:
            piece = raw[at : at + size]
            at += len(piece)
            if piece and (response := parser.feed(piece)) is not None:
                found.append(response)
        assert [(one.status, bytes(one.body), one.keep_alive) for one in found] == [(200, body, True)]


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (CHUNKED + b"\r\nxyz\r\n", "no size of a chunk"),
        (CHUNKED + b"\r\n+3\r\nabc\r\n", "no size of a chunk"),
        (CHUNKED + b"\r\n3\r\nabcd\r\n", "longer than it says"),
        (CHUNKED + b"\r\nffffff\r\n", "more than 1000 bytes"),
        (CHUNKED + b"\r\n" + b"0" * 2000, "does not say its size"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", "not with a content-length"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2000\r\n\r\n", "1000 are allowed"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nabc", "nobody asked for"),
        (CHUNKED + b"\r\n0\r\n\r\nmore", "nobody asked for"),
        (b"X" * 70_000, "longer than"),
    ],
)
def test_what_cannot_be_meant_is_refused(raw: bytes, why: str) -> None:
    with pytest.raises(GarbledError, match=why):
        AnyFramingParser(body_bytes_max=1000).feed(raw)
