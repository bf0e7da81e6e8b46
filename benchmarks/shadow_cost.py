"""What a shadow version costs callers: `python -m benchmarks.shadow_cost [--rounds 5] [--seconds 3] [--callers 32]`.

A real batcher before a real Triton with both versions of the rehearsal: the old one answers, the new one gets copies.
In each round every scene takes its turn, in the same two processes: without a shadow version twice (the second time to
show what is mere scatter), with a healthy one that gets 10 % and 100 % of the requests, with one that is slow, one that
fails, and one whose server is dead. Of each scene: the most that `--callers` callers get answered, and the latency of
Poisson arrivals at a third of that. Each figure is compared with that of the same round without a shadow version; what
is printed are medians of the rounds.
"""

import argparse
import asyncio
import contextlib
import hashlib
import statistics
import tempfile
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import httpx
from infermesh.common.v1 import serving_pb2
from infermesh.prediction.v1 import instance_pb2, prediction_pb2, prediction_service_pb2_grpc
from infermesh.router.v1 import serving_table_pb2, serving_table_pb2_grpc
from prometheus_client.parser import text_string_to_metric_families

from benchmarks.arrivals import poisson
from benchmarks.load import h2load_path, run_load
from benchmarks.open_loop import LEAD_IN_S, run_script
from benchmarks.payloads import Call, frame
from examples.rehearsal.models import CLASSES, MODEL, NEW, OLD, Fault, write
from services.common.clock import SystemClock
from services.common.names import backend_model_name
from services.common.schema import DataType, ModelSchema, PredictionMapping, TensorSpec
from services.common.schema_proto import mapping_to_proto, schema_to_proto
from services.deployer.adapters.repository import FolderPackageStore
from services.deployer.adapters.triton import TritonServer
from services.deployer.domain.catalog import Place
from services.deployer.domain.deployment import Deployment, NewDeployment, Progress, Recipe, Wish
from services.deployer.domain.package import package_of
from services.supervisor.parts.probes import http_ready
from services.supervisor.parts.service import service_part
from services.supervisor.parts.triton import triton_part
from services.supervisor.ports import free_ports
from services.supervisor.process import Process
from services.supervisor.settings import ROOT

CLOCK = SystemClock()
SCHEMA = ModelSchema(
    (TensorSpec("value", DataType.FP32, (1,)), TensorSpec("fault", DataType.INT64, (1,))),
    (TensorSpec("label", DataType.INT64), TensorSpec("probabilities", DataType.FP32, (2,))),
)
MAPPING = PredictionMapping("label", "probabilities", CLASSES)
_PREDICT = "/infermesh.prediction.v1.PredictionService/Predict"
_HEADERS = (("content-type", "application/grpc"), ("te", "trailers"))
_RATE_SHARE = 1 / 3
_SETTLE_S = 0.5


@dataclass(frozen=True, slots=True)
class Scene:
    """One shadow version, or none."""

    name: str
    percent: int = 0
    fault: Fault = Fault.NONE
    dead: bool = False


SCENES = (
    Scene("without"),
    Scene("without, again"),
    Scene("healthy, 10 %", 10),
    Scene("healthy, 100 %", 100),
    Scene("slow, 100 %", 100, Fault.SLOW),
    Scene("failing, 100 %", 100, Fault.ERROR),
    Scene("dead server, 100 %", 100, dead=True),
)


@dataclass(frozen=True, slots=True)
class Figures:
    """Of one scene in one round."""

    per_s: float
    p50_ms: float
    p99_ms: float
    errors: int


@dataclass(slots=True)
class Measured:
    """Of one scene."""

    rounds: list[Figures] = field(default_factory=list)
    copies: dict[str, float] = field(default_factory=dict)


class _Router(serving_table_pb2_grpc.ServingTableServiceServicer):
    """Tells one batcher what is served."""

    def __init__(self) -> None:
        self.tables: asyncio.Queue[serving_table_pb2.WatchServingTableResponse] = asyncio.Queue()
        self.acknowledged = asyncio.Event()
        self._revision = 0

    async def serve(self, model: serving_pb2.ServedModel) -> None:
        """From now on."""
        self._revision += 1
        self.acknowledged.clear()
        self.tables.put_nowait(
            serving_table_pb2.WatchServingTableResponse(revision=self._revision, full=True, models=[model])
        )
        await self.acknowledged.wait()

    async def WatchServingTable(  # noqa: N802 - gRPC's name
        self,
        request_iterator: AsyncIterator[serving_table_pb2.WatchServingTableRequest],
        context: object,  # noqa: ARG002
    ) -> AsyncIterator[serving_table_pb2.WatchServingTableResponse]:
        """One batcher."""
        await anext(request_iterator)
        while True:
            yield await self.tables.get()
            await anext(request_iterator)
            self.acknowledged.set()


def _model(scene: Scene, address: str) -> serving_pb2.ServedModel:
    nowhere = f"127.0.0.1:{free_ports(1)[0]}"
    versions = []
    for version, at in ((OLD, address), (NEW, nowhere if scene.dead else address)):
        versions.append(
            serving_pb2.ServedVersion(
                version=version,
                deployment_name="main",
                schema=schema_to_proto(SCHEMA),
                mapping=mapping_to_proto(MAPPING),
                batching=serving_pb2.BatchingPolicy(enabled=True, max_batch_size=32, batch_timeout_ms=5),
                backends=[
                    serving_pb2.Backend(
                        backend_id=at, http_address=at, server_model_name=backend_model_name(MODEL, version)
                    )
                ],
            )
        )
    shadows = [serving_pb2.ShadowTarget(version=NEW, percent=scene.percent)] if scene.percent else []
    return serving_pb2.ServedModel(model_name=MODEL, default_version=OLD, versions=versions, shadows=shadows)


def _call(fault: Fault) -> Call:
    features = {
        "value": instance_pb2.Feature(float_list=instance_pb2.FloatList(values=[0.8])),
        "fault": instance_pb2.Feature(int64_value=int(fault)),
    }
    request = prediction_pb2.PredictRequest(model_name=MODEL, instances=[instance_pb2.Instance(features=features)])
    return Call(_PREDICT, frame(request.SerializeToString()), _HEADERS, grpc=True, labels_of=lambda _: ())


@contextlib.asynccontextmanager
async def _triton(folder: Path) -> AsyncIterator[str]:
    """The address of a Triton with both versions loaded."""
    packages = FolderPackageStore(folder / "repository", runner=ROOT / "deploy" / "triton" / "runner")
    await packages.start()
    for version, path in write(folder / "models").items():
        recipe = Recipe("onnx", str(path), hashlib.sha256(path.read_bytes()).hexdigest(), SCHEMA, MAPPING)
        wanted = NewDeployment(MODEL, version, "main", Wish())
        deployment = Deployment("id", wanted, recipe, Wish(), Progress(), 1, CLOCK.now(), CLOCK.now())
        await packages.ensure(package_of(deployment, runner_digest=packages.runner_digest(), threads_default=1))
    http_port, grpc_port, metrics_port = free_ports(3)
    part = triton_part(
        http_port=http_port,
        grpc_port=grpc_port,
        metrics_port=metrics_port,
        repository=folder / "repository",
        serving_python=ROOT / ".venv-serving" / "bin" / "python",
        work_dir=folder,
        log_path=folder / "triton.log",
    )
    process = await Process.start(part, clock=CLOCK)
    loader = TritonServer(Place("triton-0", f"127.0.0.1:{http_port}", f"127.0.0.1:{grpc_port}"), load_timeout_s=60)
    try:
        await process.wait_ready()
        for version in (OLD, NEW):
            await loader.load(backend_model_name(MODEL, version))
        yield f"127.0.0.1:{http_port}"
    finally:
        await loader.close()
        await process.stop()


@contextlib.asynccontextmanager
async def _batcher(folder: Path, router: _Router, first: serving_pb2.ServedModel) -> AsyncIterator[str]:
    """The address of a batcher that serves what the router says."""
    server = grpc.aio.server()
    serving_table_pb2_grpc.add_ServingTableServiceServicer_to_server(router, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    (own,) = free_ports(1)
    part = service_part(
        "batcher",
        ports={"batcher": own},
        settings={"port": own, "data_dir": folder / "batcher", "router_address": f"127.0.0.1:{port}",
                  "monitor_address": "127.0.0.1:1", "registry_address": "127.0.0.1:1",
                  "deployer_address": "127.0.0.1:1"},
        work_dir=folder,
        log_path=folder / "batcher.log",
        ready=http_ready("127.0.0.1", own, "/ready"),
    )  # fmt: skip
    process = await Process.start(part, clock=CLOCK)
    try:
        await router.serve(first)
        await process.wait_ready()
        yield f"127.0.0.1:{own}"
    finally:
        await process.stop()
        await server.stop(None)


async def _answer_bytes(address: str, call: Call) -> int:
    """The size of a good answer's body. Raises where the answer is not the old version's."""
    async with grpc.aio.insecure_channel(address) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        answer = await stub.Predict(prediction_pb2.PredictRequest.FromString(call.message), timeout=10)
    if (answer.model_version, answer.predictions[0].class_name) != (OLD, CLASSES[1]):
        raise SystemExit(f"a wrong answer: {answer}")
    return len(frame(answer.SerializeToString()))


async def _copies(address: str) -> dict[str, float]:
    """What became of copies so far, by result."""
    async with httpx.AsyncClient(trust_env=False) as client:
        text = (await client.get(f"http://{address}/metrics", timeout=10)).text
    return {
        sample.labels["result"]: sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == "model_shadow_copies_total"
    }


async def _measure(address: str, scene: Scene, options: argparse.Namespace, *, rate: float, folder: Path) -> Figures:
    call = _call(scene.fault)
    closed = await run_load(
        h2load_path(),
        address=address,
        call=call,
        callers=options.callers,
        seconds=options.seconds,
        answer_bytes=await _answer_bytes(address, call),
        folder=folder,
    )
    # The same arrivals for all scenes: what differs is not when requests came.
    times = poisson(rate or closed.requests_per_s * _RATE_SHARE, LEAD_IN_S + options.seconds, seed=1)
    opened = await run_script(address=address, call=call, times=times, seconds=options.seconds, folder=folder)
    return Figures(
        closed.requests_per_s, opened.percentile_ms(50), opened.percentile_ms(99), closed.errors + opened.errors
    )


async def _run(options: argparse.Namespace) -> dict[Scene, Measured]:
    measured = {scene: Measured() for scene in SCENES}
    with tempfile.TemporaryDirectory(prefix="shadow-cost-") as name:
        folder, router = Path(name), _Router()
        async with _triton(folder) as triton, _batcher(folder, router, _model(SCENES[0], triton)) as address:
            warm_up = await _measure(address, SCENES[0], options, rate=0.0, folder=folder)
            rate = warm_up.per_s * _RATE_SHARE
            print(f"{options.callers} callers, then {rate:.0f} requests/s, {options.seconds:g} s each", flush=True)
            for turn in range(options.rounds):
                # Another one first in each round: what slows the machine down as a round goes on meets all alike.
                first = turn % len(SCENES)
                for scene in (*SCENES[first:], *SCENES[:first]):
                    await router.serve(_model(scene, triton))
                    before = await _copies(address)
                    figures = await _measure(address, scene, options, rate=rate, folder=folder)
                    await asyncio.sleep(_SETTLE_S)
                    after, own = await _copies(address), measured[scene]
                    own.rounds.append(figures)
                    for result, count in after.items():
                        own.copies[result] = own.copies.get(result, 0.0) + count - before.get(result, 0.0)
                    print(
                        f"round {turn + 1}  {scene.name:<20} {figures.per_s:8.0f}/s  p50 {figures.p50_ms:6.2f} ms"
                        f"  p99 {figures.p99_ms:6.2f} ms  {figures.errors} errors",
                        flush=True,
                    )
    return measured


def _median_ratio(mine: Sequence[float], base: Sequence[float]) -> float:
    return statistics.median(a / b for a, b in zip(mine, base, strict=True))


def _table(measured: dict[Scene, Measured]) -> list[str]:
    base = measured[SCENES[0]].rounds
    figures = f"{'answers/s':>10} {'ratio':>6} {'p50 ms':>8} {'ratio':>6} {'p99 ms':>8} {'ratio':>6}"
    head = f"{'shadow version':<20} {figures} {'errors':>6}   copies: answered / failed / dropped"
    lines = ["", head]
    for scene, own in measured.items():
        columns = []
        for pick in ("per_s", "p50_ms", "p99_ms"):
            mine, theirs = ([getattr(one, pick) for one in rounds] for rounds in (own.rounds, base))
            width, places = (10, 0) if pick == "per_s" else (8, 2)
            columns.append(f"{statistics.median(mine):{width}.{places}f} {_median_ratio(mine, theirs):6.3f}")
        errors = sum(one.errors for one in own.rounds)
        copies = " / ".join(f"{own.copies.get(result, 0.0):.0f}" for result in ("answered", "failed", "dropped"))
        lines.append(f"{scene.name:<20} {' '.join(columns)} {errors:>6}   {copies}")
    return lines


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--callers", type=int, default=32)
    measured = asyncio.run(_run(parser.parse_args()))
    print("\n".join(_table(measured)))
    if any(one.errors for own in measured.values() for one in own.rounds):
        raise SystemExit("a caller's request failed")


if __name__ == "__main__":
    main()
