"""Rows of a job get the features that held at their own moment, out of Parquet and CSV."""

import os
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from services.batch.adapters.sources import FileSources
from services.batch.domain.job import Input, Version
from services.batch.domain.layout import lay_out
from services.batch.domain.moments import moments_of
from services.batch.domain.rows import Encoded, encode
from services.batch.domain.wish import SourceWish, Wish, draft
from services.common.errors import MeshError, Reason
from services.common.feature_view import FeatureView, OnMissing
from services.common.schema import DataType, ModelSchema, PredictionMapping, TensorSpec

SCHEMA = ModelSchema(
    inputs=(
        TensorSpec("x", DataType.FP32),
        TensorSpec("age", DataType.INT64),
        TensorSpec("plan", DataType.BYTES),
        TensorSpec("vector", DataType.FP32, (2,)),
    ),
    outputs=(TensorSpec("y", DataType.FP32),),
)
VERSION = Version("m", "v1.0.0", "0" * 64, SCHEMA, PredictionMapping("y"))
DEFAULTS = FeatureView(
    "v",
    "user",
    {"age": "int", "plan": "string", "vector": "array<float>"},
    on_missing=OnMissing.DEFAULT,
    defaults={"age": -1, "plan": "none", "vector": [0, 0]},
    max_age_s=3600,
)
HOUR_S = 3600


class Job:
    """An input of one row a line, and a history of users."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.source = SourceWish(uri=str(folder / "history.csv"), entity="user")

    def rows(self, *rows: tuple[object, object]) -> None:
        """Of a user and a moment each."""
        lines = [
            orjson.dumps({"id": place, "x": 0.5, "user": user, "when": when}) for place, (user, when) in enumerate(rows)
        ]
        (self.folder / "in.jsonl").write_bytes(b"\n".join(lines))

    def history(self, *rows: tuple[str, object, object, str, str]) -> None:
        """Of user, moment, age, plan, vector."""
        lines = ["user,event_timestamp,age,plan,vector", *(",".join(map(str, row)) for row in rows)]
        Path(self.source.uri).write_text("\n".join(lines) + "\n")

    def input(self, version: Version = VERSION) -> Input:
        wish = Wish(
            model="m",
            input_uri=str(self.folder / "in.jsonl"),
            output_uri=str(self.folder / "out.jsonl"),
            event_time_column="when",
            feature_sources=(self.source,),
        )
        return draft(wish).pinned(version).input

    def encoded(self, version: Version = VERSION) -> Encoded:
        wish = self.input(version)
        source = FileSources().open(wish)
        layout = lay_out(source.columns(), version, wish)
        plan = source.cut(1000, bytes_max=2**20, key_column=layout.key)
        (block,) = source.read(plan.chunks, layout.columns, plan)
        return encode(block, layout)

    def ages(self, version: Version = VERSION) -> Sequence[object]:
        """Each row's age; the reason of those that have none."""
        made = self.encoded(version)
        return [made.bad[row][0] if row in made.bad else int(age) for row, age in enumerate(made.tensors["age"])]


@pytest.fixture
def job(tmp_path: Path) -> Job:
    made = Job(tmp_path)
    made.history(
        ("ann", 1000, 30, "free", '"[1,2]"'),
        ("ann", 2000, 31, "paid", '"[3,4]"'),
        ("007", 1500, 50, "12", '"[5,6]"'),
        ("ann", 2000, 32, "paid", '"[7,8]"'),
    )
    return made


def test_each_row_gets_what_held_at_its_own_moment(job: Job) -> None:
    job.rows(("ann", 1000), ("ann", 1999.9), ("ann", 2000), ("ann", 9999), ("007", 1500))
    made = job.encoded()
    assert made.bad == {}
    assert made.tensors["age"].tolist() == [30, 30, 32, 32, 50]
    assert made.tensors["plan"].tolist() == ["free", "free", "paid", "paid", "12"]
    assert made.tensors["vector"].tolist() == [[1, 2], [1, 2], [7, 8], [7, 8], [5, 6]]


def test_a_row_before_the_first_value_fails_alone_and_is_named(job: Job) -> None:
    job.rows(("ann", 999), ("ann", 1000), ("nobody", 5000), ("7", 5000))
    made = job.encoded()
    assert sorted(made.bad) == [0, 2, 3]
    reason, message = made.bad[2]
    assert reason == Reason.FEATURE_MISSING
    assert "has no age of user='nobody' that holds then" in message


def test_the_views_default_stands_in(job: Job) -> None:
    job.rows(("ann", 999), ("ann", 1000), ("nobody", 5000))
    made = job.encoded(replace(VERSION, feature_views=(DEFAULTS,)))
    assert made.bad == {}
    assert made.tensors["age"].tolist() == [-1, 30, -1]
    assert made.tensors["plan"].tolist() == ["none", "free", "none"]
    assert made.tensors["vector"].tolist() == [[0, 0], [1, 2], [0, 0]]


def test_values_that_are_too_old_do_not_hold(job: Job) -> None:
    job.rows(("ann", 2000 + HOUR_S), ("ann", 2001 + HOUR_S), ("007", 1501))
    assert job.ages(replace(VERSION, feature_views=(DEFAULTS,))) == [32, -1, 50]
    assert job.ages() == [32, 32, 50]
    job.source = replace(job.source, max_age_s=1.0)
    assert job.ages(replace(VERSION, feature_views=(DEFAULTS,))) == [-1, -1, 50]


def test_rows_without_a_moment_or_an_entity_fail_alone(job: Job) -> None:
    job.rows(("ann", None), (None, 2000), (1.5, 2000), ("ann", "soon"), ("ann", "1970-01-01T00:33:20Z"))
    assert job.ages() == [Reason.SCHEMA_VIOLATION] * 4 + [32]


def test_parquet_keeps_its_types(job: Job, tmp_path: Path) -> None:
    path = tmp_path / "history.parquet"
    pq.write_table(
        pa.table(
            {
                "user": pa.array([7, 7, 8]),
                "seen": pa.array([datetime(2026, 2, day, tzinfo=UTC) for day in (1, 3, 1)], pa.timestamp("ns", "UTC")),
                "age": pa.array([1, 2, None]),
                "plan": pa.array(["a", "b", "c"]).dictionary_encode(),
                "vector": pa.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]),
            }
        ),
        path,
    )
    job.source = replace(job.source, uri=str(path), timestamp_column="seen")
    job.rows((7, "2026-02-02"), ("7", "2026-02-03T00:00:00+00:00"), (8, "2026-02-02"))
    assert job.ages() == [1, 2, Reason.FEATURE_MISSING]
    assert job.encoded().tensors["plan"].tolist()[:2] == ["a", "b"]


def test_only_the_features_asked_for_are_joined(job: Job) -> None:
    job.source = replace(job.source, features=("age",))
    job.rows(("ann", 2000))
    with pytest.raises(MeshError, match="the input has no column for 'plan', 'vector'"):
        job.encoded()


def test_what_a_source_or_the_input_lacks_is_named(job: Job) -> None:
    job.rows(("ann", 2000))
    for change, words in (
        ({"entity": "users"}, "the input has no column 'users', which input.feature_sources need"),
        ({"timestamp_column": "seen"}, "it has no column 'seen'; it has"),
        ({"uri": str(job.folder / "nowhere.csv")}, "feature source '" + str(job.folder / "nowhere.csv")),
        ({"uri": str(job.folder), "format": "csv"}, "it is a folder; name one file"),
        ({"features": ("x",)}, "it has no column 'x'"),
    ):
        good = job.source
        job.source = replace(job.source, **change)
        with pytest.raises(MeshError) as caught:
            FileSources().open(job.input()).columns()
        assert caught.value.reason is Reason.INPUT_UNREADABLE
        assert words in caught.value.message
        job.source = good
    job.source = replace(job.source, features=("size",))
    with pytest.raises(MeshError, match="'size'; allowed: inputs of the version"):
        job.input()


def test_a_history_with_a_moment_that_is_none_is_refused(job: Job) -> None:
    job.history(("ann", 1000, 30, "free", '"[1,2]"'), ("ann", "later", 31, "free", '"[1,2]"'))
    job.rows(("ann", 2000))
    with pytest.raises(MeshError, match="in row 1, counted from 0, column 'event_timestamp' is 'later'"):
        job.encoded()


def test_a_source_that_changes_is_another_input(job: Job) -> None:
    job.rows(("ann", 2000))
    before = FileSources().open(job.input()).fingerprint()
    assert FileSources().open(job.input()).fingerprint() == before
    os.utime(job.source.uri, ns=(1, 1))
    assert FileSources().open(job.input()).fingerprint() != before


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"event_time_column": ""}, "input.event_time_column"),
        ({"feature_sources": ()}, "input.event_time_column"),
        ({"feature_sources": (SourceWish("history.csv", entity="user"),)}, "absolute"),
        ({"feature_sources": (SourceWish("/h.jsonl", entity="user"),)}, "parquet or csv"),
        ({"feature_sources": (SourceWish("s3://UPPER/h.csv", entity="user"),)}, "lower-case"),
        ({"feature_sources": (SourceWish("/h/", format="csv", entity="user"),)}, "of one file"),
        ({"feature_sources": (SourceWish("/h-*.csv", entity="user"),)}, "a feature source is one file"),
        ({"feature_sources": (SourceWish("/h.csv"),)}, r"feature_sources\[0\].entity"),
        ({"feature_sources": (SourceWish("/h.csv", entity="u", max_age_s=-1),)}, "max_age_s"),
        ({"feature_sources": (SourceWish("/h.csv", entity="u"),) * 17}, "at most 16"),
    ],
)
def test_what_is_wrong_with_a_wish_is_named(changes: dict[str, object], words: str) -> None:
    good = Wish(
        model="m",
        input_uri="/in.csv",
        output_uri="/out.csv",
        event_time_column="when",
        feature_sources=(SourceWish("/h.csv", entity="user"),),
    )
    assert draft(good).input.joins[0].timestamp_column == "event_timestamp"
    with pytest.raises(MeshError, match=words):
        draft(replace(good, **changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (pa.array([1], pa.timestamp("s")), 1_000_000),
        (pa.array([1_000_000_123], pa.timestamp("ns")), 1_000_000),
        (pa.array([1], pa.date32()), 86_400_000_000),
        (pa.array([1.5]), 1_500_000),
        (pa.array(["1.5"]), 1_500_000),
        (pa.array(["1970-01-01T01:00:01+01:00"]), 1_000_000),
        (["1970-01-01 00:00:01"], 1_000_000),
        ([1], 1_000_000),
    ],
)
def test_moments_are_read_in_every_form(column: "pa.Array | list[object]", expected: int) -> None:
    moments, wrong = moments_of(column, "when")
    assert (moments.tolist(), wrong) == ([expected], {})


@pytest.mark.parametrize("value", [None, True, "", "soon", float("nan"), 1e300, [1]])
def test_what_is_no_moment_is_named(value: object) -> None:
    moments, wrong = moments_of([value, 1], "when")
    assert np.array_equal(moments, [0, 1_000_000])
    assert list(wrong) == [0]
    assert "expected a timestamp" in wrong[0]
