"""Padding in the serving table: what is declared arrives, and what the schema does not allow is refused by name."""

from collections.abc import Callable

import pytest
from infermesh.common.v1 import schema_pb2, serving_pb2

from services.batcher.adapters.serving_proto import models_from_proto
from services.batcher.domain.instances import InstancePlan
from services.batcher.domain.request import Tensor
from services.batcher.domain.serving import Padding, ServedVersion
from services.batcher.domain.tensor_check import TensorPlan
from services.common.errors import MeshError, Reason
from services.common.schema import DataType

INT64, BYTES = schema_pb2.DATA_TYPE_INT64, schema_pb2.DATA_TYPE_BYTES
FP16, UINT8, BOOL = schema_pb2.DATA_TYPE_FP16, schema_pb2.DATA_TYPE_UINT8, schema_pb2.DATA_TYPE_BOOL


def model() -> serving_pb2.ServedModel:
    spec = schema_pb2.TensorSpec
    return serving_pb2.ServedModel(
        model_name="tokens",
        default_version="v1.0.0",
        versions=[
            serving_pb2.ServedVersion(
                version="v1.0.0",
                schema=schema_pb2.ModelSchema(
                    inputs=[
                        spec(name="ids", data_type=INT64, shape=[-1]),
                        spec(name="mask", data_type=INT64, shape=[-1]),
                        spec(name="lengths", data_type=INT64, shape=[1], default_value="4"),
                        spec(name="other", data_type=INT64, shape=[2]),
                    ],
                    outputs=[
                        spec(name="logits", data_type=schema_pb2.DATA_TYPE_FP32, shape=[-1, 3]),
                        spec(name="label", data_type=INT64),
                    ],
                ),
                batching=serving_pb2.BatchingPolicy(
                    enabled=True,
                    padding=serving_pb2.Padding(
                        value=1,
                        input_values={"mask": 0},
                        lengths_input="lengths",
                        trim_outputs=["logits"],
                        waste_max=0.3,
                    ),
                ),
            )
        ],
    )


def read(message: serving_pb2.ServedModel) -> ServedVersion:
    (served,) = models_from_proto([message]).values()
    return served.versions["v1.0.0"]


def test_what_is_declared_arrives_and_callers_may_leave_the_lengths_out() -> None:
    served = read(model())
    assert served.batching.padding == Padding(
        value=1, input_values=(("mask", 0.0),), lengths_input="lengths", trim_outputs=("logits",), waste_max=0.3
    )
    lengths = next(spec for spec in served.schema.inputs if spec.name == "lengths")
    assert (lengths.optional, lengths.default_json) == (True, "")
    assert not served.schema.inputs[0].optional


def test_what_is_left_out_has_its_default_and_without_it_nothing_is_padded() -> None:
    message = model()
    message.versions[0].batching.padding.CopyFrom(serving_pb2.Padding())
    assert read(message).batching.padding == Padding(value=0.0, waste_max=0.5)
    message.versions[0].batching.padding.waste_max = 0.0
    assert read(message).batching.padding == Padding(waste_max=0.0)
    message.versions[0].batching.ClearField("padding")
    assert read(message).batching.padding is None


Change = Callable[[serving_pb2.Padding, schema_pb2.ModelSchema], object]


def put(field: str, value: object) -> Change:
    """Another value of one field."""
    return lambda padding, _: setattr(padding, field, value)


def typed(data_type: "schema_pb2.DataType.ValueType", value: float) -> Change:
    """Another type of the second input, and what is filled in there."""

    def change(padding: serving_pb2.Padding, schema: schema_pb2.ModelSchema) -> None:
        schema.inputs[1].data_type = data_type
        padding.input_values["mask"] = value

    return change


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (put("waste_max", 1.0), "batching.padding.waste_max"),
        (put("waste_max", float("nan")), "batching.padding.waste_max"),
        (put("lengths_input", "ids"), "batching.padding.lengths_input"),
        (put("lengths_input", "none"), "batching.padding.lengths_input"),
        (lambda padding, _: padding.trim_outputs.append("label"), "batching.padding.trim_outputs"),
        (lambda padding, _: padding.trim_outputs.append("none"), "batching.padding.trim_outputs"),
        (lambda padding, _: padding.input_values.update({"other": 1}), "batching.padding.input_values"),
        (put("value", 0.5), "batching.padding.value"),
        (put("value", 1e30), "batching.padding.value"),
        (put("value", float("inf")), "batching.padding.value"),
        (typed(UINT8, -1), "batching.padding.value"),
        (typed(BOOL, 2), "batching.padding.value"),
        (typed(FP16, 1e6), "batching.padding.value"),
        (lambda _, schema: [spec.ClearField("shape") for spec in schema.inputs[:2]], "batching.padding"),
    ],
)
def test_what_does_not_fit_the_schema_is_refused(change: Change, field: str) -> None:
    message = model()
    change(message.versions[0].batching.padding, message.versions[0].schema)
    with pytest.raises(MeshError, match=f"{field}(?![._])") as caught:
        read(message)
    assert caught.value.reason is Reason.INVALID_FIELD


def test_texts_take_any_value_for_they_are_filled_with_empty_ones() -> None:
    message = model()
    message.versions[0].schema.inputs[1].data_type = BYTES
    padding = message.versions[0].batching.padding
    padding.input_values["mask"] = 0.25
    assert read(message).batching.padding is not None


def test_callers_of_every_protocol_may_leave_the_lengths_out() -> None:
    plan = InstancePlan(read(model()))
    row = {"ids": [1, 2, 3], "mask": [1, 1, 0], "other": [0, 0]}
    assert [tensor.name for tensor in plan.tensors([row])] == ["ids", "mask", "other"]
    assert [tensor.name for tensor in plan.tensors([{**row, "lengths": [3]}])] == ["ids", "mask", "lengths", "other"]
    tensors = [Tensor(name, DataType.INT64, (1, size), bytes(8 * size)) for name, size in (("ids", 3), ("mask", 3))]
    rows, taken = TensorPlan(plan.served, plan.features).checked(
        [*tensors, Tensor("other", DataType.INT64, (1, 2), bytes(16))]
    )
    assert (rows, [tensor.name for tensor in taken]) == (1, ["ids", "mask", "other"])
