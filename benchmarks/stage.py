"""What the parts of a run share: the load generator, a bare Triton and a mesh, each started when a part first asks."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from benchmarks.bare_triton import BareTriton, bare_triton
from benchmarks.cpu import APART, CpuMeter
from benchmarks.mesh import ROWS_MAX, BenchMesh, bench_mesh
from benchmarks.payloads import Sample
from benchmarks.rounds import Rounds, Say
from benchmarks.targets import BATCHER, Target, mesh_targets
from services.common.clock import Clock


@dataclass(frozen=True, slots=True)
class Effort:
    """How long and how often."""

    seconds: float
    """Length of each measurement."""
    rounds: int
    quick: bool
    """Fewer settings of bare Triton are tried."""
    callers: tuple[int, ...]
    """Loads of the closed loop."""
    only: tuple[str, ...]
    """The targets that are wanted."""
    soak_minutes: float
    plot: Path
    """Where the soak draws what it saw."""

    @property
    def search_seconds(self) -> float:
        """Length of a try of a setting."""
        return min(0.5, self.seconds)


class Stage:
    """Owned by the run; what it starts ends with `stack`."""

    def __init__(
        self, *, stack: AsyncExitStack, folder: Path, h2load: Path, effort: Effort, clock: Clock, say: Say
    ) -> None:
        self.folder = folder
        self.h2load = h2load
        self.effort = effort
        self.clock = clock
        self.say = say
        self.stack = stack
        self.meter = CpuMeter(self._pids)
        self._triton: BareTriton | None = None
        self._mesh: BenchMesh | None = None
        self._apart: BenchMesh | None = None

    async def triton(self) -> BareTriton:
        """The bare Triton. Raises PartFailedError."""
        if self._triton is None:
            self.say("Starting bare Triton")
            self._triton = await self.stack.enter_async_context(bare_triton(self.folder / "bare", clock=self.clock))
        return self._triton

    def rounds(self, samples: Sequence[Sample], *, meter: CpuMeter | None = None) -> Rounds:
        """What measures, with these samples; `meter` where others than all parts are to be metered."""
        return Rounds(
            h2load=self.h2load,
            folder=self.folder,
            samples=samples,
            meter=meter or self.meter,
            say=self.say,
            revive=self.revive,
        )

    async def revive(self, target: Target, why: Exception) -> bool:
        """Starts bare Triton anew where `target` is bare Triton: at the end of a load its gRPC server now and then dies
        or hangs over callers who hung up. Returns whether that was done. Raises PartFailedError."""
        if self._triton is None or target.baseline != target.name:
            return False
        self.say(f"  bare Triton is started anew: {why}")
        await self._triton.revive()
        return True

    def notes(self) -> Sequence[str]:
        """What readers of the results must know."""
        count = self._triton.revivals if self._triton is not None else 0
        return [f"bare Triton died or hung {count} times, was started anew and measured again"] if count else []

    async def mesh(self) -> BenchMesh:
        """The mesh, its digits in batches as large as bare Triton may make them. Raises PartFailedError, MeshError."""
        if self._mesh is None:
            self.say("Starting a mesh of its own")
            self._mesh = await self._start("mesh", batchers=0, auth=True)
        return self._mesh

    async def apart(self) -> BenchMesh:
        """A second mesh whose batcher stands beside its gateway, and so can be asked without it."""
        if self._apart is None:
            self.say("Starting a mesh whose batcher stands alone")
            self._apart = await self._start("apart", batchers=1)
        return self._apart

    async def targets(self, wanted: Sequence[str]) -> Sequence[Target]:
        """The ways through the mesh that are `wanted`; starts what they need."""
        batcher = (await self.apart()).batcher if BATCHER in wanted else ""
        mesh = await self.mesh() if set(wanted) - {BATCHER} else None
        gateway, key = (mesh.gateway, mesh.key) if mesh is not None else ("", "")
        return mesh_targets(gateway=gateway, batcher=batcher, wanted=wanted, key=key)

    async def failed_requests(self) -> Mapping[str, float]:
        """What the batchers count as failed since their start, by reason; nothing where there is no mesh yet."""
        counted: dict[str, float] = defaultdict(float)
        for mesh in filter(None, (self._mesh, self._apart)):
            for reason, count in (await mesh.failed_requests()).items():
                counted[reason] += count
        return counted

    async def _start(self, name: str, *, batchers: int, auth: bool = False) -> BenchMesh:
        running = bench_mesh(self.folder / name, clock=self.clock, batchers=batchers, auth=auth)
        mesh = await self.stack.enter_async_context(running)
        await mesh.allow_batches(ROWS_MAX)
        return mesh

    def _pids(self) -> Mapping[str, int]:
        """Of everything that runs, by part."""
        bare = {"bare": self._triton.pid} if self._triton is not None else {}
        mesh = self._mesh.pids() if self._mesh is not None else {}
        apart = self._apart.pids() if self._apart is not None else {}
        named = {name if name == "batcher" else f"{APART}{name}": pid for name, pid in apart.items()}
        return {**bare, **mesh, **named}
