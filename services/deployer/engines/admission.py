"""What is checked of a deployment before anything moves: as it is made, as it changes, and where somebody only asks."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace

from services.common.access.decide import Standing
from services.common.clock import Clock
from services.common.errors import MeshError, Reason, invalid
from services.common.names import check_version
from services.common.schema import ModelSchema, PredictionMapping
from services.deployer.domain.checks import check_new, check_signature, check_stage, check_wish
from services.deployer.domain.deployment import LOCAL, Condition, Deployment, NewDeployment, Recipe, Wish
from services.deployer.domain.environment import FRAMEWORKS, environment_of
from services.deployer.domain.equipment import CPUS_ALONE, Equipment
from services.deployer.domain.external import ExternalBackend, check_hosts, no_schema
from services.deployer.domain.package import check_framework, check_gpu, check_precision
from services.deployer.domain.padding import check_padding
from services.deployer.domain.quota import Quota
from services.deployer.engines.clusters import Clusters
from services.deployer.ports import (
    ArtifactSource,
    DeploymentStore,
    Environments,
    ExternalServers,
    Namespaces,
    Terms,
    VersionSource,
)

_GRANTED = (Reason.QUOTA_EXCEEDED, Reason.INVALID_FIELD)
"""What a store refuses for the sake of a quota."""
_UNREGISTERED = (Reason.MODEL_NOT_FOUND, Reason.VERSION_NOT_FOUND)


class Admission:
    """Checks wishes against what the registry, the team's terms and the other deployments say."""

    def __init__(
        self,
        *,
        store: DeploymentStore,
        versions: VersionSource,
        artifacts: ArtifactSource | None,
        environments: Environments,
        terms: Terms,
        clock: Clock,
        local_replicas_max: int,
        open_external: ExternalServers,
        external_hosts: tuple[str, ...],
        equipment: Equipment = CPUS_ALONE,
        clusters: Clusters | None = None,
        namespaces: Namespaces | None = None,
        namespace_default: str = "default",
    ) -> None:
        self._store = store
        self._versions = versions
        self._artifacts = artifacts
        self._environments = environments
        self._terms = terms
        self._clock = clock
        self._local_replicas_max = local_replicas_max
        self._open_external = open_external
        self._external_hosts = external_hosts
        self._equipment = equipment
        self._clusters = clusters or Clusters({})
        self._namespaces = namespaces
        self._namespace_default = namespace_default

    def well_formed(self, new: NewDeployment) -> NewDeployment:
        """The wish with its versions written as the registry writes them. Raises what `check_new` raises."""
        split: Mapping[str, int] = {
            check_version(version, "traffic_split"): weight for version, weight in new.traffic_split.items()
        }
        self._clusters.check(new.cluster)
        new = replace(new, version=check_version(new.version), traffic_split=split)
        check_new(new, local_replicas_max=self._local_replicas_max, equipment=self._equipment)
        return new

    async def recipe(self, new: NewDeployment, *, any_host: bool = True) -> Recipe:
        """What the registry says of the version, which may be deployed as is wished. Raises why it may not. `any_host`:
        whether an external backend may be wherever it likes."""
        if new.wish.external is not None:
            return await self._external_recipe(new, new.wish.external, any_host=any_host)
        recipe = await self._versions.recipe(new.model_name, new.version)
        check_stage(new, recipe)
        self.check_wish(new.wish, recipe, new.cluster)
        check_signature(new, recipe, required=self._terms.terms(recipe.team).require_signature)
        return recipe

    async def _external_recipe(self, new: NewDeployment, external: ExternalBackend, *, any_host: bool) -> Recipe:
        """What is known of a version whose servers somebody else runs: by the registry, else by what they state."""
        if not any_host:
            check_hosts(external, self._external_hosts)
        try:
            known = await self._versions.recipe(new.model_name, new.version)
        except MeshError as error:
            if error.reason not in _UNREGISTERED:
                raise
            standing = self._terms.standing(new.model_name)
            team = standing.team if standing is not None else ""
            schema = external.schema or await self._stated(new, external, team)
            recipe = Recipe("", "", "", schema, PredictionMapping(), team=team)
        else:
            check_stage(new, known)
            if external.schema is not None:
                raise invalid(
                    "external_backend.schema", "given", "absent, because the version is registered with its own schema"
                )
            recipe = replace(known, artifact_path="", artifact_digest="", signature_verified=False)
        self.check_wish(new.wish, recipe)
        if self._terms.terms(recipe.team).require_signature:
            raise MeshError(
                Reason.SIGNATURE_REQUIRED,
                f"team {recipe.team!r} deploys only versions with a verified signature, and what an external server "
                "runs cannot be verified; deploy the signed version itself",
                metadata={"model_name": new.model_name, "version": new.version},
            )
        return recipe

    async def _stated(self, new: NewDeployment, external: ExternalBackend, team: str) -> ModelSchema:
        """What the first of the servers states. Raises SCHEMA_REQUIRED, LOAD_FAILED, DEPENDENCY_UNAVAILABLE."""
        address = external.addresses[0]
        server = self._open_external(external, address, model_name=new.model_name, name="", schema=None, team=team)
        try:
            schema = await server.schema()
        finally:
            await server.close()
        if schema is None or not (schema.inputs and schema.outputs):
            raise no_schema(address)
        return schema

    def check_change(self, current: Deployment, wish: Wish, *, any_host: bool) -> None:
        """Raises where the version that a deployment has cannot go on as is wished."""
        before, after = current.wish.external, wish.external
        if (before is None) != (after is None):
            raise invalid(
                "external_backend",
                "given" if before is None else "absent",
                "as it was, unless the version changes too; deploy another version, or under another name",
            )
        if before is not None and after is not None:
            if before.schema != after.schema:
                raise invalid("external_backend.schema", "another one", "as it was; deploy another version")
            if not any_host and before != after:
                check_hosts(after, self._external_hosts)
        self.check_wish(wish, current.recipe, current.new.cluster)

    async def placed(self, new: NewDeployment, *, any_namespace: bool = True) -> NewDeployment:
        """With the namespace that it goes to: the one that was asked for, else its team's. Raises PERMISSION_DENIED
        where that is another team's, or nobody's."""
        if new.cluster == LOCAL:
            return replace(new, namespace=new.namespace or "default")
        own = await self._namespace_of(new.team)
        if new.namespace and own and new.namespace != own and not any_namespace:
            raise MeshError(
                Reason.PERMISSION_DENIED,
                f"namespace is {new.namespace!r}, and deployments of team {new.team!r} go to its namespace {own!r}; "
                "leave it out, or ask an operator of the mesh to deploy it there",
                metadata={"namespace": own},
            )
        return replace(new, namespace=new.namespace or own or self._namespace_default)

    async def check_placed(self, new: NewDeployment) -> None:
        """Raises PERMISSION_DENIED where an object is not in the namespace of its model's team: who may write there
        need not have any right to the model."""
        own = await self._namespace_of(new.team)
        if own and new.namespace != own:
            raise MeshError(
                Reason.PERMISSION_DENIED,
                f"model {new.model_name!r} is team {new.team!r}'s, whose namespace is {own!r}; make the "
                "ModelDeployment there, or deploy the model by the mesh's API",
                metadata={"namespace": own},
            )

    async def _namespace_of(self, team: str) -> str:
        return await self._namespaces.of(team) if team and self._namespaces is not None else ""

    def check_values(self, wish: Wish, cluster: str) -> None:
        """Raises where a changed wish is not well formed, or asks for what cannot be had there."""
        check_wish(wish, local_replicas_max=self._local_replicas_max, equipment=self._equipment, cluster=cluster)

    def check_wish(self, wish: Wish, recipe: Recipe, cluster: str = LOCAL) -> None:
        """Raises where the version cannot be run as is wished."""
        if wish.external is None:
            check_framework(recipe)
            check_precision(wish, recipe)
            if cluster == LOCAL:
                check_gpu(wish, recipe, self._equipment)
        check_padding(wish.batching.padding, recipe.schema)

    def quota(self, team: str, wish: Wish) -> Quota | None:
        """What the team's deployments may take together; None: there is no limit, or the wish takes nothing."""
        if wish.external is not None:
            return None
        terms = self._terms.terms(team)
        quota = Quota(team, terms.cpu, terms.memory, terms.gpu)
        return quota if team and quota.limits else None

    def standing(self, model_name: str) -> Standing | None:
        """Whose the model is."""
        return self._terms.standing(model_name)

    async def checked(self, new: NewDeployment, *, any_host: bool = True) -> tuple[Condition, ...]:
        """How each check goes, in order; one that fails ends those that rest on it. Nothing is loaded or stored."""
        found: list[Condition] = []
        words = "names, numbers and shares are such as are allowed"

        async def shape() -> str:
            self.well_formed(new)
            return words

        if not await self._note(found, "Fields", shape):
            return tuple(found)
        new = self.well_formed(new)
        recipes: list[Recipe] = []

        async def version() -> str:
            recipes.append(await self.recipe(new, any_host=any_host))
            one = recipes[0]
            if new.wish.external is not None:
                known = (
                    "the registry knows it" if one.framework else "it is not registered, so the server's schema holds"
                )
                return f"{new.version} is run by external servers; {known}"
            return f"the registry knows {new.version}: {one.framework}, sha256 {one.artifact_digest[:12]}…"

        if not await self._note(found, "Version", version):
            return tuple(found)
        new = replace(new, team=recipes[0].team)
        if new.wish.external is None:
            await self._note(found, "Artifact", lambda: self._artifact(recipes[0]))
            await self._note(found, "Requirements", lambda: self._requirements(recipes[0]))
        await self._room(found, new, recipes[0])
        await self._note(found, "Traffic", lambda: self._traffic(new))
        return tuple(found)

    async def _artifact(self, recipe: Recipe) -> str:
        if self._artifacts is None:
            return "the artifact lies on this machine"
        size = await self._artifacts.size(recipe.artifact_digest)
        return f"the registry has the artifact, {size / 1e6:.1f} MB; its digest is checked when it is packaged"

    async def _requirements(self, recipe: Recipe) -> str:
        if recipe.framework not in FRAMEWORKS:
            return "it runs in the model servers' own environment"
        environment = environment_of(
            recipe.framework,
            framework_version=recipe.framework_version,
            stated=recipe.requirements,
            own_code=recipe.framework == "python",
            locked=self._environments.locked(recipe.framework),
        )
        listed = ", ".join(environment.requirements) or f"the lock file of {recipe.framework}"
        return "; ".join([f"it is run with {listed}", *(f"left out: {one}" for one in environment.left_out)])

    async def _room(self, found: list[Condition], new: NewDeployment, recipe: Recipe) -> None:
        """Whether it would be stored: the quota first, then the name and the version."""
        quota = self.quota(new.team, new.wish)
        granted = "no quota limits it" if quota is None else f"it fits the quota of team {new.team!r}"
        try:
            await self._store.create(new, recipe, quota, dry_run=True)
        except MeshError as error:
            refused = error.reason in _GRANTED
            kind = "QuotaGranted" if refused else "Name"
            if not refused:
                found.append(self._condition("QuotaGranted", True, "QuotaGranted", granted))
            found.append(self._condition(kind, False, error.reason.value, error.message))
            return
        found.append(self._condition("QuotaGranted", True, "QuotaGranted", granted))
        found.append(self._condition("Name", True, "Name", "neither the name nor the version is deployed yet"))

    async def _traffic(self, new: NewDeployment) -> str:
        if not new.traffic_split:
            return "no shares are asked for: the model's first version gets all traffic, a later one none by itself"
        there = {one.new.version for one in await self._store.every() if one.new.model_name == new.model_name}
        missing = sorted(set(new.traffic_split) - there - {new.version})
        if missing:
            raise MeshError(
                Reason.VERSION_NOT_DEPLOYED,
                f"traffic_split names {', '.join(missing)}, which is not deployed; deploy it first, or leave it out",
            )
        shares = ", ".join(f"{version} {share} %" for version, share in new.traffic_split.items())
        return f"once it answers the router is asked for {shares}"

    async def _note(self, found: list[Condition], kind: str, check: Callable[[], Awaitable[str]]) -> bool:
        try:
            words = await check()
        except MeshError as error:
            if error.reason is Reason.DEPENDENCY_UNAVAILABLE:
                raise
            found.append(self._condition(kind, False, error.reason.value, error.message))
            return False
        found.append(self._condition(kind, True, kind, words))
        return True

    def _condition(self, kind: str, passed: bool, reason: str, message: str) -> Condition:
        return Condition(kind, passed, reason, message, self._clock.now())
