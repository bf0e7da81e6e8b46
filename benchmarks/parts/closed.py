"""Closed loop, single rows: every caller sends its next request when the answer to the one before has come.

Bare Triton serves each load in the setting that is fastest there, found for gRPC and for HTTP/JSON by itself. So the
mesh is compared in each protocol with the best that Triton's own batching can do.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict

from benchmarks.bare_triton import DIGITS_SERVED, SETTINGS, SETTINGS_JSON, SETTINGS_QUICK, BareTriton, Served, Setting
from benchmarks.compare import Bar, summarise, verdicts
from benchmarks.payloads import digits
from benchmarks.report import PartReport, cpu_tables, line_table
from benchmarks.rounds import Rounds, Row, Tried, winners
from benchmarks.stage import Effort, Stage
from benchmarks.targets import (
    BARE,
    BARE_JSON,
    BATCHER,
    GATEWAY_GRPC,
    GATEWAY_REST,
    GATEWAY_TYPED,
    Target,
    bare_json_target,
    bare_target,
)

BARS: Sequence[Bar] = (
    Bar(BATCHER, 8, "throughput", 0.8),
    Bar(BATCHER, 64, "throughput", 1.0),
    Bar(BATCHER, 256, "throughput", 1.3),
    Bar(BATCHER, 256, "p99", 1.0),
    *(Bar(name, callers, "throughput", 0.7, 1.2) for name in (GATEWAY_GRPC, GATEWAY_TYPED) for callers in (64, 256)),
    *(Bar(GATEWAY_REST, callers, "throughput", 0.4, 0.8) for callers in (64, 256)),
)


async def measure(stage: Stage) -> PartReport:
    """Raises LoadFailedError, PartFailedError, WrongAnswerError."""
    effort = stage.effort
    rounds = stage.rounds(digits())
    settings = {BARE: SETTINGS, BARE_JSON: SETTINGS_JSON}
    if effort.quick:
        settings = dict.fromkeys(settings, SETTINGS_QUICK)
    tried, best, rows = await against_bare(
        stage, rounds, DIGITS_SERVED, settings, callers=effort.callers, ways=wanted(effort)
    )
    lines = summarise(rows)
    return PartReport(
        name="closed",
        title="closed loop, single rows of digits",
        tables=[line_table("Requests of one row", lines), *cpu_tables(rows)],
        verdicts=verdicts(BARS, lines),
        notes=notes_of(best),
        data=data_of(tried, best, rows),
    )


def wanted(effort: Effort, among: Sequence[str] = (BATCHER, GATEWAY_GRPC, GATEWAY_TYPED, GATEWAY_REST)) -> list[str]:
    """The ways through the mesh that were asked for."""
    return [name for name in among if name in effort.only]


Best = Mapping[str, Mapping[int, Setting]]
"""Bare Triton's best settings: by target, by callers."""


async def against_bare(
    stage: Stage,
    rounds: Rounds,
    served: Served,
    settings: Mapping[str, Sequence[Setting]],
    *,
    callers: Sequence[int],
    ways: Sequence[str],
    rows_each: int = 1,
) -> tuple[Mapping[str, Sequence[Tried]], Best, Sequence[Row]]:
    """Finds bare Triton's best of the settings given for each protocol, then lets it and the `ways` through the mesh
    answer in turns.
    """
    effort, triton = stage.effort, await stage.triton()
    bares = [BARE, *([BARE_JSON] if GATEWAY_REST in ways else [])]
    every = await stage.targets(ways)
    tried: dict[str, Sequence[Tried]] = {}
    for name in bares:
        protocol = "gRPC" if name == BARE else "HTTP/JSON"
        stage.say(f"Looking for bare Triton's best setting over {protocol} at {', '.join(map(str, callers))} callers")
        tried[name] = await rounds.search(
            triton,
            served,
            settings[name],
            target_of=lambda model_name, name=name: bare_of(triton, name, model_name),  # type: ignore[misc]
            callers=callers,
            seconds=effort.search_seconds,
        )
    best = {name: winners(found) for name, found in tried.items()}
    await triton.keep(served, {setting for by_load in best.values() for setting in by_load.values()})
    targets = {
        count: [
            one
            for name in bares
            for one in (
                bare_of(triton, name, best[name][count].model_name(served)),
                *(target for target in every if target.baseline == name),
            )
        ]
        for count in callers
    }
    rows = await rounds.run(targets, rounds=effort.rounds, seconds=effort.seconds, rows_each=rows_each)
    return tried, best, rows


def bare_of(triton: BareTriton, name: str, model_name: str) -> Target:
    """Bare Triton's model, asked in the protocol that the target's name says."""
    if name == BARE_JSON:
        return bare_json_target(triton.http_address, model_name)
    return bare_target(triton.grpc_address, model_name)


def notes_of(best: Best) -> Sequence[str]:
    """The settings in which bare Triton ran."""
    return [
        f"bare Triton, {'gRPC' if name == BARE else 'HTTP/JSON'}, at {callers}: {setting}"
        for name, by_load in best.items()
        for callers, setting in by_load.items()
    ]


def data_of(tried: Mapping[str, Sequence[Tried]], best: Best, rows: Sequence[Row]) -> Mapping[str, object]:
    """For programs."""
    return {
        "bare_triton_settings": {
            name: [{**asdict(one), "setting": str(one.setting)} for one in found] for name, found in tried.items()
        },
        "bare_triton_best": {
            name: {str(callers): str(setting) for callers, setting in by_load.items()} for name, by_load in best.items()
        },
        "lines": [asdict(line) for line in summarise(rows)],
        "rows": [asdict(row) for row in rows],
    }
