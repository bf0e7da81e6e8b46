"""A batcher as a process, and the router and monitor that it talks to, as real gRPC servers in the test's process."""

import asyncio
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
from infermesh.common.v1 import serving_pb2
from infermesh.monitor.v1 import (
    logging_policy_service_pb2,
    logging_policy_service_pb2_grpc,
    prediction_log_pb2,
    prediction_log_pb2_grpc,
)
from infermesh.router.v1 import serving_table_pb2, serving_table_pb2_grpc

from services.common.schema import DataType, ModelSchema, PredictionMapping, TensorSpec
from services.common.schema_proto import mapping_to_proto, schema_to_proto
from services.supervisor.parts.part import Part
from services.supervisor.parts.probes import http_ready
from services.supervisor.parts.service import service_part
from services.supervisor.ports import free_ports

DIGITS = ModelSchema(
    inputs=(TensorSpec("X", DataType.FP32, (64,)),),
    outputs=(TensorSpec("label", DataType.INT64), TensorSpec("probabilities", DataType.FP32, (10,))),
)
DIGITS_MAPPING = PredictionMapping("label", "probabilities", tuple(str(digit) for digit in range(10)))
_RUN = (
    "from services.batcher.app_envoy import become_envoy; from services.batcher.settings import BatcherSettings; "
    "from services.common.settings import load; become_envoy(load(BatcherSettings), application={application!r})"
)


def served_version(
    version: str, *, schema: ModelSchema = DIGITS, mapping: PredictionMapping = DIGITS_MAPPING, http_address: str = ""
) -> serving_pb2.ServedVersion:
    """A version as the router hands it over."""
    backend = serving_pb2.Backend(
        backend_id="triton-0", http_address=http_address or "127.0.0.1:1", server_model_name=f"digits--{version}"
    )
    return serving_pb2.ServedVersion(
        version=version,
        deployment_name="main",
        schema=schema_to_proto(schema),
        mapping=mapping_to_proto(mapping),
        batching=serving_pb2.BatchingPolicy(enabled=True, max_batch_size=32, batch_timeout_ms=5),
        backends=[backend],
    )


def served_model(*versions: str, name: str = "digits", **options: Any) -> serving_pb2.ServedModel:
    """A model whose default is the first version."""
    return serving_pb2.ServedModel(
        model_name=name,
        default_version=versions[0],
        versions=[served_version(version, **options) for version in versions],
    )


class FakeRouter(serving_table_pb2_grpc.ServingTableServiceServicer):
    """Hands over what `tables` holds, one step at a time, and notes what batchers say."""

    def __init__(self, *steps: serving_table_pb2.WatchServingTableResponse) -> None:
        self.steps: asyncio.Queue[serving_table_pb2.WatchServingTableResponse] = asyncio.Queue()
        self.heard: list[serving_table_pb2.WatchServingTableRequest] = []
        for step in steps:
            self.steps.put_nowait(step)

    async def WatchServingTable(self, request_iterator: Any, context: Any) -> AsyncIterator[Any]:
        """One batcher."""
        self.heard.append(await anext(request_iterator))
        while True:
            yield await self.steps.get()
            self.heard.append(await anext(request_iterator))


class FakeMonitor(
    prediction_log_pb2_grpc.PredictionLogServiceServicer, logging_policy_service_pb2_grpc.LoggingPolicyServiceServicer
):
    """Counts chunks once, as the monitor does. `drop` ends the next stream before the chunk is acknowledged."""

    def __init__(self) -> None:
        self.chunks: dict[int, prediction_log_pb2.RecordPredictionsRequest] = {}
        self.received = 0
        self.drop = False
        self.policies: asyncio.Queue[logging_policy_service_pb2.WatchLoggingPoliciesResponse] = asyncio.Queue()

    async def WatchLoggingPolicies(self, request: Any, context: Any) -> AsyncIterator[Any]:
        """What is put into `policies`, to one batcher."""
        while True:
            yield await self.policies.get()

    async def RecordPredictions(self, request_iterator: Any, context: Any) -> AsyncIterator[Any]:
        """One batcher."""
        async for chunk in request_iterator:
            self.received += 1
            self.chunks.setdefault(chunk.sequence, chunk)
            if self.drop:
                self.drop = False
                return
            yield prediction_log_pb2.RecordPredictionsResponse(acknowledged_sequence=chunk.sequence)

    def groups(self) -> list[prediction_log_pb2.PredictionGroup]:
        """All groups, in order."""
        return [group for _, chunk in sorted(self.chunks.items()) for group in chunk.groups]


def full_table(*models: serving_pb2.ServedModel, revision: int = 1) -> serving_table_pb2.WatchServingTableResponse:
    """A whole table."""
    return serving_table_pb2.WatchServingTableResponse(revision=revision, full=True, models=models)


@asynccontextmanager
async def serving(
    *, router: FakeRouter | None = None, monitor: FakeMonitor | None = None, port: int = 0
) -> AsyncIterator[str]:
    """The address of a server with the neighbours given."""
    server = grpc.aio.server(options=(("grpc.so_reuseport", 0),))
    if router is not None:
        serving_table_pb2_grpc.add_ServingTableServiceServicer_to_server(router, server)
    if monitor is not None:
        logging_policy_service_pb2_grpc.add_LoggingPolicyServiceServicer_to_server(monitor, server)
        prediction_log_pb2_grpc.add_PredictionLogServiceServicer_to_server(monitor, server)
    bound = server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    try:
        yield f"127.0.0.1:{bound}"
    finally:
        await server.stop(None)


def batcher_part(
    folder: Path,
    *,
    router: str = "127.0.0.1:1",
    monitor: str = "127.0.0.1:1",
    registry: str = "127.0.0.1:1",
    deployer: str = "127.0.0.1:1",
    application: str = "tests.support.batcher_faces_app:app",
    settings: Mapping[str, object] | None = None,
) -> Part:
    """A batcher that carries `application`, as the supervisor would start it."""
    port = free_ports(1)[0]
    folder.mkdir(parents=True, exist_ok=True)
    told = {
        "port": port,
        "data_dir": folder / "data",
        "router_address": router,
        "monitor_address": monitor,
        "registry_address": registry,
        "deployer_address": deployer,
        "log_flush_ms": 50,
        **(settings or {}),
    }
    part = service_part(
        "batcher",
        ports={"batcher": port},
        settings=told,
        work_dir=folder,
        log_path=folder / "batcher.log",
        ready=http_ready("127.0.0.1", port, "/ready"),
    )
    if application != "services.batcher.app:app":
        part = replace(part, argv=(sys.executable, "-c", _RUN.format(application=application)))
    return part
