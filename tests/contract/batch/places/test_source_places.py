"""What an input promises, whether its files are in a folder or in a bucket: rows in order, and problems named."""

import bz2
import csv
import gzip
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from services.batch.adapters.sources import FileSources
from services.batch.adapters.sources.files import LOOKED_AT
from services.batch.domain.chunks import Plan
from services.batch.domain.job import FeatureJoin, Format, Input, NamedColumn
from services.batch.domain.rows import RowBlock
from services.common.errors import MeshError, Reason
from tests.support.batch_places import Place

MEBIBYTE = 1024 * 1024
NAMES = ("id", "a", "b")
PACK: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".zst": lambda text: zstandard.ZstdCompressor().compress(text),
}


def content(ending: str, rows: range, *, group: int = 7) -> bytes:
    """Rows whose values follow from their numbers."""
    columns = {"id": list(rows), "a": [row / 4 for row in rows], "b": [f"word {row}" for row in rows]}
    if ending == "parquet":
        sink = io.BytesIO()
        pq.write_table(pa.table(columns), sink, row_group_size=group)
        return sink.getvalue()
    if ending == "jsonl":
        lines = (dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True))
        return b"".join(json.dumps(line).encode() + b"\n" for line in lines)
    text = io.StringIO(newline="")
    csv.writer(text).writerows([columns, *zip(*columns.values(), strict=True)])
    return text.getvalue().encode()


def read(wish: Input, *, rows: int = 5, chosen: Sequence[int] | None = None) -> tuple[Plan, list[RowBlock]]:
    """Cuts an input and reads the chosen chunks; all where None."""
    source = FileSources().open(wish)
    plan = source.cut(rows, bytes_max=MEBIBYTE, key_column="id")
    assert plan.fingerprint == source.fingerprint()
    chunks = [chunk for chunk in plan.chunks if chosen is None or chunk.index in chosen]
    blocks = list(source.read(chunks, plan.columns, plan))
    assert [(block.first_row, block.row_count) for block in blocks] == [
        (chunk.first_row, chunk.row_count) for chunk in chunks
    ]
    return plan, blocks


def ids(blocks: Sequence[RowBlock]) -> list[int]:
    return [int(value) for block in blocks for value in values(block, "id")]


def values(block: RowBlock, name: str) -> list[str]:
    column = block.columns[name]
    return [str(value) for value in (column if isinstance(column, list) else column.to_pylist())]


def refusal(wish: Input, words: str) -> MeshError:
    with pytest.raises(MeshError, match=words) as error:
        read(wish)
    return error.value


@pytest.mark.parametrize("ending", ["parquet", "csv", "jsonl"])
def test_rows_come_in_order_and_only_those_that_are_asked_for(place: Place, ending: str) -> None:
    place.put(f"in.{ending}", content(ending, range(23)))
    plan, blocks = read(place.input(f"in.{ending}"))
    assert plan.columns == NAMES
    assert ids(blocks) == list(range(23))
    assert ids(read(place.input(f"in.{ending}"), chosen=[1, 4])[1]) == [*range(5, 10), *range(20, 23)]


@pytest.mark.parametrize("ending", ["csv", "jsonl"])
@pytest.mark.parametrize("packed", sorted(PACK))
def test_packed_text_is_read_like_any_other(place: Place, ending: str, packed: str) -> None:
    text = content(ending, range(23))
    # Whoever appends to a packed file makes it consist of several.
    place.put(f"in.{ending}{packed}", PACK[packed](text[:100]) + PACK[packed](text[100:]))
    wish = place.input(f"in.{ending}{packed}")
    plan, blocks = read(wish)
    assert ids(blocks) == list(range(23))
    assert plan.chunks[-1].stop == len(text)
    assert ids(read(wish, chosen=[1, 3])[1]) == [*range(5, 10), *range(15, 20)]


@pytest.mark.parametrize("packed", sorted(PACK))
def test_packed_text_that_is_cut_off_or_none_is_told(place: Place, packed: str) -> None:
    whole = PACK[packed](content("csv", range(5_000)))
    place.put(f"in.csv{packed}", whole[: len(whole) * 2 // 3])
    error = refusal(place.input(f"in.csv{packed}"), "it is cut off")
    assert error.reason is Reason.INPUT_UNREADABLE
    assert f"in.csv{packed}" in error.message
    place.put(f"in.csv{packed}", b"id,a,b\n1,2,3\n")
    assert refusal(place.input(f"in.csv{packed}"), "damaged|cut off").reason is Reason.INPUT_UNREADABLE


@pytest.mark.parametrize("name", ["rows", "rows/", "rows/part-*", "row?/**/part-[a-z]*.csv"])
def test_files_of_a_folder_or_pattern_come_by_name_and_are_numbered_through(place: Place, name: str) -> None:
    place.put("rows/part-b.csv", content("csv", range(7, 9)))
    place.put("rows/part-a.csv", content("csv", range(7)))
    place.put("rows/part-c.csv", b"")
    place.put("rows/part-d.csv", b"id,a,b\r\n")
    place.put("rows/part-e/deep.csv" if "**" not in name else "rows/x/part-e.csv", content("csv", range(9, 20)))
    for passed_over in ("_SUCCESS", ".part-a.csv.crc", "_temporary/part-z.csv", ".hidden/part-y.csv"):
        place.put(f"rows/{passed_over}", b"no,rows\n")
    place.put("rowsome/part-z.csv", content("csv", range(99)))
    plan, blocks = read(place.input(name))
    if "**" in name:
        # By their whole names: "x/" comes after "part-".
        assert [file.path.rpartition("rows/")[2] for file in plan.files] == ["part-a.csv", "part-b.csv", "x/part-e.csv"]
    assert ids(blocks) == list(range(20))
    assert [(file.first_chunk, file.first_row) for file in plan.files] == [(0, 0), (2, 7), (3, 9)]
    assert [(block.origin.rpartition("/")[2][5:6], block.origin_row) for block in blocks[:3]] == [
        ("a", 0),
        ("a", 5),
        ("b", 0),
    ]
    assert ids(read(place.input(name), chosen=[1, 2, 4])[1]) == [5, 6, 7, 8, *range(14, 19)]


@pytest.mark.parametrize("ending", ["parquet", "jsonl"])
def test_the_other_formats_have_many_files_too(place: Place, ending: str) -> None:
    for number in range(3):
        place.put(f"day={number}/part-0.{ending}", content(ending, range(number * 6, number * 6 + 6)))
        place.put(f"day={number}/part-1.{ending}", b"")
    assert ids(read(place.input(f"day=*/part-*.{ending}"))[1]) == list(range(18))


def test_packed_and_plain_files_may_stand_beside_each_other(place: Place) -> None:
    place.put("rows/1.csv", content("csv", range(4)))
    place.put("rows/2.csv.gz", gzip.compress(content("csv", range(4, 12))))
    place.put("rows/3.csv.zst", PACK[".zst"](content("csv", range(12, 13))))
    assert ids(read(place.input("rows/"))[1]) == list(range(13))


def test_lines_of_json_need_what_is_named_in_each_file_and_nothing_else(place: Place) -> None:
    place.put("rows/1.jsonl", b'{"id": 1, "a": 1, "note": "x"}\n{"id": 2}\n')
    place.put("rows/2.jsonl", b'{"b": 1, "id": 3}\n{"id": 4, "a": 2}\n')
    place.put("rows/3.jsonl", b'{"id": 5, "a": 3}\n')
    named = (NamedColumn("a"), NamedColumn("b", optional=True), NamedColumn("id"))
    plan, blocks = read(replace(place.input("rows/"), named=named))
    # What is named and optional counts where any file has it; of the rest what all have.
    assert plan.columns == ("id", "a", "b")
    assert [value for block in blocks for value in values(block, "b")] == ["None", "None", "1", "None", "None"]
    error = refusal(replace(place.input("rows/"), named=(NamedColumn("b"),)), "'b'")
    assert "rows/2.jsonl' has 'b' and" in error.message
    assert "rows/1.jsonl' has not" in error.message
    with pytest.raises(MeshError, match="'b'"):
        FileSources().open(replace(place.input("rows/"), named=(NamedColumn("b"),))).columns()
    place.put("rows/4.jsonl", b'{"a": 5}\n')
    assert "rows/4.jsonl' has not" in refusal(place.input("rows/"), "'id'").message


def test_each_of_many_files_of_json_is_looked_at_once_the_input_is_cut(place: Place) -> None:
    for number in range(LOOKED_AT + 1):
        place.put(f"rows/{number:02}.jsonl", b'{"id": 1, "a": 1}\n')
    place.put("rows/99.jsonl", b'{"id": 1}\n')
    wish = replace(place.input("rows/"), named=(NamedColumn("a"),))
    assert FileSources().open(wish).columns() == ("id", "a")
    assert "rows/99.jsonl' has not" in refusal(wish, "'a'").message


def joined_input(place: Place, source: str) -> Input:
    """Rows with a moment, of users whose ages are elsewhere."""
    place.put("in.csv", b"id,user,when\n1,ann,2\n2,ann,1\n3,bob,9\n")
    path = place.input(source).path
    kind = Format.PARQUET if source.endswith("parquet") else Format.CSV
    join = FeatureJoin(place.uri(source), path, kind, "user", "at", inputs=("age",))
    return replace(place.input("in.csv"), event_time_column="when", joins=(join,))


@pytest.mark.parametrize("ending", ["csv", "parquet", *(f"csv{packed}" for packed in sorted(PACK))])
def test_features_are_joined_from_files_in_every_place(place: Place, ending: str) -> None:
    text = b"user,at,age\nann,1,30\nann,2,31\nbob,3,40\n"
    if ending == "parquet":
        sink = io.BytesIO()
        pq.write_table(pa.table({"user": ["ann", "ann", "bob"], "at": [1, 2, 3], "age": [30, 31, 40]}), sink)
        text = sink.getvalue()
    place.put(f"history.{ending}", PACK[ending.removeprefix("csv")](text) if ending.startswith("csv.") else text)
    wish = joined_input(place, f"history.{ending}")
    plan, blocks = read(wish)
    assert plan.columns == ("id", "user", "when", "age")
    assert values(blocks[0], "age") == ["31", "30", "40"]
    place.put(f"history.{ending}", text + b" ")
    assert FileSources().open(wish).fingerprint() != plan.fingerprint


def test_a_feature_source_that_cannot_be_read_is_told_from_the_input(place: Place) -> None:
    begins = "^INPUT_UNREADABLE: feature source"
    error = refusal(joined_input(place, "nowhere.csv"), f"{begins} '.*nowhere.csv' cannot be read: there is no")
    assert error.metadata == {"source_uri": place.uri("nowhere.csv")}
    place.put("history.csv.gz", b"user,at,age\n")
    refusal(joined_input(place, "history.csv.gz"), f"{begins} '.*history.csv.gz' cannot be read: as gzip it is")


def test_files_that_do_not_belong_together_are_both_named(place: Place) -> None:
    place.put("a/1.csv", b"id,a\n1,2\n")
    place.put("a/2.csv", b"id,b\n1,2\n")
    error = refusal(place.input("a/"), "different columns")
    assert "a/1.csv" in error.message
    assert "a/2.csv" in error.message
    assert "['a', 'b']" in error.message
    with pytest.raises(MeshError, match="different columns"):
        FileSources().open(place.input("a/")).columns()
    for name, kind in (("1", pa.int64()), ("2", pa.float64())):
        sink = io.BytesIO()
        pq.write_table(pa.table({"id": pa.array([1], type=kind)}), sink)
        place.put(f"b/{name}.parquet", sink.getvalue())
    assert "b/2.parquet" in refusal(place.input("b/"), "'id' is int64 in .*b/1.parquet' and double").message
    place.put("c/1.csv", b"id\n1\n")
    place.put("c/2.jsonl", b'{"id": 1}\n')
    assert "c/1.csv" in refusal(place.input("c/"), "is csv and .*c/2.jsonl' is jsonl").message
    place.put("d/1.txt", b"id\n1\n")
    assert "input.format" in refusal(place.input("d/"), "does not say its format").message


def test_what_is_not_there_or_has_no_rows_is_said(place: Place) -> None:
    place.put("empty.csv", b"")
    place.put("heads/1.csv", b"id,a\n")
    place.put("heads/2.csv", b"id,a\n\n")
    place.put("marks/_SUCCESS", b"yes")
    for name, words in (
        ("empty.csv", "it is empty"),
        ("missing.csv", "there is no such"),
        ("missing/*.csv", "matches the pattern"),
        ("heads/", "none of its files has rows"),
        ("marks/", "rows"),
    ):
        assert refusal(place.input(name), words).reason is Reason.INPUT_UNREADABLE


def test_problems_of_one_file_among_many_name_that_file(place: Place) -> None:
    place.put("rows/1.csv", content("csv", range(3)))
    place.put("rows/2.csv", b'id,a,b\n1,"2,3\n')
    assert "rows/2.csv" in refusal(place.input("rows/"), "line 2 has a quote that is not closed").message
    place.put("tables/1.parquet", content("parquet", range(3)))
    place.put("tables/2.parquet", content("parquet", range(3))[:-9])
    assert "tables/2.parquet" in refusal(place.input("tables/"), "no Parquet file, or it is cut off").message


def test_an_input_that_changes_is_noticed(place: Place) -> None:
    place.put("rows/1.csv", content("csv", range(9)))
    place.put("rows/2.csv", content("csv", range(9)))
    for name in ("rows/1.csv", "rows/"):
        source = FileSources().open(place.input(name))
        plan = source.cut(5, bytes_max=MEBIBYTE, key_column="id")
        # Of the same size.
        place.put("rows/1.csv", content("csv", range(9)).replace(b"word 3", b"word 4"))
        assert source.fingerprint() != plan.fingerprint
        if place.server is not None or name == "rows/":
            opened = source if place.server is not None else FileSources().open(place.input(name))
            with pytest.raises(MeshError, match="changed while it was read"):
                list(opened.read(plan.chunks, plan.columns, plan))
        place.put("rows/1.csv", content("csv", range(9)))
    before = FileSources().open(place.input("rows/")).fingerprint()
    place.put("rows/3.csv", b"id\n1\n")
    assert FileSources().open(place.input("rows/")).fingerprint() != before


def test_too_many_files_are_refused(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.batch.adapters.sources.listing.FILES_MAX", 2)
    for number in range(3):
        place.put(f"rows/{number}.csv", b"id\n1\n")
    assert "more than 2 files" in refusal(place.input("rows/"), "files").message


def test_of_an_object_only_what_is_asked_for_is_fetched(bucket: Place) -> None:
    assert bucket.server is not None
    whole = content("parquet", range(400_000), group=20_000)
    bucket.put("in.parquet", whole)
    source = FileSources().open(bucket.input("in.parquet"))
    plan = source.cut(20_000, bytes_max=64 * MEBIBYTE, key_column="id")
    bucket.server.requests.clear()
    blocks = list(source.read(plan.chunks[7:8], ["a"], plan))
    assert values(blocks[0], "a")[0] == str(140_000 / 4)
    fetched = 0
    for request in bucket.server.requests:
        if request.method == "GET":
            assert request.range, "the object was fetched whole"
            first, last = request.range.removeprefix("bytes=").split("-")
            fetched += int(last) - int(first) + 1
    assert 0 < fetched < len(whole) / 10


def test_a_bucket_that_is_not_there_is_said(bucket: Place) -> None:
    for key in ("in.csv", "rows/", "rows/*.csv"):
        uri = f"{bucket.kind}://no-such-bucket/{key}"
        error = refusal(Input(uri, uri, Format.CSV), "there is no such bucket")
        assert error.reason is Reason.INPUT_UNREADABLE
