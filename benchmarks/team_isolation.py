"""Whether a team that calls at ten times its limit disturbs another: `python -m benchmarks.team_isolation`.

A mesh of its own asks for keys. Team "calm" calls digits at a steady rate with Poisson arrivals, timed from when each
request should have left. In turns it is alone, beside a team "greedy" that keeps within its limit, and beside one that
calls at ten times its limit. Printed is what calm's latencies are beside the others, in the same run, and how much of
greedy's calls passed. The generators take processor time too, from all alike.
"""

import argparse
import asyncio
import statistics
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from infermesh.client import Client
from infermesh.client.credentials import Credentials
from infermesh.registry.v1 import team_pb2
from rich.console import Console
from rich.progress import track

from benchmarks.arrivals import poisson
from benchmarks.mesh import BenchMesh, bench_mesh
from benchmarks.open_loop import LEAD_IN_S, Outcome, run_script
from benchmarks.payloads import MODEL, Call, digits, open_inference, with_key
from benchmarks.report import new_table
from services.common.clock import SystemClock

OVER = 10
ALONE, WITHIN, BEYOND = "alone", "beside a team within its limit", f"beside a team at {OVER} times its limit"
TURNS = (ALONE, WITHIN, BEYOND)


@dataclass(frozen=True, slots=True)
class Turn:
    """What calm had, and what greedy got through."""

    beside: str
    calm: Outcome
    passed_per_s: float


def make_team(mesh: BenchMesh, name: str, limit: float) -> str:
    """A team with so many requests a second, 0 for no limit; the key of its program."""
    with Client(mesh.gateway, credentials=Credentials(mesh.key)) as client:
        client.teams.create(team_pb2.Team(name=name, rate_limit=team_pb2.RateLimit(requests_per_sec=limit)))
        return client.keys.create(name, "benchmark", role="viewer").secret


async def turn(beside: str, mesh: BenchMesh, calls: Sequence[Call], rates: Sequence[float], number: int) -> Turn:
    """One turn of `rates` of calm and greedy, in a second each."""
    seconds = rates[2]
    greedy_rate = {ALONE: 0.0, WITHIN: rates[1] * 0.9, BEYOND: rates[1] * OVER}[beside]
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as two:
        scripts = [
            run_script(
                address=mesh.gateway,
                call=call,
                times=poisson(rate, LEAD_IN_S + seconds, seed=number * 2 + place),
                seconds=seconds,
                folder=Path(folder),
            )
            for place, (call, rate, folder) in enumerate(
                ((calls[0], rates[0], one), *(((calls[1], greedy_rate, two),) if greedy_rate else ()))
            )
        ]
        outcomes = await asyncio.gather(*scripts)
    passed = outcomes[1].goodput(10.0) if len(outcomes) > 1 else 0.0
    return Turn(beside, outcomes[0], passed)


def report(turns: Sequence[Turn], limit: float) -> int:
    """Prints the table; 1 where calm lost a request."""
    shown = new_table("The calm team", "is", "p50 ms", "p95 ms", "p99 ms", "p99 × alone", "failed", text=("is",))
    alone = statistics.median(one.calm.percentile_ms(99) for one in turns if one.beside == ALONE)
    failed = 0
    for beside in TURNS:
        mine = [one for one in turns if one.beside == beside]
        p50, p95, p99 = (statistics.median(one.calm.percentile_ms(which) for one in mine) for which in (50, 95, 99))
        lost = sum(one.calm.errors for one in mine)
        failed += lost
        shown.add_row(beside, f"{p50:.2f}", f"{p95:.2f}", f"{p99:.2f}", f"{p99 / alone:.2f}", str(lost))
    console = Console()
    console.print(shown)
    for beside in (WITHIN, BEYOND):
        passed = [one.passed_per_s for one in turns if one.beside == beside]
        console.print(
            f"{beside}: {statistics.median(passed):,.0f} of its calls a second pass, the limit is {limit:,.0f}"
        )
    return 1 if failed else 0


async def main() -> int:
    """The exit status: 1 where the calm team lost a request."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--calm", type=float, default=300.0, help="requests a second of the calm team")
    parser.add_argument("--limit", type=float, default=300.0, help="of the greedy team, requests a second")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each turn")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="infermesh-bench-") as folder:
        print("Starting a mesh of its own")
        async with bench_mesh(Path(folder), clock=SystemClock(), auth=True) as mesh:
            keys = [
                await asyncio.to_thread(make_team, mesh, name, limit)
                for name, limit in (("calm", 0.0), ("greedy", options.limit))
            ]
            calls = [with_key(open_inference(MODEL, digits()[0]), key) for key in keys]
            rates = (options.calm, options.limit, options.seconds)
            turns = [
                await turn(beside, mesh, calls, rates, number)
                for number in track(range(options.rounds), description="rounds")
                for beside in TURNS
            ]
    return report(turns, options.limit)


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
