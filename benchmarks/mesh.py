"""A whole mesh of its own, started as `make run` does, on free ports and in a folder that goes with it."""

import asyncio
import os
import re
import signal
import sys
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
import httpx
import orjson
from infermesh.deployer.v1 import deployer_service_pb2, deployer_service_pb2_grpc, deployment_pb2
from infermesh.router.v1 import router_service_pb2, router_service_pb2_grpc
from prometheus_client.parser import text_string_to_metric_families

from benchmarks.payloads import MODEL, VERSION
from services.common.clock import Clock
from services.common.errors import Reason
from services.common.grpc.channel import open_channel
from services.supervisor.parts.part import Part
from services.supervisor.process import PartFailedError, Process
from services.supervisor.settings import ROOT

_START_TIMEOUT_S = 120.0
_STOP_TIMEOUT_S = 15.0
_SCRAPE_TIMEOUT_S = 5.0
_CHANGE_TIMEOUT_S = 15.0
_LOOK_EVERY_S = 0.1
ROWS_MAX = 256
"""The largest batch that digits gets, as bare Triton may have it too; the batcher learns how large they should be."""


@dataclass(frozen=True, slots=True)
class BenchMesh:
    """Where a running mesh answers, as host:port."""

    gateway: str
    batcher: str
    """Where a batcher beside the gateway takes predictions; one within it has its `/metrics` there."""
    ports: Mapping[str, int]
    """Of every purpose."""
    state: Path
    """The file in which the mesh says what runs."""
    key: str = ""
    """The operator's; empty where the gateway asks nobody for one."""

    def pids(self) -> Mapping[str, int]:
        """The process of each part, now."""
        pids: dict[str, int] = orjson.loads(self.state.read_bytes())["pids"]
        return pids

    async def failed_requests(self) -> Mapping[str, float]:
        """Requests that the batcher says have failed since its start, by reason, hang-ups of callers apart."""
        async with httpx.AsyncClient(trust_env=False, timeout=_SCRAPE_TIMEOUT_S) as client:
            page = (await client.get(f"http://{self.batcher}/metrics")).raise_for_status()
        return count_errors(page.text)

    async def requests(self) -> float:
        """Requests that the batcher has answered since its start, well or not."""
        async with httpx.AsyncClient(trust_env=False, timeout=_SCRAPE_TIMEOUT_S) as client:
            page = (await client.get(f"http://{self.batcher}/metrics")).raise_for_status()
        return sum(
            sample.value
            for family in text_string_to_metric_families(page.text)
            for sample in family.samples
            if sample.name == "model_requests_total"
        )

    async def allow_batches(self, rows_max: int) -> None:
        """Lets batches of digits grow to `rows_max`; returns when every batcher knows. Raises MeshError, and
        PartFailedError where batchers are not told in time.
        """
        try:
            # Past the gateway, which may ask for a key.
            addresses = [f"127.0.0.1:{self.ports[purpose]}" for purpose in ("router", "deployer")]
            async with (
                open_channel(addresses[0]) as routing,
                open_channel(addresses[1]) as deploying,
                asyncio.timeout(_CHANGE_TIMEOUT_S),
            ):
                router = router_service_pb2_grpc.RouterServiceStub(routing)
                before = (await router.ListBatchers(router_service_pb2.ListBatchersRequest())).revision
                await _change_batching(deploying, rows_max)
                while not await _told_since(router, before):  # noqa: ASYNC110 - the state of another process
                    await asyncio.sleep(_LOOK_EVERY_S)
        except TimeoutError:
            raise PartFailedError(
                f"no batcher was told of batches of {rows_max} rows within {_CHANGE_TIMEOUT_S:.0f} s; "
                "see whether router and deployer run"
            ) from None


async def _change_batching(channel: grpc.aio.Channel, rows_max: int) -> None:
    deployer = deployer_service_pb2_grpc.DeployerServiceStub(channel)
    listed = await deployer.ListDeployments(deployer_service_pb2.ListDeploymentsRequest(model_name=MODEL))
    (name,) = [one.deployment_name for one in listed.deployments if one.version == VERSION]
    changed = deployment_pb2.Deployment(
        model_name=MODEL, deployment_name=name, batching=deployment_pb2.Batching(max_batch_size=rows_max)
    )
    await deployer.UpdateDeployment(deployer_service_pb2.UpdateDeploymentRequest(deployment=changed))


async def _told_since(router: "router_service_pb2_grpc.RouterServiceAsyncStub", revision: float) -> bool:
    told = await router.ListBatchers(router_service_pb2.ListBatchersRequest())
    return told.revision > revision and bool(told.batchers) and all(batcher.current for batcher in told.batchers)


def count_errors(page: str) -> Mapping[str, float]:
    """The sums of `model_errors_total` of a Prometheus page by reason. A load generator that ends hangs up on what is
    under way, which is no failure of the mesh.
    """
    found: dict[str, float] = defaultdict(float)
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            if sample.name == "model_errors_total":
                found[sample.labels["error_type"]] += sample.value
    return {reason: count for reason, count in found.items() if count and reason != Reason.CALLER_CANCELLED}


@asynccontextmanager
async def bench_mesh(
    folder: Path,
    *,
    clock: Clock,
    batchers: int = 0,
    auth: bool = False,
    tritons: int = 1,
    told: Mapping[str, str] | None = None,
) -> AsyncIterator[BenchMesh]:
    """A mesh that serves digits, with its data in `folder`; stopped at the end. `batchers` beside the gateway; 0: the
    gateway carries one, as `make run` has it. `auth`: callers need a key, as `make run` has it too. `tritons`:
    model servers; `told`: further variables. Raises PartFailedError.
    """
    state = folder / "data" / "mesh.json"

    async def complete() -> bool:
        return state.exists() and bool(orjson.loads(state.read_bytes())["complete"])

    part = Part(
        name="mesh",
        argv=(sys.executable, "-m", "services.supervisor", "--free-ports"),
        env={
            **os.environ,
            "INFERMESH_DATA_DIR": str(folder / "data"),
            "INFERMESH_LOG_LEVEL": "warning",
            "INFERMESH_BATCHERS": str(batchers),
            "INFERMESH_TRITONS": str(tritons),
            "INFERMESH_AUTH": "on" if auth else "off",
            **(told or {}),
        },
        cwd=ROOT,
        ready=complete,
        ready_timeout_s=_START_TIMEOUT_S,
        # As Ctrl-C does: the mesh then stops its parts in order.
        stop_signal=signal.SIGINT,
        stop_timeout_s=_STOP_TIMEOUT_S,
        log_path=folder / "mesh.log",
    )
    process = await Process.start(part, clock=clock)
    try:
        await process.wait_ready()
        ports = orjson.loads(state.read_bytes())["ports"]
        yield BenchMesh(
            gateway=f"127.0.0.1:{ports['gateway']}",
            batcher=f"127.0.0.1:{ports['batcher']}",
            ports=ports,
            state=state,
            key=_shown_key((folder / "mesh.log").read_text()) if auth else "",
        )
    finally:
        await process.stop()


def _shown_key(said: str) -> str:
    """The key that a mesh shows at its first start. Raises PartFailedError."""
    shown = re.search(r"^export INFERMESH_API_KEY=(\S+)$", said, re.MULTILINE)
    if shown is None:
        raise PartFailedError("the mesh shows no key; see its log")
    return shown[1]
