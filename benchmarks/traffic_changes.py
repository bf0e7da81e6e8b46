"""Whether anybody notices that traffic is moved: `python -m benchmarks.traffic_changes`.

A mesh of its own answers digits while the shares of its two versions, the strategy and, where `--conditions` is set, a
condition change again and again, each change as soon as the one before is answered. Callers in processes of their own
note when they asked, when they were answered, who they were, and which version answered. Afterwards every answer is
held against the rules: its version must be one that a rule in force at some moment between question and answer allowed.
A change is in force from somewhere between its call and its answer on, so in that time the rule before it and its own
are both allowed.
"""

import argparse
import asyncio
import bisect
import itertools
import multiprocessing
import statistics
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.synchronize import Event
from pathlib import Path
from random import Random

import grpc
from infermesh.prediction.v1 import instance_pb2, prediction_pb2, prediction_service_pb2_grpc
from infermesh.router.v1 import router_service_pb2, router_service_pb2_grpc, traffic_rule_pb2

from benchmarks.mesh import bench_mesh
from benchmarks.payloads import MODEL, VERSION, digits
from services.common.clock import SystemClock
from services.common.grpc.channel import open_channel

OTHER = "v1.1.0"
REGION = "x-region"
TIMEOUT_S = 30.0
CLOCK = SystemClock()


@dataclass(frozen=True, slots=True)
class Answer:
    """One request, by the monotonic clock that all processes share."""

    asked_s: float
    answered_s: float
    in_region: bool
    version: str
    """Empty: it failed."""
    error: str = ""


@dataclass(frozen=True, slots=True)
class Change:
    """One change of the rule."""

    called_s: float
    answered_s: float
    shares: frozenset[str]
    """The versions with a share."""
    region: str
    """The version that the condition sends the region to; empty: there is none."""

    def allows(self, answer: Answer) -> bool:
        """Whether the rule could have chosen this version."""
        if answer.in_region and self.region:
            return answer.version == self.region
        return answer.version in self.shares


def call_without_pause(
    gateway: str, callers: int, seed: int, over: Event, answers: "multiprocessing.Queue[object]"
) -> None:
    """A process of callers; puts all its answers at the end."""
    answers.put(asyncio.run(_callers(gateway, callers, seed, over)))


async def _callers(gateway: str, callers: int, seed: int, over: Event) -> list[Answer]:
    draw, noted = Random(seed), list[Answer]()
    pixels = instance_pb2.Feature(float_list=instance_pb2.FloatList(values=digits()[0].rows[0].tolist()))
    request = prediction_pb2.PredictRequest(model_name=MODEL, instances=[instance_pb2.Instance(features={"X": pixels})])
    async with open_channel(gateway) as channel:
        predict = prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict

        async def caller() -> None:
            while not over.is_set():
                in_region = draw.random() < 0.2
                metadata = [("x-model-name", MODEL), ("x-user-id", f"user-{draw.randrange(10_000)}")]
                if in_region:
                    metadata.append((REGION, "eu"))
                asked_s, version, error = CLOCK.monotonic(), "", ""
                try:
                    version = (await predict(request, metadata=metadata, timeout=TIMEOUT_S)).model_version
                except grpc.aio.AioRpcError as failure:
                    error = f"{failure.code().name}: {failure.details()}"
                noted.append(Answer(asked_s, CLOCK.monotonic(), in_region, version, error))

        await asyncio.gather(*(caller() for _ in range(callers)))
    return noted


async def change_until(gateway: str, over: Event, *, seconds: float, conditions: bool) -> list[Change]:
    """Changes traffic for `seconds` seconds; the first change is the state that it begins with."""
    draw, changes = Random(1), list[Change]()
    async with open_channel(gateway) as channel:
        router = router_service_pb2_grpc.RouterServiceStub(channel)
        region = ""
        end_s = CLOCK.monotonic() + seconds
        for number in itertools.count():
            percent = draw.choice((0, 1, 10, 50, 90, 100)) if number else 0
            update = router_service_pb2.UpdateTrafficRequest(
                model_name=MODEL,
                traffic_split={VERSION: 100 - percent, OTHER: percent},
                routing_strategy=draw.choice(("random", "sticky")),
                reason="a benchmark",
            )
            if conditions and number and draw.random() < 0.5:
                region = draw.choice((VERSION, OTHER, ""))
                if region:
                    condition = traffic_rule_pb2.RouteCondition(attribute="region", values=["eu"], version=region)
                    update.conditions.append(condition)
                else:
                    update.clear.append("conditions")
            called_s = CLOCK.monotonic()
            await router.UpdateTraffic(update, timeout=TIMEOUT_S)
            shares = frozenset(version for version, share in update.traffic_split.items() if share)
            changes.append(Change(called_s, CLOCK.monotonic(), shares, region))
            if CLOCK.monotonic() > end_s:
                break
        over.set()
    return changes


def allowed(answer: Answer, changes: Sequence[Change], called_s: Sequence[float]) -> bool:
    """Whether a rule in force between question and answer allowed it."""
    # Those called before the answer came; the last of them that was answered before the question was put is the oldest
    # that may have held.
    last = bisect.bisect_right(called_s, answer.answered_s)
    for change in reversed(changes[:last]):
        if change.allows(answer):
            return True
        if change.answered_s < answer.asked_s:
            return False
    return last == 0


async def main() -> int:
    """The exit status: 1 where something failed or was not allowed."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--callers", type=int, default=32, help="of each process")
    parser.add_argument("--conditions", action="store_true", help="change a condition too")
    parser.add_argument("--batchers", type=int, default=0, help="beside the gateway; 0: within it")
    options = parser.parse_args()
    spawn = multiprocessing.get_context("spawn")
    over, queue = spawn.Event(), spawn.Queue()
    with tempfile.TemporaryDirectory(prefix="infermesh-bench-") as folder:
        print("Starting a mesh of its own")
        async with bench_mesh(Path(folder), clock=CLOCK, batchers=options.batchers) as mesh:
            begun = await change_until(mesh.gateway, spawn.Event(), seconds=0.0, conditions=False)
            processes = [
                spawn.Process(
                    target=call_without_pause,
                    args=(mesh.gateway, options.callers, seed, over, queue),
                    name=f"callers {seed}",
                )
                for seed in range(options.processes)
            ]
            for process in processes:
                process.start()
            print(f"Moving traffic for {options.seconds:.0f} s under load")
            changes = begun + await change_until(
                mesh.gateway, over, seconds=options.seconds, conditions=options.conditions
            )
            answers: list[Answer] = []
            for _ in processes:
                answers += await asyncio.to_thread(queue.get, timeout=4 * TIMEOUT_S)
            for process in processes:
                process.join(TIMEOUT_S)
    return report(answers, changes)


def report(answers: Sequence[Answer], changes: Sequence[Change]) -> int:
    """Prints what happened; the exit status."""
    called_s = [change.called_s for change in changes]
    failed = Counter(answer.error for answer in answers if answer.error)
    wrong = [answer for answer in answers if not answer.error and not allowed(answer, changes, called_s)]
    took_ms = sorted((change.answered_s - change.called_s) * 1000 for change in changes)
    print(f"{len(answers):,} requests, {len(changes):,} changes")
    print(f"answered by: {dict(Counter(answer.version for answer in answers if not answer.error))}")
    print(
        f"a change took {statistics.median(took_ms):.1f} ms (median), {took_ms[int(0.99 * len(took_ms))]:.1f} ms (p99)"
    )
    print(f"failed: {failed.total()} {dict(failed.most_common(3)) if failed else ''}")
    print(f"by a version that no rule of their time allowed: {len(wrong)} {wrong[:3] if wrong else ''}")
    return 1 if failed or wrong else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
