"""The loop that brings wishes about: look at everything, decide one step for each deployment, carry the steps out.

It keeps nothing that it could not read again. Steps of different deployments run side by side, those of one deployment
never do. A step that fails is recorded with its reason and tried again as the plan says.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

from services.common.clock import Clock
from services.common.errors import MeshError, Reason
from services.common.signals import Signal, wait_at_most
from services.common.telemetry.logging import get_logger
from services.deployer.domain.deployment import Deployment, Failure, Health, Progress, Status, with_condition
from services.deployer.domain.plan import (
    BringUp,
    FallAsleep,
    Forget,
    Note,
    Observation,
    Rest,
    Route,
    Scale,
    ServerState,
    Step,
    Unite,
    Unload,
    Withdraw,
    failed_status,
    next_step,
    retry_delay_s,
)
from services.deployer.engines.bringup import Bringer
from services.deployer.engines.catalog import Catalog
from services.deployer.engines.demand import Demand, Name
from services.deployer.engines.scaling import Scaling
from services.deployer.ports import DeploymentStore, ModelServer, PackageStore, TrafficRouter

log = get_logger(__name__)


@dataclass(frozen=True)
class ReconcilerOptions:
    """How the loop behaves."""

    period_s: float
    """Seconds between looks when nothing calls for one."""
    drain_s: float
    """Seconds between taking a version out of what is published and unloading it."""
    routing_patience_s: float
    """How long a traffic split is offered to the router before it is given up."""


class Reconciler:
    """Runs until it is stopped or cancelled."""

    def __init__(
        self,
        *,
        store: DeploymentStore,
        servers: Mapping[str, ModelServer],
        packages: PackageStore,
        bringer: Bringer,
        router: TrafficRouter,
        catalog: Catalog,
        demand: Demand,
        scaling: Scaling,
        changed: Signal,
        clock: Clock,
        options: ReconcilerOptions,
    ) -> None:
        self._store = store
        self._servers = servers
        self._packages = packages
        self._bringer = bringer
        self._router = router
        self._catalog = catalog
        self._demand = demand
        self._scaling = scaling
        self._changed = changed
        self._clock = clock
        self._options = options
        self._busy: dict[str, tuple[Deployment, asyncio.Task[None]]] = {}
        """What is being carried out: for which wish, and by which task."""
        self._route_since_s: dict[str, float] = {}
        self._route_again_s: dict[str, float] = {}
        self._observed: Observation = {}
        self._reachable = True
        self._stopping = False
        self._stopped = asyncio.Event()

    @property
    def observed(self) -> Observation:
        """How the model servers stood at the last look."""
        return self._observed

    @property
    def reachable(self) -> bool:
        """Whether the store answered at the last look."""
        return self._reachable

    async def run(self) -> None:
        """Looks whenever something changed, and once a period, until `stop`."""
        try:
            async with asyncio.TaskGroup() as group:
                while not self._stopping:
                    changed = self._changed.current
                    await self._look(group)
                    await wait_at_most(changed, self._options.period_s)
        finally:
            self._busy.clear()
            self._stopped.set()

    async def stop(self) -> None:
        """Begins nothing new and returns when what was begun is done: nothing is cut off that could end in time."""
        self._stopping = True
        self._changed.fire()
        await self._stopped.wait()

    async def _look(self, group: asyncio.TaskGroup) -> None:
        observed = await self._observe()
        try:
            deployments = await self._store.every()
            await self._catalog.refresh(deployments, observed)
        except MeshError as error:
            if self._reachable:
                log.warning("the store does not answer; the loop waits for it", error=str(error))
            self._reachable = False
            return
        self._reachable = True
        self._demand.keep({_name(one) for one in deployments})
        self._scaling.keep({one.deployment_id for one in deployments})
        for deployment in deployments:
            key = deployment.deployment_id
            if key in self._busy:
                self._give_up(deployment)
                continue
            step = self._decide(deployment, observed)
            if isinstance(step, Rest):
                continue
            name = f"{type(step).__name__} {deployment.server_model_name}"
            task = group.create_task(self._carry_out(deployment, step, observed), name=name)
            self._busy[key] = (deployment, task)

    def _give_up(self, deployment: Deployment) -> None:
        """Ends the build of an environment that nobody wants any more: the wish has changed, or it is to go."""
        begun, task = self._busy[deployment.deployment_id]
        changed = (begun.generation, begun.deleting) != (deployment.generation, deployment.deleting)
        if changed and deployment.deployment_id in self._bringer.installing and not task.cancelling():
            log.info("a build is given up", deployment=deployment.server_model_name)
            task.cancel()

    def _decide(self, deployment: Deployment, observed: Observation) -> Step:
        try:
            wanted = self._bringer.package(deployment).fingerprint
        except MeshError:
            # What cannot be packaged fails with its reason where it is brought up.
            wanted = "none"
        name = _name(deployment)
        step = next_step(
            deployment,
            observed=observed,
            wanted=wanted,
            now=self._clock.now(),
            drain_s=self._options.drain_s,
            asked=self._demand.wanted(name),
            idle_s=self._demand.idle_s(name),
        )
        if isinstance(step, Rest):
            step = self._scaling.step(deployment, observed) or step
        not_yet = self._clock.monotonic() < self._route_again_s.get(deployment.deployment_id, 0.0)
        return Rest() if isinstance(step, Route) and not_yet else step

    async def _observe(self) -> Observation:
        names = list(self._servers)
        states: Sequence[ServerState] = await asyncio.gather(*(self._servers[name].observe() for name in names))
        observed = dict(zip(names, states, strict=True))
        for name, state in observed.items():
            if state.up != self._observed.get(name, ServerState()).up:
                log.info("model server", server=name, up=state.up, ready=len(state.ready))
        self._observed = observed
        return observed

    async def _carry_out(self, deployment: Deployment, step: Step, observed: Observation) -> None:
        try:
            try:
                await self._do(deployment, step, observed)
            except MeshError as error:
                await self._failed(deployment, error)
            except Exception as error:
                log.exception("a step failed for an unforeseen reason", deployment=deployment.server_model_name)
                unforeseen = f"an unforeseen failure in the deployer ({type(error).__name__}); its log says more"
                await self._failed(deployment, MeshError(Reason.INTERNAL, unforeseen))
        except MeshError as error:
            # Nothing was recorded, so the same step comes again at the next look.
            log.warning("a step could not be recorded", deployment=deployment.server_model_name, error=str(error))
        finally:
            self._busy.pop(deployment.deployment_id, None)
            self._changed.fire()

    async def _do(self, deployment: Deployment, step: Step, observed: Observation) -> None:
        progress, now = deployment.progress, self._clock.now()
        match step:
            case BringUp(servers):
                await self._bringer.bring_up(deployment, servers)
            case Unite():
                await self._store.record(deployment, self._united(deployment, observed))
            case Scale(replicas, why):
                log.info(
                    "scales", deployment=deployment.server_model_name, before=deployment.replicas, to=replicas, why=why
                )
                self._scaling.scaled(deployment)
                await self._store.record(deployment, self._scaled(progress, replicas, why))
            case FallAsleep(idle_s):
                log.info("falls asleep", deployment=deployment.server_model_name, idle_s=round(idle_s))
                await self._store.record(deployment, self._asleep(deployment, idle_s))
            case Note(ready_replicas, health):
                if health is Health.UNHEALTHY:
                    log.warning("answers nowhere", deployment=deployment.server_model_name)
                noted = replace(progress, ready_replicas=ready_replicas, health=health)
                await self._store.record(deployment, noted)
            case Route():
                await self._route(deployment)
            case Withdraw():
                log.info("withdrawn", deployment=deployment.server_model_name)
                await self._store.record(deployment, replace(progress, withdrawn_at=now))
            case Unload(servers):
                for name in servers:
                    await self._servers[name].unload(deployment.server_model_name)
                log.info("unloaded", deployment=deployment.server_model_name)
            case Forget():
                await self._packages.remove(deployment.server_model_name)
                await self._store.forget(deployment.deployment_id)
                log.info("removed", deployment=deployment.server_model_name)

    async def _failed(self, deployment: Deployment, error: MeshError) -> None:
        fresh = await self._store.find(deployment.new.model_name, deployment.new.deployment_name)
        progress = fresh.progress if fresh is not None else deployment.progress
        attempts = deployment.progress.attempts + 1
        asleep = progress.asleep_since is not None
        delay_s = retry_delay_s(error.reason, attempts, answered_before=bool(progress.loaded), asleep=asleep)
        now = self._clock.now()
        log.warning(
            "a step failed",
            deployment=deployment.server_model_name,
            reason=error.reason,
            error=error.message,
            attempts=attempts,
            again_in_s=delay_s,
        )
        recorded = replace(
            progress,
            status=failed_status(error.reason, deployment.progress.status),
            observed_generation=deployment.generation,
            failure=Failure(error.reason.value, error.message),
            attempts=attempts,
            next_attempt_at=now + timedelta(seconds=delay_s) if delay_s is not None else None,
        )
        await self._store.record(deployment, recorded)

    async def _route(self, deployment: Deployment) -> None:
        new, key = deployment.new, deployment.deployment_id
        now_s = self._clock.monotonic()
        since_s = self._route_since_s.setdefault(key, now_s)
        try:
            if new.traffic_split:
                await self._router.split(deployment)
        except MeshError as error:
            if now_s - since_s < self._options.routing_patience_s:
                self._route_again_s[key] = now_s + min(5.0, 0.1 + (now_s - since_s))
                log.info("the router does not take the split yet", model=new.model_name, error=str(error))
                return
            routed = self._routed(
                deployment, done=False, message=f"{error.message}; set the traffic of the deployment yourself"
            )
            log.warning("the traffic split was given up", model=new.model_name, error=str(error))
        else:
            message = "the split is the router's now" if new.traffic_split else "no split was asked for"
            routed = self._routed(deployment, done=True, message=message)
        self._route_since_s.pop(key, None)
        self._route_again_s.pop(key, None)
        await self._store.record(deployment, routed)

    def _united(self, deployment: Deployment, observed: Observation) -> Progress:
        """The progress of a wish that is carried out: of one that sleeps, or of one that answers and is awake now."""
        progress, name = deployment.progress, _name(deployment)
        done = self._bringer.succeeded(deployment, progress, observed)
        if progress.asleep_since is None:
            if progress.status is not Status.ACTIVE:
                self._demand.awake(name)
            return done
        if deployment.wish.idle_timeout_s is not None and not self._demand.wanted(name):
            return replace(done, ready_replicas=0, health=Health.HEALTHY)
        self._demand.awake(name)
        log.info("is awake", deployment=deployment.server_model_name, load_time_ms=round(progress.load_time_ms))
        awake = with_condition(
            done.conditions, "Asleep", status=False, reason="Asked", message="it is loaded", now=self._clock.now()
        )
        return replace(done, asleep_since=None, conditions=awake)

    def _scaled(self, progress: Progress, replicas: int, why: str) -> Progress:
        message = f"{replicas} replicas, by {why}"
        conditions = with_condition(
            progress.conditions, "Autoscaled", status=True, reason="Load", message=message, now=self._clock.now()
        )
        return replace(progress, replicas=replicas, conditions=conditions)

    def _asleep(self, deployment: Deployment, idle_s: float) -> Progress:
        progress, now = deployment.progress, self._clock.now()
        conditions = with_condition(
            progress.conditions,
            "Asleep",
            status=True,
            reason="Idle",
            message=f"nobody asked for it for {idle_s:.0f} s; it is unloaded, and the next request has it loaded",
            now=now,
        )
        return replace(progress, asleep_since=now, ready_replicas=0, health=Health.HEALTHY, conditions=conditions)

    def _routed(self, deployment: Deployment, *, done: bool, message: str) -> Progress:
        conditions = with_condition(
            deployment.progress.conditions,
            "Routed",
            status=done,
            reason="Routed" if done else "Refused",
            message=message,
            now=self._clock.now(),
        )
        return replace(deployment.progress, traffic_routed=True, conditions=conditions)


def _name(deployment: Deployment) -> Name:
    return deployment.new.model_name, deployment.new.version
