"""The loop that brings wishes about: look at everything, decide one step for each deployment, carry the steps out.

It keeps nothing that it could not read again. Steps of different deployments run side by side, those of one deployment
never do. A step that fails is recorded with its reason and tried again as the plan says.
"""

import asyncio
from collections.abc import Set
from dataclasses import dataclass, field, replace
from datetime import timedelta

from services.common.clock import Clock
from services.common.errors import MeshError, Reason
from services.common.signals import Signal, wait_at_most
from services.common.telemetry.logging import get_logger
from services.deployer.domain import outcomes
from services.deployer.domain.catalog import Site
from services.deployer.domain.cluster.plan import ClusterStep, Follow, Wake, next_cluster_step
from services.deployer.domain.deployment import Deployment, Failure, Health, Progress, Status
from services.deployer.domain.family import Family
from services.deployer.domain.plan import (
    BringUp,
    Explain,
    FallAsleep,
    Forget,
    Halt,
    Leave,
    Note,
    Queue,
    Rest,
    Route,
    Scale,
    Step,
    Unite,
    Unload,
    Withdraw,
    answers_as_wished,
    failed_status,
    next_step,
    retry_delay_s,
    sleeps_on,
)
from services.deployer.domain.retention import Discard, Retention, Retire
from services.deployer.engines.announcing import Announcer
from services.deployer.engines.bringup import Bringer
from services.deployer.engines.catalog import Catalog
from services.deployer.engines.clusters import Clusters
from services.deployer.engines.demand import Demand, Name
from services.deployer.engines.fleet import Fleet
from services.deployer.engines.scaling import Scaling
from services.deployer.ports import DeploymentStore, PackageStore, TrafficRouter

log = get_logger(__name__)

_LONG_LOOK_S = 0.02
"""After a look that takes longer there is a pause as long as it."""
_WAKE_AGAIN_S = 5.0
"""Between calls to have a first replica started, while somebody waits."""


@dataclass(frozen=True)
class ReconcilerOptions:
    """How the loop behaves."""

    period_s: float
    """Seconds between looks when nothing calls for one."""
    drain_s: float
    """Seconds between taking a version out of what is published and unloading it."""
    routing_patience_s: float
    """How long a traffic split is offered to the router before it is given up."""
    announce_patience_s: float = 2.0
    """How long gateways and batchers are waited for before a version that answers is called active without them."""
    retention: Retention = field(default_factory=Retention)
    """What becomes of older versions."""


class Reconciler:
    """Runs until it is stopped or cancelled."""

    def __init__(
        self,
        *,
        store: DeploymentStore,
        fleet: Fleet,
        packages: PackageStore,
        bringer: Bringer,
        router: TrafficRouter,
        catalog: Catalog,
        demand: Demand,
        scaling: Scaling,
        changed: Signal,
        clock: Clock,
        options: ReconcilerOptions,
        clusters: Clusters | None = None,
    ) -> None:
        self._store = store
        self._fleet = fleet
        self._packages = packages
        self._bringer = bringer
        self._router = router
        self._catalog = catalog
        self._demand = demand
        self._scaling = scaling
        self._changed = changed
        self._clock = clock
        self._options = options
        self._clusters = clusters or Clusters({})
        self._announcer = Announcer(router=router, clock=clock, patience_s=options.announce_patience_s)
        self._busy: dict[str, tuple[Deployment, asyncio.Task[None]]] = {}
        """What is being carried out: for which wish, and by which task."""
        self._route_since_s: dict[str, float] = {}
        self._route_again_s: dict[str, float] = {}
        self._wake_again_s: dict[str, float] = {}
        self._dormant: dict[str, Site] = {}
        """What sleeps, and needs nothing until something of it changes or somebody asks: of thousands nearly all."""
        self._family = Family(())
        self._reachable = True
        self._stopping = False
        self._stopped = asyncio.Event()

    @property
    def reachable(self) -> bool:
        """Whether the store answered at the last look."""
        return self._reachable

    async def run(self) -> None:
        """Looks whenever something changed, and once a period, until `stop`."""
        try:
            async with asyncio.TaskGroup() as group:
                while not self._stopping:
                    changed, began_s = self._changed.current, self._clock.monotonic()
                    await self._look(group)
                    took_s = self._clock.monotonic() - began_s
                    await wait_at_most(changed, self._options.period_s)
                    if took_s > _LONG_LOOK_S:
                        # Of thousands of which many change: one look for many changes leaves time for the steps.
                        await self._clock.sleep(min(took_s, self._options.period_s))
        finally:
            self._busy.clear()
            self._stopped.set()

    async def stop(self) -> None:
        """Begins nothing new and returns when what was begun is done: nothing is cut off that could end in time."""
        self._stopping = True
        self._changed.fire()
        await self._stopped.wait()

    async def _look(self, group: asyncio.TaskGroup) -> None:
        try:
            # What is read while a step is carried out may be older than what that records.
            busy = set(self._busy)
            deployments = await self._store.every()
            await self._fleet.look(deployments, busy)
            sites = [self._fleet.site(deployment) for deployment in deployments]
            await self._catalog.refresh(sites)
        except MeshError as error:
            if self._reachable:
                log.warning("the store does not answer; the loop waits for it", error=str(error))
            self._reachable = False
            await self._fleet.look(None)
            return
        self._reachable = True
        self._demand.keep({_name(one) for one in deployments})
        ids = {one.deployment_id for one in deployments}
        self._scaling.keep(ids)
        self._scaling.look(deployments)
        self._bringer.keep(ids)
        self._keep_times(ids)
        if len(self._dormant) > len(ids):
            self._dormant = {key: site for key, site in self._dormant.items() if key in ids}
        self._family = Family(deployments)
        for site in sites:
            deployment = site.deployment
            key = deployment.deployment_id
            if key in self._busy:
                self._give_up(deployment)
                continue
            step = self._decide(site) if key not in busy else Rest()
            if isinstance(step, Rest):
                continue
            name = f"{type(step).__name__} {deployment.server_model_name}"
            task = group.create_task(self._carry_out(site, step), name=name)
            self._busy[key] = (deployment, task)

    def _keep_times(self, ids: Set[str]) -> None:
        for times in (self._route_since_s, self._route_again_s, self._wake_again_s):
            for key in times.keys() - ids:
                del times[key]

    def _give_up(self, deployment: Deployment) -> None:
        """Ends the build of an environment that nobody wants any more: the wish has changed, or it is to go."""
        begun, task = self._busy[deployment.deployment_id]
        changed = (begun.generation, begun.deleting) != (deployment.generation, deployment.deleting)
        if changed and deployment.deployment_id in self._bringer.installing and not task.cancelling():
            log.info("a build is given up", deployment=deployment.server_model_name)
            task.cancel()

    def _decide(self, site: Site) -> ClusterStep:
        deployment, observed = site.deployment, site.observed
        name, key = _name(deployment), deployment.deployment_id
        if self._dormant.get(key) is site and not self._demand.wanted(name):
            return Rest()
        step = self._next_in_cluster(site) if deployment.clustered else self._next(site)
        if deployment.clustered:
            self._scaling.learn(deployment)
        elif isinstance(step, Rest):
            if _is_dormant(site):
                self._dormant[key] = site
            step = self._scaling.step(deployment, observed) or step
        now_s = self._clock.monotonic()
        not_yet = isinstance(step, Route) and now_s < self._route_again_s.get(key, 0.0)
        waking = isinstance(step, Wake) and now_s < self._wake_again_s.get(key, 0.0)
        return Rest() if not_yet or waking else step

    def _next(self, site: Site) -> Step:
        deployment, name = site.deployment, _name(site.deployment)
        return next_step(
            deployment,
            observed=site.observed,
            berth=site.berth,
            wanted=self._bringer.fingerprint(deployment),
            now=self._clock.now(),
            drain_s=self._options.drain_s,
            asked=self._demand.wanted(name),
            idle_s=self._demand.idle_s(name),
            lineage=self._family.lineage(deployment),
            retention=self._options.retention,
        )

    def _next_in_cluster(self, site: Site) -> ClusterStep:
        deployment = site.deployment
        return next_cluster_step(
            deployment,
            observed=site.observed,
            sight=site.sight,
            wanted=self._bringer.fingerprint(deployment),
            now=self._clock.now(),
            drain_s=self._options.drain_s,
            asked=self._demand.wanted(_name(deployment)),
            lineage=self._family.lineage(deployment),
            retention=self._options.retention,
        )

    async def _carry_out(self, site: Site, step: ClusterStep) -> None:
        deployment = site.deployment
        try:
            try:
                await self._do(site, step)
            except MeshError as error:
                await self._failed(site, error)
            except Exception as error:
                log.exception("a step failed for an unforeseen reason", deployment=deployment.server_model_name)
                unforeseen = f"an unforeseen failure in the deployer ({type(error).__name__}); its log says more"
                await self._failed(site, MeshError(Reason.INTERNAL, unforeseen))
        except MeshError as error:
            # Nothing was recorded, so the same step comes again at the next look.
            log.warning("a step could not be recorded", deployment=deployment.server_model_name, error=str(error))
        finally:
            self._busy.pop(deployment.deployment_id, None)
            self._changed.fire()

    async def _do(self, site: Site, step: ClusterStep) -> None:
        deployment = site.deployment
        match step:
            case BringUp(servers):
                await self._bringer.bring_up(deployment, servers)
            case Unite():
                await self._announced(deployment, self._united(site))
            case Route():
                await self._route(deployment)
            case Leave(servers):
                log.info("leaves servers", deployment=deployment.server_model_name, servers=list(servers))
                await self._store.record(deployment, outcomes.left(deployment.progress, servers))
            case Queue(short):
                await self._store.record(deployment, outcomes.queued(deployment.progress, short, self._clock.now()))
            case Discard(why):
                log.info("goes", deployment=deployment.server_model_name, why=why)
                key, generation = deployment.deployment_id, deployment.generation
                await self._store.request_deletion(key, generation=generation, why=why)
            case Follow() | Wake():
                await self._do_in_cluster(deployment, step)
            case Unload(servers):
                for name in servers:
                    await self._fleet.server(deployment, name).unload(deployment.server_model_name)
                log.info("unloaded", deployment=deployment.server_model_name)
            case Forget():
                await self._packages.remove(deployment.server_model_name)
                await self._store.forget(deployment.deployment_id)
                log.info("removed", deployment=deployment.server_model_name)
            case _:
                await self._store.record(deployment, self._noted(deployment, step))

    async def _do_in_cluster(self, deployment: Deployment, step: Follow | Wake) -> None:
        if isinstance(step, Wake):
            self._wake_again_s[deployment.deployment_id] = self._clock.monotonic() + _WAKE_AGAIN_S
            await self._clusters.wake(deployment)
            return
        if step.awake:
            self._demand.awake(_name(deployment))
        await self._announced(deployment, step.progress)

    async def _announced(self, deployment: Deployment, progress: Progress) -> None:
        """Records it; of a wish that is carried out once that is known where predictions are sent."""
        before = deployment.progress
        same = (before.status, before.observed_generation) == (progress.status, progress.observed_generation)
        if progress.status is Status.ACTIVE and progress.asleep_since is None and not same:
            await self._announcer.known(deployment)
        await self._store.record(deployment, progress)

    def _noted(self, deployment: Deployment, step: ClusterStep) -> Progress:
        """What is recorded of steps that are nothing but a record."""
        progress, now, name = deployment.progress, self._clock.now(), deployment.server_model_name
        match step:
            case Scale(replicas, why, reason):
                log.info("scales", deployment=name, before=deployment.replicas, to=replicas, why=why)
                self._scaling.scaled(deployment)
                return outcomes.scaled(progress, replicas, why, now, reason=reason)
            case Explain(reason, message, acts):
                return outcomes.explained(progress, reason, message, now, acts=acts)
            case FallAsleep(idle_s, evicted):
                log.info("falls asleep", deployment=name, idle_s=round(idle_s), why=evicted)
                memory_bytes = self._bringer.replica_bytes(deployment)
                return outcomes.asleep(progress, idle_s, now, evicted=evicted, memory_bytes=memory_bytes)
            case Retire(warm_until):
                log.info("is superseded", deployment=name, warm_until=warm_until.isoformat())
                return outcomes.retired(progress, warm_until, now)
            case Halt():
                log.info("has no replicas", deployment=name)
                return outcomes.halted(deployment, now)
            case Note(ready_replicas, health):
                if health is Health.UNHEALTHY:
                    log.warning("answers nowhere", deployment=name)
                return replace(progress, ready_replicas=ready_replicas, health=health)
            case Withdraw():
                log.info("withdrawn", deployment=name)
                return replace(progress, withdrawn_at=now)
        return progress

    async def _failed(self, site: Site, error: MeshError) -> None:
        deployment = site.deployment
        # By its version, since older ones bear the deployment's name too; its conditions have changed meanwhile.
        fresh = await self._store.holder(*_name(deployment))
        same = fresh is not None and fresh.deployment_id == deployment.deployment_id
        progress = fresh.progress if fresh is not None and same else deployment.progress
        answers = answers_as_wished(deployment, site.observed, self._bringer.fingerprint(deployment))
        attempts = deployment.progress.attempts + 1
        asleep = progress.asleep_since is not None
        # Of pods there are others soon: what one failed by keeps the next from nothing for long.
        answered = bool(progress.loaded) or deployment.clustered
        delay_s = retry_delay_s(error.reason, attempts, answered_before=answered, asleep=asleep)
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
            status=failed_status(error.reason, deployment.progress.status, answers=answers),
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
        message = "no split was asked for"
        try:
            if deployment.previous_version and not deployment.split_generation:
                older = {deployment.previous_version, *self._family.versions(deployment)} - {new.version}
                message = await self._router.take_over(deployment, older)
            elif new.traffic_split:
                await self._router.split(deployment)
                message = "the split is the router's now"
        except MeshError as error:
            if now_s - since_s < self._options.routing_patience_s:
                self._route_again_s[key] = now_s + min(5.0, 0.1 + (now_s - since_s))
                log.info("the router does not take the split yet", model=new.model_name, error=str(error))
                return
            advice = f"{error.message}; set the traffic of the deployment yourself"
            routed = outcomes.routed(deployment.progress, done=False, message=advice, now=self._clock.now())
            log.warning("the traffic split was given up", model=new.model_name, error=str(error))
        else:
            routed = outcomes.routed(deployment.progress, done=True, message=message, now=self._clock.now())
        self._route_since_s.pop(key, None)
        self._route_again_s.pop(key, None)
        await self._store.record(deployment, routed)

    def _united(self, site: Site) -> Progress:
        """The progress of a wish that is carried out: of one that sleeps, or of one that answers and is awake now."""
        deployment = site.deployment
        progress, name = deployment.progress, _name(deployment)
        done = self._bringer.succeeded(site)
        if progress.asleep_since is None:
            if progress.status is not Status.ACTIVE:
                self._demand.awake(name)
            return done
        if sleeps_on(deployment, asked=self._demand.wanted(name)):
            return replace(outcomes.started(done, self._clock.now()), ready_replicas=0, health=Health.HEALTHY)
        self._demand.awake(name)
        log.info("is awake", deployment=deployment.server_model_name, load_time_ms=round(progress.load_time_ms))
        return outcomes.awake(done, self._clock.now())


def _is_dormant(site: Site) -> bool:
    """Whether no time that passes makes a difference to something for which there is nothing to do."""
    deployment, progress = site.deployment, site.deployment.progress
    waits = progress.next_attempt_at is not None or bool(deployment.successor) or deployment.deleting
    return progress.asleep_since is not None and not site.observed and not waits


def _name(deployment: Deployment) -> Name:
    return deployment.new.model_name, deployment.new.version
