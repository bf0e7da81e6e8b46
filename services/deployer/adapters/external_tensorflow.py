"""TensorFlow Serving as an external server, over REST and over gRPC."""

from collections.abc import Mapping, Sequence
from typing import TypeVar
from urllib.parse import quote

import grpc
import numpy as np
from tensorflow_serving import model_service_pb2 as models
from tensorflow_serving import model_service_pb2_grpc, prediction_service_pb2_grpc
from tensorflow_serving import prediction_service_pb2 as predictions
from tensorflow_serving import tensor_pb2 as tensors

from services.common.errors import MeshError, Reason
from services.common.schema import DataType, ModelSchema, TensorSpec
from services.deployer.adapters.external_wire import (
    LOOK_TIMEOUT_S,
    TRIAL_TIMEOUT_S,
    GrpcSpeaker,
    HttpSpeaker,
    Json,
    Model,
    Target,
    mapping,
    nested,
    not_there,
    read,
    scalars,
    shape_of,
    trial_failed,
)
from services.deployer.domain.external import batched
from services.deployer.domain.trial import Tensor, TensorShape

Signature = TypeVar("Signature")
_DEFAULT_SIGNATURE = "serving_default"
_TYPES = {
    "DT_FLOAT": DataType.FP32,
    "DT_DOUBLE": DataType.FP64,
    "DT_INT8": DataType.INT8,
    "DT_INT16": DataType.INT16,
    "DT_INT32": DataType.INT32,
    "DT_INT64": DataType.INT64,
    "DT_UINT8": DataType.UINT8,
    "DT_UINT16": DataType.UINT16,
    "DT_UINT32": DataType.UINT32,
    "DT_UINT64": DataType.UINT64,
    "DT_BOOL": DataType.BOOL,
    "DT_HALF": DataType.FP16,
    "DT_BFLOAT16": DataType.BF16,
    "DT_STRING": DataType.BYTES,
}
_NAMES = {data_type: name for name, data_type in _TYPES.items()}


class TensorFlowRest(HttpSpeaker):
    """A `Speech`."""

    def __init__(self, target: Target, model: Model) -> None:
        super().__init__(target, model)
        self._path = f"/v1/models/{quote(model.name, safe='')}"
        if model.version:
            kind = "versions" if model.version.isdecimal() else "labels"
            self._path += f"/{kind}/{quote(model.version, safe='')}"

    async def ready(self) -> bool:
        """By the status of its versions."""
        answer = await self.look("GET", self._path)
        if not answer.is_success:
            return False
        said = mapping(read(answer, self.address), "a status", self.address).get("model_version_status")
        return isinstance(said, list) and any(one.get("state") == "AVAILABLE" for one in said if isinstance(one, dict))

    async def schema(self) -> ModelSchema | None:
        """The signature."""
        said = mapping(await self.metadata(f"{self._path}/metadata"), "metadata", self.address)
        try:
            signatures = said["metadata"]["signature_def"]["signature_def"]  # type: ignore[index]
            signature = _chosen(signatures, self.model, self.address)
            sides = [
                [
                    (name, str(one["dtype"]), _dims(one.get("tensor_shape", {})))
                    for name, one in sorted(signature.get(side, {}).items())
                ]
                for side in ("inputs", "outputs")
            ]
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise not_there(self.address, self.model, f"its metadata cannot be read ({error!r})") from None
        return _schema(sides[0], sides[1], self.address, self.model)

    async def infer(self, inputs: Sequence[Tensor], wanted: ModelSchema) -> Mapping[str, TensorShape]:
        """One prediction. JSON has no element types: they are the schema's."""
        body: dict[str, Json] = {"inputs": {one.name: nested(one) for one in inputs}}
        if self.model.signature:
            body["signature_name"] = self.model.signature
        said = mapping(await self.trial(f"{self._path}:predict", body), "a prediction", self.address).get("outputs")
        if said is None:
            raise trial_failed(self.address, self.model, 'its answer has no "outputs"')
        outputs = said if isinstance(said, dict) else {spec.name: said for spec in wanted.outputs[:1]}
        types = {spec.name: spec.data_type.value for spec in wanted.outputs}
        return {name: TensorShape(types.get(name, ""), shape_of(values)) for name, values in outputs.items()}

    async def software(self) -> str:
        """It says nothing of itself."""
        return "TensorFlow Serving"


class TensorFlowGrpc(GrpcSpeaker):
    """A `Speech`."""

    def __init__(self, target: Target, model: Model) -> None:
        super().__init__(target, model)
        self._predictions = prediction_service_pb2_grpc.PredictionServiceStub(self.channel)
        self._models = model_service_pb2_grpc.ModelServiceStub(self.channel)

    async def ready(self) -> bool:
        """By the status of its versions."""
        request = models.GetModelStatusRequest(model_spec=self._spec())
        try:
            answer = await self.look(self._models.GetModelStatus, request)
        except grpc.aio.AioRpcError as error:
            self.looked(error)
            return False
        return any(one.state == models.ModelVersionStatus.AVAILABLE for one in answer.model_version_status)

    async def schema(self) -> ModelSchema | None:
        """The signature."""
        request = predictions.GetModelMetadataRequest(model_spec=self._spec(), metadata_field=["signature_def"])
        try:
            answer = await self._predictions.GetModelMetadata(request, timeout=LOOK_TIMEOUT_S, metadata=self.shown())
        except grpc.aio.AioRpcError as error:
            raise self.no_metadata(error) from error
        signatures = predictions.SignatureDefMap()
        if not answer.metadata["signature_def"].Unpack(signatures):
            raise not_there(self.address, self.model, "its metadata holds no signatures")
        signature = _chosen(signatures.signature_def, self.model, self.address)
        sides = [
            [(name, _name_of(one.dtype), _dims_of(one.tensor_shape)) for name, one in sorted(side.items())]
            for side in (signature.inputs, signature.outputs)
        ]
        return _schema(sides[0], sides[1], self.address, self.model)

    async def infer(self, inputs: Sequence[Tensor], wanted: ModelSchema) -> Mapping[str, TensorShape]:
        """One prediction."""
        spec = self._spec()
        spec.signature_name = self.model.signature
        request = predictions.PredictRequest(model_spec=spec, output_filter=[one.name for one in wanted.outputs])
        for one in inputs:
            _write(request.inputs[one.name], one)
        try:
            answer = await self._predictions.Predict(request, timeout=TRIAL_TIMEOUT_S, metadata=self.shown())
        except grpc.aio.AioRpcError as error:
            raise self.no_prediction(error) from error
        return {
            name: TensorShape(
                _TYPES.get(_name_of(one.dtype), DataType.BYTES).value, tuple(dim.size for dim in one.tensor_shape.dim)
            )
            for name, one in answer.outputs.items()
        }

    async def software(self) -> str:
        """It says nothing of itself."""
        return "TensorFlow Serving"

    def _spec(self) -> predictions.ModelSpec:
        spec = predictions.ModelSpec(name=self.model.name)
        if self.model.version.isdecimal():
            spec.version.value = int(self.model.version)
        elif self.model.version:
            spec.version_label = self.model.version
        return spec


def _chosen(signatures: Mapping[str, Signature], model: Model, address: str) -> Signature:
    name = model.signature or _DEFAULT_SIGNATURE
    if name not in signatures:
        raise not_there(address, model, f"it has no signature {name!r}, but {', '.join(sorted(signatures)) or 'none'}")
    return signatures[name]


def _schema(
    inputs: Sequence[tuple[str, str, tuple[int, ...]]],
    outputs: Sequence[tuple[str, str, tuple[int, ...]]],
    address: str,
    model: Model,
) -> ModelSchema:
    """A signature's maps have no order, so the alphabet's is taken."""
    return ModelSchema(
        tuple(_spec(one, address, model) for one in inputs), tuple(_spec(one, address, model) for one in outputs)
    )


def _spec(stated: tuple[str, str, tuple[int, ...]], address: str, model: Model) -> TensorSpec:
    name, data_type, shape = stated
    known = _TYPES.get(data_type)
    if known is None:
        raise MeshError(
            Reason.SCHEMA_REQUIRED,
            f"{model} at {address} states {data_type} for {name!r}, which no input or output can have; export another "
            "signature, and name it in signature_name",
            metadata={"server": address},
        )
    return TensorSpec(name, known, batched(name, shape, address=address))


def _dims(shape: Json) -> tuple[int, ...]:
    """A shape as the REST API writes it: sizes are texts."""
    dims = mapping(shape, "a shape", "").get("dim", [])
    return tuple(int(dim["size"]) for dim in dims) if isinstance(dims, list) else ()


def _dims_of(shape: tensors.TensorShapeProto) -> tuple[int, ...]:
    return tuple(dim.size for dim in shape.dim)


def _name_of(dtype: int) -> str:
    return tensors.DataType.Name(dtype) if dtype in tensors.DataType.values() else f"type {dtype}"  # type: ignore[arg-type]


def _write(tensor: tensors.TensorProto, one: Tensor) -> None:
    tensor.dtype = tensors.DataType.Value(_NAMES[one.data_type])
    for size in one.shape:
        tensor.tensor_shape.dim.add(size=size)
    if one.data_type is DataType.BYTES:
        tensor.string_val.extend(scalars(one.data))
    elif one.data_type is DataType.BF16:
        bits = np.array(one.data, dtype="<f4").view("<u4") >> np.uint32(16)
        tensor.tensor_content = bits.astype("<u2").tobytes()
    else:
        tensor.tensor_content = np.array(one.data, dtype=one.data_type.numpy_name).tobytes()
