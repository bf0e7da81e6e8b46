"""The compatibility report says "breaking" where, and only where, the batcher would refuse a caller who was right."""

import json
from collections.abc import Iterator, Sequence
from functools import lru_cache

from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from services.batcher.domain.instances import InstancePlan
from services.batcher.domain.request import Tensor
from services.batcher.domain.serving import ServedVersion
from services.batcher.domain.tensor_check import TensorPlan
from services.common.errors import MeshError
from services.common.schema import DataType, ModelSchema, TensorSpec
from services.registry.domain.compare import compare
from services.registry.domain.schemas import check_declared
from services.registry.domain.violations import Violations

NAMES = ("x", "y")
WORDS = ("a", "b", "c")
TYPES = (DataType.INT8, DataType.UINT8, DataType.INT64, DataType.FP32, DataType.FP64, DataType.BOOL, DataType.BYTES)
SHAPES = ((), (1,), (2,), (-1,), (2, 2), (-1, 2), (-1, -1))
LIMITS = (-1000.0, -1.0, 0.0, 0.5, 1.0, 2.0, 300.0)
Row = dict[str, object]


@st.composite
def specs(draw: st.DrawFn, name: str) -> TensorSpec:
    data_type = draw(st.sampled_from(TYPES))
    shape = draw(st.sampled_from(SHAPES))
    low, high = (draw(st.one_of(st.none(), st.sampled_from(LIMITS))) for _ in range(2))
    if low is not None and high is not None and low > high:
        low, high = high, low
    if data_type in (DataType.BOOL, DataType.BYTES):
        low = high = None
    words = st.lists(st.sampled_from(WORDS), max_size=2, unique=True).map(tuple)
    categories = draw(words) if data_type is DataType.BYTES else ()
    spec = TensorSpec(name, data_type, shape, False, "", low, high, categories)
    if not draw(st.booleans()):
        return spec
    default = next((value for value in candidates(spec, spec) if fits(ModelSchema((spec,)), {name: value})), None)
    if default is None:
        return spec
    return TensorSpec(name, data_type, shape, True, json.dumps(default), low, high, categories)


@st.composite
def schemas(draw: st.DrawFn) -> ModelSchema:
    names = draw(st.sampled_from([("x",), ("y",), ("x", "y")]))
    return ModelSchema(tuple(draw(specs(name)) for name in names))


@lru_cache(maxsize=64)
def plans(schema: ModelSchema) -> tuple[InstancePlan, TensorPlan]:
    served = ServedVersion("model", "v1.0.0", "prod", schema)
    instances = InstancePlan(served)
    return instances, TensorPlan(served, instances.features)


def encoded(schema: ModelSchema, row: Row) -> tuple[Tensor, ...] | None:
    """The tensors of an instance that the batcher takes; None where it refuses it."""
    try:
        return plans(schema)[0].tensors([row])
    except MeshError:
        return None


def fits(schema: ModelSchema, row: Row) -> bool:
    return encoded(schema, row) is not None


def takes_tensors(schema: ModelSchema, tensors: Sequence[Tensor]) -> bool:
    try:
        plans(schema)[1].checked(tensors)
    except MeshError:
        return False
    return True


def elements(*specs: TensorSpec) -> Iterator[object]:
    kinds = {spec.data_type for spec in specs}
    yield from [True] if DataType.BOOL in kinds else []
    yield from (*WORDS, "d") if DataType.BYTES in kinds else ()
    if kinds <= {DataType.BOOL, DataType.BYTES}:
        return
    near: set[float] = {0.0, -1e9, 1e9} | (
        {127.0, -128.0, 255.0} if len(kinds) > 1 or DataType.INT64 not in kinds else set()
    )
    for spec in specs:
        for limit in (spec.minimum, spec.maximum):
            if limit is not None:
                near |= {limit, limit + 0.5, limit - 0.5}
    for value in sorted(near):
        yield int(value) if float(value).is_integer() else value


def candidates(*specs: TensorSpec) -> Iterator[object]:
    """Values of every form that could tell two features apart."""
    yield []
    for item in elements(*specs):
        yield from (item, [item], [item] * 2, [item] * 3, [item] * 4)
        yield from ([[item] * 2] * 2, [[item] * 2], [[item]], [[item] * 3] * 2)


def witness(old: ModelSchema, new: ModelSchema) -> Row | None:
    """An instance that is right for the older version and that the newer one refuses, as JSON or as its tensors."""
    by_name = {spec.name: spec for spec in new.inputs}
    right: Row = {}
    values: dict[str, list[object]] = {}
    for spec in old.inputs:
        tried = candidates(spec, by_name.get(spec.name, spec))
        alone = ModelSchema((spec,))
        values[spec.name] = [value for value in tried if fits(alone, {spec.name: value})]
        assume(values[spec.name])
        right[spec.name] = values[spec.name][0]
    rows = [right, *({**right, name: value} for name, some in values.items() for value in some)]
    left_out = (spec.name for spec in old.inputs if spec.optional)
    rows += [{name: value for name, value in right.items() if name != gone} for gone in left_out]
    for row in rows:
        tensors = encoded(old, row)
        assert tensors is not None
        sent = [tensor for tensor in tensors if tensor.name in row]
        if not fits(new, row) or (sent and not takes_tensors(new, sent)):
            return row
    return None


@settings(max_examples=120, deadline=None)
@given(old=schemas(), new=schemas())
# Of the older one no number at all is right.
@example(
    old=ModelSchema((TensorSpec("y", DataType.UINT8, (-1,), maximum=-1000.0),)),
    new=ModelSchema((TensorSpec("y", DataType.UINT8, (-1,), minimum=0.5),)),
)
def test_breaking_is_said_of_inputs_if_and_only_if_a_caller_is_refused(old: ModelSchema, new: ModelSchema) -> None:
    report = compare(old, new)
    found = witness(old, new)
    assert any(one.breaking for one in report) is (found is not None), (report, found)
    assert all(one.advice and one.kind for one in report)


@settings(max_examples=60, deadline=None)
@given(spec=specs("x"))
def test_one_feature_changed_in_one_way(spec: TensorSpec) -> None:
    """Near pairs, which two schemas drawn apart seldom are."""
    old = ModelSchema((spec,))
    for change in ({"minimum": None}, {"maximum": None}, {"categories": ()}, {"shape": (-1,) * len(spec.shape)}):
        new = ModelSchema((TensorSpec(**{**{f: getattr(spec, f) for f in spec.__dataclass_fields__}, **change}),))
        for before, after in ((old, new), (new, old)):
            report, found = compare(before, after), witness(before, after)
            assert any(one.breaking for one in report) is (found is not None), (report, found)


@settings(max_examples=60, deadline=None)
@given(schema=schemas())
def test_nothing_differs_from_itself(schema: ModelSchema) -> None:
    assert compare(schema, schema) == []
    assert compare(ModelSchema((), schema.inputs), ModelSchema((), schema.inputs)) == []
    found = Violations()
    check_declared(schema, found)
    assert found.found == []


@settings(max_examples=120, deadline=None)
@given(old=specs("x"), new=specs("x"))
def test_outputs_break_where_something_new_may_come(old: TensorSpec, new: TensorSpec) -> None:
    """What a version gives is what the one before takes, seen from the other side."""
    before, after = (
        ModelSchema((TensorSpec("x", one.data_type, one.shape, False, "", one.minimum, one.maximum, one.categories),))
        for one in (old, new)
    )
    report = compare(ModelSchema((), before.inputs), ModelSchema((), after.inputs))
    given_back = [value for value in candidates(old, new) if fits(after, {"x": value})]
    assume(given_back)
    unseen = False
    for value in given_back:
        tensors = encoded(after, {"x": value})
        assert tensors is not None
        unseen = unseen or not takes_tensors(before, tensors)
    assert any(one.breaking for one in report) is unseen, report
