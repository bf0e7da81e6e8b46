"""Feature views and their rows, through the client and the command, over a real Valkey."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from google.protobuf.json_format import MessageToDict
from infermesh.client import Client, InfermeshError
from infermesh.client.feature_store import FeatureRow, FeatureStore
from typer.testing import Result

from tests.integration.client.scripted import Scripted

VIEW = {
    "name": "user_stats",
    "entity": "user_id",
    "features": {"age": "int", "ctr": "float", "plan": "string", "vector": "array<float>"},
    "store": "redis",
    "on_missing": "default",
    "defaults": {"age": 0},
    "max_age_s": 300,
}


@pytest.fixture
def registered(scripted: Scripted, artifact: Path, tmp_path: Path) -> Scripted:
    document = tmp_path / "views.json"
    document.write_text(json.dumps({"feature_views": [VIEW]}))
    scripted.run("register", "ads", "v1.0.0", str(artifact), "--features", f"@{document}")
    return scripted


def put(scripted: Scripted, redis_url: str, path: Path, *more: str, code: int = 0) -> Result:
    return scripted.run("features", "put", "ads", "v1.0.0", str(path), "--store", redis_url, "--json", *more, code=code)


def stored(scripted: Scripted, redis_url: str, user: str) -> dict[str, object]:
    result = scripted.run("features", "get", "ads", "v1.0.0", user, "--store", redis_url, "--json")
    row = json.loads(result.stdout)["views"]["user_stats"]
    assert isinstance(row, dict)
    return row


def test_views_travel_as_they_are(client: Client, registered: Scripted, artifact: Path) -> None:
    (sent,) = registered.registry.requests
    assert [MessageToDict(view, preserving_proto_field_name=True) for view in sent.feature_views] == [VIEW]
    client.models.register("ads", "v2.0.0", artifact, feature_views=[VIEW])
    assert registered.registry.requests[1].feature_views == sent.feature_views
    with pytest.raises(InfermeshError, match=r"feature_views\[0\] is no feature view"):
        client.models.register("ads", "v3.0.0", artifact, feature_views=[{"nome": "x"}])
    shown = registered.run("models", "show", "ads", "v1.0.0")
    assert "user_id from user_stats" in shown.stdout


def test_rows_of_a_csv_are_read_by_the_views_types(registered: Scripted, redis_url: str, tmp_path: Path) -> None:
    path = tmp_path / "stats.csv"
    path.write_text(
        'user_id,age,ctr,plan,vector,note\n7001,41,0.25,007,"[0.5, 1]",what is no feature is left alone\n7002,,1,,,\n'
    )
    result = put(registered, redis_url, path, "--ttl", "86400")
    assert json.loads(result.stdout) == {"view": "user_stats", "entity": "user_id", "rows": 2, "ttl_s": 86400}
    row = stored(registered, redis_url, "7001")
    assert row["features"] == {"age": 41, "ctr": 0.25, "plan": "007", "vector": [0.5, 1]}
    assert isinstance(row["left_s"], float)
    assert 86_000 < row["left_s"] <= 86_400
    assert stored(registered, redis_url, "7002")["features"] == {"ctr": 1}


@pytest.mark.parametrize(
    "moment", ["2026-02-01T12:00:00Z", "2026-02-01T12:00:00", "2026-02-01 13:00:00+01:00", "1769947200"]
)
def test_a_row_holds_since_its_event_timestamp(
    registered: Scripted, redis_url: str, tmp_path: Path, moment: str
) -> None:
    path = tmp_path / "stats.csv"
    path.write_text(f"user_id,age,event_timestamp\n7003,41,{moment}\n")
    put(registered, redis_url, path)
    assert stored(registered, redis_url, "7003")["at_s"] == datetime(2026, 2, 1, 12, tzinfo=UTC).timestamp()


def test_rows_of_json_lines_and_parquet(registered: Scripted, redis_url: str, tmp_path: Path) -> None:
    lines, parquet = tmp_path / "stats.jsonl", tmp_path / "stats.parquet"
    lines.write_text('{"user_id": "ann", "age": 30}\n{"user_id": 7004, "age": 31.0}\n')
    pq.write_table(
        pa.table(
            {
                "user_id": pa.array([7005]),
                "vector": pa.array([[1.5, 2.5]]),
                "seen": pa.array([datetime(2026, 2, 1, tzinfo=UTC)]),
            }
        ),
        parquet,
    )
    put(registered, redis_url, lines)
    put(registered, redis_url, parquet, "--at", "seen")
    assert stored(registered, redis_url, "ann")["features"] == {"age": 30}
    assert stored(registered, redis_url, "7004")["features"] == {"age": 31}
    row = stored(registered, redis_url, "7005")
    assert (row["features"], row["at_s"]) == ({"vector": [1.5, 2.5]}, datetime(2026, 2, 1, tzinfo=UTC).timestamp())


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("user,age\n1,2\n", "has no column user_id"),
        ("user_id,size\n1,2\n", "has no feature of user_stats"),
        ("user_id,age\n1,old\n", "row 1 of"),
        ("user_id,age\n1,1.5\n", "is 1.5; the view has it as int"),
        ("user_id,age\n1,2\n,3\n", "row 2 of"),
        ("user_id,age,event_timestamp\n1,2,yesterday\n", "it must be Unix seconds or ISO 8601"),
        ("user_id,age\n", "has no rows"),
    ],
)
def test_what_is_wrong_with_a_file_is_named(
    registered: Scripted, redis_url: str, tmp_path: Path, text: str, complaint: str
) -> None:
    path = tmp_path / "stats.csv"
    path.write_text(text)
    result = put(registered, redis_url, path, code=2)
    assert complaint in " ".join(result.output.replace("│", " ").split())


def test_tables_show_what_a_request_would_find(registered: Scripted, redis_url: str, tmp_path: Path) -> None:
    path = tmp_path / "stats.csv"
    path.write_text("user_id,age\n7006,41\n")
    wrote = registered.run("features", "put", "ads", "v1.0.0", str(path), "--store", redis_url)
    assert "wrote 1 rows of user_stats, by user_id, for 300 s" in wrote.stdout
    shown = registered.run("features", "get", "ads", "v1.0.0", "7006", "--store", redis_url)
    assert "41" in shown.stdout
    assert "nothing" in shown.stdout
    registered.run("features", "get", "ads", "v1.0.0", "7006", "--store", redis_url, "--view", "other", code=2)


def test_a_store_that_is_away_is_said_to_be(registered: Scripted, tmp_path: Path) -> None:
    path = tmp_path / "stats.csv"
    path.write_text("user_id,age\n1,2\n")
    result = put(registered, "redis://127.0.0.1:1/0", path, code=4)
    error = json.loads(result.stderr)["error"]
    assert error["reason"] == "FEATURE_STORE_UNAVAILABLE"
    assert "--store or INFERMESH_FEATURE_STORE" in json.dumps(error)


def test_the_file_is_looked_at_before_the_store(registered: Scripted, tmp_path: Path) -> None:
    result = put(registered, "redis://127.0.0.1:1/0", tmp_path / "none.csv", code=2)
    assert "cannot read" in result.output


def test_a_version_without_views_is_said_to_have_none(scripted: Scripted, artifact: Path, tmp_path: Path) -> None:
    scripted.run("register", "ads", "v1.0.0", str(artifact))
    result = put(scripted, "redis://127.0.0.1:1/0", tmp_path / "stats.csv", code=2)
    said = " ".join(result.output.replace("│", " ").split())
    assert "Invalid value for VERSION: ads v1.0.0 has no feature view that is kept in Redis" in said


def test_values_that_json_cannot_hold_are_refused(redis_url: str) -> None:
    with FeatureStore(redis_url) as store:
        for value in (float("nan"), {1, 2}):
            with pytest.raises(InfermeshError) as caught:
                store.put("v", "user_id", [FeatureRow("1", {"age": value})])
            assert caught.value.reason == "INVALID_FIELD"
    with pytest.raises(InfermeshError, match="URL is none"):
        FeatureStore("http://somewhere")
