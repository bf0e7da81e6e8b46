"""What became of telling people of a job."""

from dataclasses import dataclass
from datetime import datetime

from services.common.delivery.pace import Outcome


@dataclass(frozen=True, slots=True)
class Delivery:
    """What became of telling somebody of a status so far. `outcome` is None while it is tried, at `due_at` again."""

    means: str
    address: str
    status: str
    attempt: int
    outcome: Outcome | None
    tries: int
    problem: str
    created_at: datetime
    due_at: datetime
    ended_at: datetime | None = None
