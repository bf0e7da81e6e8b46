"""Schemas between their domain and protobuf forms."""

from infermesh.common.v1 import schema_pb2

from services.common.errors import invalid
from services.common.schema import DataType, ModelSchema, PredictionMapping, TensorSpec

_WIRE_TYPES = {one: schema_pb2.DataType.Value(f"DATA_TYPE_{one.value}") for one in DataType}
"""Looked up once for all: a page of versions has a thousand tensors."""


def schema_to_proto(schema: ModelSchema) -> schema_pb2.ModelSchema:
    """The wire form of a schema."""
    return schema_pb2.ModelSchema(
        inputs=[_spec_to_proto(spec) for spec in schema.inputs],
        outputs=[_spec_to_proto(spec) for spec in schema.outputs],
    )


def schema_from_proto(message: schema_pb2.ModelSchema) -> ModelSchema:
    """The domain form of a schema. Raises INVALID_FIELD where an element type is unknown."""
    return ModelSchema(
        inputs=tuple(_spec_from_proto(spec, f"inputs[{i}]") for i, spec in enumerate(message.inputs)),
        outputs=tuple(_spec_from_proto(spec, f"outputs[{i}]") for i, spec in enumerate(message.outputs)),
    )


def mapping_to_proto(mapping: PredictionMapping) -> schema_pb2.PredictionMapping:
    """The wire form of a mapping."""
    return schema_pb2.PredictionMapping(
        output_tensor=mapping.output_tensor,
        probabilities_tensor=mapping.probabilities_tensor,
        class_names=mapping.class_names,
    )


def mapping_from_proto(message: schema_pb2.PredictionMapping) -> PredictionMapping:
    """The domain form of a mapping."""
    return PredictionMapping(message.output_tensor, message.probabilities_tensor, tuple(message.class_names))


def data_type_to_proto(data_type: DataType) -> schema_pb2.DataType.ValueType:
    """The wire form of an element type."""
    return _WIRE_TYPES[data_type]


def data_type_from_proto(value: int, field: str) -> DataType:
    """The domain form of an element type. Raises INVALID_FIELD where it is none of ours."""
    if value == schema_pb2.DATA_TYPE_UNSPECIFIED or value not in schema_pb2.DataType.values():
        raise invalid(field, value, "one of " + ", ".join(DataType))
    return DataType(schema_pb2.DataType.Name(schema_pb2.DataType.ValueType(value)).removeprefix("DATA_TYPE_"))


def _spec_to_proto(spec: TensorSpec) -> schema_pb2.TensorSpec:
    return schema_pb2.TensorSpec(
        name=spec.name,
        data_type=data_type_to_proto(spec.data_type),
        shape=spec.shape,
        optional=spec.optional,
        default_value=spec.default_json,
        minimum=spec.minimum,
        maximum=spec.maximum,
        categories=spec.categories,
    )


def _spec_from_proto(message: schema_pb2.TensorSpec, field: str) -> TensorSpec:
    return TensorSpec(
        name=message.name,
        data_type=data_type_from_proto(message.data_type, f"{field}.data_type"),
        shape=tuple(message.shape),
        optional=message.optional,
        default_json=message.default_value,
        minimum=message.minimum if message.HasField("minimum") else None,
        maximum=message.maximum if message.HasField("maximum") else None,
        categories=tuple(message.categories),
    )
