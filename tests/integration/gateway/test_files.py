"""Configurations on a real disk: damage of every kind, other layouts, odd names, leftovers of a killed write."""

from pathlib import Path

import pytest

from services.common.errors import MeshError, Reason
from services.gateway.adapters.files import FileStore
from tests.support.gateway_fakes import ROUTES, kept

CONFIGURATION = kept(routes="r1")


@pytest.fixture
def store(tmp_path: Path) -> FileStore:
    return FileStore(tmp_path / "gateway", layout="one")


def test_every_kind_of_damage_is_noticed(store: FileStore) -> None:
    store.save("gateway-0", CONFIGURATION)
    path = store.path("gateway-0")
    whole = path.read_bytes()
    flipped = [whole[:n] + bytes([whole[n] ^ 1]) + whole[n + 1 :] for n in range(len(whole))]
    cut = [whole[:n] for n in range(len(whole))]
    for damaged in (*flipped, *cut, whole + b"more"):
        path.write_bytes(damaged)
        with pytest.raises(MeshError) as error:
            store.load("gateway-0")
        assert error.value.reason is Reason.ARTIFACT_CORRUPT
        assert str(path) in error.value.message
    path.write_bytes(whole)
    assert store.load("gateway-0") == CONFIGURATION


def test_what_was_kept_for_another_layout_is_left_aside(store: FileStore, tmp_path: Path) -> None:
    store.save("gateway-0", CONFIGURATION)
    assert FileStore(tmp_path / "gateway", layout="two").load("gateway-0") is None
    assert store.load("gateway-0") == CONFIGURATION


@pytest.mark.parametrize("name", ["", "../../etc/passwd", "a/b", "ü" * 300, "."])
def test_any_name_is_a_file_in_the_folder(store: FileStore, tmp_path: Path, name: str) -> None:
    store.save(name, CONFIGURATION)
    assert store.path(name).parent == tmp_path / "gateway"
    assert store.load(name) == CONFIGURATION
    assert store.load(f"{name}x") is None


def test_half_a_write_changes_nothing(store: FileStore) -> None:
    store.save("gateway-0", CONFIGURATION)
    store.path("gateway-0").with_suffix(".new").write_bytes(b"half")
    assert store.load("gateway-0") == CONFIGURATION
    store.save("gateway-0", kept(routes="r2"))
    loaded = store.load("gateway-0")
    assert loaded is not None
    assert loaded.version(ROUTES) == "r2"
    assert [path.suffix for path in store.path("gateway-0").parent.iterdir()] == [".bin"]
