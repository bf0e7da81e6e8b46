"""Addresses as people paste them, pauses that end, and ids that differ."""

import pytest
from infermesh.client.transport import Pacer, Transport, new_request_id, plain_address


@pytest.mark.parametrize(
    ("pasted", "plain"),
    [
        ("127.0.0.1:8080", "127.0.0.1:8080"),
        ("http://127.0.0.1:8080/", "127.0.0.1:8080"),
        ("mesh.example", "mesh.example:8080"),
        (" localhost:9 ", "localhost:9"),
        ("https://mesh:443", "mesh:443"),
    ],
)
def test_addresses(pasted: str, plain: str) -> None:
    assert plain_address(pasted) == plain


@pytest.mark.parametrize("pasted", ["", "https://", "mesh:80/path"])
def test_refused_addresses_show_what_is_wanted(pasted: str) -> None:
    with pytest.raises(ValueError, match="host:port"):
        plain_address(pasted)


def test_a_transport_needs_time() -> None:
    with pytest.raises(ValueError, match="more than 0"):
        Transport("mesh:1", timeout_s=0)


class Time:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.slept: list[float] = []

    def monotonic(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now_s += seconds


def test_pauses_grow_and_never_pass_the_deadline() -> None:
    time = Time()
    pacer = Pacer(timeout_s=3.0, first_s=0.5, most_s=1.0, monotonic=time.monotonic, sleep=time.sleep)
    while pacer.pause():
        pass
    assert time.slept == [0.5, 0.75, 1.0, 0.75]
    assert time.now_s == 103.0


def test_request_ids_differ() -> None:
    assert new_request_id() != new_request_id()
