"""Reference samples out of files, and precise words where there is none."""

import json
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import pyarrow as pa
import pytest
import typer
from infermesh.client.cli.samples import ROWS_MAX, read_sample
from pyarrow import parquet

ROWS = [{"age": 40 + place, "plan": "free", "x": [0.5, place]} for place in range(3)]
CSV = 'age,plan,x\n40,free,"[0.5, 0]"\n41,free,"[0.5, 1]"\n42,free,"[0.5, 2]"\n'


def file(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("rows.json", json.dumps(ROWS)),
        ("rows.json", json.dumps({"instances": ROWS})),
        ("rows.jsonl", "\n".join(map(json.dumps, ROWS))),
        ("rows.csv", CSV),
    ],
)
def test_rows_are_read_from_text(tmp_path: Path, name: str, content: str) -> None:
    sample = read_sample(file(tmp_path, name, content), ())
    assert (sample.instances, sample.rows) == (ROWS, 3)


def test_rows_are_read_from_parquet_and_columns_chosen(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    parquet.write_table(pa.table({name: [row[name] for row in ROWS] for name in ("age", "plan")}), path)
    assert read_sample(path, ("age",)).instances == [{"age": 40}, {"age": 41}, {"age": 42}]


def test_a_large_file_is_thinned_evenly(tmp_path: Path) -> None:
    content = "x\n" + "\n".join(map(str, range(1000)))
    sample = read_sample(file(tmp_path, "rows.csv", content), ())
    chosen = [row["x"] for row in sample.instances]
    assert (len(chosen), sample.rows, chosen[0]) == (ROWS_MAX, 1000, 0)
    steps = {later - earlier for earlier, later in pairwise(chosen)}  # type: ignore[operator]
    assert steps == {3, 4}


@pytest.mark.parametrize(
    ("name", "content", "columns", "words"),
    [
        ("rows.csv", "x,y\n1\n", (), "line 2 of .* another number of cells"),
        ("rows.csv", "x\n", (), "has no rows"),
        ("rows.csv", b"x\n\xff\n", (), "not UTF-8 text"),
        ("rows.csv", CSV, ("weight",), "no column weight; it has: age, plan, x"),
        ("rows.json", "[1]", (), "instance 0 of .* is a number"),
        ("rows.parquet", "PAR1", (), "no Parquet file"),
    ],
)
def test_what_cannot_be_read_is_said(
    tmp_path: Path, name: str, content: str | bytes, columns: Sequence[str], words: str
) -> None:
    with pytest.raises(typer.BadParameter, match=words):
        read_sample(file(tmp_path, name, content), columns)


@pytest.mark.parametrize("name", ["rows.csv", "rows.json", "rows.parquet"])
def test_a_file_that_is_not_there_is_said(tmp_path: Path, name: str) -> None:
    with pytest.raises(typer.BadParameter, match=r"cannot read .*no such file"):
        read_sample(tmp_path / name, ())
