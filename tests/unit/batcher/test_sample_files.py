"""Reference samples on disk: whole, checked, and no more than may be."""

import os
from hashlib import sha256
from pathlib import Path

import pytest

from services.batcher.adapters.sample_files import SampleFiles

NOBODY: frozenset[str] = frozenset()


def digest_of(content: bytes) -> str:
    return sha256(content).hexdigest()


def written(files: SampleFiles, *contents: bytes, keep: frozenset[str] = NOBODY) -> list[str]:
    for content in contents:
        files.write(digest_of(content), content, keep=keep)
    return [digest_of(content) for content in contents]


def test_what_was_written_is_there_after_a_restart(tmp_path: Path) -> None:
    files = SampleFiles(tmp_path / "references")
    files.look()
    (digest,) = written(files, b"[1]")
    assert digest in files
    (tmp_path / "references" / "half.new").write_bytes(b"[")
    (tmp_path / "references" / "notes.json").write_bytes(b"{}")
    again = SampleFiles(tmp_path / "references")
    assert digest not in again
    again.look()
    assert digest in again
    assert again.read(digest) == b"[1]"
    assert "notes" not in again
    assert sorted(path.name for path in (tmp_path / "references").iterdir()) == sorted([f"{digest}.json", "notes.json"])


@pytest.mark.parametrize("damage", [lambda path: path.write_bytes(b"[2]"), lambda path: path.unlink()])
def test_what_is_damaged_or_gone_counts_as_missing(tmp_path: Path, damage: object) -> None:
    files = SampleFiles(tmp_path)
    files.look()
    (digest,) = written(files, b"[1]")
    damage(tmp_path / f"{digest}.json")  # type: ignore[operator]
    assert digest in files
    assert files.read(digest) is None
    assert digest not in files
    assert list(tmp_path.iterdir()) == []
    written(files, b"[1]")
    assert files.read(digest) == b"[1]"


def test_at_the_bound_the_oldest_that_nobody_needs_makes_room(tmp_path: Path) -> None:
    files = SampleFiles(tmp_path, files_max=3)
    files.look()
    needed, old, newer = written(files, b"needed", b"old", b"newer")
    for age_s, digest in ((30, needed), (20, old), (10, newer)):
        path = tmp_path / f"{digest}.json"
        stamp = path.stat().st_mtime - age_s
        os.utime(path, (stamp, stamp))
    (added,) = written(files, b"added", keep=frozenset((needed,)))
    assert [digest in files for digest in (needed, old, newer, added)] == [True, False, True, True]
    with pytest.raises(OSError, match="3 reference samples are kept, the most that may"):
        written(files, b"one too many", keep=frozenset((needed, newer, added)))
    assert len(list(tmp_path.iterdir())) == 3


def test_what_cannot_be_read_now_is_not_thrown_away(tmp_path: Path) -> None:
    files = SampleFiles(tmp_path)
    (digest,) = written(files, b"[1]")
    kept, aside = tmp_path / f"{digest}.json", tmp_path / "aside"
    kept.rename(aside)
    kept.mkdir()  # reading a folder fails otherwise than reading nothing
    assert files.read(digest) is None
    assert digest in files
    kept.rmdir()
    aside.rename(kept)
    assert files.read(digest) == b"[1]"
