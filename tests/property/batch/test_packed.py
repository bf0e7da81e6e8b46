"""Packed text is the text, wherever it is entered; cut off, damaged or swollen it is told and never taken for whole."""

import bz2
import gzip
import io
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from services.batch.adapters.sources import FileSources
from services.batch.adapters.sources.packed import unpacked
from services.batch.domain.job import Compression, Format, Input
from services.common.errors import MeshError, Reason

PACK: dict[Compression, Callable[[bytes], bytes]] = {
    Compression.GZIP: gzip.compress,
    Compression.BZ2: bz2.compress,
    Compression.ZSTD: lambda text: zstandard.ZstdCompressor(write_checksum=True).compress(text),
}
TEXT = b"".join(b"%d,%d\n" % (number, number * number) for number in range(30_000))
kinds = st.sampled_from(sorted(PACK))


@given(
    kind=kinds,
    cuts=st.lists(st.integers(0, len(TEXT)), max_size=3).map(sorted),
    steps=st.lists(st.tuples(st.integers(0, len(TEXT) + 9), st.integers(0, 70_000)), min_size=1, max_size=5),
)
def test_it_may_be_entered_anywhere(kind: Compression, cuts: list[int], steps: list[tuple[int, int]]) -> None:
    bounds = [0, *cuts, len(TEXT)]
    members = [PACK[kind](TEXT[begin:end]) for begin, end in pairwise(bounds)]
    packed = b"".join(members)
    with unpacked(io.BytesIO(packed), kind, path="/in", size_bytes=len(packed)) as file:
        for at, size in steps:
            file.seek(at)
            assert file.read(size) == TEXT[at : at + size]


@given(kind=kinds, share=st.floats(0.01, 0.999))
def test_what_is_cut_off_is_never_taken_for_whole(kind: Compression, share: float) -> None:
    packed = PACK[kind](TEXT)
    packed = packed[: max(1, int(len(packed) * share))]
    with (
        unpacked(io.BytesIO(packed), kind, path="/data/in.csv", size_bytes=len(packed)) as file,
        pytest.raises(MeshError, match=r"/data/in\.csv.*cut off") as error,
    ):
        file.read()
    assert error.value.reason is Reason.INPUT_UNREADABLE


@given(kind=kinds, place=st.integers(0, 10**9), flip=st.integers(1, 255))
def test_what_is_damaged_is_told_or_the_text_all_the_same(kind: Compression, place: int, flip: int) -> None:
    packed = bytearray(PACK[kind](TEXT))
    packed[place % len(packed)] ^= flip
    with unpacked(io.BytesIO(bytes(packed)), kind, path="/in", size_bytes=len(packed)) as file:
        try:
            got = file.read()
        except MeshError as error:
            got = error.message.encode()
        # A header says things that do not matter, such as when it was packed.
        assert got == TEXT or got.startswith(b"input_uri '/in' cannot be read: as ")


@pytest.mark.parametrize("kind", sorted(PACK))
def test_a_file_that_swells_without_end_has_one(kind: Compression, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.batch.adapters.sources.packed.UNPACKED_FREE_BYTES", 1_000_000)
    monkeypatch.setattr("services.batch.adapters.sources.packed.UNPACKED_FACTOR_MAX", 3)
    swollen = PACK[kind](b"\n" * 30_000_000)
    got: list[int] = []
    with (
        unpacked(io.BytesIO(swollen), kind, path="/in", size_bytes=len(swollen)) as file,
        pytest.raises(MeshError, match=r"unpacks to more than \d+ bytes, 3 times"),
    ):
        got.extend(len(piece) for piece in iter(lambda: file.read(100_000), b""))
    assert sum(got) <= 1_000_000 + 3 * len(swollen)


@pytest.mark.parametrize("ending", ["csv.gz", "jsonl.zst"])
def test_a_line_without_end_is_refused_before_it_is_unpacked(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"in.{ending}"
    kind = Compression.GZIP if ending.endswith("gz") else Compression.ZSTD
    path.write_bytes(PACK[kind](b"a" * 300_000_000))
    wish = Input(str(path), str(path), Format(ending.split(".", maxsplit=1)[0]))
    with pytest.raises(MeshError, match="line 1 begins a row of more than 8388608 bytes") as error:
        FileSources().open(wish).columns()
    assert error.value.reason is Reason.INPUT_UNREADABLE
