"""The kept serving table: whole or not at all."""

from pathlib import Path

import pytest

from services.batcher.adapters.snapshot import Snapshot
from services.common.errors import MeshError, Reason

BODY = bytes(range(256)) * 4


def test_nothing_was_kept_yet(tmp_path: Path) -> None:
    assert Snapshot(tmp_path / "not there").load() is None


def test_what_was_kept_comes_back_in_a_folder_of_its_own(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    Snapshot(folder).save(BODY)
    assert Snapshot(folder).load() == BODY
    assert [path.name for path in folder.iterdir()] == ["serving_table.bin"]


@pytest.mark.parametrize("body", [b"", b"\0", BODY])
def test_the_newest_replaces_the_one_before(tmp_path: Path, body: bytes) -> None:
    snapshot = Snapshot(tmp_path)
    snapshot.save(b"older and longer" * 100)
    snapshot.save(body)
    assert snapshot.load() == body


def test_a_file_that_is_cut_short_anywhere_is_damaged(tmp_path: Path) -> None:
    snapshot = Snapshot(tmp_path)
    snapshot.save(b"table")
    whole = snapshot.path.read_bytes()
    for size in range(len(whole)):
        snapshot.path.write_bytes(whole[:size])
        with pytest.raises(MeshError, match="damaged") as caught:
            snapshot.load()
        assert caught.value.reason is Reason.ARTIFACT_CORRUPT


def test_a_bit_that_flips_anywhere_is_damage(tmp_path: Path) -> None:
    snapshot = Snapshot(tmp_path)
    snapshot.save(b"table")
    whole = snapshot.path.read_bytes()
    for place in range(len(whole)):
        snapshot.path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(MeshError, match="damaged"):
            snapshot.load()


def test_bytes_behind_the_table_are_damage(tmp_path: Path) -> None:
    snapshot = Snapshot(tmp_path)
    snapshot.save(b"table")
    snapshot.path.write_bytes(snapshot.path.read_bytes() + b"\0")
    with pytest.raises(MeshError, match="damaged"):
        snapshot.load()


def test_a_write_that_fails_leaves_the_table_before(tmp_path: Path) -> None:
    snapshot = Snapshot(tmp_path)
    snapshot.save(BODY)
    (tmp_path / "serving_table.new").mkdir()
    with pytest.raises(OSError):  # noqa: PT011 - whichever the file system says
        snapshot.save(b"newer")
    assert snapshot.load() == BODY


def test_half_a_write_that_a_crash_left_behind_is_not_taken_for_the_table(tmp_path: Path) -> None:
    snapshot = Snapshot(tmp_path)
    snapshot.save(BODY)
    (tmp_path / "serving_table.new").write_bytes(b"half")
    assert Snapshot(tmp_path).load() == BODY
    snapshot.save(b"newer")
    assert snapshot.load() == b"newer"
