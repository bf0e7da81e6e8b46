"""Ten minutes without a control plane, by `python -m benchmarks.control_plane_down --minutes 10`.

A mesh as `make run` starts it, asked at a steady pace throughout. After a minute router, registry, deployer, monitor,
batch and PostgreSQL are killed and kept down; at the end of that time the gateway, with the batcher in it, and its
keeper are killed as well, and come back from their disks; then everything comes back. Every answer is checked. A time
runs from the moment at which a request should have left. `control` is Triton's answer to a question of health, asked
beside: it tells what the machine was like.
"""

import argparse
import asyncio
import os
import signal
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import grpc
import httpx
import numpy as np
import uvloop
from inference import grpc_service_pb2

from benchmarks.mesh import BenchMesh, bench_mesh
from benchmarks.payloads import MODEL, VERSION, Call, digits, open_inference
from services.common.clock import SystemClock

if TYPE_CHECKING:  # generic in its stub alone
    Infer: TypeAlias = grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]
else:
    Infer = grpc.aio.UnaryUnaryMultiCallable

CLOCK = SystemClock()
DEAD = ("router", "registry", "deployer", "monitor", "batch", "postgres")
WORKERS = 8
DEADLINE_S = 5.0
LOOK_EVERY_S = 0.02
BACK_WITHIN_S = 120.0


@dataclass
class Seen:
    """What was asked and answered."""

    asked_s: list[float] = field(default_factory=list)
    took_s: list[float] = field(default_factory=list)
    control_s: list[tuple[float, float]] = field(default_factory=list)
    """When, and how long Triton took to say that it lives."""
    versions: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)

    def line(self, name: str, *, begin_s: float, end_s: float) -> str:
        """The row of a table for a stretch of time."""
        asked, took = np.array(self.asked_s), np.array(self.took_s)
        chosen = took[(asked >= begin_s) & (asked < end_s)]
        control = np.array([took_s for at_s, took_s in self.control_s if begin_s <= at_s < end_s])
        figures = " | ".join(f"{value:.2f}" for value in np.percentile(chosen, [50, 95, 99]) * 1000)
        beside = " | ".join(f"{value:.2f}" for value in np.percentile(control, [50, 95]) * 1000)
        return f"| {name} | {len(chosen):,} | {figures} | {beside} |"


class Asking:
    """Predictions at a steady pace while the context lasts."""

    def __init__(self, mesh: BenchMesh, *, rate: float, seen: Seen) -> None:
        self._mesh = mesh
        self._rate = rate
        self._seen = seen
        self._tasks: list[asyncio.Task[None]] = []
        self._samples = digits()
        self._calls: Sequence[Call] = [open_inference(MODEL, sample) for sample in self._samples]
        self._channel = grpc.aio.insecure_channel(mesh.gateway)

    async def __aenter__(self) -> "Asking":
        workers = [self._ask(place) for place in range(WORKERS)]
        self._tasks = [asyncio.create_task(work, name=f"asking {n}") for n, work in enumerate([*workers, self._look()])]
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._channel.close()

    async def _ask(self, place: int) -> None:
        infer: Infer = self._channel.unary_unary(self._calls[0].path)
        period_s = WORKERS / self._rate
        due_s, number = CLOCK.monotonic() + place / self._rate, place
        while True:
            await CLOCK.sleep(max(0.0, due_s - CLOCK.monotonic()))
            try:
                answer = await infer(self._calls[number % len(self._calls)].message, timeout=DEADLINE_S)
                self._check(answer, self._samples[number % len(self._samples)].labels)
            except (grpc.aio.AioRpcError, AssertionError) as error:
                self._seen.failures.append(repr(error)[:300])
            self._seen.asked_s.append(due_s)
            self._seen.took_s.append(CLOCK.monotonic() - due_s)
            due_s, number = due_s + period_s, number + WORKERS

    def _check(self, message: bytes, labels: tuple[int, ...]) -> None:
        assert self._calls[0].labels_of(message) == labels, "a wrong answer"
        self._seen.versions[grpc_service_pb2.ModelInferResponse.FromString(message).model_version] += 1

    async def _look(self) -> None:
        async with httpx.AsyncClient(trust_env=False) as client:
            url = f"http://127.0.0.1:{self._mesh.ports['triton_http']}/v2/health/live"
            while True:
                began_s = CLOCK.monotonic()
                (await client.get(url)).raise_for_status()
                self._seen.control_s.append((began_s, CLOCK.monotonic() - began_s))
                await CLOCK.sleep(0.1)


class Parts:
    """Kills parts and keeps them down."""

    def __init__(self, mesh: BenchMesh) -> None:
        self._mesh = mesh
        self._hold = mesh.state.parent / "hold"

    async def hold_down(self, *names: str) -> None:
        """Kills them for good."""
        self._hold.mkdir(exist_ok=True)
        for name in names:
            (self._hold / name).touch()
        for name in names:
            self.kill(name)
        while set(names) & set(self._mesh.pids()):
            await CLOCK.sleep(LOOK_EVERY_S)

    def let_go(self, *names: str) -> None:
        """They start again."""
        for name in names:
            (self._hold / name).unlink()

    def kill(self, name: str) -> None:
        """Without a word."""
        os.kill(self._mesh.pids()[name], signal.SIGKILL)


async def gateway_state(mesh: BenchMesh) -> str:
    """The gateway's configuration, as short as it can be said: a change of any of it is a flap."""
    pattern = r"[cl]ds\.version_text$|listener_manager\.listener_(added|modified)$|rds\..*config_reload$"
    async with httpx.AsyncClient(trust_env=False) as client:
        url = f"http://127.0.0.1:{mesh.ports['envoy_admin']}/stats"
        lines = (await client.get(url, params={"filter": pattern})).text.splitlines()
    reloads = sum(int(line.rpartition(" ")[2]) for line in lines if "config_reload" in line)
    rest = [line.rpartition(".")[0].rpartition(".")[2] + " " + line.rpartition(".")[2] for line in lines]
    return ", ".join([*(one for one in rest if "config_reload" not in one), f"routes taken: {reloads}"])


def memory(mesh: BenchMesh) -> str:
    """Of the gateway and of its keeper, in MB."""
    pids = mesh.pids()
    sizes = {name: Path(f"/proc/{pids[name]}/status").read_text().split("VmRSS:")[1] for name in ("gateway", "keeper")}
    return ", ".join(f"{name} {int(size.split()[0]) // 1024} MB" for name, size in sizes.items())


async def first_answer_s(mesh: BenchMesh) -> float:
    """Seconds until a stranger is answered right."""
    began_s, sample = CLOCK.monotonic(), digits()[0]
    call = open_inference(MODEL, sample)
    while CLOCK.monotonic() - began_s < BACK_WITHIN_S:
        async with grpc.aio.insecure_channel(mesh.gateway) as channel:
            infer: Infer = channel.unary_unary(call.path)
            try:
                answer = await infer(call.message, timeout=DEADLINE_S)
            except grpc.aio.AioRpcError:
                await CLOCK.sleep(LOOK_EVERY_S)
                continue
        assert call.labels_of(answer) == sample.labels
        return CLOCK.monotonic() - began_s
    raise SystemExit(f"no answer within {BACK_WITHIN_S:.0f} s of the gateway's death")


async def all_back(mesh: BenchMesh) -> None:
    """Returns when every part runs and the router says that the gateway goes by its table."""
    async with httpx.AsyncClient(trust_env=False, base_url=f"http://{mesh.gateway}", timeout=DEADLINE_S) as client:
        while True:
            if set(DEAD) <= set(mesh.pids()):
                answer = await client.get("/v1/gateways")
                if answer.is_success and [one["current"] for one in answer.json()["gateways"]] == [True]:
                    return
            await CLOCK.sleep(LOOK_EVERY_S)


async def measure(mesh: BenchMesh, *, minutes: float, rate: float) -> bool:
    """Prints what was seen; whether nothing failed and nothing flapped."""
    print(f"{rate:g} predictions a second of {MODEL} {VERSION}, Open Inference Protocol over gRPC\n")
    print("| | predictions | p50 ms | p95 ms | p99 ms | control p50 ms | p95 ms |\n|---|---:|---:|---:|---:|---:|---:|")
    parts, seen, lasts_s = Parts(mesh), Seen(), min(60.0, minutes * 60)
    async with Asking(mesh, rate=rate, seen=seen):
        await CLOCK.sleep(2.0)  # connections, caches
        begun_s = CLOCK.monotonic()
        await CLOCK.sleep(lasts_s)
        state, began_s = await gateway_state(mesh), CLOCK.monotonic()
        print(seen.line("before", begin_s=begun_s, end_s=began_s), flush=True)
        await parts.hold_down(*DEAD)
        while (left_s := began_s + minutes * 60 - CLOCK.monotonic()) > 0:
            minute_s = CLOCK.monotonic()
            await CLOCK.sleep(min(60.0, left_s))
            name = f"down, minute {round((minute_s - began_s) / 60) + 1}"
            print(seen.line(name, begin_s=minute_s, end_s=CLOCK.monotonic()), flush=True)
        ended_s = CLOCK.monotonic()
        print(seen.line("down, all of it", begin_s=began_s, end_s=ended_s), flush=True)
    dead_for_s, same = ended_s - began_s, state == await gateway_state(mesh)
    before = memory(mesh)
    for name in ("keeper", "gateway"):
        parts.kill(name)
    again_s = await first_answer_s(mesh)
    while not {"keeper", "gateway"} <= set(mesh.pids()):
        await CLOCK.sleep(LOOK_EVERY_S)
    restarted = await gateway_state(mesh)
    async with Asking(mesh, rate=rate, seen=seen):
        await CLOCK.sleep(2.0)
        begun_s = CLOCK.monotonic()
        parts.let_go(*DEAD)
        await all_back(mesh)
        back_s = CLOCK.monotonic() - begun_s
        print(seen.line("while all come back", begin_s=begun_s, end_s=CLOCK.monotonic()), flush=True)
        begun_s = CLOCK.monotonic()
        await CLOCK.sleep(lasts_s)
        print(seen.line("after", begin_s=begun_s, end_s=CLOCK.monotonic()), flush=True)
    steady = same and restarted == await gateway_state(mesh)
    print(f"\n{', '.join(DEAD)} dead for {dead_for_s:.0f} s, back after {back_s:.1f} s.")
    print(f"Right answers by version: {dict(seen.versions)}; {len(seen.failures)} failures.")
    print(f"Gateway and keeper killed meanwhile: the first right answer {again_s:.2f} s later, from disk.")
    print(f"Gateway's configuration the same at death and return: {steady} ({restarted}).")
    print(f"Memory after {dead_for_s:.0f} s without a control plane: {before}; at the end: {memory(mesh)}.")
    for failure in seen.failures[:5]:
        print(failure)
    return steady and not seen.failures and set(seen.versions) == {VERSION}


async def run(minutes: float, rate: float) -> bool:
    """A mesh of its own, measured."""
    with tempfile.TemporaryDirectory() as folder:
        async with bench_mesh(Path(folder), clock=CLOCK) as mesh:
            return await measure(mesh, minutes=minutes, rate=rate)


def main() -> None:
    """Reads the options and measures. Exits with 1 where a prediction failed or the configuration moved."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0, help="without a control plane")
    parser.add_argument("--rate", type=float, default=100.0, help="predictions a second")
    options = parser.parse_args()
    raise SystemExit(0 if uvloop.run(run(options.minutes, options.rate)) else 1)


if __name__ == "__main__":
    main()
