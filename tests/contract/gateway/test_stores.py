"""The disk and its double keep the same promises."""

from pathlib import Path

import pytest

from services.gateway.adapters.files import FileStore
from services.gateway.domain.messages import Configuration, Response
from services.gateway.ports import Store
from tests.support.gateway_fakes import CLUSTERS, FakeStore, response

FIRST = Configuration().with_taken(response("r1")).with_taken(response("c1", type_url=CLUSTERS))


@pytest.fixture(params=["files", "fake"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return FileStore(tmp_path / "gateway", layout="one") if request.param == "files" else FakeStore()


def test_nothing_was_saved(store: Store) -> None:
    assert store.load("gateway-0") is None


def test_what_was_saved_last_is_loaded_byte_for_byte(store: Store) -> None:
    store.save("gateway-0", FIRST)
    large = Response("envoy/Listener", "l1", "", bytes(range(256)) * 4000 + b"\n")
    size = store.save("gateway-0", FIRST.with_taken(response("r2")).with_taken(large))
    assert size > len(large.body)
    loaded = store.load("gateway-0")
    assert loaded is not None
    assert loaded.responses["envoy/Listener"] == large
    assert sorted(one.version for one in loaded.responses.values()) == ["c1", "l1", "r2"]


def test_gateways_do_not_meet(store: Store) -> None:
    store.save("gateway-0", FIRST)
    assert store.load("gateway-1") is None
    store.save("gateway-1", Configuration())
    assert store.load("gateway-0") == FIRST


def test_nothing_is_a_configuration_too(store: Store) -> None:
    store.save("gateway-0", Configuration())
    assert store.load("gateway-0") == Configuration()
