"""What feature views may say, alone and of their version."""

from dataclasses import replace

import pytest

from services.common.errors import MeshError, Reason
from services.common.feature_view import FeatureView, OnMissing
from services.common.feature_view_proto import views_from_proto, views_to_proto
from services.common.schema import DataType, ModelSchema, TensorSpec
from services.registry.domain.feature_views import check_views, check_views_fit
from services.registry.domain.violations import Violations

VIEW = FeatureView("user_stats", "user_id", {"age": "int", "ctr": "float"}, max_age_s=300)
WITH_DEFAULTS = replace(VIEW, on_missing=OnMissing.DEFAULT, defaults={"age": 0})
SCHEMA = ModelSchema(
    (
        TensorSpec("age", DataType.INT64, minimum=0, maximum=150),
        TensorSpec("ctr", DataType.FP32),
        TensorSpec("embedding", DataType.FP32, (3,)),
        TensorSpec("plan", DataType.BYTES, categories=("free", "paid")),
        TensorSpec("churned", DataType.BOOL),
    )
)


def fields(*views: FeatureView) -> list[str]:
    found = Violations()
    check_views(views, found)
    return [violation.field for violation in found.found]


def misfit(view: FeatureView) -> MeshError:
    with pytest.raises(MeshError) as caught:
        check_views_fit((view,), SCHEMA)
    assert caught.value.reason is Reason.SCHEMA_MISMATCH
    return caught.value


def test_good_views_pass_both_checks() -> None:
    everything = FeatureView(
        "all",
        "user_id",
        {"age": "int", "ctr": "float", "embedding": "array<float>", "plan": "string", "churned": "bool"},
        on_missing=OnMissing.DEFAULT,
        defaults={"age": 18, "ctr": 0.5, "embedding": [0, 0, 0.5], "plan": "free", "churned": False},
    )
    assert fields(VIEW) == fields(WITH_DEFAULTS) == fields(everything) == []
    check_views_fit((everything,), SCHEMA)


@pytest.mark.parametrize(
    ("view", "field"),
    [
        (replace(VIEW, name=""), "feature_views.(no name).name"),
        (replace(VIEW, name="a.b"), "feature_views.a.b.name"),
        (replace(VIEW, name="7"), "feature_views.7.name"),
        (replace(VIEW, entity="user id"), "feature_views.user_stats.entity"),
        (replace(VIEW, entity="age"), "feature_views.user_stats.entity"),
        (replace(VIEW, features={}), "feature_views.user_stats.features"),
        (replace(VIEW, features={"age": "real"}), "feature_views.user_stats.features.age"),
        (replace(VIEW, max_age_s=-1.0), "feature_views.user_stats.max_age_s"),
        (replace(VIEW, max_age_s=float("nan")), "feature_views.user_stats.max_age_s"),
        (replace(VIEW, defaults={"age": 0}), "feature_views.user_stats.defaults"),
        (replace(WITH_DEFAULTS, defaults={}), "feature_views.user_stats.defaults"),
        (replace(WITH_DEFAULTS, defaults={"size": 0}), "feature_views.user_stats.defaults.size"),
        (replace(WITH_DEFAULTS, defaults={"age": "x" * 70_000}), "feature_views.user_stats.defaults"),
    ],
)
def test_what_is_wrong_is_named(view: FeatureView, field: str) -> None:
    assert field in fields(view)


def test_no_two_views_have_one_name_or_one_feature() -> None:
    assert "feature_views" in fields(VIEW, VIEW)
    assert fields(VIEW, FeatureView("other", "user_id", {"age": "int"})) == ["feature_views.other.features.age"]


def test_an_unknown_feature_is_named_with_its_view_and_what_the_schema_has() -> None:
    error = misfit(replace(VIEW, features={"size": "int"}))
    assert [one.field for one in error.violations] == ["feature_views.user_stats.features.size"]
    assert "age int, ctr float, embedding array<float>, plan string, churned bool" in error.message


def test_a_feature_of_another_type_is_named_with_both() -> None:
    assert "declared as string where the model has INT64" in misfit(replace(VIEW, features={"age": "string"})).message


@pytest.mark.parametrize(
    ("kind", "defaults"),
    [
        ({"age": "int"}, {"age": 0.5}),
        ({"age": "int"}, {"age": 151}),
        ({"age": "int"}, {"age": True}),
        ({"age": "int"}, {"age": [1, 2]}),
        ({"age": "int"}, {"age": None}),
        ({"embedding": "array<float>"}, {"embedding": [1.0, 2.0]}),
        ({"embedding": "array<float>"}, {"embedding": [[1.0], 2.0, 3.0]}),
        ({"plan": "string"}, {"plan": "trial"}),
        ({"plan": "string"}, {"plan": 1}),
        ({"churned": "bool"}, {"churned": 0}),
    ],
)
def test_defaults_are_values_of_their_feature(kind: dict[str, str], defaults: dict[str, object]) -> None:
    view = FeatureView("v", "user_id", kind, on_missing=OnMissing.DEFAULT, defaults=defaults)
    error = misfit(view)
    assert [one.field for one in error.violations] == [f"feature_views.v.defaults.{next(iter(defaults))}"]


def test_the_wire_form_keeps_everything() -> None:
    views = (WITH_DEFAULTS, replace(VIEW, name="zz", features={"plan": "string"}))
    assert views_from_proto(views_to_proto(reversed(views))) == views


def test_unknown_words_of_the_wire_are_named() -> None:
    (message,) = views_to_proto((VIEW,))
    message.store = "mongo"
    with pytest.raises(MeshError, match=r"feature_views\[0\].store is 'mongo'; allowed: one of redis, feast"):
        views_from_proto([message])
    (message,) = views_to_proto((WITH_DEFAULTS,))
    message.defaults.fields["age"].number_value = float("nan")
    with pytest.raises(MeshError, match="not finite"):
        views_from_proto([message])
