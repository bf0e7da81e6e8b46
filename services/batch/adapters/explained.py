"""Rows as the predict endpoint takes them, and its explained predictions as tensors."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from infermesh.prediction.v1 import instance_pb2, prediction_pb2

from services.batch.domain.explanations import Explanation
from services.batch.domain.job import Version
from services.batch.domain.results import ResultShape
from services.batch.domain.rows import Tensor
from services.batch.ports import Answer
from services.common.errors import MeshError, Reason
from services.common.schema import DataType, TensorSpec

_INT64_MAX = 2**63 - 1


def explain_request(
    version: Version, tensors: Mapping[str, Tensor], parameters: Mapping[str, str]
) -> prediction_pb2.PredictRequest:
    """Asks for predictions of rows with an explanation of each. Raises SCHEMA_VIOLATION where a row has a number that a
    request cannot state."""
    request = prediction_pb2.PredictRequest(
        model_name=version.model, version=version.version, parameters=parameters, explain=True
    )
    rows = len(next(iter(tensors.values())))
    instances = [request.instances.add() for _ in range(rows)]
    types = {spec.name: spec.data_type for spec in version.schema.inputs}
    for name, tensor in tensors.items():
        kind = types.get(name, DataType.BYTES)
        for instance, value in zip(instances, tensor, strict=True):
            flat = np.asarray(value, dtype=tensor.dtype).ravel().tolist()
            if kind is DataType.UINT64 and max(flat, default=0) > _INT64_MAX:
                raise MeshError(
                    Reason.SCHEMA_VIOLATION,
                    f"feature {name!r} is {max(flat)}; at most {_INT64_MAX} can be explained",
                )
            _put(instance.features[name], kind, flat, many=tensor.ndim > 1)
    return request


def answer_in(response: prediction_pb2.PredictResponse, version: Version, *, latency_ms: float) -> Answer:
    """The predictions as the outputs that they were made of. Raises BACKEND_PROTOCOL where they are others than the
    version states."""
    shape, predictions = ResultShape(version), response.predictions
    tensors = {shape.output.name: _outputs(shape.output, predictions)}
    if shape.probabilities is not None:
        tensors[shape.probabilities.name] = _probabilities(shape, shape.probabilities, predictions)
    for one in predictions:
        if not one.HasField("explanation_baseline"):
            raise MeshError(Reason.BACKEND_PROTOCOL, "the answer has a prediction without the explanation asked for")
    explanations = [Explanation(dict(one.explanation), one.explanation_baseline) for one in predictions]
    return Answer(tensors, latency_ms, explanations)


def _put(feature: instance_pb2.Feature, kind: DataType, flat: Sequence[Any], *, many: bool) -> None:
    """A row's value of a feature: a list where the schema has dimensions."""
    if kind is DataType.BYTES:
        texts = all(isinstance(item, str) for item in flat)
        name = "string" if texts else "bytes"
        flat = flat if texts else [item.encode() if isinstance(item, str) else item for item in flat]
    elif kind is DataType.BOOL:
        name = "bool"
    elif kind.is_integer:
        name = "int" if many else "int64"
    else:
        name = "double" if kind is DataType.FP64 else "float"
    if many:
        values = getattr(feature, f"{name}_list")
        values.SetInParent()
        values.values.extend(flat)
    else:
        setattr(feature, f"{name}_value", flat[0])


def _outputs(spec: TensorSpec, predictions: Sequence[prediction_pb2.Prediction]) -> Tensor:
    rows = [_values(spec, one.output) for one in predictions]
    if len({len(row) for row in rows}) > 1:
        raise MeshError(Reason.BACKEND_PROTOCOL, f"the answer has rows of different lengths of output {spec.name!r}")
    kind = np.object_ if spec.data_type is DataType.BYTES else np.dtype(spec.data_type.numpy_name)
    return np.array(rows, dtype=kind).reshape(len(rows), len(rows[0]) if rows else 0)


def _values(spec: TensorSpec, output: instance_pb2.Feature) -> list[object]:
    kind = output.WhichOneof("kind")
    if kind is None:
        raise MeshError(Reason.BACKEND_PROTOCOL, f"the answer has a prediction without output {spec.name!r}")
    if spec.data_type.is_integer and kind.startswith("double"):
        raise MeshError(
            Reason.EXPLANATION_UNAVAILABLE,
            f"explain: output {spec.name!r} is more than {_INT64_MAX}, which these answers do not state exactly",
        )
    value = getattr(output, kind)
    return list(value.values) if kind.endswith("_list") else [value]


def _probabilities(shape: ResultShape, spec: TensorSpec, predictions: Sequence[prediction_pb2.Prediction]) -> Tensor:
    """In the order of the classes."""
    for one in predictions:
        if set(one.probabilities) != set(shape.classes):
            raise MeshError(
                Reason.BACKEND_PROTOCOL,
                f"the answer has {len(one.probabilities)} probabilities, and the version has {len(shape.classes)} "
                "classes, or others",
            )
    table = [[one.probabilities[name] for name in shape.classes] for one in predictions]
    return np.array(table, dtype=spec.data_type.numpy_name).reshape(len(table), len(shape.classes))
