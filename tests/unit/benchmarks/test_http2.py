"""HTTP/2 as the open-loop generator speaks it, byte by byte."""

import struct

import pytest

from benchmarks.http2 import Connection, PeerError, frame, header_blocks

HEADERS = [(":method", "POST"), (":path", "/p"), ("te", "trailers")]
DATA, HEADERS_FRAME, RST, SETTINGS, PING, GOAWAY, WINDOW = 0, 1, 3, 4, 6, 7, 8
END_STREAM, END_HEADERS, ACK = 1, 4, 1


def frames(data: bytes) -> list[tuple[int, int, int, bytes]]:
    found, at = [], 0
    while at < len(data):
        high, low, kind, flags, stream = struct.unpack_from(">HBBBI", data, at)
        end = at + 9 + (high << 8 | low)
        found.append((kind, flags, stream, bytes(data[at + 9 : end])))
        at = end
    return found


def sent(connection: Connection) -> list[tuple[int, int, int, bytes]]:
    data = bytes(connection.outgoing)
    connection.outgoing.clear()
    return frames(data.removeprefix(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"))


def opened(body: bytes = b"body") -> Connection:
    connection = Connection(HEADERS, body)
    sent(connection)
    return connection


def answer(stream: int) -> bytes:
    return (
        frame(HEADERS_FRAME, END_HEADERS, stream, b"\x88")
        + frame(DATA, 0, stream, b"message")
        + frame(HEADERS_FRAME, END_HEADERS | END_STREAM, stream, b"\x80")
    )


def test_headers_are_spelt_once_and_numbered_afterwards() -> None:
    first, later = header_blocks(HEADERS)
    assert first == b"\x40\x07:method\x04POST\x40\x05:path\x02/p\x40\x02te\x08trailers"
    # The newest entry of the server's table has the lowest number (RFC 7541, 2.3.3).
    assert later == bytes([0x80 | 64, 0x80 | 63, 0x80 | 62])


def test_a_connection_opens_its_windows_wide() -> None:
    settings, window = sent(Connection(HEADERS, b"body"))
    assert settings == (SETTINGS, 0, 0, struct.pack(">HI", 4, 2**31 - 1))
    assert window == (WINDOW, 0, 0, struct.pack(">I", 2**31 - 1 - 65_535))


def test_requests_are_headers_and_a_body_on_odd_streams() -> None:
    connection = opened()
    connection.send(0)
    connection.send(1)
    first, later = header_blocks(HEADERS)
    assert sent(connection) == [
        (HEADERS_FRAME, END_HEADERS, 1, first), (DATA, END_STREAM, 1, b"body"),
        (HEADERS_FRAME, END_HEADERS, 3, later), (DATA, END_STREAM, 3, b"body"),
    ]  # fmt: skip


def test_answers_are_matched_however_they_are_cut() -> None:
    connection = opened()
    connection.send(7)
    connection.send(8)
    data = answer(3) + answer(1)
    over = [one for place in range(len(data)) for one in connection.receive(data[place : place + 1])]
    assert over == [(8, True), (7, True)]


def test_an_answer_without_a_message_is_a_failure() -> None:
    connection = opened()
    connection.send(7)
    connection.send(8)
    trailers_only = frame(HEADERS_FRAME, END_HEADERS | END_STREAM, 1, b"\x88")
    assert connection.receive(trailers_only + frame(RST, 0, 3, bytes(4))) == [(7, False), (8, False)]


def test_no_more_streams_are_opened_than_the_server_takes() -> None:
    connection = opened()
    connection.receive(frame(SETTINGS, 0, 0, struct.pack(">HI", 3, 1)))
    assert sent(connection) == [(SETTINGS, ACK, 0, b"")]
    connection.send(0)
    connection.send(1)
    assert [stream for _, _, stream, _ in sent(connection)] == [1, 1]
    assert connection.receive(answer(1)) == [(0, True)]
    assert [stream for _, _, stream, _ in sent(connection)] == [3, 3]


def test_no_more_is_sent_than_the_servers_window_holds() -> None:
    connection = opened(b"x" * 16_384)
    for request in range(5):
        connection.send(request)
    # 65,535 bytes hold three of 16,384.
    assert len(sent(connection)) == 6
    connection.receive(frame(WINDOW, 0, 0, struct.pack(">I", 16_384)))
    assert len(sent(connection)) == 2


def test_a_ping_is_answered_and_a_goodbye_is_an_error() -> None:
    connection = opened()
    connection.receive(frame(PING, 0, 0, b"12345678"))
    assert sent(connection) == [(PING, ACK, 0, b"12345678")]
    with pytest.raises(PeerError, match="goodbye with code 11"):
        connection.receive(frame(GOAWAY, 0, 0, struct.pack(">II", 1, 11)))


@pytest.mark.parametrize("size", [0, 16_385])
def test_a_body_must_fit_one_frame(size: int) -> None:
    with pytest.raises(ValueError, match="is not within 1 to 16384"):
        Connection(HEADERS, b"x" * size)
