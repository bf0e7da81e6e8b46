"""One run: what PyTorch says, bare Triton's best setting, rounds of closed loops, then the same arrivals for all."""

import argparse
import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path

from rich.console import Console

from benchmarks.bare_triton import Setting
from benchmarks.cpu import CpuMeter
from benchmarks.gpu.batcher import BATCHED, SINGLE, TWO, Place, batcher
from benchmarks.gpu.card import watched_card
from benchmarks.gpu.measure import Measure
from benchmarks.gpu.passages import Sizes, make
from benchmarks.gpu.results import Results
from benchmarks.gpu.targets import (
    BARE_OFF,
    BARE_ON,
    MESH_OFF,
    MESH_ON,
    MESH_TWO,
    bare,
    read_batches,
    settings,
    through_batcher,
)
from benchmarks.gpu.triton import Encoder, EncoderTriton, encoder_triton
from benchmarks.load import h2load_path
from benchmarks.targets import Target
from services.common.clock import SystemClock

SHARE = 0.7
_SEARCH_S = 0.6
_SETTLE_S = 2.5
"""What the batcher may learn at each load before the first round."""
_LOADED_CALLERS = 64


class Run:
    """Servers that are up, and what is measured with them."""

    def __init__(
        self, arguments: argparse.Namespace, *, results: Results, measure: Measure, triton: EncoderTriton, address: str
    ) -> None:
        self._arguments = arguments
        self._results = results
        self._measure = measure
        self._triton = triton
        self._mesh = {version: through_batcher(address, version) for version in (BATCHED, SINGLE, TWO)}

    async def run(self, sizes: Sizes) -> None:
        """Fills the results; what was measured before something failed is in them."""
        none = bare(self._triton.grpc_address, Setting(), sizes)
        best = {count: await self._best(count, sizes) for count in self._arguments.callers}
        for count in self._arguments.callers:
            for version in (BATCHED, TWO):
                await self._measure.closed(self._mesh[version], count, number=0, seconds=_SETTLE_S)
        for number in range(1, self._arguments.rounds + 1):
            for count, setting in best.items():
                targets = [self._bare(setting, sizes), self._mesh[BATCHED], self._mesh[TWO]]
                if count in self._arguments.unbatched:
                    targets += [none, self._mesh[SINGLE]]
                self._reads_bare(setting, sizes)
                for target in targets if number % 2 else reversed(targets):
                    seen = await self._measure.closed(target, count, number=number, seconds=self._arguments.seconds)
                    self._results.seen.append(seen)
        count = _LOADED_CALLERS if _LOADED_CALLERS in best else max(best)
        window = self._bare(best[count], sizes)
        self._reads_bare(best[count], sizes)
        off = min(one.row.measured.requests_per_s for one in self._results.seen if one.row.target == MESH_OFF)
        await self._arrivals(
            "at 70 % of what is carried without batching",
            SHARE * off,
            [window, self._mesh[BATCHED], none, self._mesh[SINGLE]],
        )
        on = min(one.row.measured.requests_per_s for one in self._results.seen
                 if one.row.target == BARE_ON and one.row.callers == count)  # fmt: skip
        title = f"at 70 % of what bare Triton carries with batching at {count} callers"
        await self._arrivals(title, SHARE * on, [window, self._mesh[BATCHED], self._mesh[TWO]])

    async def _arrivals(self, title: str, rate: float, targets: Sequence[Target]) -> None:
        shots = self._results.shots.setdefault(title, [])
        for number in range(1, self._arguments.rounds + 1):
            for target in targets if number % 2 else reversed(targets):
                seconds = self._arguments.seconds
                shots.append(await self._measure.arrivals(target, number=number, rate=rate, seconds=seconds))

    async def _best(self, callers: int, sizes: Sizes) -> Setting:
        """The setting that carries most; each is tried once."""
        rates: dict[Setting, float] = {}
        for setting in settings(sizes.rows_max, quick=self._arguments.quick):
            self._reads_bare(setting, sizes)
            target = self._bare(setting, sizes)
            seen = await self._measure.closed(replace(target, title=str(setting)), callers, number=0, seconds=_SEARCH_S)
            rates[setting] = seen.row.measured.requests_per_s
            self._results.tried.append((callers, str(setting), rates[setting]))
        best = max(rates, key=lambda setting: rates[setting])
        self._results.best[callers] = str(best)
        return best

    def _bare(self, setting: Setting, sizes: Sizes) -> Target:
        return bare(self._triton.grpc_address, setting, sizes)

    def _reads_bare(self, setting: Setting, sizes: Sizes) -> None:
        read = partial(read_batches, self._triton.metrics_address)
        self._measure.readers[BARE_ON] = (read, Encoder(setting, gpu=False, sizes=sizes).name)


async def bench(arguments: argparse.Namespace, console: Console, folder: Path, results: Results) -> None:
    """Fills the results. Raises LoadFailedError, PartFailedError, WrongAnswerError, httpx.HTTPError."""
    clock, h2load = SystemClock(), await asyncio.to_thread(h2load_path)
    began_s = clock.monotonic()

    def say(text: str) -> None:
        console.print(f"{clock.monotonic() - began_s:4.0f} s  {text}", highlight=False)

    sizes = Sizes(arguments.layers, arguments.hidden, arguments.rows_max, not arguments.eager)
    passages, results.facts = await asyncio.to_thread(make, arguments.python, folder / "recipe", sizes)
    say(f"PyTorch alone: {results.facts}")
    encoder = partial(Encoder, gpu=arguments.kind == "gpu", sizes=sizes)
    tried = [encoder(one) for one in (Setting(), *settings(sizes.rows_max, quick=arguments.quick))]
    ours = [encoder(Setting(instances=copies)) for copies in (1, 2)]
    async with AsyncExitStack() as stack:
        card = await stack.enter_async_context(watched_card(clock))
        tritons = [encoder_triton(folder / name, python=arguments.python, encoders=some, clock=clock)
                   for name, some in (("bare", tried), ("mesh", ours))]  # fmt: skip
        triton, behind = await asyncio.gather(*map(stack.enter_async_context, tritons))
        places = {
            version: Place(one.name, behind.http_address, rows_max)
            for version, one, rows_max in (
                (BATCHED, ours[0], sizes.rows_max),
                (SINGLE, ours[0], 0),
                (TWO, ours[1], sizes.rows_max),
            )
        }
        address, process = await stack.enter_async_context(batcher(folder / "batcher", places=places, clock=clock))
        say("All servers are up")

        async def revive(target: Target, why: Exception) -> bool:
            if target.name not in {BARE_ON, BARE_OFF}:
                return False
            results.notes.append(f"bare Triton was started anew: {why}")
            await triton.revive()
            return True

        pids = {"triton": behind.process.pid, "batcher": process.pid}
        versions = {MESH_ON: BATCHED, MESH_OFF: SINGLE, MESH_TWO: TWO}
        measure = Measure(
            h2load=h2load,
            folder=folder,
            samples=passages,
            card=card,
            meter=CpuMeter(lambda: {**pids, "bare": triton.process.pid}),
            readers={
                BARE_OFF: (partial(read_batches, triton.metrics_address), tried[0].name),
                **{name: (partial(read_batches, address), version) for name, version in versions.items()},
            },
            revive=revive,
            clock=clock,
            say=say,
        )
        run = Run(arguments, results=results, measure=measure, triton=triton, address=address)
        await run.run(sizes)
