"""One job through whatever may happen to it: its worker dies at any step, another takes over while it lives on, parts
vanish, callers pause, cancel and retry it.

At all times the output is whole or absent. In the end every row was predicted once or is named once, in order, and the
files are those of a job that nothing happened to.
"""

import asyncio
import random
import shutil
import tempfile
import threading
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from services.batch.adapters.files import LocalWorkspace
from services.batch.adapters.sources import LocalSources
from services.batch.domain.chunks import FailedRow, Part
from services.batch.domain.job import JobSpec, Output, Status, Version
from services.batch.domain.rows import Tensor
from services.batch.engines.jobs import Jobs
from services.batch.engines.predictor import Predictor
from services.batch.engines.run import JobRun
from services.batch.engines.runner import clear_away
from services.batch.ports import Answer, Assembled, FencedError, Lease, NewJob, WorkStore
from services.common.clock import SystemClock
from tests.support.batch_fakes import SUMS, Catalogue, CountingBoard, MemoryBatchStore, SumsModel, spec_of

T = TypeVar("T")
LEASE_S = 3600.0
ROWS = 23
BAD = (4, 11)
JOB_ID = "batch_job_1"


class KilledError(Exception):
    """The process is no more."""


class Fuse:
    """Counts the steps of a worker, and kills it before or after one of them. A dead worker does nothing more."""

    def __init__(self, steps: int, *, after: bool) -> None:
        self.left = steps
        self._after = after
        self._lock = threading.Lock()

    def before(self) -> None:
        with self._lock:
            if self.left < 0 or (self.left == 0 and not self._after):
                self.left = -1
                raise KilledError
            self.left -= 1

    def after(self) -> None:
        if self.left < 0:
            raise KilledError

    def step(self, work: Callable[[], T]) -> T:
        self.before()
        done = work()
        self.after()
        return done


class FusedStore:
    """A `WorkStore` whose every call is a step."""

    def __init__(self, store: MemoryBatchStore, fuse: Fuse) -> None:
        self._store = store
        self._fuse = fuse

    def __getattr__(self, name: str) -> Callable[..., Coroutine[Any, Any, object]]:
        call = getattr(self._store, name)

        async def stepped(*arguments: object, **named: object) -> object:
            self._fuse.before()
            done: object = await call(*arguments, **named)
            self._fuse.after()
            return done

        return stepped


@dataclass
class FusedAssembled:
    """An `Assembled` whose publication is a step."""

    inner: Assembled
    fuse: Fuse

    @property
    def digest(self) -> str:
        return self.inner.digest

    def publish(self) -> None:
        self.fuse.step(self.inner.publish)


class FusedWorkspace:
    """A `Workspace` whose writes are steps."""

    def __init__(self, workspace: LocalWorkspace, fuse: Fuse) -> None:
        self._workspace = workspace
        self._fuse = fuse

    def check_output(self, output: Output, input_path: str) -> None:
        self._workspace.check_output(output, input_path)

    def write_part(self, lease: Lease, index: int, table: pa.Table, output: Output) -> Part:
        return self._fuse.step(lambda: self._workspace.write_part(lease, index, table, output))

    def has_part(self, job_id: str, part: Part) -> bool:
        return self._workspace.has_part(job_id, part)

    def assemble(
        self,
        lease: Lease,
        output: Output,
        parts: Sequence[Part],
        failed: Iterator[FailedRow],
        columns: Sequence[str],
        *,
        stop: threading.Event,
    ) -> Assembled:
        made = self._fuse.step(lambda: self._workspace.assemble(lease, output, parts, failed, columns, stop=stop))
        return FusedAssembled(made, self._fuse)

    def digest(self, path: str) -> str:
        return self._workspace.digest(path)

    def withdraw(self, output: Output, digest: str) -> None:
        self._workspace.withdraw(output, digest)

    def discard(self, job_id: str, output: Output) -> None:
        self._workspace.discard(job_id, output)


class FusedModel:
    """A `Model` whose answers are steps."""

    def __init__(self, fuse: Fuse) -> None:
        self._model = SumsModel()
        self._fuse = fuse

    async def infer(
        self, version: Version, tensors: Mapping[str, Tensor], outputs: Sequence[str], parameters: Mapping[str, str]
    ) -> Answer:
        self._fuse.before()
        answer = await self._model.infer(version, tensors, outputs, parameters)
        self._fuse.after()
        return answer


def row(number: int) -> str:
    b = "oops" if number == BAD[0] else "666" if number == BAD[1] else str(number)
    return f'{{"id": {number + 100}, "a": {number}.5, "b": {b if b.isdigit() else chr(34) + b + chr(34)}}}\n'


class JobMachine(RuleBasedStateMachine):
    """One job, its callers, and workers that come and go."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="jobs-"))
        self.source = self.folder / "in.jsonl"
        self.source.write_text("".join(row(number) for number in range(ROWS)))
        self.loop = asyncio.new_event_loop()
        self.store = MemoryBatchStore(SystemClock())
        self.workspace = LocalWorkspace(self.folder / "data")
        self.zombie: Lease | None = None

    @initialize(ending=st.sampled_from(["jsonl", "csv", "parquet"]))
    def begin(self, ending: str) -> None:
        self.target, self.whole = self.folder / f"out.{ending}", self.folder / f"whole.{ending}"
        self.jobs = Jobs(
            store=self.store,
            catalogue=Catalogue(SUMS),
            sources=LocalSources(),
            workspace=self.workspace,
            clock=SystemClock(),
            wake=lambda: None,
        )
        undisturbed = MemoryBatchStore(SystemClock())
        self.wait(undisturbed.create(NewJob("whole", self.spec(self.whole), "", "")))
        (lease,) = self.wait(undisturbed.claim("one", lease_s=LEASE_S, limit=1))
        self.wait(self.work(undisturbed, lease, Fuse(10**9, after=False)))
        self.wait(self.store.create(NewJob(JOB_ID, self.spec(self.target), "", "")))

    def spec(self, target: Path) -> JobSpec:
        return replace(spec_of(str(self.source), str(target)), batch_size=2, max_parallelism=3)

    def wait(self, work: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(asyncio.wait_for(work, 20))

    async def work(self, store: MemoryBatchStore, lease: Lease, fuse: Fuse) -> None:
        job = await store.get(lease.job_id)
        predictor = Predictor(
            model=FusedModel(fuse),
            board=CountingBoard(),
            clock=SystemClock(),
            rng=random.Random(1),
            outage_timeout_s=0,
            spec=job.spec,
        )
        fused: WorkStore = FusedStore(store, fuse)  # type: ignore[assignment]  # it has every call that the store has
        run = JobRun(
            lease=lease,
            job=job,
            store=fused,
            sources=LocalSources(),
            workspace=FusedWorkspace(self.workspace, fuse),
            predictor=predictor,
            board=CountingBoard(),
            clock=SystemClock(),
            chunk_rows_min=4,
        )
        await run.run()

    @property
    def status(self) -> Status:
        return self.wait(self.store.get(JOB_ID)).status

    def claim(self) -> Lease | None:
        """As a worker that finds the job waiting, or whose lease ran out."""
        leases = self.wait(self.store.claim("worker", lease_s=LEASE_S, limit=1))
        return leases[0] if leases else None

    def let_lease_run_out(self) -> None:
        held = self.store._rows[JOB_ID]
        held.until = None

    @rule(steps=st.integers(0, 90), after=st.booleans())
    def a_worker_comes_and_dies_or_finishes(self, steps: int, *, after: bool) -> None:
        self.let_lease_run_out()
        lease = self.claim()
        if lease is None:
            return
        try:
            self.wait(self.work(self.store, lease, Fuse(steps, after=after)))
        except KilledError:
            self.zombie = lease

    @precondition(lambda self: self.zombie is not None)
    @rule(steps=st.integers(0, 90))
    def an_old_worker_wakes_and_goes_on(self, steps: int) -> None:
        """Of a lease that is no longer the newest it can do nothing; with the newest it just works."""
        assert self.zombie is not None
        before = self.wait(self.store.get(JOB_ID))
        newest = self.holds(self.zombie)
        try:
            self.wait(self.work(self.store, self.zombie, Fuse(steps, after=False)))
            assert newest, "an old lease was good for something"
        except (FencedError, KilledError):
            assert newest or self.wait(self.store.get(JOB_ID)) == before

    def holds(self, lease: Lease) -> bool:
        """Whether the lease is the newest."""
        return self.store._rows[JOB_ID].token == lease.token

    @rule(chosen=st.integers(0, 100))
    def a_part_vanishes(self, chosen: int) -> None:
        parts = sorted((self.folder / "data" / "jobs" / JOB_ID).glob("*.part"))
        if parts:
            parts[chosen % len(parts)].unlink()

    @precondition(lambda self: not self.status.ended)
    @rule()
    def a_caller_pauses_it(self) -> None:
        self.wait(self.jobs.pause(JOB_ID))
        assert self.claim() is None
        self.wait(self.jobs.resume(JOB_ID))

    @precondition(lambda self: not self.status.ended)
    @rule()
    def a_caller_cancels_it_and_thinks_better_of_it(self) -> None:
        self.wait(self.jobs.cancel(JOB_ID))
        self.clear_up()
        assert not self.target.exists()
        assert not list(self.folder.glob(".out*"))
        assert not (self.folder / "data" / "jobs" / JOB_ID).exists()
        self.wait(self.jobs.retry(JOB_ID))

    def clear_up(self) -> None:
        for leftover in self.wait(self.store.leftovers(settle_s=0, limit=10)):
            self.wait(self.store.clean(leftover.job_id, partial(clear_away, self.workspace, leftover)))

    @invariant()
    def the_output_is_whole_or_absent(self) -> None:
        if not hasattr(self, "target"):
            return
        job = self.wait(self.store.get(JOB_ID))
        assert job.processed_rows <= ROWS
        if job.status is Status.COMPLETED:
            assert self.target.exists()
        if self.target.exists():
            assert self.target.read_bytes() == self.whole.read_bytes()

    def teardown(self) -> None:
        if hasattr(self, "target"):
            self.finish()
        self.loop.run_until_complete(self.loop.shutdown_default_executor())
        self.loop.close()
        shutil.rmtree(self.folder)

    def finish(self) -> None:
        if not self.status.ended:
            self.a_worker_comes_and_dies_or_finishes(10**9, after=False)
        job = self.wait(self.store.get(JOB_ID))
        assert (job.status, job.error_message) == (Status.COMPLETED, "")
        assert (job.total_rows, job.processed_rows, job.failed_rows) == (ROWS, ROWS, len(BAD))
        assert self.target.read_bytes() == self.whole.read_bytes()
        errors, expected = (path.with_name(f"{path.name}.errors.jsonl") for path in (self.target, self.whole))
        assert errors.read_bytes() == expected.read_bytes()
        numbers = [failed.row_number for failed in self.wait(self.store.failed_rows(JOB_ID, after=-1, limit=99))]
        assert numbers == list(BAD)
        self.clear_up()
        assert not list(self.folder.glob(".out*"))


TestJobs = JobMachine.TestCase
TestJobs.settings = settings(
    max_examples=60,
    stateful_step_count=12,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
