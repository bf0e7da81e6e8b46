"""Launches jobs' work in clusters: what whoever carries a job does about its Job, and the tidier of all Jobs."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from services.batch.domain.indexed_job import Manifest, PodOptions, indexed_job
from services.batch.domain.job import LOCAL, Job
from services.batch.domain.launched import (
    Fate,
    Launched,
    Standing,
    Step,
    changes,
    failure,
    fate,
    next_step,
    obstacle,
    unheard,
    unscheduled,
)
from services.batch.ports import StoreAwayError
from services.batch.ports_launch import Launcher, Namespaces
from services.common.body import text
from services.common.clock import Clock
from services.common.errors import MeshError, Reason
from services.common.signals import Signal, wait_at_most
from services.common.telemetry.logging import get_logger

log = get_logger(__name__)

_STANDINGS_MAX = 1000
_LOOK_S = 5.0
"""A cluster tells of changes by itself; this is for what no change announces, such as that nothing happens."""


@dataclass(frozen=True, slots=True)
class LaunchOptions:
    """`start_timeout_s`: how long a Job may be without any worker for a reason that does not pass by itself.
    `silent_timeout_s`: how long its workers may run before any of them asks for work.
    `outage_timeout_s`: how long a cluster may not answer."""

    pods: PodOptions
    namespace_default: str
    start_timeout_s: float
    silent_timeout_s: float
    outage_timeout_s: float
    poll_period_s: float


class Launch:
    """Sees to one job's Job while the job is carried."""

    def __init__(
        self,
        launcher: Launcher,
        namespaces: Namespaces,
        ever_leased: Callable[[str], Awaitable[bool]],
        options: LaunchOptions,
        clock: Clock,
    ) -> None:
        """`ever_leased`: whether any worker ever had work of a job, as the store says."""
        self._launcher = launcher
        self._namespaces = namespaces
        self._ever_leased = ever_leased
        self._options = options
        self._clock = clock
        self._woken = Signal()
        self._alone_since_s: float | None = None
        self._silent_since_s: float | None = None
        self._heard = False

    def wake(self) -> None:
        """What is asked of the job may be otherwise."""
        self._woken.fire()

    async def keep(self, job: Callable[[], Job], chunks: int) -> None:
        """Has the work of a job with so many chunks done, until it is cancelled; the Job stays then. Raises MeshError
        where the job must fail."""
        away_since_s: float | None = None
        while True:
            changed, woken = self._launcher.changed.current, self._woken.current
            try:
                await self.look(job(), chunks)
                away_since_s = None
            except MeshError as error:
                if error.reason not in (Reason.DEPENDENCY_UNAVAILABLE, Reason.ETAG_MISMATCH):
                    raise
                now_s = self._clock.monotonic()
                away_since_s = now_s if away_since_s is None else away_since_s
                if now_s - away_since_s > self._options.outage_timeout_s:
                    raise
                log.info("the cluster is asked again", job_id=job().job_id, why=error.message)
                # Not by what changes: a watch that breaks off is a change too.
                await self._clock.sleep(self._options.poll_period_s)
                continue
            await _first_of(changed, woken, seconds=min(_LOOK_S, self._options.start_timeout_s))

    async def look(self, job: Job, chunks: int) -> None:
        """Does what is to be done about the job's Job now. Raises MeshError where the job must fail, or where the
        cluster does not answer."""
        trouble = self._launcher.trouble
        if trouble is not None:
            raise trouble
        if not self._launcher.synced:
            return
        namespace = await self._namespaces.of(job.team) if job.team else self._options.namespace_default
        wanted = indexed_job(job, self._options.pods, namespace=namespace, chunks=chunks)
        found = self._launcher.find(namespace, text(wanted, "metadata", "name"))
        if found is not None and found.failure is not None:
            raise failure(found, self._launcher.pods(found), timeout_minutes=job.spec.timeout_minutes)
        for other in self._launcher.jobs():
            # Of an attempt before this one.
            if other.job_id == job.job_id and other.name != text(wanted, "metadata", "name") and not other.ending:
                await self._launcher.remove(other)
        await self._bring_about(wanted, found)
        if found is not None:
            await self._check_started(found)
            await self._check_heard(found, job.job_id)

    async def _bring_about(self, wanted: Manifest, found: Launched | None) -> None:
        step = next_step(wanted, found)
        name = text(wanted, "metadata", "name")
        if step is Step.CREATE:
            await self._launcher.apply(wanted)
            log.info("workers are launched", kubernetes_job=name)
        elif found is not None and step is Step.CHANGE:
            await self._launcher.change(found, changes(wanted))
        elif found is not None and step is Step.REMOVE:
            await self._launcher.remove(found)
            log.info("workers are launched anew", kubernetes_job=name, ended=found.complete)
            # Its workers went because nothing was left, or are to go; in no case are others made at once.
            await self._clock.sleep(self._options.poll_period_s)

    async def _check_started(self, found: Launched) -> None:
        """Raises where no worker has run for too long, and why is known."""
        now_s = self._clock.monotonic()
        if found.ready or found.suspended or found.complete or found.ending:
            self._alone_since_s = None
            return
        if self._alone_since_s is None:
            self._alone_since_s = now_s
        if now_s - self._alone_since_s < self._options.start_timeout_s:
            return
        pods = self._launcher.pods(found)
        reason = obstacle(found, pods, await self._launcher.refusals(found) if not pods else ())
        if reason is not None:
            raise reason
        words = unscheduled(pods)
        log.warning("no worker runs yet", kubernetes_job=found.name, why=words or "its pods have not started")
        self._alone_since_s = now_s

    async def _check_heard(self, found: Launched, job_id: str) -> None:
        """Raises where workers have run for too long, and none of them ever asked for work: they cannot reach whom they
        are to ask, and go on trying, since he may only be away."""
        now_s = self._clock.monotonic()
        if self._heard or not found.ready or found.suspended or found.complete or found.ending:
            self._silent_since_s = None
            return
        if self._silent_since_s is None:
            self._silent_since_s = now_s
        if now_s - self._silent_since_s < self._options.silent_timeout_s:
            return
        self._heard = await self._ever_leased(job_id)
        if not self._heard:
            raise unheard(found, self._options.pods.batch_address, self._options.silent_timeout_s)


class Launches:
    """All clusters. `tidy` is a background task."""

    def __init__(
        self,
        launchers: Mapping[str, Launcher],
        *,
        namespaces: Namespaces,
        standings: Callable[[Sequence[str]], Awaitable[Mapping[str, Standing]]],
        ever_leased: Callable[[str], Awaitable[bool]],
        options: LaunchOptions,
        clock: Clock,
    ) -> None:
        """`standings`: how jobs stand, as the store says. `ever_leased`: whether any worker ever had work of one."""
        self._launchers = launchers
        self._namespaces = namespaces
        self._standings = standings
        self._ever_leased = ever_leased
        self._options = options
        self._clock = clock
        self._woken = asyncio.Event()

    def of(self, job: Job) -> Launch | None:
        """Who sees to a job's Job; None: its work runs here. Raises CLUSTER_REFUSED where its cluster is none."""
        runtime = job.spec.runtime
        if runtime == LOCAL:
            return None
        if runtime not in self._launchers:
            known = ", ".join(sorted(self._launchers)) or "none"
            raise MeshError(
                Reason.CLUSTER_REFUSED,
                f"the job's runtime is {runtime!r}, which INFERMESH_BATCH_CLUSTERS does not name any more (it names "
                f"{known}); name it there and retry the job, or make another job",
                metadata={"cluster": runtime},
            )
        return Launch(self._launchers[runtime], self._namespaces, self._ever_leased, self._options, self._clock)

    def wake(self) -> None:
        """Has it look at once."""
        self._woken.set()

    async def tidy(self) -> None:
        """Suspends and removes what nobody carries any more, until it is cancelled."""
        while True:
            self._woken.clear()
            await self.look()
            await wait_at_most(self._woken, self._options.poll_period_s)

    async def look(self) -> None:
        """Suspends and removes what nobody carries any more, now; what fails is for the next look."""
        for name, launcher in self._launchers.items():
            try:
                await self._tidy(launcher)
            except StoreAwayError as error:
                log.info("Jobs are looked at again soon", cluster=name, why=error.message)
            except MeshError as error:
                log.warning("Jobs are not tidied up yet", cluster=name, why=error.message)

    async def _tidy(self, launcher: Launcher) -> None:
        jobs = [job for job in launcher.jobs() if not job.ending]
        for first in range(0, len(jobs), _STANDINGS_MAX):
            some = jobs[first : first + _STANDINGS_MAX]
            standings = await self._standings([job.job_id for job in some])
            for job in some:
                await self._settle(launcher, job, standings.get(job.job_id))

    @staticmethod
    async def _settle(launcher: Launcher, job: Launched, standing: Standing | None) -> None:
        end = fate(job, standing)
        if end is Fate.REMOVE:
            await launcher.remove(job)
            log.info("workers are let go of", job_id=job.job_id, kubernetes_job=job.name)
        elif end is Fate.SUSPEND:
            await launcher.change(job, {"spec": {"suspend": True}})
            log.info("workers are suspended", job_id=job.job_id, kubernetes_job=job.name)


async def _first_of(*events: asyncio.Event, seconds: float) -> None:
    """Returns when one of the events is set or the time has passed."""
    waits = [asyncio.create_task(event.wait()) for event in events]
    try:
        await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
        await asyncio.gather(*waits, return_exceptions=True)
