"""Adaptive batching against none, on a model that costs: one file as two versions, one with batching, one without.

Bare Triton serves it both ways too, with its dynamic batching at the best of three windows; all have one instance.
First a closed loop of 64 callers shows what each carries; then each gets the same Poisson arrivals, at 70 % of what the
mesh carries without batching, so that their times are compared at equal load.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import asdict

from rich.table import Table

from benchmarks import images
from benchmarks.arrivals import poisson
from benchmarks.bare_triton import BareTriton, Setting
from benchmarks.compare import Spread, Verdict, summarise
from benchmarks.mesh import BenchMesh
from benchmarks.open_loop import LEAD_IN_S, run_script
from benchmarks.parts.openloop import SHARE, Shot, shot_of
from benchmarks.payloads import Sample, WrongAnswerError, open_inference, with_key
from benchmarks.report import PartReport, cpu_tables, line_table, new_table
from benchmarks.rounds import Rounds, Row, winners
from benchmarks.stage import Stage
from benchmarks.targets import Target, bare_target, verify

CALLERS = 64
FASTER_MIN = 3.0
MESH_ON, MESH_OFF, BARE_ON, BARE_OFF = "mesh-batching", "mesh-single", "bare-batching", "bare-single"
WINDOWS: Sequence[Setting] = tuple(Setting(images.ROWS_MAX, delay_us) for delay_us in (0, 1000, 5000))


async def measure(stage: Stage) -> PartReport:
    """Raises LoadFailedError, PartFailedError, WrongAnswerError."""
    samples = await asyncio.to_thread(images.make)
    triton, mesh = await stage.triton(), await stage.mesh()
    stage.say("Deploying the images model with batching and without")
    await asyncio.to_thread(images.deploy, mesh.gateway, mesh.key)
    rounds = stage.rounds(samples)
    window = await _best_window(stage, rounds, triton)
    targets = _targets(triton, mesh, window)
    await triton.load(images.SERVED, Setting())
    rows = await rounds.run({CALLERS: targets}, rounds=stage.effort.rounds, seconds=stage.effort.seconds)
    lines = summarise(rows)
    rate = SHARE * next(line.requests_per_s for line in lines if line.target == MESH_OFF)
    stage.say(f"The same arrivals for all: {rate:,.0f}/s")
    shots = [
        await _fire(stage, target, samples, number, rate)
        for number in range(1, stage.effort.rounds + 1)
        for target in (targets if number % 2 else reversed(targets))
    ]
    return PartReport(
        name="adaptive",
        title="adaptive batching against none, on a model that costs",
        tables=[line_table("Closed loop, one image a request", lines), table(shots, rate), *cpu_tables(rows)],
        verdicts=judge(rows, shots),
        notes=[f"bare Triton with batching: {window}; without: {Setting()}"],
        data={
            "lines": [asdict(line) for line in lines],
            "rows": [asdict(row) for row in rows],
            "shots": [asdict(shot) for shot in shots],
            "window": str(window),
        },
    )


def judge(rows: Sequence[Row], shots: Sequence[Shot]) -> Sequence[Verdict]:
    """Throughput in the closed loop, p95 at equal load; round by round, the median decides."""
    carried = {(row.target, row.round): row.measured.requests_per_s for row in rows}
    late_ms = {(shot.target, shot.round): shot.p95_ms for shot in shots}
    faster = Spread.of([rate / carried[MESH_OFF, at] for (name, at), rate in carried.items() if name == MESH_ON])
    later = Spread.of([p95_ms / late_ms[MESH_OFF, at] for (name, at), p95_ms in late_ms.items() if name == MESH_ON])
    return (
        Verdict(faster.median >= FASTER_MIN, f"throughput with batching: {faster} × without, at least {FASTER_MIN:g}"),
        Verdict(later.median <= 1, f"p95 with batching at equal load: {later} × without, at most 1"),
    )


def table(shots: Sequence[Shot], rate: float) -> Table:
    """Equal load, for people: medians of the rounds."""
    shown = new_table(
        f"Open loop, Poisson, {rate:,.0f} images/s for all",
        *("target", "p50 ms", "p95 ms", "p99 ms", "p95 × bare"),
        text=("target",),
    )
    late_ms = {(shot.target, shot.round): shot.p95_ms for shot in shots}
    against = {MESH_ON: BARE_ON, MESH_OFF: BARE_OFF}
    for target in (BARE_ON, MESH_ON, BARE_OFF, MESH_OFF):
        mine = [shot for shot in shots if shot.target == target]
        bare = against.get(target, target)
        shown.add_row(
            mine[0].title,
            *(f"{Spread.of(values).median:.2f}" for values in zip(*_times(mine), strict=True)),
            "1" if bare == target else str(Spread.of([shot.p95_ms / late_ms[bare, shot.round] for shot in mine])),
        )
    return shown


def _times(shots: Sequence[Shot]) -> Sequence[tuple[float, float, float]]:
    return [(shot.p50_ms, shot.p95_ms, shot.p99_ms) for shot in shots]


def _targets(triton: BareTriton, running: BenchMesh, window: Setting) -> Sequence[Target]:
    """Bare Triton first in each pair."""
    address = triton.grpc_address
    on, off = window.model_name(images.SERVED), Setting().model_name(images.SERVED)
    ways = {
        images.BATCHED: (MESH_ON, "gateway, batching", BARE_ON),
        images.SINGLE: (MESH_OFF, "gateway, none", BARE_OFF),
    }
    mesh = {
        version: Target(
            name,
            running.gateway,
            lambda sample, version=version: with_key(  # type: ignore[misc]
                open_inference(images.MODEL, sample, version=version), running.key
            ),
            title,
            baseline,
        )
        for version, (name, title, baseline) in ways.items()
    }
    return (
        Target(BARE_ON, address, lambda sample: open_inference(on, sample), "bare Triton, batching", BARE_ON),
        mesh[images.BATCHED],
        Target(BARE_OFF, address, lambda sample: open_inference(off, sample), "bare Triton, none", BARE_OFF),
        mesh[images.SINGLE],
    )


async def _best_window(stage: Stage, rounds: Rounds, triton: BareTriton) -> Setting:
    """How long bare Triton's batches should wait under this load."""
    stage.say(f"Looking for bare Triton's best window at {CALLERS} callers")
    tried = await rounds.search(
        triton,
        images.SERVED,
        WINDOWS,
        target_of=lambda name: bare_target(triton.grpc_address, name),
        callers=(CALLERS,),
        seconds=stage.effort.search_seconds,
    )
    best = winners(tried)[CALLERS]
    await triton.keep(images.SERVED, [best])
    return best


async def _fire(stage: Stage, target: Target, samples: Sequence[Sample], number: int, rate: float) -> Shot:
    """The arrivals of this round; raises WrongAnswerError where one of them fails."""
    seconds = stage.effort.seconds
    await verify(target, samples)
    outcome = await run_script(
        address=target.address,
        call=target.call_for(samples[0]),
        times=poisson(rate, LEAD_IN_S + seconds, seed=number),
        seconds=seconds,
        folder=stage.folder,
    )
    await verify(target, samples)
    shot = shot_of(outcome, group="equal load", process="Poisson", target=target, number=number, rate=rate)
    if shot.errors:
        raise WrongAnswerError(f"{target.title} failed {shot.errors} of {len(outcome.latency_s)} requests")
    stage.say(f"  round {number}, {target.title}: p95 {shot.p95_ms:.2f} ms")
    return shot
