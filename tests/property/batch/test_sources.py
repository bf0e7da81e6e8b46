"""Whatever a file holds comes back as it was written, however it is cut, and whichever of its chunks are read."""

import csv
import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.batch.adapters.sources import FileSources
from services.batch.adapters.sources.records import RecordError, record_spans
from services.batch.domain.chunks import Chunk, Plan
from services.batch.domain.job import Format, Input
from services.batch.domain.rows import RowBlock

MEBIBYTE = 1024 * 1024
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
tricky = st.text(st.sampled_from("a\",;\n\r \t'é漢🙂0"), max_size=12)
cells = st.one_of(texts, tricky)
line_ends = st.sampled_from(["\n", "\r\n"])
chunk_rows = st.integers(1, 7)
chunk_bytes = st.one_of(st.integers(1, 40), st.just(MEBIBYTE))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sources")


def opened(path: Path, **changes: object) -> Input:
    return Input(str(path), str(path), Format(path.suffix[1:]), **changes)  # type: ignore[arg-type]


def values(block: RowBlock, name: str) -> list[object]:
    column = block.columns[name]
    return list(column if isinstance(column, list) else column.to_pylist())


def read(wish: Input, rows: int, most: int, chosen: Sequence[int] | None = None) -> Iterator[tuple[Chunk, RowBlock]]:
    """Cuts the input, checks the cut, and reads the chosen chunks; all where None."""
    source = FileSources().open(wish)
    plan = source.cut(rows, bytes_max=most, key_column="")
    check_cut(plan, rows)
    chunks = [chunk for chunk in plan.chunks if chosen is None or chunk.index in chosen]
    blocks = list(source.read(chunks, plan.columns, plan))
    assert len(blocks) == len(chunks)
    return zip(chunks, blocks, strict=True)


def check_cut(plan: Plan, rows: int) -> None:
    """Chunks follow one another without a gap, and none is empty or too large."""
    assert [chunk.index for chunk in plan.chunks] == list(range(len(plan.chunks)))
    assert all(0 < chunk.row_count <= rows for chunk in plan.chunks)
    at = 0
    for chunk in plan.chunks:
        assert chunk.first_row == at
        at += chunk.row_count
    assert plan.total_rows == at


@st.composite
def tables(draw: st.DrawFn) -> tuple[list[str], list[list[str]]]:
    names = draw(st.lists(cells.filter(bool), min_size=1, max_size=4, unique=True))
    row = st.lists(cells, min_size=len(names), max_size=len(names))
    return names, draw(st.lists(row, min_size=1, max_size=20))


@given(
    table=tables(),
    delimiter=st.sampled_from(",;\t|"),
    end=line_ends,
    last_end=st.booleans(),
    mark=st.booleans(),
    rows=chunk_rows,
    most=chunk_bytes,
)
def test_csv(
    folder: Path,
    table: tuple[list[str], list[list[str]]],
    delimiter: str,
    end: str,
    *,
    last_end: bool,
    mark: bool,
    rows: int,
    most: int,
) -> None:
    names, lines = table
    target = io.StringIO(newline="")
    csv.writer(target, delimiter=delimiter, lineterminator=end, quoting=csv.QUOTE_ALL).writerows([names, *lines])
    text = target.getvalue() if last_end else target.getvalue().removesuffix(end)
    path = folder / "in.csv"
    path.write_bytes((b"\xef\xbb\xbf" if mark else b"") + text.encode())
    wish = opened(path, delimiter=delimiter)
    assert FileSources().open(wish).columns() == tuple(names)
    got: list[tuple[object, ...]] = []
    for chunk, block in read(wish, rows, most):
        assert not block.bad
        assert block.first_row == chunk.first_row
        got += zip(*(values(block, name) for name in names), strict=True)
    assert got == [tuple(line) for line in lines]


@given(
    lines=st.lists(st.one_of(st.just(""), st.integers(0, 3).map(lambda n: ",".join("x" * (n + 1)))), max_size=20),
    end=line_ends,
    rows=chunk_rows,
)
def test_csv_with_ragged_rows_keeps_the_numbers_of_the_others(
    folder: Path, lines: list[str], end: str, rows: int
) -> None:
    path = folder / "ragged.csv"
    path.write_bytes(end.join(["a,b", "1,2", *lines]).encode())
    expected = [line.split(",") for line in ["1,2", *lines] if line]
    at = 0
    for _, block in read(opened(path), rows, MEBIBYTE):
        for place, (first, second) in enumerate(zip(values(block, "a"), values(block, "b"), strict=True)):
            if len(expected[at]) == 2:
                assert [first, second] == expected[at]
                assert place not in block.bad
            else:
                assert f"has {len(expected[at])} columns; expected 2" in block.bad[place][1]
            at += 1
    assert at == len(expected)


@given(
    head=st.lists(st.sampled_from([b"ab", b"c", b"\xff\xfe", b'"x,\n"', "é".encode()]), min_size=1, max_size=12),
    rows=chunk_rows,
)
def test_csv_that_is_no_utf8_fails_by_the_row(folder: Path, head: list[bytes], rows: int) -> None:
    path = folder / "bytes.csv"
    path.write_bytes(b"a,b\n" + b"".join(cell + b",1\n" for cell in head))
    at = 0
    for _, block in read(opened(path), rows, MEBIBYTE):
        for place, value in enumerate(values(block, "a")):
            if b"\xff" in head[at]:
                assert "column 'a'" in block.bad[place][1]
            else:
                assert str(value).encode() == head[at].strip(b'"')
                assert place not in block.bad
            at += 1
    assert at == len(head)


json_values = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(-(2**53), 2**53), st.floats(allow_nan=False, allow_infinity=False), texts
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(texts, inner, max_size=2)),
    max_leaves=4,
)
objects = st.dictionaries(st.sampled_from(["a", "b", "ключ"]), json_values, min_size=1)


@given(
    first=objects,
    lines=st.lists(st.one_of(objects, st.sampled_from(["", "no json", "[1]", "7"])), max_size=20),
    end=line_ends,
    last_end=st.booleans(),
    ascii_only=st.booleans(),
    rows=chunk_rows,
    most=chunk_bytes,
)
def test_jsonl(
    folder: Path,
    first: dict[str, object],
    lines: list[dict[str, object] | str],
    end: str,
    *,
    last_end: bool,
    ascii_only: bool,
    rows: int,
    most: int,
) -> None:
    path = folder / "in.jsonl"
    written = [line if isinstance(line, str) else json.dumps(line, ensure_ascii=ascii_only) for line in [first, *lines]]
    path.write_bytes((end.join(written) + (end if last_end else "")).encode())
    expected = [line for line in [first, *lines] if line != ""]
    at = 0
    for _, block in read(opened(path), rows, most):
        for place in range(block.row_count):
            row = expected[at]
            assert (place in block.bad) == isinstance(row, str)
            for name in block.columns:
                assert values(block, name)[place] == (None if isinstance(row, str) else row.get(name))
            at += 1
    assert at == len(expected)


@given(
    ids=st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=60),
    names=st.lists(st.one_of(st.none(), texts), min_size=60, max_size=60),
    group=st.integers(1, 20),
    rows=chunk_rows,
    chosen=st.none() | st.sets(st.integers(0, 20)),
    categorical=st.booleans(),
)
def test_parquet(
    folder: Path,
    *,
    ids: list[int],
    names: list[str | None],
    group: int,
    rows: int,
    chosen: set[int] | None,
    categorical: bool,
) -> None:
    path = folder / "in.parquet"
    words = pa.array(names[: len(ids)], type=pa.string())
    vectors = pa.array([[float(number % 7), 1.0] for number in ids], type=pa.list_(pa.float32()))
    columns = [pa.array(ids), words.dictionary_encode() if categorical else words, vectors]
    pq.write_table(pa.table(columns, names=["id", "name", "X"]), path, row_group_size=group)
    for chunk, block in read(opened(path), rows, MEBIBYTE, None if chosen is None else sorted(chosen)):
        within = slice(chunk.first_row, chunk.first_row + chunk.row_count)
        assert values(block, "id") == ids[within]
        assert values(block, "name") == names[: len(ids)][within]
        assert np.array(values(block, "X"))[:, 0].tolist() == [float(number % 7) for number in ids[within]]


@given(text=st.text(st.sampled_from('a"\n\r,'), max_size=60), block=st.integers(1, 70), quoted=st.booleans())
def test_where_records_begin_does_not_depend_on_how_the_file_is_read(
    folder: Path, text: str, block: int, *, quoted: bool
) -> None:
    path = folder / "spans"
    path.write_bytes(text.encode())

    def spans(block_bytes: int) -> list[tuple[int, int]] | str:
        found: list[tuple[int, int]] = []
        try:
            with path.open("rb") as file:
                for starts, stops in record_spans(
                    file, start=0, quoted=quoted, length_max=1000, block_bytes=block_bytes
                ):
                    found += zip(starts.tolist(), stops.tolist(), strict=True)
        except RecordError as error:
            return error.why
        return found

    assert spans(block) == spans(1000)
    if not quoted:
        expected = [line for line in text.split("\n") if line not in ("", "\r")]
        found = spans(block)
        assert not isinstance(found, str)
        assert [text[start:stop].removesuffix("\n") for start, stop in found] == expected
