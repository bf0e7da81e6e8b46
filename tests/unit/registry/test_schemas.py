"""The one schema that comes of what an artifact states and what its caller declares."""

from dataclasses import replace

import pytest

from services.common.errors import MeshError, Reason
from services.common.schema import DataType, ModelSchema, PredictionMapping, TensorSpec
from services.registry.domain.mapping import agree_mapping
from services.registry.domain.schemas import (
    Agreed,
    StatedSchema,
    StatedTensor,
    agree,
    check_declared,
    short_schema,
)
from services.registry.domain.short_form import parse_short_form
from services.registry.domain.violations import Violations
from tests.support.registry_fakes import STATED

X = TensorSpec("X", DataType.FP32, (4,))
LABEL = TensorSpec("label", DataType.INT64)
PROBABILITIES = TensorSpec("probabilities", DataType.FP32, (3,))
PLAIN = ModelSchema((X,), (LABEL, PROBABILITIES))


def agreed(
    stated: StatedSchema = STATED,
    declared: ModelSchema | None = None,
    inputs: dict[str, object] | None = None,
    outputs: dict[str, object] | None = None,
) -> Agreed:
    return agree(
        stated,
        declared,
        inputs=parse_short_form(inputs or {}, "input_schema"),
        outputs=parse_short_form(outputs or {}, "output_schema"),
    )


def test_what_the_artifact_states_is_enough() -> None:
    assert agreed() == Agreed(PLAIN, "artifact")


def test_declarations_add_limits_and_narrow_what_is_open() -> None:
    open_ended = StatedSchema((StatedTensor("X", DataType.FP32, (-1,)),), STATED.outputs)
    exact = ModelSchema((TensorSpec("X", DataType.FP32, (4,), True, "[0,0,0,0]", 0, 16),))
    assert agreed(open_ended, exact).schema.inputs == exact.inputs
    short: dict[str, object] = {"X": {"type": "array", "items": {"type": "number", "minimum": 0.0, "maximum": 16.0}}}
    assert agreed(inputs=short).schema.inputs == (TensorSpec("X", DataType.FP32, (4,), minimum=0, maximum=16),)
    # What is declared exactly wins over what is declared in short.
    assert agreed(open_ended, ModelSchema((TensorSpec("X", DataType.FP32, (4,), minimum=1),)), short).schema.inputs == (
        TensorSpec("X", DataType.FP32, (4,), minimum=1, maximum=16),
    )


@pytest.mark.parametrize(
    ("more", "fields"),
    [
        ({"inputs": {"X": "float"}}, ["input_schema.X"]),
        ({"inputs": {"X": "array<int>"}}, ["input_schema.X"]),
        ({"inputs": {"Y": "array<float>"}}, ["input_schema.Y", "input_schema.X"]),
        ({"outputs": {"label": "string", "scores": "float"}}, ["output_schema.scores", "output_schema.label"]),
        ({"declared": ModelSchema((TensorSpec("X", DataType.FP64, (4,)),))}, ["schema.inputs.X"]),
        ({"declared": ModelSchema((TensorSpec("X", DataType.FP32, (5,)),))}, ["schema.inputs.X"]),
        ({"declared": ModelSchema((TensorSpec("X", DataType.FP32, (4, 1)),))}, ["schema.inputs.X"]),
        ({"declared": ModelSchema((), (TensorSpec("Z", DataType.FP32),))}, ["schema.outputs.Z"]),
    ],
)
def test_every_contradiction_is_named(more: dict[str, object], fields: list[str]) -> None:
    with pytest.raises(MeshError) as caught:
        agreed(**more)  # type: ignore[arg-type]
    assert caught.value.reason is Reason.SCHEMA_MISMATCH
    assert [violation.field for violation in caught.value.violations] == fields
    assert all(field in caught.value.message for field in fields)


def test_some_outputs_may_be_left_out_of_a_declaration() -> None:
    assert agreed(outputs={"label": "int"}).schema == PLAIN


def test_an_unknown_rank_must_be_declared() -> None:
    unknown = StatedSchema((StatedTensor("X", DataType.FP32, None),), STATED.outputs)
    with pytest.raises(MeshError) as caught:
        agreed(unknown)
    assert caught.value.reason is Reason.SCHEMA_REQUIRED
    assert "input 'X'" in caught.value.message
    assert agreed(unknown, inputs={"X": "array<float>"}).schema.inputs == (TensorSpec("X", DataType.FP32, (-1,)),)
    assert agreed(unknown, ModelSchema((X,))).schema.inputs == (X,)


def test_an_artifact_that_states_nothing_goes_by_its_declaration() -> None:
    nothing = StatedSchema()
    with pytest.raises(MeshError) as caught:
        agreed(nothing, inputs={"user_id": "string"})
    assert caught.value.reason is Reason.SCHEMA_REQUIRED
    short = agreed(
        nothing,
        inputs={"user_id": "string", "item_ids": "array<int>", "context": "object"},
        outputs={"scores": "array<float>", "good": "bool"},
    )
    assert short == Agreed(
        ModelSchema(
            (
                TensorSpec("user_id", DataType.BYTES),
                TensorSpec("item_ids", DataType.INT64, (-1,)),
                TensorSpec("context", DataType.BYTES),
            ),
            (TensorSpec("scores", DataType.FP32, (-1,)), TensorSpec("good", DataType.BOOL)),
        ),
        "declared",
    )
    assert agreed(nothing, PLAIN) == Agreed(PLAIN, "declared")


def test_the_short_forms_shown_are_the_declared_or_the_stated() -> None:
    assert short_schema(PLAIN.inputs, {}) == {"X": "array<float>"}
    assert short_schema(PLAIN.outputs, {}) == {"label": "int", "probabilities": "array<float>"}
    assert short_schema(PLAIN.inputs, {"X": {"type": "array"}}) == {"X": {"type": "array"}}


@pytest.mark.parametrize(
    ("schema", "fields"),
    [
        (ModelSchema((X, X)), ["schema.inputs"]),
        (ModelSchema((TensorSpec("", DataType.FP32, (0,)),)), ["schema.inputs[0].name", "schema.inputs[0].shape"]),
        (ModelSchema((TensorSpec("a", DataType.FP32, (-2,)),)), ["schema.inputs[0].shape"]),
        (ModelSchema((TensorSpec("a", DataType.FP32, minimum=2, maximum=1),)), ["schema.inputs[0].minimum"]),
        (ModelSchema((TensorSpec("a", DataType.FP32, categories=("b",)),)), ["schema.inputs[0].categories"]),
        (ModelSchema((TensorSpec("a", DataType.FP32, optional=True),)), ["schema.inputs[0].default_value"]),
        (ModelSchema((), (TensorSpec("a", DataType.FP32, (), True, "1"),)), ["schema.outputs[0].optional"]),
    ],
)
def test_what_can_be_true_of_no_tensor_is_named(schema: ModelSchema, fields: list[str]) -> None:
    found = Violations()
    check_declared(schema, found)
    assert [violation.field for violation in found.found] == fields


def test_outputs_are_mapped_by_their_usual_names() -> None:
    mapping = agree_mapping(PredictionMapping(), PLAIN, ("a", "b", "c"))
    assert mapping == PredictionMapping("label", "probabilities", ("a", "b", "c"))
    other = ModelSchema((X,), (TensorSpec("scores", DataType.FP32, (3,)), TensorSpec("probabilities", DataType.INT64)))
    assert agree_mapping(PredictionMapping(), other, ()) == PredictionMapping("scores", "", ())
    asked = PredictionMapping("probabilities", "scores", ("x", "y", "z"))
    assert agree_mapping(asked, other, ("a", "b", "c")) == asked


@pytest.mark.parametrize(
    ("mapping", "classes", "field"),
    [
        (PredictionMapping("nothing"), (), "mapping.output_tensor"),
        (PredictionMapping("", "nothing"), (), "mapping.probabilities_tensor"),
        (PredictionMapping("", "label"), (), "mapping.probabilities_tensor"),
        (PredictionMapping(), ("a", "b"), "metadata.class_names"),
        (PredictionMapping("", "", ("a", "b")), ("a", "b", "c"), "mapping.class_names"),
    ],
)
def test_a_mapping_fits_the_outputs(mapping: PredictionMapping, classes: tuple[str, ...], field: str) -> None:
    with pytest.raises(MeshError) as caught:
        agree_mapping(mapping, PLAIN, classes)
    assert [violation.field for violation in caught.value.violations] == [field]


@pytest.mark.parametrize(
    ("declared", "inputs", "field"),
    [
        (None, {"X": {"type": "array", "items": "float", "default": [1.0, 2.0]}}, "input_schema.X.default"),
        (ModelSchema((TensorSpec("X", DataType.FP32, (4,), True, '["a"]'),)), {}, "schema.inputs.X.default_value"),
        (
            ModelSchema((TensorSpec("X", DataType.FP32, (4,), True, "[0,0,0,9]", 0, 1),)),
            {},
            "schema.inputs.X.default_value",
        ),
    ],
)
def test_a_default_is_a_value_that_a_caller_could_send(
    declared: ModelSchema | None, inputs: dict[str, object], field: str
) -> None:
    with pytest.raises(MeshError) as caught:
        agreed(declared=declared, inputs=inputs)
    assert [violation.field for violation in caught.value.violations] == [field]


def test_one_side_may_be_stated_and_the_other_declared() -> None:
    half = StatedSchema((StatedTensor("X", DataType.FP32, (4,)),), ())
    made = agreed(half, outputs={"score": "float"})
    assert (made.schema.outputs, made.source) == ((TensorSpec("score", DataType.FP32),), "declared")


def test_categories_that_the_artifact_states_are_kept_and_may_be_narrowed() -> None:
    stated = StatedSchema((StatedTensor("city", DataType.BYTES, (), ("Rome", "Oslo")),), STATED.outputs)
    assert agreed(stated).schema.inputs[0].categories == ("Rome", "Oslo")
    fewer = ModelSchema((TensorSpec("city", DataType.BYTES, categories=("Oslo",)),))
    assert agreed(stated, fewer).schema.inputs[0].categories == ("Oslo",)
    with pytest.raises(MeshError) as caught:
        agreed(stated, ModelSchema((TensorSpec("city", DataType.BYTES, categories=("Bonn",)),)))
    assert caught.value.reason is Reason.SCHEMA_MISMATCH


@pytest.mark.parametrize(
    "change",
    [
        {"name": "a\0b"},
        {"name": "a\nb"},
        {"minimum": float("nan")},
        {"minimum": 0.0, "data_type": DataType.BYTES},
        {"categories": ("a\0",), "data_type": DataType.BYTES},
        {"optional": True, "default_json": '{"a": 1, "a": 2}'},
        {"optional": True, "default_json": "NaN"},
        {"optional": True, "default_json": "[" * 100_000},
    ],
)
def test_tensors_that_cannot_be(change: dict[str, object]) -> None:
    found = Violations()
    check_declared(ModelSchema((replace(X, **change),)), found)  # type: ignore[arg-type]
    assert len(found.found) == 1
