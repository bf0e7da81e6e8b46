"""Does chunks: leases as many as it has room for, keeps the leases, and records what is done.

The same engine runs in the batch service's own process and in processes of its own, wherever they are started: it
knows `Work` and not who is behind it. It remembers nothing that it could not lose: a worker that dies leaves leases
that run out and parts that nobody counts.
"""

import asyncio
import contextlib
import random
import secrets
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import dataclass

from services.batch.domain.job import JobSpec
from services.batch.domain.launched import Bond
from services.batch.domain.retry import Verdict, delay_s, judge
from services.batch.engines.desk import Desk
from services.batch.engines.predictor import Predictor
from services.batch.ports import ChunkLease, FencedError, JobWork, Model, Shift, Work
from services.batch.ports_places import Sources, Workspace
from services.common.clock import Clock
from services.common.errors import MeshError, Reason
from services.common.grpc.identity import Identity, act_as
from services.common.telemetry.logging import get_logger

log = get_logger(__name__)

_ROOM_FIRST = 2
"""Chunks that are leased of a job that is not known yet."""
_RENEW_FIRST_S = 0.25
"""How often leases are renewed until somebody has said how often they are to be."""
_DESKS_MAX = 8
"""Jobs that are kept open without a chunk under way."""


@dataclass(frozen=True, slots=True)
class WorkerOptions:
    """`outage_timeout_s`: a job whose requests all fail for so many seconds, whichever worker sent them, fails."""

    name: str
    outage_timeout_s: float
    bond: Bond | None = None
    """The one job that it is there for. None: all whose work runs on the batch service's machine."""


class Retried:
    """Counts requests that were sent again, until somebody is told of them."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()

    def retried(self, reason: str, count: int = 1) -> None:
        """Another one."""
        self._counts[reason] += count

    def taken(self) -> dict[str, int]:
        """What was counted since the last call."""
        counts, self._counts = dict(self._counts), Counter()
        return counts


class Worker:
    """Owns the tasks of its chunks. `run` is a background task, `stop` comes after it."""

    def __init__(
        self,
        *,
        work: Work,
        sources: Sources,
        workspace: Workspace,
        model: Model,
        clock: Clock,
        rng: random.Random,
        options: WorkerOptions,
    ) -> None:
        self._work = work
        self._sources = sources
        self._workspace = workspace
        self._model = model
        self._clock = clock
        self._rng = rng
        self._options = options
        self._retried = Retried()
        self._desks: dict[tuple[str, int], Desk] = {}
        self._chunks: dict[int, tuple[ChunkLease, asyncio.Task[None]]] = {}
        self._after: dict[str, int] = {}
        self._landed = asyncio.Event()
        self._renew_every_s = _RENEW_FIRST_S
        self.reachable = False
        """Whether whoever has the work answered when he was last asked."""
        self.over = False
        """Whether nothing is left to do of the one job that it is there for."""

    async def run(self) -> None:
        """Works until it is cancelled, or until nothing is left of the one job that it is there for."""
        async with asyncio.TaskGroup() as group:
            heartbeat = group.create_task(self._renew(), name="batch:heartbeat")
            await self._lease()
            heartbeat.cancel()

    async def stop(self) -> None:
        """Stops what is under way and leaves it to others. Call it once `run` has ended."""
        held = [lease for lease, _ in self._chunks.values()]
        tasks = [task for _, task in self._chunks.values()]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        await self._leave(held)

    @property
    def bond(self) -> Bond | None:
        """The one job that it is there for."""
        return self._options.bond

    # -- leases

    async def _lease(self) -> None:
        failures, begins = 0, True
        while True:
            self._landed.clear()
            room = self._room() - len(self._chunks)
            if room <= 0:
                await self._landed.wait()
                continue
            try:
                shift = await self._work.lease(
                    self._options.name,
                    limit=room,
                    after=dict(self._after),
                    known=dict(self._desks.keys()),
                    begins=begins,
                    bond=self._options.bond,
                )
            except MeshError as error:
                failures += 1
                self._unreachable(error)
                await self._clock.sleep(delay_s(failures, error.retry_after_s, self._rng.random()))
                continue
            failures, begins, self.reachable = 0, False, True
            if shift.over:
                await self._cease()
                return
            self._begin(shift)

    async def _cease(self) -> None:
        """Nothing is left to do: what is under way is of no use to anybody, unless its record is on its way."""
        while self._chunks:
            self._landed.clear()
            await self._landed.wait()
        self.over = True

    def _begin(self, shift: Shift) -> None:
        self._renew_every_s = shift.renew_every_s
        if not shift.leases:
            self._tidy()
            return
        first = shift.leases[0]
        key = (first.job_id, first.attempt)
        if shift.job is not None:
            for old in [one for one in self._desks if one[0] == first.job_id]:
                del self._desks[old]
            self._desks[key] = self._desk(shift.job)
        desk = self._desks[key]
        if shift.pace is not None:
            desk.adjust(shift.pace)
        for lease in shift.leases:
            self._after[lease.job_id] = lease.chunk.index
            task = asyncio.create_task(self._carry(desk, lease), name=f"batch:chunk:{lease.token}")
            self._chunks[lease.token] = (lease, task)
            task.add_done_callback(self._ended(lease.token))

    def _desk(self, job: JobWork) -> Desk:
        return Desk(
            job,
            sources=self._sources,
            workspace=self._workspace,
            predictor=self._predictor(job.spec),
            clock=self._clock,
        )

    def _predictor(self, spec: JobSpec) -> Predictor:
        return Predictor(
            model=self._model,
            board=self._retried,
            clock=self._clock,
            rng=self._rng,
            outage_timeout_s=self._options.outage_timeout_s,
            spec=spec,
        )

    def _ended(self, token: int) -> Callable[[asyncio.Task[None]], None]:
        def ended(task: asyncio.Task[None]) -> None:
            if not task.cancelled():
                task.exception()  # looked at, so that it is not reported as forgotten
            self._chunks.pop(token, None)
            self._landed.set()

        return ended

    def _room(self) -> int:
        busy = {(lease.job_id, lease.attempt) for lease, _ in self._chunks.values()}
        return max((self._desks[key].room for key in busy), default=_ROOM_FIRST)

    def _tidy(self) -> None:
        """Forgets the jobs that it has had nothing to do of for the longest."""
        busy = {(lease.job_id, lease.attempt) for lease, _ in self._chunks.values()}
        for key in [key for key in self._desks if key not in busy][:-_DESKS_MAX]:
            del self._desks[key]
            self._after.pop(key[0], None)

    async def _renew(self) -> None:
        while True:
            await self._clock.sleep(self._renew_every_s)
            leases = [lease for lease, _ in self._chunks.values()]
            retries, taken = self._retried.taken(), [(desk, desk.silence.take()) for desk in self._desks.values()]
            heard = {desk.work.job_id: one for desk, one in taken if one is not None}
            if not leases and not retries and not heard:
                continue
            try:
                renewal = await self._work.renew(leases, retries, heard)
            except MeshError as error:
                for desk, one in taken:
                    if one is not None:
                        desk.silence.put_back(one)
                for reason, count in retries.items():
                    self._retried.retried(reason, count)
                self._unreachable(error)
                continue
            self.reachable = True
            lost = [lease for lease in leases if lease.token not in renewal.held and lease.token in self._chunks]
            for lease in lost:
                log.info("chunk was taken away", job_id=lease.job_id, chunk=lease.chunk.index, token=lease.token)
                self._chunks[lease.token][1].cancel()
            for key, desk in self._desks.items():
                if key[0] in renewal.paces:
                    desk.adjust(renewal.paces[key[0]])
            # Of a job that was paused the leases are his until they run out.
            await self._leave(lost)

    # -- chunks

    async def _carry(self, desk: Desk, lease: ChunkLease) -> None:
        """One chunk, whatever becomes of it. Raises nothing but a cancellation."""
        act_as(caller_of(desk.work))
        try:
            try:
                result = await desk.done(lease)
            except MeshError as error:
                await self._fail(lease, str(error.reason), error.message)
            else:
                await self._say(lambda: self._work.complete(lease, result))
        except FencedError:
            log.info("chunk was taken away", job_id=lease.job_id, chunk=lease.chunk.index, token=lease.token)
        except Exception:
            error_id = secrets.token_hex(6)
            log.exception("chunk failed unforeseen", job_id=lease.job_id, chunk=lease.chunk.index, error_id=error_id)
            why = f"an unforeseen failure; the worker's log has it under error_id {error_id}"
            with contextlib.suppress(FencedError, MeshError):
                await self._fail(lease, Reason.INTERNAL, why)

    async def _fail(self, lease: ChunkLease, reason: str, message: str) -> None:
        await self._say(lambda: self._work.fail(lease, reason=reason, message=message))

    async def _say(self, say: Callable[[], Coroutine[None, None, None]]) -> None:
        """Says something of a chunk as often as it takes: whether the lease is lost, others decide. Raises FencedError,
        or what is no matter of time."""
        failures = 0
        while True:
            try:
                return await say()
            except MeshError as error:
                if judge(error) is not Verdict.AGAIN:
                    raise
                failures += 1
                self._unreachable(error)
                await self._clock.sleep(delay_s(failures, error.retry_after_s, self._rng.random()))

    async def _leave(self, leases: list[ChunkLease]) -> None:
        try:
            await self._work.give_back(leases)
        except (MeshError, FencedError) as error:
            log.info("chunks are not given back; their leases run out", why=str(error))

    def _unreachable(self, error: MeshError) -> None:
        if self.reachable:
            log.warning("nobody gives work; this worker waits", why=error.message)
        self.reachable = False


def caller_of(work: JobWork) -> Identity:
    """In whose name a job predicts: see `JobAccess`."""
    if not work.team:
        return Identity(user=work.user)
    return Identity(user=work.user, team=work.team, role="viewer")
