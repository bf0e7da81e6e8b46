"""Responses in whatever pieces they come, and what is refused."""

import pytest

from services.batcher.adapters.http_wire import GarbledError, Response, ResponseParser

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: a/b\r\nInference-Header-Content-Length: 2\r\nContent-Length: 5\r\n\r\n"


def parser() -> ResponseParser:
    return ResponseParser(body_bytes_max=1000)


def feed(pieces: list[bytes]) -> list[Response]:
    reader = parser()
    return [response for piece in pieces if (response := reader.feed(piece)) is not None]


def shown(response: Response) -> tuple[int, int | None, bytes, bool]:
    return response.status, response.header_length, bytes(response.body), response.keep_alive


@pytest.mark.parametrize("cut", range(1, len(HEAD) + 5))
def test_a_response_may_be_cut_anywhere(cut: int) -> None:
    raw = HEAD + b"{}abc"
    (response,) = feed([raw[:cut], raw[cut:]])
    assert shown(response) == (200, 2, b"{}abc", True)


def test_one_byte_at_a_time_and_one_after_another() -> None:
    raw = (HEAD + b"{}abc") * 2
    assert [shown(one) for one in feed([raw[at : at + 1] for at in range(len(raw))])] == [(200, 2, b"{}abc", True)] * 2


def test_an_interim_response_is_passed_over() -> None:
    raw = b"HTTP/1.1 100 Continue\r\n\r\n" + HEAD + b"{}abc"
    assert [shown(one) for one in feed([raw])] == [(200, 2, b"{}abc", True)]
    assert [shown(one) for one in feed([raw[:10], raw[10:30], raw[30:]])] == [(200, 2, b"{}abc", True)]


def test_a_body_may_be_empty_and_a_connection_may_end() -> None:
    (response,) = feed([b"HTTP/1.1 400 Bad Request\r\nconnection: Close\r\ncontent-length:0\r\n\r\n"])
    assert shown(response) == (400, None, b"", False)
    (response,) = feed([b"HTTP/1.0 204 No Content\r\n\r\n"])
    assert shown(response) == (204, None, b"", False)


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (b"SSH-2.0-OpenSSH\r\n\r\n", "begins with"),
        (b"HTTP/2 200\r\n\r\n", "begins with"),
        (b"HTTP/1.1 2x0 OK\r\n\r\n", "begins with"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "sent as b'chunked'"),
        (b"HTTP/1.1 200 OK\r\n\r\n", "no content-length"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", "no length"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1_0\r\n\r\n", "no length"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9999999999999\r\n\r\n", "no length"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1001\r\n\r\n", "1000 are allowed"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", "two different"),
        (b"HTTP/1.1 200 OK\r\nnonsense\r\nContent-Length: 1\r\n\r\n", "no header"),
        (b"HTTP/1.1 200 OK\r\nInference-Header-Content-Length: 9\r\nContent-Length: 1\r\n\r\nx", "of a body of 1"),
        (HEAD + b"{}abcX", "nobody asked"),
        (b"x" * 70_000, "longer than"),
    ],
)
def test_what_is_uncertain_is_refused(raw: bytes, why: str) -> None:
    with pytest.raises(GarbledError, match=why):
        parser().feed(raw)


def test_surplus_is_refused_wherever_it_comes() -> None:
    reader = parser()
    assert reader.feed(HEAD + b"{}a") is None
    with pytest.raises(GarbledError, match="1 bytes follow"):
        reader.feed(b"bcX")


def test_whether_anything_came_is_known() -> None:
    reader = parser()
    seen = [reader.untouched]
    for piece in (b"H", HEAD[1:], b"{}abc"):
        reader.feed(piece)
        seen.append(reader.untouched)
    assert seen == [True, False, False, True]
