"""Rows on their way to the predict endpoint and its explained answers on their way back lose nothing."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from infermesh.prediction.v1 import prediction_pb2

from services.batch.adapters.explained import answer_in, explain_request
from services.batch.domain.job import Version
from services.batch.domain.rows import Tensor
from services.batcher.codec.typed import TypedReader
from services.batcher.codec.typed_wire import TypedWriter, explained
from services.batcher.domain.explained import Explanation
from services.batcher.domain.instances import InstancePlan
from services.batcher.domain.outputs import OutputPlan
from services.batcher.domain.request import InferResult
from services.batcher.domain.request import Tensor as WireTensor
from services.batcher.domain.serving import Batching, ServedVersion
from services.batcher.domain.tensors import pack
from services.common.errors import MeshError, Reason
from services.common.schema import DataType, ModelSchema, PredictionMapping, TensorSpec

TYPES = [kind for kind in DataType if kind is not DataType.BF16]
SHAPES: list[tuple[int, ...]] = [(), (1,), (3,), (2, 2)]


def values_of(kind: DataType) -> st.SearchStrategy[object]:
    if kind is DataType.BYTES:
        return st.text(max_size=5)
    if kind is DataType.BOOL:
        return st.booleans()
    if kind.is_integer:
        limits = np.iinfo(kind.numpy_name)
        return st.integers(int(limits.min), min(int(limits.max), 2**63 - 1))
    width = np.dtype(kind.numpy_name).itemsize * 8
    return st.floats(width=width, allow_nan=False)  # type: ignore[arg-type]  # 16, 32 or 64


@st.composite
def tensors(draw: st.DrawFn, kind: DataType, shape: tuple[int, ...], rows: int) -> Tensor:
    count = rows * int(np.prod(shape))
    flat = draw(st.lists(values_of(kind), min_size=count, max_size=count))
    numpy_kind = np.object_ if kind is DataType.BYTES else np.dtype(kind.numpy_name)
    return np.array(flat, dtype=numpy_kind).reshape(rows, *shape)


def wire_bytes(kind: DataType, tensor: Tensor) -> bytes:
    if kind is DataType.BYTES:
        return pack(kind, tensor.ravel().tolist())
    return tensor.tobytes()


def served(schema: ModelSchema, mapping: PredictionMapping) -> ServedVersion:
    return ServedVersion("m", "v1.0.0", "main", schema, mapping=mapping, batching=Batching(max_batch_size=8))


@given(data=st.data(), rows=st.integers(1, 4))
def test_the_batcher_reads_the_tensors_that_were_meant(data: st.DataObject, rows: int) -> None:
    specs = tuple(
        TensorSpec(f"f{place}", data.draw(st.sampled_from(TYPES)), data.draw(st.sampled_from(SHAPES)))
        for place in range(data.draw(st.integers(1, 3)))
    )
    schema = ModelSchema(specs, (TensorSpec("y", DataType.FP64),))
    sent = {spec.name: data.draw(tensors(spec.data_type, spec.shape, rows)) for spec in specs}
    request = explain_request(Version("m", "v1.0.0", "", schema, PredictionMapping()), sent, {"k": "v"})
    assert (request.model_name, request.version, request.explain) == ("m", "v1.0.0", True)
    assert dict(request.parameters) == {"k": "v"}
    read = TypedReader(InstancePlan(served(schema, PredictionMapping()))).tensors(request.instances)
    for spec, tensor in zip(specs, read, strict=True):
        assert tensor.shape == sent[spec.name].shape
        assert bytes(tensor.data) == wire_bytes(spec.data_type, sent[spec.name])


@given(data=st.data(), rows=st.integers(1, 4), scored=st.booleans())
def test_an_answer_holds_the_outputs_that_it_was_made_of(data: st.DataObject, rows: int, scored: bool) -> None:
    kind = data.draw(st.sampled_from(TYPES))
    output = TensorSpec("y", kind, data.draw(st.sampled_from(SHAPES)))
    shares = TensorSpec("p", data.draw(st.sampled_from([DataType.FP32, DataType.FP64])), (3,))
    mapping = PredictionMapping("y", "p" if scored else "", ("one", "two", "drei") if scored else ())
    schema = ModelSchema((TensorSpec("x", DataType.FP64),), (output, shares))
    made = {spec.name: data.draw(tensors(spec.data_type, spec.shape, rows)) for spec in (output, shares)}
    plan = OutputPlan(served(schema, mapping))
    result = InferResult(
        tuple(
            WireTensor(spec.name, spec.data_type, made[spec.name].shape, wire_bytes(spec.data_type, made[spec.name]))
            for spec in (output, shares)
        ),
        compute_s=0.0,
    )
    response = TypedWriter(plan).response(result, plan.scores(result, rows), latency_ms=1.0, request_id="r")
    why = [Explanation({"x": 0.5 * row}, 2.0) for row in range(rows)]
    message = prediction_pb2.PredictResponse.FromString(explained(response, why))
    answer = answer_in(message, Version("m", "v1.0.0", "", schema, mapping), latency_ms=3.0)
    assert set(answer.tensors) == ({"y", "p"} if scored else {"y"})
    for name, tensor in answer.tensors.items():
        assert tensor.reshape(made[name].shape).tolist() == made[name].tolist()
        assert tensor.dtype == made[name].dtype
    assert [(dict(one.values), one.baseline) for one in answer.explanations] == [(dict(one.values), 2.0) for one in why]


def test_what_cannot_be_stated_is_refused_and_not_rounded() -> None:
    schema = ModelSchema((TensorSpec("x", DataType.UINT64),), (TensorSpec("y", DataType.UINT64),))
    version = Version("m", "v1.0.0", "", schema, PredictionMapping())
    with pytest.raises(MeshError, match="'x' is 18446744073709551615") as error:
        explain_request(version, {"x": np.array([1, 2**64 - 1], np.uint64)}, {})
    assert error.value.reason is Reason.SCHEMA_VIOLATION
    response = prediction_pb2.PredictResponse()
    one = response.predictions.add(explanation_baseline=0.0)
    one.output.double_value = 2.0**63
    with pytest.raises(MeshError, match="'y' is more than") as error:
        answer_in(response, version, latency_ms=1.0)
    assert error.value.reason is Reason.EXPLANATION_UNAVAILABLE


def test_an_answer_without_explanations_is_none() -> None:
    schema = ModelSchema((TensorSpec("x", DataType.FP32),), (TensorSpec("y", DataType.FP32),))
    response = prediction_pb2.PredictResponse()
    response.predictions.add().output.float_value = 1.0
    with pytest.raises(MeshError, match="without the explanation") as error:
        answer_in(response, Version("m", "v1.0.0", "", schema, PredictionMapping()), latency_ms=1.0)
    assert error.value.reason is Reason.BACKEND_PROTOCOL
