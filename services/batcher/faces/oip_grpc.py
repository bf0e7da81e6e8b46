"""`inference.GRPCInferenceService`: an unchanged `tritonclient` works."""

from collections.abc import Awaitable, Callable, Mapping
from typing import TypeVar

from inference import grpc_service_pb2 as pb
from inference import model_config_pb2

from services.batcher.bridge.messages import Handler
from services.batcher.codec.oip_proto import TensorRequests, parse
from services.batcher.domain.tensors import count_of
from services.batcher.faces.call import Call
from services.batcher.faces.caller import Asks, Caller
from services.batcher.faces.catalog import VersionPlan
from services.batcher.faces.core import Core
from services.batcher.faces.grpc_unary import UnaryMethod
from services.batcher.faces.oip import infer_tensors
from services.common.errors import MeshError, Reason
from services.common.names import SemanticVersion
from services.common.schema import DataType, TensorSpec

SERVICE = "inference.GRPCInferenceService"
SERVER_NAME = "infermesh"
SERVER_VERSION = "1"
EXTENSIONS = ("binary_tensor_data", "parameters", "model_configuration")
PLATFORM = "infermesh"

M = TypeVar("M")

_NOT_OFFERED = {
    "ModelStatistics": "statistics are at /metrics and at the monitor's GetModelMetrics",
    "RepositoryModelLoad": "deploy a version with infermesh.deployer.v1.DeployerService/CreateDeployment",
    "RepositoryModelUnload": "delete its deployment with infermesh.deployer.v1.DeployerService/DeleteDeployment",
    "SystemSharedMemoryStatus": "shared memory is not offered; send tensors in the request",
    "SystemSharedMemoryRegister": "shared memory is not offered; send tensors in the request",
    "SystemSharedMemoryUnregister": "shared memory is not offered; send tensors in the request",
    "CudaSharedMemoryStatus": "shared memory is not offered; send tensors in the request",
    "CudaSharedMemoryRegister": "shared memory is not offered; send tensors in the request",
    "CudaSharedMemoryUnregister": "shared memory is not offered; send tensors in the request",
    "TraceSetting": "tracing is set by each request's traceparent",
    "LogSettings": "logging is set by the process's environment",
}


class InferenceMethods:
    """The service's unary methods."""

    def __init__(self, core: Core, *, ready: Callable[[], bool]) -> None:
        self._core = core
        self._ready = ready
        self._requests = TensorRequests()

    def handlers(self) -> Mapping[str, Handler]:
        """What answers each path."""
        asked = {
            "ServerLive": self._server_live,
            "ServerReady": self._server_ready,
        }
        about_models = {
            "ServerMetadata": self._server_metadata,
            "ModelReady": self._model_ready,
            "ModelMetadata": self._model_metadata,
            "ModelConfig": self._model_config,
            "RepositoryIndex": self._repository_index,
            **{name: _refusal(name, instead) for name, instead in _NOT_OFFERED.items()},
        }
        methods = {name: UnaryMethod(name, answer, core=self._core, asks=Asks.HEALTH) for name, answer in asked.items()}
        for name, answer in about_models.items():
            methods[name] = UnaryMethod(name, answer, core=self._core, asks=Asks.MODEL)
        methods["ModelInfer"] = UnaryMethod("ModelInfer", self.model_infer, core=self._core)
        return {f"/{SERVICE}/{name}": method for name, method in methods.items()}

    async def model_infer(self, call: Call, data: bytes) -> bytes:
        """One prediction over tensors."""
        answer = await infer_tensors(self._core, call, self._requests.read(data))
        return answer.plan.wire.response(answer.result, answer.request_id)

    async def _server_live(self, _call: Call, _data: bytes) -> bytes:
        return _bytes(pb.ServerLiveResponse(live=True))

    async def _server_ready(self, _call: Call, _data: bytes) -> bytes:
        return _bytes(pb.ServerReadyResponse(ready=self._ready()))

    async def _server_metadata(self, _call: Call, _data: bytes) -> bytes:
        return _bytes(pb.ServerMetadataResponse(name=SERVER_NAME, version=SERVER_VERSION, extensions=EXTENSIONS))

    async def _model_ready(self, call: Call, data: bytes) -> bytes:
        request = parse(pb.ModelReadyRequest, data)
        served = is_served(self._core, call.caller, request.name, request.version)
        return _bytes(pb.ModelReadyResponse(ready=self._ready() and served))

    async def _model_metadata(self, call: Call, data: bytes) -> bytes:
        request = parse(pb.ModelMetadataRequest, data)
        plan = self._core.resolve(call, request.name, request.version)
        schema = plan.served.schema
        return _bytes(
            pb.ModelMetadataResponse(
                name=plan.served.model_name,
                versions=sorted(self._core.catalog.model(request.name, call.caller).served.versions),
                platform=PLATFORM,
                inputs=[_tensor_metadata(spec) for spec in schema.inputs],
                outputs=[_tensor_metadata(spec) for spec in schema.outputs],
            )
        )

    async def _model_config(self, call: Call, data: bytes) -> bytes:
        request = parse(pb.ModelConfigRequest, data)
        return _bytes(pb.ModelConfigResponse(config=_config(self._core.resolve(call, request.name, request.version))))

    async def _repository_index(self, call: Call, data: bytes) -> bytes:
        parse(pb.RepositoryIndexRequest, data)
        catalog, index = self._core.catalog, pb.RepositoryIndexResponse()
        for name in catalog.names(call.caller):
            for version in sorted(catalog.model(name, call.caller).served.versions, key=SemanticVersion.parse):
                index.models.add(name=name, version=version, state="READY")
        return _bytes(index)


def is_served(core: Core, caller: Caller, model_name: str, version: str) -> bool:
    """Whether requests of the caller for it would be taken."""
    model = core.catalog.find(model_name)
    return (
        model is not None
        and caller.sees(model.served)
        and (model.versions.get(version) if version else model.default) is not None
    )


def _refusal(name: str, instead: str) -> Callable[[Call, bytes], Awaitable[bytes]]:
    async def refuse(_call: Call, _data: bytes) -> bytes:
        raise MeshError(Reason.NOT_IMPLEMENTED, f"{name} is not offered: {instead}")

    return refuse


def _tensor_metadata(spec: TensorSpec) -> pb.ModelMetadataResponse.TensorMetadata:
    return pb.ModelMetadataResponse.TensorMetadata(
        name=spec.name, datatype=spec.data_type.value, shape=(-1, *spec.shape)
    )


def _config(plan: VersionPlan) -> model_config_pb2.ModelConfig:
    served, batching = plan.served, plan.served.batching
    dynamic = model_config_pb2.ModelDynamicBatching(
        max_queue_delay_microseconds=round(batching.batch_timeout_ms * 1000)
    )
    facts = {"version": served.version, "artifact_digest": served.artifact_digest}
    return model_config_pb2.ModelConfig(
        name=served.model_name,
        platform=PLATFORM,
        max_batch_size=batching.max_batch_size,
        dynamic_batching=dynamic if batching.enabled else None,
        parameters={name: model_config_pb2.ModelParameter(string_value=value) for name, value in facts.items()},
        input=[
            model_config_pb2.ModelInput(
                name=spec.name, data_type=_config_type(spec.data_type), dims=_dims(spec), optional=spec.optional
            )
            for spec in served.schema.inputs
        ],
        output=[
            model_config_pb2.ModelOutput(name=spec.name, data_type=_config_type(spec.data_type), dims=_dims(spec))
            for spec in served.schema.outputs
        ],
    )


def _dims(spec: TensorSpec) -> tuple[int, ...]:
    # Triton's configurations state no scalars: one element of one dimension stands for a row without dimensions.
    assert count_of(spec.shape) >= -1
    return spec.shape or (1,)


def _config_type(data_type: DataType) -> model_config_pb2.DataType.ValueType:
    name = "STRING" if data_type is DataType.BYTES else data_type.value
    return model_config_pb2.DataType.Value(f"TYPE_{name}")


def _bytes(message: object) -> bytes:
    serialised: bytes = message.SerializeToString()  # type: ignore[attr-defined]
    return serialised
