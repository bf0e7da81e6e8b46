"""What the service does for workers, those in its own process and those that call it: the other side of `Work`."""

from collections.abc import Callable, Mapping, Sequence

from services.batch.domain.chunks import ChunkResult
from services.batch.domain.job import Job, Status
from services.batch.domain.launched import Bond
from services.batch.ports import Board, ChunkLease, JobWork, Pace, Renewal, Shift, WorkStore
from services.common.clock import Clock
from services.common.signals import Signal, wait_at_most
from services.common.telemetry.logging import get_logger

log = get_logger(__name__)

_RENEWALS_PER_LEASE = 4
_GIVEN, _DONE, _FAILED, _GIVEN_BACK, _LOST = "given", "done", "failed", "given_back", "lost"
WAIT_S = 5.0
"""How long a worker waits for work in one call."""


class Shards:
    """A `Work`."""

    def __init__(
        self,
        *,
        store: WorkStore,
        board: Board,
        clock: Clock,
        lease_s: float,
        poll_period_s: float,
        told: Callable[[Job], None],
    ) -> None:
        """`told` hears of every job of which a chunk was done, as it is then, or which failed."""
        self._store = store
        self._board = board
        self._clock = clock
        self._lease_s = lease_s
        self._poll_period_s = poll_period_s
        self._told = told
        self._offered = Signal()

    def wake(self) -> None:
        """There may be something to do."""
        self._offered.fire()

    async def lease(
        self,
        worker: str,
        *,
        limit: int,
        after: Mapping[str, int],
        known: Mapping[str, int],
        begins: bool = False,
        bond: Bond | None = None,
        wait_s: float = WAIT_S,
    ) -> Shift:
        """Chunks to do. Looks again when something may have changed here, and every `poll_period_s`: another process
        may have begun a job."""
        if begins:
            await self._store.free_chunks(worker)
        until_s = self._clock.monotonic() + wait_s
        while True:
            woken = self._offered.current
            leases, pace, over = await self._look(worker, limit, after, bond)
            left_s = until_s - self._clock.monotonic()
            if leases or over or left_s <= 0:
                break
            await wait_at_most(woken, min(left_s, self._poll_period_s))
        every_s = min(self._poll_period_s, self._lease_s / _RENEWALS_PER_LEASE)
        if not leases:
            return Shift(renew_every_s=every_s, over=over)
        first = leases[0]
        job = None if known.get(first.job_id) == first.attempt else await self._work(first)
        if job is None and known.get(first.job_id) != first.attempt:
            # It was begun again at this moment.
            await self._store.give_back_chunks(leases)
            return Shift(renew_every_s=every_s)
        self._board.leases(_GIVEN, len(leases))
        return Shift(leases, job, pace, every_s)

    async def renew(
        self, leases: Sequence[ChunkLease], retries: Mapping[str, int], heard: Mapping[str, bool]
    ) -> Renewal:
        """Prolongs leases."""
        for reason, count in retries.items():
            self._board.retried(reason, count)
        renewal = await self._store.renew_chunks(leases, lease_s=self._lease_s, heard=heard)
        self._board.leases(_LOST, sum(lease.token not in renewal.held for lease in leases))
        return renewal

    async def complete(self, lease: ChunkLease, result: ChunkResult) -> None:
        """Records a chunk."""
        job = await self._store.complete_chunk(lease, result)
        self._board.leases(_DONE, 1)
        version = job.spec.version
        self._board.rows(version.model, version.version, predicted=result.part.row_count, failed=len(result.failed))
        self._told(job)

    async def fail(self, lease: ChunkLease, *, reason: str, message: str) -> None:
        """Fails the job."""
        await self._store.fail_chunk(lease, reason=reason, message=message)
        self._board.leases(_FAILED, 1)
        self._board.job_ended(Status.FAILED)
        log.warning("job failed", job_id=lease.job_id, reason=reason, why=message, worker=lease.owner)

    async def give_back(self, leases: Sequence[ChunkLease]) -> None:
        """Frees chunks."""
        await self._store.give_back_chunks(leases)
        self._board.leases(_GIVEN_BACK, len(leases))
        self.wake()

    async def _look(
        self, worker: str, limit: int, after: Mapping[str, int], bond: Bond | None
    ) -> tuple[Sequence[ChunkLease], Pace | None, bool]:
        """Chunks, and whether there will never be any for a worker with that bond."""
        job_id = bond.job_id if bond is not None else ""
        if bond is not None:
            standing = (await self._store.standings([job_id])).get(job_id)
            if standing is None or standing.over(bond.attempt):
                return (), None, True
        leased = await self._store.lease_chunks(worker, lease_s=self._lease_s, limit=limit, after=after, job_id=job_id)
        return (*leased, False)

    async def _work(self, lease: ChunkLease) -> JobWork | None:
        work = await self._store.work_of(lease.job_id)
        return work if work is not None and work.attempt == lease.attempt else None
