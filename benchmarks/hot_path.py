"""`make bench`: single-row predictions through the mesh and through bare Triton, in turns, in the same run.

It starts a mesh and a Triton of its own on free ports, finds the setting in which bare Triton is fastest at each load,
then lets all of them answer closed-loop load in turns. The ratios are what counts: they hold on other machines too.
"""

import argparse
import asyncio
import contextlib
import os
import shlex
import shutil
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import httpx
from rich.console import Console

from benchmarks.bare_triton import SETTINGS, bare_triton
from benchmarks.load import LoadFailedError, h2load_path
from benchmarks.mesh import ROWS_MAX, BenchMesh, bench_mesh
from benchmarks.payloads import WrongAnswerError, digits
from benchmarks.report import BARS, as_json, summarise, table, this_machine
from benchmarks.rounds import Rounds, winners
from benchmarks.targets import BARE, TITLES, Target, mesh_targets
from services.common.clock import SystemClock
from services.common.errors import MeshError
from services.supervisor.process import PartFailedError

_SEARCH_SECONDS_MAX = 1.0
_CALLERS_MAX = 4096


async def bench(arguments: argparse.Namespace, console: Console) -> None:
    """One run. Raises LoadFailedError, PartFailedError or WrongAnswerError with a sentence."""
    clock, machine, began = SystemClock(), this_machine(), SystemClock().now()
    wanted = [name for name in TITLES if name in arguments.only]
    console.print(f"{machine.cpu}, {machine.cores} cores, {machine.system}; load before: {machine.load_before:.1f}")
    h2load = await asyncio.to_thread(h2load_path)
    async with AsyncExitStack() as stack:
        folder = await stack.enter_async_context(_folder())
        console.print("Starting bare Triton")
        triton = await stack.enter_async_context(bare_triton(folder / "bare", clock=clock))
        mesh: BenchMesh | None = None
        targets: Sequence[Target] = ()
        if any(name != BARE for name in wanted):
            console.print("Starting a mesh of its own")
            mesh = await stack.enter_async_context(bench_mesh(folder / "mesh", clock=clock))
            await mesh.allow_batches(ROWS_MAX)
            every = mesh_targets(gateway=mesh.gateway, batcher=mesh.batcher)
            targets = [target for target in every if target.name in wanted]
        rounds = Rounds(h2load=h2load, folder=folder, seconds=arguments.seconds, digits=digits(), say=console.print)
        console.print(f"Looking for bare Triton's best setting at {_listed(arguments.callers)} callers")
        seconds = min(_SEARCH_SECONDS_MAX, arguments.seconds)
        tried = await rounds.search(triton, SETTINGS, callers=arguments.callers, seconds=seconds)
        best = winners(tried)
        for setting in set(SETTINGS) - set(best.values()):
            await triton.unload(setting)
        for callers, setting in best.items():
            console.print(f"  best at {callers}: {setting}")
        failed_before = await mesh.failed_requests() if mesh is not None else 0.0
        rows = await rounds.run(triton, best, targets, rounds=arguments.rounds)
        failed = await mesh.failed_requests() - failed_before if mesh is not None else 0.0
        console.print("Stopping")
    lines = summarise(rows)
    console.print(table(lines))
    if failed:
        console.print(f"the batcher counts {failed:.0f} failed requests in this run")
    for verdict in filter(None, (bar.verdict(lines) for bar in BARS)):
        console.print(verdict)
    if arguments.json is not None:
        document = as_json(
            command=f"python -m benchmarks.hot_path {shlex.join(sys.argv[1:])}".strip(),
            moment=began.isoformat(timespec="seconds"),
            machine=machine,
            tried=tried,
            winners=best,
            rows=rows,
        )
        arguments.json.write_bytes(document)


@asynccontextmanager
async def _folder() -> AsyncIterator[Path]:
    """A folder for all that the run leaves. It goes at the end, unless a part failed: then its log is worth reading."""
    name = await asyncio.to_thread(tempfile.mkdtemp, prefix="infermesh-bench-")
    # Where this runs as root PostgreSQL runs as another user, who must reach its data.
    await asyncio.to_thread(os.chmod, name, 0o755)
    try:
        yield Path(name)
    except PartFailedError:
        raise
    except BaseException:
        shutil.rmtree(name, ignore_errors=True)
        raise
    else:
        shutil.rmtree(name, ignore_errors=True)


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The options. Exits with a sentence where one is wrong."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.hot_path", description=__doc__)
    parser.add_argument("--seconds", type=_between(0.2, 600.0), default=3.0, help="length of each measurement (3)")
    parser.add_argument("--rounds", type=int, choices=range(1, 101), metavar="1..100", default=3, help="rounds (3)")
    parser.add_argument("--callers", type=_callers, default=(1, 8, 64, 256), help="loads, by commas (1,8,64,256)")
    parser.add_argument(
        "--only", type=_targets, default=tuple(TITLES), help=f"targets beside bare Triton: {', '.join(TITLES)}"
    )
    parser.add_argument("--json", type=Path, help="also write everything measured to this file")
    return parser.parse_args(argv)


def _between(low: float, high: float) -> Callable[[str], float]:
    def number(text: str) -> float:
        value = float(text)
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{text} is not within {low:g} to {high:g}")
        return value

    return number


def _callers(text: str) -> tuple[int, ...]:
    counts = tuple(int(part) for part in text.split(","))
    if not counts or any(not 1 <= count <= _CALLERS_MAX for count in counts):
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of numbers from 1 to {_CALLERS_MAX}")
    return tuple(sorted(set(counts)))


def _targets(text: str) -> tuple[str, ...]:
    names = tuple(text.split(","))
    if unknown := [name for name in names if name not in TITLES]:
        raise argparse.ArgumentTypeError(f"no target {unknown[0]!r}; there are {', '.join(TITLES)}")
    return names


def _listed(counts: Sequence[int]) -> str:
    return ", ".join(str(count) for count in counts)


async def _run(arguments: argparse.Namespace, console: Console) -> None:
    """The run as a task that SIGTERM ends in order, as Ctrl-C does."""
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    await bench(arguments, console)


def main() -> int:
    """The exit code: 0 measured, 1 something failed, 130 interrupted."""
    arguments = parse(sys.argv[1:])
    # Into a file or a pipe, lines are as long as they are.
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 120)
    try:
        asyncio.run(_run(arguments, console))
    except (LoadFailedError, PartFailedError, WrongAnswerError, MeshError, httpx.HTTPError) as error:
        with contextlib.suppress(BrokenPipeError):
            sys.stderr.write(f"infermesh: {error}\n")
        return 1
    except (KeyboardInterrupt, asyncio.CancelledError):
        console.print("Interrupted; everything that was started is stopped")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
