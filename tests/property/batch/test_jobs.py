"""One job through whatever may happen to it: who carries it dies at any step, and so do its workers, of which there are
several; others take over while they live on and record what they can; parts vanish, callers pause, cancel and retry it.

At all times the output is whole or absent. In the end every row was predicted once or is named once, in order, and the
files are those of a job that nothing happened to.
"""

import asyncio
import contextlib
import copy
import gzip
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
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from services.batch.adapters.files import LocalWorkspace
from services.batch.adapters.sources import FileSources
from services.batch.domain.chunks import ChunkResult, FailedRow, Part
from services.batch.domain.job import JobSpec, Output, Spent, Status, Version
from services.batch.domain.rows import Tensor
from services.batch.engines.desk import Desk
from services.batch.engines.jobs import Jobs
from services.batch.engines.predictor import Predictor
from services.batch.engines.run import JobRun
from services.batch.engines.runner import clear_away
from services.batch.engines.shards import Shards
from services.batch.engines.worker import Worker, WorkerOptions
from services.batch.ports import Answer, ChunkLease, FencedError, JobWork, Lease, NewJob, WorkStore
from services.batch.ports_places import Assembled
from services.common.clock import SystemClock
from tests.support.batch_fakes import SUMS, Catalogue, CountingBoard, MemoryBatchStore, SumsModel, spec_of

T = TypeVar("T")
LEASE_S = 3600.0
ROWS = 23
CUT = 9
"""Rows of the first file; the others are in a second one, which is packed."""
BAD = (4, 11)
_LOOK_S, _ALONE_S = 0.002, 0.05
"""How often whoever carries the job is told how far it is; and how long he is given with no worker left."""
JOB_ID = "batch_job_1"
_FUSES = st.tuples(st.integers(0, 16) | st.integers(0, 60), st.booleans())
_LIVES = st.tuples(_FUSES, st.lists(_FUSES, max_size=3), st.integers(-200, 400))
"""After how many steps who carries the job dies, and each worker; and who wakes then."""


class KilledError(BaseException):
    """The process is no more, and handles nothing."""


class Fuse:
    """Counts the steps of a worker, and kills it before or after one of them. A dead worker does nothing more."""

    def __init__(self, steps: int, *, after: bool) -> None:
        self.left = steps
        self._after = after
        self._lock = threading.Lock()

    def blow(self) -> None:
        self.left = -1

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
    """A `WorkStore` whose every call is a step. It remembers which chunks were leased."""

    def __init__(self, store: MemoryBatchStore, fuse: Fuse, leases: list[ChunkLease]) -> None:
        self._store = store
        self._fuse = fuse
        self._leases = leases

    def __getattr__(self, name: str) -> Callable[..., Coroutine[Any, Any, object]]:
        call = getattr(self._store, name)

        async def stepped(*arguments: object, **named: object) -> object:
            self._fuse.before()
            done: object = await call(*arguments, **named)
            if name == "lease_chunks":
                assert isinstance(done, tuple)
                self._leases += done[0]
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

    async def explain(self, version: Version, tensors: Mapping[str, Tensor], parameters: Mapping[str, str]) -> Answer:
        self._fuse.before()
        answer = await self._model.explain(version, tensors, parameters)
        self._fuse.after()
        return answer


def row(number: int) -> str:
    b = "oops" if number == BAD[0] else "666" if number == BAD[1] else str(number)
    return f'{{"id": {number + 100}, "a": {number}.5, "b": {b if b.isdigit() else chr(34) + b + chr(34)}}}\n'


class JobMachine(RuleBasedStateMachine):
    """One job, its callers, and workers that come and go. Threads and tasks make each run another, so no rule is chosen
    by the state: those that find nothing to do return."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="jobs-"))
        self.source = self.folder / "in.jsonl"
        self.source.mkdir()
        (self.source / "1.jsonl").write_text("".join(row(number) for number in range(CUT)))
        rest = "".join(row(number) for number in range(CUT, ROWS))
        (self.source / "2.jsonl.gz").write_bytes(gzip.compress(rest.encode()))
        self.loop = asyncio.new_event_loop()
        self.store = MemoryBatchStore(SystemClock())
        self.workspace = LocalWorkspace(self.folder / "data")
        self.zombie: Lease | None = None
        self.leases: list[ChunkLease] = []

    @initialize(ending=st.sampled_from(["jsonl", "csv", "parquet"]))
    def begin(self, ending: str) -> None:
        self.target, self.whole = self.folder / f"out.{ending}", self.folder / f"whole.{ending}"
        self.jobs = Jobs(
            store=self.store,
            catalogue=Catalogue(SUMS),
            sources=FileSources(),
            workspace=self.workspace,
            clock=SystemClock(),
            wake=lambda: None,
        )
        undisturbed = MemoryBatchStore(SystemClock())
        self.wait(undisturbed.create(NewJob("whole", self.spec(self.whole), "", "")))
        (lease,) = self.wait(undisturbed.claim("one", lease_s=LEASE_S, limit=1))
        self.wait(self.carry(undisturbed, lease, Fuse(10**9, after=False), {"one": Fuse(10**9, after=False)}))
        self.leases.clear()
        self.wait(self.store.create(NewJob(JOB_ID, self.spec(self.target), "", "")))

    def spec(self, target: Path) -> JobSpec:
        spec = spec_of(str(self.source), str(target))
        return replace(spec, batch_size=2, max_parallelism=3, output=replace(spec.output, columns=("a",)))

    def wait(self, work: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(asyncio.wait_for(work, 20))

    async def carry(
        self, store: MemoryBatchStore, lease: Lease, fuse: Fuse, workers: Mapping[str, Fuse] | None = None
    ) -> None:
        """Carries the job until it is published, beside workers that die when their fuses say so."""
        fused: WorkStore = FusedStore(store, fuse, self.leases)  # type: ignore[assignment]  # it has every call of it
        run = JobRun(
            lease=lease,
            job=await store.get(lease.job_id),
            store=fused,
            sources=FileSources(),
            workspace=FusedWorkspace(self.workspace, fuse),
            offer=lambda: None,
            chunk_rows_min=4,
        )
        carrier = asyncio.create_task(run.run())
        tasks = [asyncio.create_task(self.serve(store, name, one)) for name, one in (workers or {}).items()]
        while not carrier.done():
            alone = all(task.done() for task in tasks)
            job = await store.get(lease.job_id)
            run.adjust(job)
            await asyncio.wait([carrier], timeout=_ALONE_S if alone else _LOOK_S)
            if alone and job.completed_chunks < max(1, job.total_chunks):
                break  # nobody is left who does what is to be done
        for task in (carrier, *tasks):
            task.cancel()
        await asyncio.gather(carrier, *tasks, return_exceptions=True)
        if not carrier.cancelled():
            carrier.result()

    async def serve(self, store: MemoryBatchStore, name: str, fuse: Fuse) -> None:
        """A worker until its fuse is out, or until it is cancelled, which is its death too."""
        fused: WorkStore = FusedStore(store, fuse, self.leases)  # type: ignore[assignment]  # it has every call of it
        work = Shards(
            store=fused,
            board=CountingBoard(),
            clock=SystemClock(),
            lease_s=LEASE_S,
            poll_period_s=0.01,
            told=lambda _: None,
        )
        worker = Worker(
            work=work,
            sources=FileSources(),
            workspace=FusedWorkspace(self.workspace, fuse),
            model=FusedModel(fuse),
            clock=SystemClock(),
            rng=random.Random(1),
            options=WorkerOptions(name=name, outage_timeout_s=0),
        )
        try:
            await worker.run()
        except BaseExceptionGroup as errors:
            killed, others = errors.split(KilledError)
            assert killed is not None
            assert others is None
        finally:
            fuse.blow()
            with contextlib.suppress(KilledError):
                await worker.stop()

    @property
    def status(self) -> Status:
        return self.wait(self.store.get(JOB_ID)).status

    def claim(self) -> Lease | None:
        """As a worker that finds the job waiting, or whose lease ran out."""
        leases = self.wait(self.store.claim("worker", lease_s=LEASE_S, limit=1))
        return leases[0] if leases else None

    def let_leases_run_out(self) -> None:
        held = self.store._rows[JOB_ID]
        held.until = None
        for hold in held.holds.values():
            hold.until = None

    @rule(lives=st.lists(_LIVES, min_size=1, max_size=8))
    def processes_come_and_die_or_finish(
        self, lives: list[tuple[tuple[int, bool], list[tuple[int, bool]], int]]
    ) -> None:
        """Who carries the job and some workers, several times one after the other; in between somebody may wake who
        was believed dead."""
        for carrier, workers, late in lives:
            self.live(carrier, workers)
            if late >= 0 and self.leases:
                self.wake(self.leases[late % len(self.leases)], again=bool(late % 2))
            self.old_leases_of_chunks_are_good_for_nothing()

    def live(self, carrier: tuple[int, bool], workers: Sequence[tuple[int, bool]]) -> None:
        """One life of the processes."""
        self.let_leases_run_out()
        lease = self.claim()
        if lease is None:
            return
        fuses = {f"worker-{place}": Fuse(left, after=then) for place, (left, then) in enumerate(workers)}
        try:
            self.wait(self.carry(self.store, lease, Fuse(carrier[0], after=carrier[1]), fuses))
        except KilledError:
            self.zombie = lease

    @rule(steps=st.integers(0, 90))
    def who_carried_it_wakes_and_goes_on(self, steps: int) -> None:
        """Of a lease that is no longer the newest he can do nothing; with the newest he just goes on."""
        if self.zombie is None:
            return
        before = self.wait(self.store.get(JOB_ID))
        newest = self.holds(self.zombie)
        workers = {"late": Fuse(steps, after=False)} if newest else {}
        try:
            self.wait(self.carry(self.store, self.zombie, Fuse(steps, after=False), workers))
            assert newest, "an old lease was good for something"
        except (FencedError, KilledError):
            assert newest or self.wait(self.store.get(JOB_ID)) == before

    @rule(chosen=st.integers(0, 1000), again=st.booleans())
    def a_worker_wakes_and_records_its_chunk(self, chosen: int, *, again: bool) -> None:
        if self.leases:
            self.wake(self.leases[chosen % len(self.leases)], again=again)

    def wake(self, lease: ChunkLease, *, again: bool) -> None:
        """Of a lease that is no longer the chunk's newest nothing is recorded; a chunk counts once in any case."""
        before = self.wait(self.store.get(JOB_ID))
        newest = self.newest(lease)
        try:
            for _ in range(1 + again):
                self.wait(self.record(lease))
            assert newest, "an old lease was good for something"
        except FencedError:
            assert self.wait(self.store.get(JOB_ID)) == before
            assert not newest or before.status.ended or before.paused

    def newest(self, lease: ChunkLease) -> bool:
        """Whether no later lease of the chunk was given out."""
        hold = self.store._rows[JOB_ID].holds.get(lease.chunk.index)
        return hold is not None and hold.token == lease.token

    async def record(self, lease: ChunkLease) -> None:
        job = await self.store.get(JOB_ID)
        plan = self.store._rows[JOB_ID].plan
        if plan is None:
            raise FencedError
        predictor = Predictor(
            model=SumsModel(),
            board=CountingBoard(),
            clock=SystemClock(),
            rng=random.Random(1),
            outage_timeout_s=0,
            spec=job.spec,
        )
        work = JobWork(JOB_ID, lease.attempt, job.spec, "", "", plan)
        desk = Desk(work, sources=FileSources(), workspace=self.workspace, predictor=predictor, clock=SystemClock())
        await self.store.complete_chunk(lease, await desk.done(lease))

    def holds(self, lease: Lease) -> bool:
        """Whether the lease is the newest."""
        return self.store._rows[JOB_ID].token == lease.token

    @rule(chosen=st.integers(0, 100))
    def a_part_vanishes(self, chosen: int) -> None:
        parts = sorted((self.folder / "data" / "jobs" / JOB_ID).glob("*.part"))
        if parts:
            parts[chosen % len(parts)].unlink()

    @rule()
    def a_caller_pauses_it(self) -> None:
        if self.status.ended:
            return
        self.wait(self.jobs.pause(JOB_ID))
        assert self.claim() is None
        self.wait(self.jobs.resume(JOB_ID))

    @rule()
    def a_caller_cancels_it_and_thinks_better_of_it(self) -> None:
        if self.status.ended:
            return
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

    @invariant()
    def old_leases_of_chunks_are_good_for_nothing(self) -> None:
        """Whoever has one records nothing with it, prolongs and fails nothing, and frees nothing that is another's by
        now."""
        row = self.store._rows.get(JOB_ID)
        if row is None:
            return
        old = [lease for lease in self.leases if not self.newest(lease)]
        before = (row.job, copy.deepcopy(row.holds), set(row.done))
        assert not self.wait(self.store.renew_chunks(old, lease_s=LEASE_S)).held
        self.wait(self.store.give_back_chunks(old))
        for lease in old:
            part = Part("old", 1, lease.chunk.row_count)
            with pytest.raises(FencedError):
                self.wait(self.store.complete_chunk(lease, ChunkResult(lease.chunk, part, (), Spent())))
            with pytest.raises(FencedError):
                self.wait(self.store.fail_chunk(lease, reason="INTERNAL", message="an old lease was good for this"))
        assert (row.job, row.holds, set(row.done)) == before

    def teardown(self) -> None:
        if hasattr(self, "target"):
            self.finish()
        self.loop.run_until_complete(self.loop.shutdown_default_executor())
        self.loop.close()
        shutil.rmtree(self.folder)

    def finish(self) -> None:
        if not self.status.ended:
            self.live((10**9, False), [(10**9, False)] * 2)
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
