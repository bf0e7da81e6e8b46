"""Notifications in memory, and couriers that do as they are told."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from services.batch.domain.deliveries import Delivery
from services.batch.domain.job import Job, Status
from services.batch.domain.notices import Means
from services.batch.ports import StoreAwayError
from services.batch.ports_outbox import Letter
from services.common.clock import Clock
from services.common.delivery.letters import UndeliveredError
from services.common.delivery.pace import Outcome


@dataclass
class Waiting:
    """A letter and what became of it."""

    letter: Letter
    due_at: datetime
    outcome: str = ""
    problem: str = ""
    ended_at: datetime | None = None


class MemoryOutbox:
    """An `Outbox`. With `away` set it does not answer."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.letters: list[Waiting] = []
        self.away = False

    def tell(self, before: Job, job: Job) -> None:
        """Writes what a change of a job's status is to be told by, each address once an attempt and status."""
        if job.status in (before.status, Status.PENDING):
            return
        wished = {(notice.means, notice.address) for notice in job.spec.notices if job.status in notice.statuses}
        if job.spec.notify_on_completion and job.status.ended:
            wished.add((Means.EMAIL, job.spec.notify_on_completion))
        for means, address in sorted(wished):
            key = (job.job_id, job.attempt, job.status, means, address)
            if all(_key(item.letter) != key for item in self.letters):
                now = self._clock.now()
                letter = Letter(f"notice-{len(self.letters)}", means, address, job, now, 0)
                self.letters.append(Waiting(letter, now))

    async def take(self, *, limit: int, hold_s: float) -> Sequence[Letter]:
        """Those that are due."""
        self._reach()
        now = self._clock.now()
        taken: list[Letter] = []
        for item in sorted(self.letters, key=lambda item: item.due_at):
            if not item.outcome and item.due_at <= now and len(taken) < limit:
                item.letter = replace(item.letter, tries=item.letter.tries + 1)
                item.due_at = now + timedelta(seconds=hold_s)
                taken.append(item.letter)
        return taken

    async def postpone(self, letter: Letter, *, after_s: float, why: str) -> None:
        """Later."""
        self._reach()
        item = self._found(letter)
        if not item.outcome and item.letter.tries == letter.tries:
            item.due_at, item.problem = self._clock.now() + timedelta(seconds=after_s), why

    async def end(self, letter: Letter, outcome: str, *, why: str = "") -> None:
        """For good."""
        self._reach()
        item = self._found(letter)
        if not item.outcome:
            item.outcome, item.problem, item.ended_at = outcome, why, self._clock.now()

    async def deliveries(self, job_id: str, *, limit: int) -> Sequence[Delivery]:
        """Of one job."""
        self._reach()
        found = [_delivery(item) for item in self.letters if item.letter.job.job_id == job_id]
        by_address = sorted(found, key=lambda one: (one.means, one.address))
        return sorted(by_address, key=lambda one: one.created_at, reverse=True)[:limit]

    async def waiting(self) -> int:
        """How many."""
        self._reach()
        return sum(not item.outcome for item in self.letters)

    def _found(self, letter: Letter) -> Waiting:
        return next(item for item in self.letters if item.letter.notice_id == letter.notice_id)

    def _reach(self) -> None:
        if self.away:
            raise StoreAwayError("it is away")


class MemoryCourier:
    """A `Courier` that notes what arrives. Each error in `trouble` meets one delivery."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.trouble: list[UndeliveredError] = []
        self.arrived: list[tuple[datetime, Letter]] = []
        self.tried: list[datetime] = []

    async def deliver(self, letter: Letter) -> None:
        """Notes it."""
        self.tried.append(self._clock.now())
        if self.trouble:
            raise self.trouble.pop(0)
        self.arrived.append((self._clock.now(), letter))


def _delivery(item: Waiting) -> Delivery:
    letter = item.letter
    return Delivery(
        means=letter.means,
        address=letter.address,
        status=letter.job.status,
        attempt=letter.job.attempt,
        outcome=Outcome(item.outcome) if item.outcome else None,
        tries=letter.tries,
        problem=item.problem,
        created_at=letter.created_at,
        due_at=item.due_at,
        ended_at=item.ended_at,
    )


def _key(letter: Letter) -> tuple[object, ...]:
    return (letter.job.job_id, letter.job.attempt, letter.job.status, letter.means, letter.address)
