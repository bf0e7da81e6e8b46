"""Packaging, loading and trying one version, with a condition recorded for each step."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace

from services.common.clock import Clock
from services.common.errors import MeshError, Reason
from services.common.telemetry.logging import get_logger
from services.deployer.domain.deployment import Deployment, Progress, Status, with_condition
from services.deployer.domain.environment import FRAMEWORKS, environment_of
from services.deployer.domain.package import Package, Quantised, package_of
from services.deployer.domain.plan import Observation, health_of
from services.deployer.domain.scaling import acts
from services.deployer.domain.trial import check_answer, trial_inputs, trial_rows
from services.deployer.ports import DeploymentStore, Environments, ModelServer, PackageStore, VersionSource

log = get_logger(__name__)

_WORDS = {
    "Validated": "the registry knows the version and its framework can be run here; "
    "cpu and memory are recorded, the local model servers do not limit them",
    "Packaged": "the model repository holds the version, its artifact's digest is right",
    "Environment": "what the version requires is installed",
    "Loaded": "every model server of the pool that answers has loaded it",
    "WarmedUp": "a trial prediction came back with the outputs of the schema",
    "Autoscaled": "the number of replicas follows target_latency_ms, target_requests_per_sec, target_concurrency and "
    "target_queue_depth, and none of them is set; set one, or scale the deployment by hand",
}


class Bringer:
    """Makes a deployment answer on the servers that it is told."""

    def __init__(
        self,
        *,
        store: DeploymentStore,
        versions: VersionSource,
        servers: Mapping[str, ModelServer],
        packages: PackageStore,
        environments: Environments,
        clock: Clock,
        threads_default: int,
        loads_max: int,
    ) -> None:
        self._store = store
        self._versions = versions
        self._servers = servers
        self._packages = packages
        self._clock = clock
        self._threads_default = threads_default
        self._environments = environments
        self._loads = asyncio.Semaphore(loads_max)
        self._packing = asyncio.Semaphore(loads_max)
        self.installing: set[str] = set()
        """Deployments whose environment is being built: what takes minutes, and may be given up at any moment."""

    def package(self, deployment: Deployment) -> Package:
        """The package that the wish asks for. Raises FRAMEWORK_UNSUPPORTED."""
        framework = deployment.recipe.framework
        lock = self._environments.lock_digest(framework) if framework in FRAMEWORKS else ""
        return package_of(
            deployment, runner_digest=self._packages.runner_digest() + lock, threads_default=self._threads_default
        )

    async def bring_up(self, deployment: Deployment, names: Sequence[str]) -> None:
        """Records where it answers; raises what went wrong, with the condition of the failed step recorded already."""
        began_s = self._clock.monotonic()
        progress = deployment.progress
        if progress.status is not Status.ACTIVE:
            progress = replace(progress, status=Status.DEPLOYING)
            await self._store.record(deployment, progress)
        step = "Validated"
        try:
            package = self.package(deployment)
            progress = self._passed(progress, step)
            step = "Packaged"
            async with self._packing:
                await self._ensure(deployment, package)
            progress = self._passed(progress, step)
            if package.precision is not None:
                progress = self._proven(progress, await self._packages.quantised(package))
            if package.in_environment:
                step = "Environment"
                progress = await self._install(deployment, package, progress)
            for name in names:
                step = "Loaded"
                async with self._loads:
                    await self._servers[name].load(package.server_model_name)
                    progress = self._passed(progress, step)
                    step = "WarmedUp"
                    await self._try(deployment, self._servers[name])
                progress = self._passed(progress, step)
                progress = replace(progress, loaded={**progress.loaded, name: package.fingerprint})
        except MeshError as error:
            failed = self._told(progress, step, status=False, reason=error.reason.value, message=error.message)
            await self._store.record(deployment, failed)
            raise
        load_time_ms = (self._clock.monotonic() - began_s) * 1000
        log.info(
            "answers", deployment=deployment.server_model_name, servers=list(names), load_time_ms=round(load_time_ms)
        )
        # Not active yet: the next look publishes it first, so "active" is never said of what the router cannot know.
        await self._store.record(deployment, replace(progress, load_time_ms=load_time_ms))

    def succeeded(self, deployment: Deployment, progress: Progress, observed: Observation) -> Progress:
        """The progress of a deployment whose wish is carried out."""
        servers = sum(name in progress.loaded for name, state in observed.items() if state.up)
        conditions = progress.conditions
        scaling = deployment.wish.autoscaling
        unknown = scaling is not None and scaling.enabled and not acts(scaling)
        if scaling is not None and unknown and scaling.max_replicas > deployment.wish.resources.replicas:
            conditions = with_condition(
                conditions,
                "Autoscaled",
                status=False,
                reason="NoTarget",
                message=_WORDS["Autoscaled"],
                now=self._clock.now(),
            )
        began = progress.status is not Status.ACTIVE or progress.deployed_at is None
        return replace(
            progress,
            status=Status.ACTIVE,
            health=health_of(servers, len(observed)),
            ready_replicas=servers * deployment.replicas,
            observed_generation=deployment.generation,
            failure=None,
            attempts=0,
            next_attempt_at=None,
            conditions=conditions,
            deployed_at=self._clock.now() if began else progress.deployed_at,
        )

    async def _ensure(self, deployment: Deployment, package: Package) -> None:
        name = (deployment.new.model_name, deployment.new.version)
        sample = await self._versions.reference(*name) if package.precision is not None else b""
        try:
            await self._packages.ensure(package, sample)
        except MeshError as error:
            if error.reason is not Reason.ARTIFACT_NOT_FOUND:
                raise
            # The registry may have moved its store since the deployment was made.
            recipe = await self._versions.recipe(*name)
            await self._packages.ensure(replace(package, artifact_path=recipe.artifact_path), sample)

    def _proven(self, progress: Progress, made: Quantised) -> Progress:
        words = (
            f"in 8-bit integers: {made.bytes_before / 1e6:.1f} MB are {made.bytes_after / 1e6:.1f}, and {made.changed} "
            f"of {made.rows} answers on the reference sample change"
        )
        return self._told(progress, "Quantised", status=True, reason="Quantised", message=words)

    async def _install(self, deployment: Deployment, package: Package, progress: Progress) -> Progress:
        """Has the package run in the environment that it needs; what takes long is told as a condition."""
        recipe = deployment.recipe
        stated = await self._packages.requirements(package)
        # Those are run as the code that they bring, which the registry took because the team allows it.
        own_code = recipe.framework == "python" or (recipe.framework == "pytorch" and stated.module)
        environment = await asyncio.to_thread(
            environment_of,
            recipe.framework,
            framework_version=recipe.framework_version,
            stated=(*recipe.requirements, *stated.requirements),
            own_code=own_code,
            locked=self._environments.locked(recipe.framework),
        )

        async def report(words: str) -> None:
            building = self._told(progress, "Environment", status=False, reason="Building", message=words)
            try:
                await self._store.record(deployment, building)
            except MeshError as error:
                # A word of how far it is; the build goes on without it.
                log.info("how far the build is could not be recorded", error=error.message)

        key = deployment.deployment_id
        self.installing.add(key)
        try:
            place = await self._environments.ensure(environment, report)
        finally:
            self.installing.discard(key)
        await self._packages.link(package, place)
        words = [_WORDS["Environment"], *(f"left out: {one}" for one in environment.left_out)]
        return self._told(progress, "Environment", status=True, reason="Environment", message="; ".join(words))

    async def _try(self, deployment: Deployment, server: ModelServer) -> None:
        schema = deployment.recipe.schema
        batching = deployment.wish.batching
        rows = trial_rows(batching.max_batch_size)
        inputs = trial_inputs(schema, rows, lengths_input=batching.padding.lengths_input if batching.padding else "")
        check_answer(schema, rows, await server.infer(deployment.server_model_name, inputs))

    def _passed(self, progress: Progress, step: str) -> Progress:
        return self._told(progress, step, status=True, reason=step, message=_WORDS[step])

    def _told(self, progress: Progress, step: str, *, status: bool, reason: str, message: str) -> Progress:
        conditions = with_condition(
            progress.conditions, step, status=status, reason=reason, message=message, now=self._clock.now()
        )
        return replace(progress, conditions=conditions)
