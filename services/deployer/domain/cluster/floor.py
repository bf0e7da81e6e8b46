"""The floor of replicas that a forecast asks for, as it stands in an object's status, and when it is written anew.

The operator hands it to the autoscaler until it ends; a deployer that died foresees nothing any more. Calls are
bounded: a floor is raised at once, lowered once it has stood for a minute, and renewed when half of its life is over.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from services.deployer.domain.deployment import Autoscaling
from services.deployer.domain.forecast import Standing, Verdict

LIFE_S = 600.0
"""How long a floor holds that nobody renews."""
RENEW_S = 300.0
"""A floor that ends within so long is renewed."""
LOWER_AFTER_S = 60.0
"""A floor stands for at least so long before a lower one takes its place."""
_UNKNOWN = frozenset({Standing.UNAVAILABLE})


@dataclass(frozen=True, slots=True)
class Floor:
    """So many replicas at least, until then."""

    replicas: int
    until: datetime


def wanted_floor(verdict: Verdict | None, scaling: Autoscaling | None) -> int | None:
    """The floor that a forecast asks for; 0: none beyond what is wished. None: nothing is known, and what stands there
    holds until it ends."""
    if scaling is None or not (scaling.enabled and scaling.predictive):
        return 0
    if verdict is None or verdict.standing in _UNKNOWN:
        return None
    replicas = min(verdict.floor.replicas, scaling.max_replicas) if verdict.floor is not None else 0
    return replicas if replicas > max(1, scaling.min_replicas) else 0


def floor_to_stand(there: Floor | None, wanted: int | None, now: datetime) -> Floor | None:
    """What is to stand in the status; `there` itself where nothing is to be written."""
    holds = there is not None and there.until > now
    if wanted is None or there is None or not holds:
        return _begun(wanted, now) if wanted else there
    left_s = (there.until - now).total_seconds()
    if wanted > there.replicas or (wanted == there.replicas and left_s < RENEW_S):
        return _begun(wanted, now)
    if wanted < there.replicas and left_s <= LIFE_S - LOWER_AFTER_S:
        return _begun(wanted, now) if wanted else None
    return there


def _begun(replicas: int, now: datetime) -> Floor:
    # As Kubernetes writes moments, to the second.
    return Floor(replicas, (now + timedelta(seconds=LIFE_S)).replace(microsecond=0))
