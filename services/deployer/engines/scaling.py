"""Has the number of replicas follow the load, and precede it: one decision for each word of the batchers."""

from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass, field, replace

from services.common.clock import Clock
from services.deployer.domain.deployment import Autoscaling, Deployment, Health, Status
from services.deployer.domain.forecast import Standing, Verdict
from services.deployer.domain.plan import Explain, Observation, Scale
from services.deployer.domain.scaling import Decision, Load, Scaler, acts, wanted_replicas
from services.deployer.engines.demand import Demand
from services.deployer.engines.forecasts import Forecasts
from services.deployer.engines.history import RequestHistory, counted
from services.deployer.engines.usage import Usage

_CPU_HIDDEN = "target_cpu_percent does not act: the model servers' processes cannot be seen from here"
_GPU_HIDDEN = "target_gpu_percent does not act: no model server reports how busy its GPUs are"


@dataclass(frozen=True, slots=True)
class _Note:
    """What there is to say beside the number."""

    kind: str
    """One word."""
    words: str
    foot: bool = True
    """It is worth saying whenever the number changes."""


@dataclass
class _Followed:
    scaler: Scaler = field(default_factory=Scaler)
    words: int = -1
    """How many words there had been when it was decided last."""
    settled_s: float | None = None
    """Since when there are as many replicas as there are; None: they are being changed."""
    told: tuple[str, ...] = ()
    """The kinds of notes that were told last."""
    message: str = ""
    """The words, where the number stayed."""


@dataclass(frozen=True, slots=True)
class _Case:
    """What a decision is made of: the targets that act, the load, and what to say."""

    scaling: Autoscaling
    load: Load
    notes: tuple[_Note, ...] = ()


class Scaling:
    """What was wanted lately is kept in memory: after a restart no number falls before a whole window has been seen."""

    def __init__(
        self, *, demand: Demand, usage: Usage, history: RequestHistory, forecasts: Forecasts, clock: Clock
    ) -> None:
        self._demand = demand
        self._usage = usage
        self._history = history
        self._forecasts = forecasts
        self._clock = clock
        self._followed: dict[str, _Followed] = {}
        self._since_s: float | None = None

    def look(self, deployments: Iterable[Deployment]) -> None:
        """These are all there are now. Of thousands those alone are looked at whose use is measured or foreseen; what
        pods of clusters use is measured there."""
        seen = [one for one in deployments if (scaling := one.wish.autoscaling) is not None and _is_seen(scaling)]
        self._history.look(seen)
        self._forecasts.look(seen)
        self._usage.look(one for one in seen if not one.clustered)

    def keep(self, ids: Set[str]) -> None:
        """Forgets all others."""
        self._followed = {key: followed for key, followed in self._followed.items() if key in ids}

    def step(self, deployment: Deployment, observed: Observation) -> Scale | Explain | None:
        """The number of replicas to go to, or what there is to say of it; None: it stays, or nothing new is known."""
        scaling, progress = deployment.wish.autoscaling, deployment.progress
        if scaling is None or not acts(scaling):
            return None
        servers = [name for name, state in observed.items() if state.up and name in progress.loaded]
        if progress.status is not Status.ACTIVE or progress.asleep_since is not None or not servers:
            return None
        followed = self._followed.setdefault(deployment.deployment_id, _Followed())
        load = self._demand.load((deployment.new.model_name, deployment.new.version))
        if load is None or followed.words == self._demand.words:
            return None
        followed.words = self._demand.words
        now_s = self._clock.monotonic()
        followed.settled_s = now_s if followed.settled_s is None else followed.settled_s
        case = self._measured(deployment, servers, followed.settled_s, _Case(scaling, load))
        return self._decided(deployment, followed, case)

    def foreseen(self, deployment: Deployment) -> Verdict | None:
        """What becomes of the forecast of a deployment now; None where none is wanted, or none was tried yet."""
        return self._forecasts.verdict(deployment)

    def learn(self, deployment: Deployment) -> None:
        """Notes what a replica of a deployment answers that others scale: once for each word of the batchers. Short of
        replicas is what the targets that are known here ask for more of, or what others have begun to add to."""
        scaling, progress = deployment.wish.autoscaling, deployment.progress
        if scaling is None or not counted(deployment) or not acts(scaling) or deployment.successor:
            return
        replicas = progress.ready_replicas
        if progress.status is not Status.ACTIVE or progress.asleep_since is not None or not replicas:
            return
        followed = self._followed.setdefault(deployment.deployment_id, _Followed())
        load = self._demand.load((deployment.new.model_name, deployment.new.version))
        if load is None or followed.words == self._demand.words:
            return
        followed.words = self._demand.words
        known = replace(scaling, target_cpu_percent=0.0, target_gpu_percent=0.0)
        short = wanted_replicas(known, replicas, load)[0] > replicas or progress.health is not Health.HEALTHY
        self._history.decided(deployment, load.requests_per_s / replicas, short=short)

    def scaled(self, deployment: Deployment) -> None:
        """The number is another one than that of `deployment` from now on."""
        followed = self._followed.get(deployment.deployment_id)
        if followed is not None:
            followed.settled_s = None
            followed.scaler.changed(deployment.replicas, self._clock.monotonic())

    def _measured(self, deployment: Deployment, servers: Sequence[str], since_s: float, case: _Case) -> _Case:
        """With the use that has targets, and with what the forecast asks for. A target of a use that cannot be seen is
        none."""
        scaling, load, notes = case.scaling, case.load, []
        if scaling.target_cpu_percent > 0:
            cpu = self._usage.cpu(deployment, servers, since_s)
            load = replace(load, cpu_percent=cpu.percent)
            if not cpu.visible:
                notes.append(_Note("CpuUnknown", _CPU_HIDDEN))
                scaling = replace(scaling, target_cpu_percent=0.0)
        if scaling.target_gpu_percent > 0:
            gpu = self._usage.gpu(servers, since_s)
            load = replace(load, gpu_percent=gpu.percent)
            if not gpu.visible:
                notes.append(_Note("GpuUnknown", _GPU_HIDDEN))
                scaling = replace(scaling, target_gpu_percent=0.0)
        said = self._forecasts.verdict(deployment)
        if said is not None:
            used = said.standing is Standing.USED
            notes.append(_Note(f"Forecast{said.standing}", f"the forecast is {said.words}", foot=not used))
            load = replace(load, floor=said.floor)
        return _Case(scaling, load, tuple(notes))

    def _decided(self, deployment: Deployment, followed: _Followed, case: _Case) -> Scale | Explain | None:
        replicas, now_s = deployment.replicas, self._clock.monotonic()
        short = wanted_replicas(case.scaling, replicas, case.load)[0] > replicas
        self._history.decided(deployment, case.load.requests_per_s / replicas, short=short)
        decided = followed.scaler.decide(case.scaling, replicas, case.load, now_s)
        self._since_s = now_s if self._since_s is None else self._since_s
        early = now_s - self._since_s < case.scaling.scale_down_stabilization_s
        if decided.replicas == replicas or (decided.replicas < replicas and early):
            return self._explained(deployment, followed, case)
        followed.told, followed.message = tuple(note.kind for note in case.notes), ""
        return _scale(decided, case.notes)

    def _explained(self, deployment: Deployment, followed: _Followed, case: _Case) -> Explain | None:
        """What is to be told though the number stays: what was not yet, or was and could not be recorded."""
        kinds = tuple(note.kind for note in case.notes)
        recorded = {one.message for one in deployment.progress.conditions if one.type == "Autoscaled"}
        if kinds == followed.told and (not followed.message or followed.message in recorded):
            return None
        words = "; ".join(note.words for note in case.notes) or "all that they follow is known again"
        followed.told, followed.message = kinds, f"{deployment.replicas} replicas; {words}"
        return Explain(kinds[0] if kinds else "Load", followed.message, acts(case.scaling))


def _scale(decided: Decision, notes: Sequence[_Note]) -> Scale:
    why = "; ".join((decided.why, *(note.words for note in notes if note.foot)))
    return Scale(decided.replicas, why, "Forecast" if decided.foreseen else "Load")


def _is_seen(scaling: Autoscaling) -> bool:
    return scaling.enabled and (scaling.predictive or scaling.target_cpu_percent > 0 or scaling.target_gpu_percent > 0)
