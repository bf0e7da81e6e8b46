"""The disk and its double keep the same promises."""

from pathlib import Path

import pytest

from services.gateway.adapters.files import FileStore
from services.gateway.domain.messages import Configuration, Response
from services.gateway.ports import Store
from tests.support.gateway_fakes import ROUTES, FakeStore, kept, response

FIRST = kept(routes="r1", clusters="c1")


@pytest.fixture(params=["files", "fake"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return FileStore(tmp_path / "gateway", layout="one") if request.param == "files" else FakeStore()


def test_nothing_was_saved(store: Store) -> None:
    assert store.load("gateway-0") is None


def test_what_was_saved_last_is_loaded_byte_for_byte(store: Store) -> None:
    store.save("gateway-0", FIRST)
    body = bytes(range(256)) * 4000 + b"\n"
    large = Response("envoy/Listener", "l1", "", {"gateway": body, "other\n": b""})
    second = FIRST.with_taken(response("r2", names=("b", "c")), by_name=True).with_taken(large, by_name=False)
    assert store.save("gateway-0", second) > len(body)
    assert store.load("gateway-0") == second
    assert second.types[ROUTES].resources == {"a": b"a r1", "b": b"b r2", "c": b"c r2"}


def test_gateways_do_not_meet(store: Store) -> None:
    store.save("gateway-0", FIRST)
    assert store.load("gateway-1") is None
    store.save("gateway-1", Configuration())
    assert store.load("gateway-0") == FIRST


def test_nothing_is_a_configuration_too(store: Store) -> None:
    store.save("gateway-0", Configuration())
    assert store.load("gateway-0") == Configuration()
