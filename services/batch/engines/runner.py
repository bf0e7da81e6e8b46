"""Carries jobs: claims those that wait, keeps their leases, ends them, and clears up after them. Workers do the chunks.

It asks the store again and again what there is to do and never remembers, so a start after any death is a start like
any other: a job whose process died is one whose lease ran out.
"""

import asyncio
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from services.batch.domain.chunks import CHUNK_ROWS_MIN
from services.batch.domain.job import Job, Status
from services.batch.engines.access import JobAccess
from services.batch.engines.launch import Launches
from services.batch.engines.run import JobRun
from services.batch.ports import Board, FencedError, Lease, Leftover, StoreAwayError, WorkStore
from services.batch.ports_places import Sources, Workspace
from services.common.clock import Clock
from services.common.errors import MeshError, Reason
from services.common.grpc.identity import act_as
from services.common.telemetry.logging import get_logger

log = get_logger(__name__)

_LEFTOVERS_PAGE = 100
_SETTLE_PERIODS = 3
"""A worker that lost its job stops within one look and the end of its threads; its files are cleared after that."""
_RENEWALS_PER_LEASE = 4
_PUT_OFF_S = 300.0
"""Until files are tried again that could not be cleared away."""


@dataclass(frozen=True, slots=True)
class RunnerOptions:
    """What the runner can be told; see `BatchSettings`."""

    owner: str
    jobs_max: int
    lease_s: float
    poll_period_s: float
    chunk_rows_min: int = CHUNK_ROWS_MIN


class Runner:
    """Owns the tasks of the jobs that run in this process."""

    def __init__(
        self,
        *,
        store: WorkStore,
        access: JobAccess,
        sources: Sources,
        workspace: Workspace,
        board: Board,
        offer: Callable[[], None],
        launches: Launches,
        clock: Clock,
        options: RunnerOptions,
    ) -> None:
        """`offer` is called when there are chunks to do."""
        self._store = store
        self._access = access
        self._sources = sources
        self._workspace = workspace
        self._board = board
        self._offer = offer
        self._launches = launches
        self._clock = clock
        self._options = options
        self._running: set[asyncio.Task[None]] = set()
        self._runs: dict[str, JobRun] = {}
        self._woken = asyncio.Event()
        self._put_off_until_s: dict[str, float] = {}
        self.reachable = False
        """Whether the store answered when it was last asked."""

    def wake(self) -> None:
        """Has it look at once."""
        self._woken.set()
        self._launches.wake()

    def told(self, job: Job) -> None:
        """A chunk of the job was done, here or wherever else it is carried."""
        run = self._runs.get(job.job_id)
        if run is not None:
            run.adjust(job)

    async def run(self) -> None:
        """Looks for work until it is cancelled."""
        while True:
            self._woken.clear()
            try:
                await self._look()
            except StoreAwayError as error:
                if self.reachable:
                    log.warning("the store is away; jobs wait for it", why=error.message)
                self.reachable = False
            else:
                self.reachable = True
            await self._pause(self._options.poll_period_s)

    async def stop(self) -> None:
        """Stops what runs and gives it back, so that the next one goes on at once. Call it once `run` has ended."""
        running = list(self._running)
        for task in running:
            task.cancel()
        if running:
            await asyncio.wait(running)

    async def _look(self) -> None:
        await self._clear_up()
        free = self._options.jobs_max - len(self._running)
        if free <= 0:
            return
        leases = await self._store.claim(
            self._options.owner,
            lease_s=self._options.lease_s,
            limit=free,
            concurrency=self._access.concurrency(),
        )
        for lease in leases:
            # A lease that ran out while its work went on: the old work is fenced off and will find out.
            name = f"batch:job:{lease.job_id}:{lease.token}"
            task = asyncio.create_task(self._carry(lease), name=name)
            self._running.add(task)
            task.add_done_callback(self._ended)
        self._board.jobs_running(len(self._running))

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._board.jobs_running(len(self._running))
        self.wake()

    async def _carry(self, lease: Lease) -> None:
        """One lease from its beginning to its end, whatever that is. Raises nothing but a cancellation."""
        try:
            job = await self._store.renew(lease, lease_s=self._options.lease_s)
            act_as(self._access.caller_of(job))
            self._check_permitted(job)
            version = job.spec.version
            # Rows are shown as 0 before there are any: without, the first chunk's would be no growth to Prometheus.
            self._board.rows(version.model, version.version, predicted=0, failed=0)
            log.info("job runs", job_id=lease.job_id, token=lease.token, processed=job.processed_rows)
            await self._run(lease, job)
            self._board.job_ended(Status.COMPLETED)
            log.info("job completed", job_id=lease.job_id)
        except FencedError:
            log.info("job was taken away", job_id=lease.job_id, token=lease.token)
        except StoreAwayError as error:
            log.warning("job waits for the store", job_id=lease.job_id, why=error.message)
        except MeshError as error:
            await self._fail(lease, error)
        except asyncio.CancelledError:
            await self._give_back(lease)
            raise
        except Exception:
            error_id = secrets.token_hex(6)
            log.exception("job failed unforeseen", job_id=lease.job_id, error_id=error_id)
            why = f"an unforeseen failure; the service's log has it under error_id {error_id}"
            await self._fail(lease, MeshError(Reason.INTERNAL, why))

    async def _run(self, lease: Lease, job: Job) -> None:
        """Works and renews side by side; what ends first ends the other."""
        options = self._options
        run = JobRun(
            lease=lease,
            job=job,
            store=self._store,
            sources=self._sources,
            workspace=self._workspace,
            offer=self._offer,
            launch=self._launches.of(job),
            chunk_rows_min=options.chunk_rows_min,
        )
        self._runs[lease.job_id] = run
        work = asyncio.create_task(run.run(), name=f"batch:work:{lease.job_id}")
        try:
            while not work.done():
                await asyncio.wait([work], timeout=min(options.poll_period_s, options.lease_s / _RENEWALS_PER_LEASE))
                if not work.done():
                    await self._renew(lease, run)
        finally:
            if self._runs.get(lease.job_id) is run:
                del self._runs[lease.job_id]
            work.cancel()
            await asyncio.wait([work])
            if not work.cancelled():
                work.exception()  # looked at, so that it is not reported as forgotten where renewing failed first
        await work

    async def _renew(self, lease: Lease, run: JobRun) -> None:
        try:
            job = await self._store.renew(lease, lease_s=self._options.lease_s)
        except StoreAwayError:
            # Workers go on meanwhile; what cannot be recorded will say so itself.
            return
        self._check_permitted(job)
        run.adjust(job)
        if job.running_s > job.spec.timeout_minutes * 60:
            raise MeshError(
                Reason.DEADLINE_TOO_SHORT,
                f"the job ran for {job.running_s / 60:.1f} minutes, longer than its timeout_minutes "
                f"{job.spec.timeout_minutes}, and had done {job.percent:g} %; raise it and retry the job, which goes "
                "on where it stopped",
            )

    def _check_permitted(self, job: Job) -> None:
        """Raises MODEL_NOT_FOUND where the job's team does not see the model any more."""
        refusal = self._access.refusal(job)
        if refusal is not None:
            raise refusal

    async def _fail(self, lease: Lease, error: MeshError) -> None:
        try:
            await self._store.fail(lease, reason=error.reason, message=error.message)
        except (FencedError, StoreAwayError) as lost:
            # Whoever has the job next meets the same failure, unless it has passed.
            log.warning("job could not be marked failed", job_id=lease.job_id, why=str(lost))
            return
        self._board.job_ended(Status.FAILED)
        log.warning("job failed", job_id=lease.job_id, reason=error.reason, why=error.message)

    async def _give_back(self, lease: Lease) -> None:
        try:
            await self._store.release(lease)
        except (FencedError, StoreAwayError) as lost:
            log.info("job is not given back; its lease runs out", job_id=lease.job_id, why=str(lost))

    async def _clear_up(self) -> None:
        settle_s = self._options.poll_period_s * _SETTLE_PERIODS
        for leftover in await self._store.leftovers(settle_s=settle_s, limit=_LEFTOVERS_PAGE):
            if self._clock.monotonic() < self._put_off_until_s.get(leftover.job_id, 0.0):
                continue
            try:
                await self._store.clean(leftover.job_id, partial(clear_away, self._workspace, leftover))
            except StoreAwayError:
                raise
            except MeshError as error:
                # A bucket that is away keeps nobody waiting but its own leftovers.
                log.warning("a job's files are not cleared away yet", job_id=leftover.job_id, why=error.message)
                self._put_off_until_s[leftover.job_id] = self._clock.monotonic() + _PUT_OFF_S
            else:
                self._put_off_until_s.pop(leftover.job_id, None)

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._woken.wait()
        except TimeoutError:
            return


def clear_away(workspace: Workspace, leftover: Leftover) -> None:
    """Removes what an ended job leaves behind, and its output where the job was cancelled while it appeared."""
    if leftover.status is Status.CANCELLED:
        workspace.withdraw(leftover.output, leftover.digest)
    workspace.discard(leftover.job_id, leftover.output)
