"""Features are joined as their definition says, for any requests, stores and policies."""

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.batcher.domain.feature_views import NO_ROW, CheckedRow, StoredRow
from services.batcher.domain.features import JoinPlan
from services.batcher.domain.serving import ServedVersion
from services.common.errors import MeshError, Reason
from services.common.feature_view import FeatureView, OnMissing
from services.common.schema import DataType, ModelSchema, TensorSpec

NOW_S = 1_000_000.0
FEATURES = ("a", "b", "c")
DEFAULT = -1


def plan(*, defaults: frozenset[str], max_age_s: float) -> JoinPlan:
    views = (
        FeatureView(
            "left",
            "user",
            {"a": "int", "b": "int"},
            on_missing=OnMissing.DEFAULT,
            defaults={name: DEFAULT for name in ("a", "b") if name in defaults},
            max_age_s=max_age_s,
        ),
        FeatureView(
            "right",
            "item",
            {"c": "int"},
            on_missing=OnMissing.DEFAULT if "c" in defaults else OnMissing.ERROR,
            defaults={"c": DEFAULT} if "c" in defaults else {},
        ),
    )
    schema = ModelSchema(tuple(TensorSpec(name, DataType.INT64) for name in (*FEATURES, "own")))
    return JoinPlan(ServedVersion("m", "v1.0.0", "d", schema, feature_views=views))


def entity_of(feature: str) -> str:
    return "item" if feature == "c" else "user"


ids = st.sampled_from([1, "1", "x", 2])
instances = st.fixed_dictionaries(
    {"own": st.integers(0, 9), "user": ids, "item": ids},
    optional={name: st.one_of(st.none(), st.integers(10, 19)) for name in FEATURES},
)
stored = st.one_of(
    st.none(),  # the store did not answer
    st.just(NO_ROW),
    st.builds(
        CheckedRow,
        st.dictionaries(st.sampled_from(FEATURES), st.integers(100, 199)),
        st.one_of(st.none(), st.floats(NOW_S - 100, NOW_S + 10)),
    ),
)
stores = st.dictionaries(st.tuples(st.sampled_from(["left", "right"]), st.sampled_from(["1", "x", "2"])), stored)


@given(
    st.lists(instances, min_size=1, max_size=5),
    stores,
    st.frozensets(st.sampled_from(FEATURES)),
    st.sampled_from([0.0, 50.0]),
)
def test_every_feature_is_the_callers_else_the_stores_else_the_default(
    rows: list[Mapping[str, object]],
    store: Mapping[tuple[str, str], CheckedRow | None],
    defaults: frozenset[str],
    max_age_s: float,
) -> None:
    joining = plan(defaults=defaults, max_age_s=max_age_s)
    before = [dict(row) for row in rows]
    lookups = joining.lookups(rows)
    found = {
        lookup.key: answer
        for lookup in lookups
        if (answer := store.get((lookup.view.name, lookup.entity_id), NO_ROW)) is not None
    }
    expected, missing, unanswered = [], 0, 0
    for row in rows:
        full: dict[str, object] = {"own": row["own"]}
        for name in FEATURES:
            view = "right" if name == "c" else "left"
            kept = store.get((view, str(row[entity_of(name)])), NO_ROW)
            fresh = kept is not None and (
                view == "right" or not max_age_s or (kept.at_s is not None and kept.at_s + max_age_s >= NOW_S)
            )
            if row.get(name) is not None:
                full[name] = row[name]
            elif kept is not None and fresh and name in kept.values:
                full[name] = kept.values[name]
            elif name in defaults:
                full[name] = DEFAULT
            else:
                missing += kept is not None
                unanswered += kept is None
        expected.append(full)
    if missing or unanswered:
        with pytest.raises(MeshError) as caught:
            joining.joined(rows, lookups, found, now_s=NOW_S)
        wanted = Reason.FEATURE_MISSING if missing else Reason.FEATURE_STORE_UNAVAILABLE
        assert caught.value.reason is wanted
        assert len(caught.value.violations) == min(missing, 16)
    else:
        assert joining.joined(rows, lookups, found, now_s=NOW_S) == expected
    assert rows == before, "the caller's instances are not changed"


@given(st.lists(instances, min_size=1, max_size=8))
def test_what_the_caller_sends_is_not_asked_for(rows: list[Mapping[str, object]]) -> None:
    lookups = plan(defaults=frozenset(), max_age_s=0.0).lookups(rows)
    asked = {(lookup.place, name) for lookup in lookups for name in lookup.absent}
    assert asked == {(place, name) for place, row in enumerate(rows) for name in FEATURES if row.get(name) is None}
    assert len({(lookup.place, lookup.view.name) for lookup in lookups}) == len(lookups)


@given(
    st.dictionaries(st.sampled_from(FEATURES), st.one_of(st.integers(), st.text(max_size=3), st.floats(), st.none()))
)
def test_a_checked_row_holds_only_what_the_schema_takes(values: Mapping[str, object]) -> None:
    view = plan(defaults=frozenset(), max_age_s=0.0).views[0]
    row = view.checked(StoredRow(values, 5.0))
    for name in ("a", "b"):
        value = values.get(name)
        fits = (isinstance(value, int) and -(2**63) <= value < 2**63) or (
            isinstance(value, float) and value.is_integer() and -(2**63) <= value < 2**63
        )
        assert (name in row.values) == fits
        assert (name in row.faults) == (value is not None and not fits)
    assert "c" not in row.values
