"""What callers are told where features are nowhere, and how entities are written."""

import pytest

from services.batcher.domain.feature_views import CheckedRow, StoredRow
from services.batcher.domain.features import JoinPlan
from services.batcher.domain.serving import ServedVersion
from services.common.errors import MeshError, Reason
from services.common.feature_view import FeatureView, OnMissing
from services.common.schema import DataType, ModelSchema, TensorSpec

SCHEMA = ModelSchema(
    (TensorSpec("age", DataType.INT64), TensorSpec("ctr", DataType.FP32), TensorSpec("x", DataType.FP32))
)
VIEW = FeatureView("user_stats", "user_id", {"age": "int", "ctr": "float"}, max_age_s=300)


def plan(view: FeatureView = VIEW, schema: ModelSchema = SCHEMA, team: str = "") -> JoinPlan:
    return JoinPlan(ServedVersion("m", "v1.0.0", "d", schema, feature_views=(view,), team=team))


def refused(joining: JoinPlan, stored: CheckedRow | None, **row: object) -> MeshError:
    rows = [{"x": 1.0, "user_id": 42, **row}]
    lookups = joining.lookups(rows)
    found = {lookups[0].key: stored} if stored is not None else {}
    with pytest.raises(MeshError) as caught:
        joining.joined(rows, lookups, found, now_s=1000.0, why_not="did not answer within 10 ms")
    return caught.value


def test_what_is_missing_is_named_with_view_entity_and_feature() -> None:
    error = refused(plan(), CheckedRow({"ctr": 0.5}, 900.0))
    assert error.reason is Reason.FEATURE_MISSING
    assert error.message.startswith(
        "instances[0].age is not sent, and the feature view user_stats has none for user_id=42. Send the feature"
    )
    assert {name: error.metadata[name] for name in ("view", "entity", "feature")} == {
        "view": "user_stats",
        "entity": "user_id=42",
        "feature": "age",
    }
    assert [violation.field for violation in error.violations] == ["instances[0].age"]


def test_values_that_are_too_old_are_missing_and_said_to_be_old() -> None:
    error = refused(plan(), CheckedRow({"age": 3, "ctr": 0.5}, 600.0))
    assert error.reason is Reason.FEATURE_MISSING
    assert "holds since 400 s, longer than max_age_s 300" in error.message


def test_values_of_unknown_age_are_missing_where_age_matters() -> None:
    assert "not since when it holds" in refused(plan(), CheckedRow({"age": 3, "ctr": 0.5})).message
    timeless = plan(FeatureView("user_stats", "user_id", {"age": "int", "ctr": "float"}))
    rows = [{"x": 1.0, "user_id": "u"}]
    lookups = timeless.lookups(rows)
    joined = timeless.joined(rows, lookups, {lookups[0].key: CheckedRow({"age": 3, "ctr": 0.5})}, now_s=1000.0)
    assert joined == [{"x": 1.0, "age": 3, "ctr": 0.5}]


def test_a_stored_value_of_another_type_is_the_stores_fault() -> None:
    row = plan().views[0].checked(StoredRow({"age": "old", "ctr": 0.5}, 900.0))
    error = refused(plan(), row)
    assert error.reason is Reason.FEATURE_MISSING
    assert "is stored by the feature view user_stats for user_id=42, but expected INT64, got 'old'" in error.message


def test_a_silent_store_is_retryable() -> None:
    error = refused(plan(), None)
    assert error.reason is Reason.FEATURE_STORE_UNAVAILABLE
    assert error.retry_after_s == 0.25
    assert "its store (redis) did not answer within 10 ms" in error.message


@pytest.mark.parametrize("value", [None, True, 4.5, [1], {"id": 1}, "", "x" * 513, "ü" * 257, b"\xff"])
def test_what_is_no_entity_is_a_violation(value: object) -> None:
    with pytest.raises(MeshError) as caught:
        plan().lookups([{"x": 1.0, "user_id": value}])
    assert caught.value.reason is Reason.SCHEMA_VIOLATION
    assert caught.value.violations[0].field == "instances[0].user_id"
    assert "user_stats" in caught.value.message


@pytest.mark.parametrize(
    ("value", "entity_id"), [(42, "42"), ("42", "42"), (b"42", "42"), (-7, "-7"), ("a=b/c", "a=b/c")]
)
def test_whole_numbers_are_their_decimal_text(value: object, entity_id: str) -> None:
    assert [lookup.entity_id for lookup in plan().lookups([{"x": 1.0, "user_id": value}])] == [entity_id]


def test_an_entity_that_is_an_input_too_stays() -> None:
    schema = ModelSchema((*SCHEMA.inputs, TensorSpec("user_id", DataType.INT64)))
    rows = [{"x": 1.0, "user_id": 42, "age": 1, "ctr": 0.5}]
    assert plan(schema=schema).joined(rows, [], {}, now_s=0.0) == rows
    assert plan().joined(rows, [], {}, now_s=0.0) == [{"x": 1.0, "age": 1, "ctr": 0.5}]


def test_defaults_stand_in_for_a_silent_store() -> None:
    view = FeatureView(
        "v", "user_id", {"age": "int", "ctr": "float"}, on_missing=OnMissing.DEFAULT, defaults={"age": 0, "ctr": 0.1}
    )
    joining = plan(view)
    rows = [{"x": 1.0, "user_id": 42}]
    assert joining.joined(rows, joining.lookups(rows), {}, now_s=0.0) == [{"x": 1.0, "age": 0, "ctr": 0.1}]


def test_rows_are_shared_by_versions_only_where_they_are_the_same() -> None:
    key = plan().views[0].source
    assert plan().views[0].source == key
    assert plan(team="blue").views[0].source != key
    other = ModelSchema((TensorSpec("age", DataType.FP32), *SCHEMA.inputs[1:]))
    assert plan(schema=other).views[0].source != key


def test_a_view_of_what_is_no_input_cannot_be_served() -> None:
    with pytest.raises(MeshError, match="'size' is no input of the version"):
        plan(FeatureView("v", "user_id", {"size": "int"}))
