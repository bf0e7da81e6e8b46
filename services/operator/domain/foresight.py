"""The floor of replicas that the deployer's forecast asks for, as it stands in the status, for as long as it holds.

It ends by itself: a deployer that died foresees nothing, and its last word must not hold replicas for ever.
"""

from dataclasses import dataclass
from datetime import datetime

from services.common.body import Body, table, text, whole
from services.operator.domain.observed import moment
from services.operator.domain.spec import ModelDeployment


@dataclass(frozen=True, slots=True)
class Foresight:
    """The fewest replicas now, 0 for none, and in how many seconds that ends."""

    floor: int = 0
    ends_s: float | None = None


def foresight(wish: ModelDeployment, body: Body, now: datetime) -> Foresight:
    """What holds now of the forecast in an object's status."""
    scaling, said = wish.autoscaling, table(body, "status", "forecast")
    until = moment(text(said, "until"))
    if scaling is None or not scaling.predictive or until is None or until.tzinfo is None or until <= now:
        return Foresight()
    return Foresight(min(whole(said, "replicas"), scaling.max_replicas), (until - now).total_seconds())
