"""Packaging, loading and trying one version, with a condition recorded for each step."""

import asyncio
from collections.abc import AsyncIterator, Sequence, Set
from contextlib import asynccontextmanager
from dataclasses import replace

from services.common.clock import Clock
from services.common.errors import MeshError, Reason
from services.common.telemetry.logging import get_logger
from services.deployer.domain import external as external_backends
from services.deployer.domain import outcomes
from services.deployer.domain.catalog import Site
from services.deployer.domain.cluster.plan import fingerprint as fingerprint_of
from services.deployer.domain.deployment import Deployment, Progress, Status, with_condition
from services.deployer.domain.environment import FRAMEWORKS, environment_of
from services.deployer.domain.equipment import CPUS_ALONE, Equipment
from services.deployer.domain.memory import ServerMemory
from services.deployer.domain.package import RUNNER, Package, Quantised, package_of
from services.deployer.domain.plan import health_of
from services.deployer.domain.recorded import RecordedRow, recorded_rows, warm_inputs, warm_sizes
from services.deployer.domain.scaling import acts
from services.deployer.domain.trial import check_answer, trial_inputs, trial_rows
from services.deployer.engines.fleet import Fleet
from services.deployer.engines.memories import Memories
from services.deployer.ports import Board, Environments, ModelServer, PackageStore, Recorder, VersionSource

log = get_logger(__name__)

_WORDS = {
    "Validated": "the registry knows the version and its framework can be run here; "
    "cpu and memory are recorded, the local model servers do not limit them",
    "Packaged": "the model repository holds the version, its artifact's digest is right",
    "Environment": "what the version requires is installed",
    "Placed": "there is room for it",
    "Loaded": "the model servers that it is placed on have loaded it",
    "WarmedUp": "a trial prediction came back with the outputs of the schema",
    "Autoscaled": "the number of replicas follows target_latency_ms, target_requests_per_sec, target_concurrency, "
    "target_queue_depth, target_cpu_percent and target_gpu_percent, and none of them is set; set one, or scale the "
    "deployment by hand",
}


class Bringer:
    """Makes a deployment answer on the servers that it is told."""

    def __init__(
        self,
        *,
        store: Recorder,
        versions: VersionSource,
        fleet: Fleet,
        packages: PackageStore,
        environments: Environments,
        clock: Clock,
        threads_default: int,
        loads_max: int,
        board: Board,
        equipment: Equipment = CPUS_ALONE,
        memories: Memories | None = None,
    ) -> None:
        self._store = store
        self._board = board
        self._versions = versions
        self._fleet = fleet
        self._memories = memories or Memories({}, clock=clock)
        self._packages = packages
        self._clock = clock
        self._threads_default = threads_default
        self._equipment = equipment
        self._environments = environments
        self._loads = asyncio.Semaphore(loads_max)
        self._packing = asyncio.Semaphore(loads_max)
        self._fingerprints: dict[str, tuple[tuple[int, int, int, str, str], str]] = {}
        self.installing: set[str] = set()
        """Deployments whose environment is being built: what takes minutes, and may be given up at any moment."""

    def package(self, deployment: Deployment) -> Package:
        """The package that the wish asks for. Raises FRAMEWORK_UNSUPPORTED."""
        framework = deployment.recipe.framework
        lock = self._environments.lock_digest(framework) if framework in FRAMEWORKS else ""
        return package_of(
            deployment,
            runner_digest=self._packages.runner_digest() + lock,
            threads_default=self._threads_default,
            copies=self._fleet.berth(deployment).copies,
            equipment=self._equipment,
        )

    def fingerprint(self, deployment: Deployment) -> str:
        """Of the package that the wish asks for; "none" where there can be none: that is told where it is brought up.
        Of thousands it is asked twice a second, so it is made once for all that it depends on."""
        external, framework = deployment.wish.external, deployment.recipe.framework
        if deployment.clustered:
            return fingerprint_of(deployment)
        if external is not None:
            return external_backends.fingerprint(external, deployment.recipe.schema)
        lock = self._environments.lock_digest(framework) if framework in FRAMEWORKS else ""
        berth = self._fleet.berth(deployment)
        made_of = (deployment.generation, deployment.replicas, berth.copies, self._packages.runner_digest(), lock)
        known = self._fingerprints.get(deployment.deployment_id)
        if known is not None and known[0] == made_of:
            return known[1]
        try:
            fingerprint = self.package(deployment).fingerprint
        except MeshError:
            fingerprint = "none"
        self._fingerprints[deployment.deployment_id] = (made_of, fingerprint)
        return fingerprint

    def replica_bytes(self, deployment: Deployment) -> float:
        """What one of its replicas takes of the memory."""
        return self._memories.replica_bytes(deployment, self._fleet.berth(deployment).copies)

    def keep(self, ids: Set[str]) -> None:
        """Forgets all other deployments."""
        if len(self._fingerprints) > len(ids):
            self._fingerprints = {key: known for key, known in self._fingerprints.items() if key in ids}

    async def bring_up(self, deployment: Deployment, names: Sequence[str]) -> None:
        """Records where it answers; raises what went wrong, with the condition of the failed step recorded already."""
        began_s = self._clock.monotonic()
        waits_s: list[float] = []
        progress = deployment.progress
        if progress.status is not Status.ACTIVE:
            progress = replace(progress, status=Status.DEPLOYING)
            await self._store.record(deployment, progress)
        if deployment.clustered:
            progress = await self._prove(deployment, names, progress)
        elif deployment.wish.external is None:
            progress = await self._load(deployment, names, progress, waits_s)
        else:
            progress = await self._adopt(deployment, names, progress)
        # Without the time in which others were loaded: what it would take the next time.
        took_s = self._clock.monotonic() - began_s
        self._board.brought_up(took_s)
        load_time_ms = (took_s - sum(waits_s)) * 1000
        log.info(
            "answers", deployment=deployment.server_model_name, servers=list(names), load_time_ms=round(load_time_ms)
        )
        # Not active yet: the next look publishes it first, so "active" is never said of what the router cannot know.
        started = outcomes.started(replace(progress, load_time_ms=load_time_ms), self._clock.now())
        await self._store.record(deployment, started)

    async def _load(
        self, deployment: Deployment, names: Sequence[str], progress: Progress, waits_s: list[float]
    ) -> Progress:
        """On servers of the pool. How long it waited for its turn is added to `waits_s`."""
        step = "Validated"
        try:
            package = self.package(deployment)
            progress = self._passed(progress, step)
            step = "Packaged"
            async with self._turn(self._packing, waits_s):
                await self._ensure(deployment, package)
            served = await self._packages.served(package)
            progress = self._passed(progress, step, served.words)
            if package.precision is not None:
                progress = self._proven(progress, await self._packages.quantised(package))
            if package.in_environment and served.backend == RUNNER:
                step = "Environment"
                progress = await self._install(deployment, package, progress)
            step = "WarmedUp"
            rows, words = await self._recorded(deployment)
            for name in names:
                step = "Loaded"
                server = self._fleet.server(deployment, name)
                async with self._turn(self._loads, waits_s):
                    before = await self._memories.before(name, package.server_model_name)
                    await server.load(package.server_model_name)
                    progress = self._passed(progress, step)
                    step = "WarmedUp"
                    await self._try(deployment, server, rows)
                    memory_bytes = await self._weighed(deployment, name, before)
                progress = self._told(progress, step, status=True, reason=step, message=words)
                progress = replace(progress, loaded={**progress.loaded, name: package.fingerprint})
                progress = replace(progress, memory_bytes=memory_bytes or progress.memory_bytes)
        except MeshError as error:
            failed = self._told(progress, step, status=False, reason=error.reason.value, message=error.message)
            await self._store.record(deployment, failed)
            raise
        return progress

    async def _adopt(self, deployment: Deployment, names: Sequence[str], progress: Progress) -> Progress:
        """On servers that somebody else runs."""
        progress = self._told(
            progress, "Validated", status=True, reason="Validated", message="what an external backend needs is stated"
        )
        progress = await self._prove(deployment, names, progress)
        words = "every external server that answers has the model, with the version's schema"
        return self._told(progress, "Loaded", status=True, reason="Loaded", message=words)

    async def _prove(self, deployment: Deployment, names: Sequence[str], progress: Progress) -> Progress:
        """That servers that have loaded it themselves answer: each is proven, whatever becomes of the others."""
        wanted = self.fingerprint(deployment)
        rows, warmed = await self._recorded(deployment)
        problem: MeshError | None = None
        failed_step = ""
        for name in names:
            step = "Loaded"
            try:
                server = self._fleet.server(deployment, name)
                await server.load(deployment.server_model_name)
                step = "WarmedUp"
                await self._try(deployment, server, rows)
            except MeshError as error:
                if problem is None:
                    problem, failed_step = error, step
            else:
                progress = replace(progress, loaded={**progress.loaded, name: wanted})
        if problem is not None:
            failed = self._told(
                progress, failed_step, status=False, reason=problem.reason.value, message=problem.message
            )
            await self._store.record(deployment, failed)
            raise problem
        return self._told(progress, "WarmedUp", status=True, reason="WarmedUp", message=warmed)

    @asynccontextmanager
    async def _turn(self, few: asyncio.Semaphore, waits_s: list[float]) -> AsyncIterator[None]:
        """As one of few at the same time. How long it waited for that is added to `waits_s`."""
        began_s = self._clock.monotonic()
        async with few:
            waits_s.append(self._clock.monotonic() - began_s)
            yield

    async def _weighed(self, deployment: Deployment, server: str, before: ServerMemory | None) -> float:
        """What a replica takes on a server that has just loaded it; 0 where it cannot be said."""
        found = await self._memories.after(server, deployment.server_model_name, before)
        return (found or 0.0) / self._fleet.berth(deployment).copies

    def succeeded(self, site: Site) -> Progress:
        """The progress of a deployment whose wish is carried out."""
        deployment, progress = site.deployment, site.deployment.progress
        berth = self._fleet.berth(deployment)
        servers = sum(name in progress.loaded for name, state in site.observed.items() if state.up)
        if any(one.type == "Placed" and not one.status for one in progress.conditions):
            progress = self._passed(progress, "Placed")
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
            health=health_of(servers, berth.spread),
            ready_replicas=berth.replicas_on(servers, deployment.replicas),
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

    async def _recorded(self, deployment: Deployment) -> tuple[Sequence[RecordedRow], str]:
        """Rows to warm up with, and what is said of it. A registry that is away keeps nothing from being loaded."""
        recipe, words = deployment.recipe, _WORDS["WarmedUp"]
        if not recipe.reference_digest:
            return (), f"{words}; with a reference_sample registered it would be warmed up with recorded rows too"
        try:
            sample = await self._versions.reference(deployment.new.model_name, deployment.new.version)
        except MeshError as error:
            return (), f"{words}; its recorded rows could not be had ({error.reason})"
        rows = await asyncio.to_thread(recorded_rows, recipe.schema, sample)
        sizes = " and ".join(str(size) for size in warm_sizes(rows, deployment.wish.batching.max_batch_size))
        return rows, f"{words}; {len(rows)} recorded rows were answered too, in batches of {sizes}" if rows else words

    async def _try(self, deployment: Deployment, server: ModelServer, rows: Sequence[RecordedRow]) -> None:
        schema = deployment.recipe.schema
        batching = deployment.wish.batching
        count = trial_rows(batching.max_batch_size)
        inputs = trial_inputs(schema, count, lengths_input=batching.padding.lengths_input if batching.padding else "")
        check_answer(schema, count, await server.infer(deployment.server_model_name, inputs))
        for size in warm_sizes(rows, batching.max_batch_size):
            inputs = warm_inputs(schema, rows, size)
            check_answer(schema, size, await server.infer(deployment.server_model_name, inputs))

    def _passed(self, progress: Progress, step: str, more: str = "") -> Progress:
        words = f"{_WORDS[step]}; {more}" if more else _WORDS[step]
        return self._told(progress, step, status=True, reason=step, message=words)

    def _told(self, progress: Progress, step: str, *, status: bool, reason: str, message: str) -> Progress:
        conditions = with_condition(
            progress.conditions, step, status=status, reason=reason, message=message, now=self._clock.now()
        )
        return replace(progress, conditions=conditions)
