"""The letters that tell people of jobs."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from services.batch.domain.deliveries import Delivery
from services.batch.domain.job import Job
from services.common.delivery.letters import Outbox


@dataclass(frozen=True, slots=True)
class Letter:
    """A notification to be delivered. `notice_id` is the same at each try; `tries` counts this one too."""

    notice_id: str
    means: str
    address: str
    job: Job
    """The job as it was when its status became what is told of."""
    created_at: datetime
    tries: int


class JobOutbox(Outbox[Letter], Protocol):
    """The notifications of jobs."""

    async def deliveries(self, job_id: str, *, limit: int) -> Sequence[Delivery]:
        """What became of a job's letters, those that were written last first."""
        ...
