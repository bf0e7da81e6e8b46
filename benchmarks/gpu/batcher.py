"""The batcher as a process of its own, told by a small router what a Triton serves."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from infermesh.common.v1 import schema_pb2, serving_pb2
from infermesh.router.v1 import serving_table_pb2 as pb
from infermesh.router.v1 import serving_table_pb2_grpc

from services.common.clock import Clock
from services.supervisor.parts.probes import http_ready
from services.supervisor.parts.service import service_part
from services.supervisor.ports import free_ports
from services.supervisor.process import PartFailedError, Process

MODEL = "encoder"
BATCHED, SINGLE, TWO = "v1.0.0", "v1.0.1", "v1.0.2"
"""Adaptive batches, none, adaptive batches on a model with two instances."""
_REVISION = 1
_TABLE_TIMEOUT_S = 15.0
_Context = grpc.aio.ServicerContext[Any, Any]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a version runs."""

    server_model_name: str
    http_address: str
    rows_max: int
    """Of a batch. 0: requests are sent alone."""


def table(places: Mapping[str, Place]) -> pb.WatchServingTableResponse:
    """What the router would say of these versions. Nothing is stated of batching but whether, and the rows at most."""
    schema = schema_pb2.ModelSchema(
        inputs=[schema_pb2.TensorSpec(name="ids", data_type=schema_pb2.DATA_TYPE_INT32, shape=[128])],
        outputs=[
            schema_pb2.TensorSpec(name="label", data_type=schema_pb2.DATA_TYPE_INT64, shape=[]),
            schema_pb2.TensorSpec(name="scores", data_type=schema_pb2.DATA_TYPE_FP32, shape=[16]),
        ],
    )
    versions = [
        serving_pb2.ServedVersion(
            version=version,
            artifact_digest=f"{number:064x}",
            deployment_name=f"{MODEL}-{number}",
            schema=schema,
            mapping=schema_pb2.PredictionMapping(output_tensor="label"),
            batching=serving_pb2.BatchingPolicy(
                enabled=place.rows_max > 0, max_batch_size=place.rows_max, batch_timeout_ms=50
            ),
            backends=[
                serving_pb2.Backend(
                    backend_id="triton-0",
                    http_address=place.http_address,
                    server_model_name=place.server_model_name,
                    capacity=1,
                )
            ],
        )
        for number, (version, place) in enumerate(sorted(places.items()))
    ]
    model = serving_pb2.ServedModel(model_name=MODEL, default_version=BATCHED, versions=versions)
    return pb.WatchServingTableResponse(revision=_REVISION, full=True, models=[model])


class SmallRouter(serving_table_pb2_grpc.ServingTableServiceServicer):
    """Hands one table to whoever watches, and knows when it is in force."""

    def __init__(self, told: pb.WatchServingTableResponse) -> None:
        self._told = told
        self.answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        """Why the table was refused, or nothing."""

    async def WatchServingTable(  # noqa: N802 - the service's own name
        self, request_iterator: AsyncIterator[pb.WatchServingTableRequest], _context: _Context
    ) -> AsyncIterator[pb.WatchServingTableResponse]:
        """Ends when the batcher does."""
        yield self._told
        async for request in request_iterator:
            over = request.error_message or request.acknowledged_revision == _REVISION
            if over and not self.answer.done():
                self.answer.set_result(request.error_message)


@asynccontextmanager
async def batcher(folder: Path, *, places: Mapping[str, Place], clock: Clock) -> AsyncIterator[tuple[str, Process]]:
    """host:port where it takes predictions, and its process; stopped at the end. Nobody plays its registry and monitor,
    which predictions do not need. Raises PartFailedError.
    """
    port, router_port, nobody = free_ports(3)
    server = grpc.aio.server()
    router = SmallRouter(table(places))
    serving_table_pb2_grpc.add_ServingTableServiceServicer_to_server(router, server)
    server.add_insecure_port(f"127.0.0.1:{router_port}")
    await server.start()
    await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
    part = service_part(
        "batcher",
        ports={"batcher": port},
        settings={
            "port": port,
            "data_dir": folder / "data",
            "router_address": f"127.0.0.1:{router_port}",
            "registry_address": f"127.0.0.1:{nobody}",
            "monitor_address": f"127.0.0.1:{nobody}",
            "deployer_address": f"127.0.0.1:{nobody}",
            "log_level": "warning",
        },
        work_dir=folder,
        log_path=folder / "batcher.log",
        ready=http_ready("127.0.0.1", port, "/ready"),
    )
    process = await Process.start(part, clock=clock)
    try:
        await process.wait_ready()
        if refusal := await asyncio.wait_for(router.answer, _TABLE_TIMEOUT_S):
            raise PartFailedError(f"the batcher refused its serving table: {refusal}")
        yield f"127.0.0.1:{port}", process
    finally:
        await process.stop()
        await server.stop(0)
