"""Has the number of replicas follow the load: one decision for each word of the batchers."""

from collections.abc import Set
from dataclasses import dataclass, field, replace

from services.common.clock import Clock
from services.deployer.domain.deployment import Deployment, Status
from services.deployer.domain.plan import Observation, Scale
from services.deployer.domain.scaling import Load, Scaler, acts
from services.deployer.engines.demand import Demand


@dataclass
class _Followed:
    scaler: Scaler = field(default_factory=Scaler)
    words: int = -1
    """How many words there had been when it was decided last."""


class Scaling:
    """What was wanted lately is kept in memory: after a restart no number falls before a whole window has been seen."""

    def __init__(self, *, demand: Demand, clock: Clock) -> None:
        self._demand = demand
        self._clock = clock
        self._followed: dict[str, _Followed] = {}
        self._since_s: float | None = None

    def step(self, deployment: Deployment, observed: Observation) -> Scale | None:
        """The number of replicas to go to; None: it stays, or nothing new is known."""
        scaling, progress = deployment.wish.autoscaling, deployment.progress
        if scaling is None or not acts(scaling):
            return None
        servers = sum(name in progress.loaded for name, state in observed.items() if state.up)
        if progress.status is not Status.ACTIVE or progress.asleep_since is not None or not servers:
            return None
        followed = self._followed.setdefault(deployment.deployment_id, _Followed())
        load = self._demand.load((deployment.new.model_name, deployment.new.version))
        if load is None or followed.words == self._demand.words:
            return None
        followed.words = self._demand.words
        now_s = self._clock.monotonic()
        self._since_s = now_s if self._since_s is None else self._since_s
        decided = followed.scaler.decide(scaling, deployment.replicas, _of_one(load, servers), now_s)
        falls = decided.replicas < deployment.replicas
        if decided.replicas == deployment.replicas or (
            falls and now_s - self._since_s < scaling.scale_down_stabilization_s
        ):
            return None
        return Scale(decided.replicas, decided.why)

    def scaled(self, deployment: Deployment) -> None:
        """The number is another one than that of `deployment` from now on."""
        followed = self._followed.get(deployment.deployment_id)
        if followed is not None:
            followed.scaler.changed(deployment.replicas, self._clock.monotonic())

    def keep(self, ids: Set[str]) -> None:
        """Forgets all others."""
        self._followed = {key: followed for key, followed in self._followed.items() if key in ids}


def _of_one(load: Load, servers: int) -> Load:
    """The part of the load that falls to one of so many servers, each with all replicas."""
    return replace(
        load,
        requests_per_s=load.requests_per_s / servers,
        in_flight=load.in_flight / servers,
        queued=load.queued / servers,
    )
