"""Real gRPC servers that speak what the batch service calls: one that predicts, one that knows versions."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import grpc
import numpy as np
from inference import grpc_service_pb2, grpc_service_pb2_grpc
from infermesh.registry.v1 import model_version_pb2, registry_service_pb2, registry_service_pb2_grpc

from services.batch.domain.job import Version
from services.batch.domain.rows import Tensor
from services.common.clock import SystemClock
from services.common.errors import MeshError, Reason
from services.common.grpc.interceptors import MeshInterceptor
from services.common.grpc.server import MESSAGE_MAX_BYTES
from services.common.schema import DataType
from services.common.schema_proto import mapping_to_proto, schema_to_proto
from services.common.telemetry.metrics import RpcMetrics, new_registry
from services.common.telemetry.tracing import Tracing
from tests.support.batch_fakes import SUMS, sums

_Context = grpc.aio.ServicerContext[Any, Any]


class SumsServicer(grpc_service_pb2_grpc.GRPCInferenceServiceServicer):
    """The model of two numbers over the Open Inference Protocol. Each error in `trouble` is raised by one call;
    each answer takes `takes_s` seconds."""

    def __init__(self) -> None:
        self.trouble: list[MeshError] = []
        self.answered_rows = 0
        self.held = 0
        self.holding: set[str] = set()
        """Whose requests are held: one connection is one worker's."""
        self.takes_s = 0.0
        self.given_up = 0
        """Requests that were held until nobody waited for them."""
        self.sizes: list[int] = []
        """Rows of each request."""
        self.headers: list[Mapping[str, str]] = []
        self._let_through: int | None = None
        self._opened = asyncio.Event()

    def hold_after(self, requests: int) -> None:
        """Answers so many requests more, and holds the others until `release`: so a test keeps a job in its middle."""
        self._let_through = requests
        self._opened = asyncio.Event()

    def release(self) -> None:
        """Answers what is held, and all that comes."""
        self._let_through = None
        self._opened.set()

    async def ModelInfer(
        self, request: grpc_service_pb2.ModelInferRequest, context: _Context
    ) -> grpc_service_pb2.ModelInferResponse:
        """Sums."""
        self.headers.append({str(key): str(value) for key, value in context.invocation_metadata() or ()})
        if self._let_through == 0:
            self.held += 1
            self.holding.add(context.peer())
            try:
                await self._opened.wait()
            except asyncio.CancelledError:
                self.given_up += 1
                raise
        elif self._let_through is not None:
            self._let_through -= 1
        if self.takes_s:
            # What a model computes takes its time, and nothing tells when it is over.
            await asyncio.sleep(self.takes_s)
        if self.trouble:
            raise self.trouble.pop(0)
        if (request.model_name, request.model_version) != (SUMS.model, SUMS.version):
            raise MeshError(Reason.VERSION_NOT_SERVED, f"{request.model_name} {request.model_version} is not served")
        tensors: dict[str, Tensor] = {}
        for given, raw in zip(request.inputs, request.raw_input_contents, strict=True):
            tensors[given.name] = np.frombuffer(raw, DataType(given.datatype).numpy_name).reshape(tuple(given.shape))
        self.sizes.append(len(tensors["a"]))
        answer = sums(tensors)
        response = grpc_service_pb2.ModelInferResponse(
            model_name=request.model_name, model_version=request.model_version
        )
        for wanted in request.outputs:
            tensor = answer[wanted.name]
            response.outputs.add(name=wanted.name, datatype="FP64", shape=tensor.shape)
            response.raw_output_contents.append(tensor.tobytes())
        self.answered_rows += len(tensors["a"])
        return response


class RegistryServicer(registry_service_pb2_grpc.RegistryServiceServicer):
    """Knows some versions, the highest first, with their stages."""

    def __init__(self, versions: list[tuple[Version, str]]) -> None:
        self.versions = versions

    async def GetModelVersion(
        self, request: registry_service_pb2.GetModelVersionRequest, _context: _Context
    ) -> model_version_pb2.ModelVersion:
        """One of them."""
        known = [(version, stage) for version, stage in self.versions if version.model == request.model_name]
        if not known:
            raise MeshError(Reason.MODEL_NOT_FOUND, f"there is no model {request.model_name!r}")
        for version, stage in known:
            if version.version == request.version:
                return shown(version, stage)
        raise MeshError(Reason.VERSION_NOT_FOUND, f"model {request.model_name!r} has no version {request.version!r}")

    async def ListModelVersions(
        self, request: registry_service_pb2.ListModelVersionsRequest, _context: _Context
    ) -> registry_service_pb2.ListModelVersionsResponse:
        """One on each page, so that pages matter."""
        known = [(version, stage) for version, stage in self.versions if version.model == request.model_name]
        if not known:
            raise MeshError(Reason.MODEL_NOT_FOUND, f"there is no model {request.model_name!r}")
        place = int(request.page_token or 0)
        token = str(place + 1) if place + 1 < len(known) else ""
        return registry_service_pb2.ListModelVersionsResponse(versions=[shown(*known[place])], next_page_token=token)


def shown(version: Version, stage: str) -> model_version_pb2.ModelVersion:
    """A version as the registry tells it."""
    return model_version_pb2.ModelVersion(
        model_name=version.model,
        version=version.version,
        stage=stage,
        artifact_digest=version.artifact_digest,
        schema=schema_to_proto(version.schema),
        mapping=mapping_to_proto(version.mapping),
    )


@asynccontextmanager
async def serving(
    *,
    model: SumsServicer | None = None,
    registry: RegistryServicer | None = None,
    port: int = 0,
    credentials: grpc.ServerCredentials | None = None,
) -> AsyncIterator[str]:
    """Serves on a port of the loopback, by TLS with `credentials`; the address."""
    interceptor = MeshInterceptor(
        clock=SystemClock(),
        metrics=RpcMetrics(new_registry()),
        tracing=Tracing(service="test", instance="test-0", otlp_endpoint=""),
    )
    options = (
        ("grpc.max_receive_message_length", MESSAGE_MAX_BYTES),
        ("grpc.max_send_message_length", MESSAGE_MAX_BYTES),
        ("grpc.so_reuseport", 0),
    )
    server = grpc.aio.server(interceptors=(interceptor,), options=options)
    if model is not None:
        grpc_service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(model, server)
    if registry is not None:
        registry_service_pb2_grpc.add_RegistryServiceServicer_to_server(registry, server)
    at = f"127.0.0.1:{port}"
    bound = server.add_secure_port(at, credentials) if credentials is not None else server.add_insecure_port(at)
    await server.start()
    try:
        yield f"127.0.0.1:{bound}"
    finally:
        await server.stop(grace=None)
