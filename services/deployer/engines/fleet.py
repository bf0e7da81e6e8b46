"""The model servers, and which of them concern a deployment."""

import asyncio
from collections.abc import Collection, Iterable, Mapping, Sequence

from services.common.errors import MeshError, Reason
from services.common.telemetry.logging import get_logger
from services.deployer.domain.berth import Berth
from services.deployer.domain.catalog import Place, Site
from services.deployer.domain.cluster.endpoints import place_of
from services.deployer.domain.cluster.plan import UNKNOWN, Sight
from services.deployer.domain.deployment import Deployment
from services.deployer.domain.external import ExternalBackend
from services.deployer.domain.plan import Observation, ServerState
from services.deployer.engines.pool import Pool
from services.deployer.ports import ClusterSights, ExternalServer, ExternalServers, ModelServer, Pods

log = get_logger(__name__)

_Key = tuple[str, ExternalBackend, str, str]
"""A version by its servers' name of it, its external backend, one of the addresses, and the team whose credentials are
shown."""
_Standing = tuple[tuple[tuple[str, bool, bool], ...], Berth]
"""Each server that concerns a deployment, with whether it is up and has it; and where it shall be."""
_UNSEEN = ServerState()


class Fleet:
    """Every deployment has a view of its own: the servers that it runs on, or shall run on, and how they stand. What a
    step does with servers it does with those of the view alone. External servers are those of one deployment, and pods
    those that the cluster says are ready: of them none is asked how it stands."""

    def __init__(
        self,
        servers: Mapping[str, ModelServer],
        open_external: ExternalServers,
        pool: Pool | None = None,
        *,
        clusters: Mapping[str, ClusterSights] | None = None,
        open_pod: Pods | None = None,
    ) -> None:
        """Without a `pool` every deployment of an artifact is on all servers."""
        self._servers = servers
        self._open_external = open_external
        self._pool = pool
        self._clusters = clusters or {}
        self._open_pod = open_pod
        self._pods: dict[tuple[str, str], ExternalServer] = {}
        self._external: dict[_Key, ExternalServer] = {}
        self._observed: Observation = {}
        self._observed_external: Mapping[_Key, ServerState] = {}
        self._sites: dict[str, tuple[Site, _Standing]] = {}
        """What was found of each deployment, and how its servers stood for it then."""

    @property
    def servers(self) -> Mapping[str, ModelServer]:
        """The pool: the servers that deployments of artifacts are loaded on, by name."""
        return self._servers

    @property
    def observed(self) -> Observation:
        """How the pool stood at the last look."""
        return self._observed

    async def look(self, deployments: Sequence[Deployment] | None, busy: Collection[str] = ()) -> None:
        """Observes all of the pool, and the servers that these deployments name, and decides who shall be where in the
        pool; None: it is not known which there are. With those that are `busy` something is being done."""
        if deployments is not None:
            await self._follow(deployments)
        pool, external = dict(self._servers), dict(self._external)
        states = await asyncio.gather(*(server.observe() for server in (*pool.values(), *external.values())))
        observed = dict(zip(pool, states[: len(pool)], strict=True))
        observed_external = dict(zip(external, states[len(pool) :], strict=True))
        for name, state in observed.items():
            if state.up != self._observed.get(name, _UNSEEN).up:
                log.info("model server", server=name, up=state.up, ready=len(state.ready))
        for key, state in observed_external.items():
            if state.up != self._observed_external.get(key, _UNSEEN).up:
                log.info("external server", server=key[2], up=state.up, version=key[0])
        self._observed, self._observed_external = observed, observed_external
        if deployments is None:
            return
        if len(self._sites) > len(deployments):
            ids = {one.deployment_id for one in deployments}
            self._sites = {key: site for key, site in self._sites.items() if key in ids}
        if self._pool is not None:
            self._pool.decide([one for one in deployments if not one.clustered], observed, busy)

    def site(self, deployment: Deployment) -> Site:
        """The deployment with its servers, as they stood at the last look. Where nothing of it has changed it is the
        same object: of thousands that sleep nothing need be thought of again."""
        if deployment.clustered:
            return self._in_cluster(deployment)
        states = self._states(deployment)
        berth, name = self.berth(deployment), deployment.server_model_name
        standing = tuple((server, state.up, name in state.ready) for server, state in states.items()), berth
        known = self._sites.get(deployment.deployment_id)
        if known is not None and known[0].deployment is deployment and known[1] == standing:
            return known[0]
        site = Site(deployment, states, self.places(deployment), berth)
        self._sites[deployment.deployment_id] = (site, standing)
        return site

    def berth(self, deployment: Deployment) -> Berth:
        """Where it shall be. Which pods there are is not decided here."""
        if deployment.clustered:
            return Berth.on_all((), 1)
        external = deployment.wish.external
        if external is not None:
            return Berth.on_all(external.addresses, 1)
        if self._pool is None:
            return Berth.on_all(self._servers, deployment.replicas)
        return self._pool.berth(deployment)

    def places(self, deployment: Deployment) -> Mapping[str, Place]:
        """The servers that concern the deployment."""
        if deployment.clustered:
            return self._in_cluster(deployment).places
        external = deployment.wish.external
        if external is None:
            return {name: self._servers[name].place for name in self._names(deployment)}
        return {key[2]: self._external[key].place for key in _keys(deployment, external) if key in self._external}

    def server(self, deployment: Deployment, name: str) -> ModelServer:
        """One of the deployment's servers. Raises DEPENDENCY_UNAVAILABLE where it is gone since it was seen."""
        if deployment.clustered:
            return self._pod(deployment, name)
        external = deployment.wish.external
        server: ModelServer | None
        if external is None:
            server = self._servers[name] if name in self._names(deployment) else None
        else:
            server = self._external.get((deployment.server_model_name, external, name, deployment.new.team))
        if server is None:
            raise MeshError(Reason.DEPENDENCY_UNAVAILABLE, f"model server {name!r} is not there any more")
        return server

    async def close(self) -> None:
        """Closes the clients of external servers and of pods."""
        servers = [*self._external.values(), *self._pods.values()]
        self._external, self._pods = {}, {}
        await asyncio.gather(*(server.close() for server in servers))

    async def _follow(self, deployments: Iterable[Deployment]) -> None:
        """Knows the external servers and pods of these deployments, and no others."""
        deployments = tuple(deployments)
        named: dict[_Key, Deployment] = {}
        for deployment in deployments:
            if deployment.wish.external is not None:
                named |= dict.fromkeys(_keys(deployment, deployment.wish.external), deployment)
        gone = [self._external.pop(key) for key in set(self._external) - set(named)]
        if self._pods:
            there = {
                (one.server_model_name, name)
                for one in deployments
                if one.clustered
                for name in self._in_cluster(one).observed
            }
            gone += [self._pods.pop(key) for key in set(self._pods) - there]
        for key, deployment in named.items():
            if key not in self._external:
                name, external, address, team = key
                self._external[key] = self._open_external(
                    external,
                    address,
                    model_name=deployment.new.model_name,
                    name=name,
                    schema=deployment.recipe.schema,
                    team=team,
                )
        await asyncio.gather(*(server.close() for server in gone))

    def _states(self, deployment: Deployment) -> Observation:
        external = deployment.wish.external
        if external is None:
            return {name: self._observed.get(name, _UNSEEN) for name in self._names(deployment)}
        return {key[2]: self._observed_external.get(key, _UNSEEN) for key in _keys(deployment, external)}

    def _names(self, deployment: Deployment) -> Sequence[str]:
        return tuple(self._servers) if self._pool is None else self._pool.concerned(deployment)

    def _in_cluster(self, deployment: Deployment) -> Site:
        """With the pods that are ready, and besides them the places where it answered as its row says."""
        new, name = deployment.new, deployment.server_model_name
        places = {key: place for key in deployment.progress.loaded if (place := place_of(key)) is not None}
        cluster = self._clusters.get(new.cluster)
        if cluster is None or not cluster.synced:
            return Site(deployment, {}, places, sight=UNKNOWN)
        found = cluster.find(new.namespace, new.model_name, new.deployment_name)
        pods = cluster.pods(found, new.version) if found is not None else {}
        ready = ServerState(up=True, ready=frozenset({name}))
        sight = Sight(synced=True, told=found.told if found is not None else None)
        return Site(deployment, dict.fromkeys(pods, ready), {**places, **pods}, sight=sight)

    def _pod(self, deployment: Deployment, name: str) -> ModelServer:
        key = (deployment.server_model_name, name)
        place = place_of(name)
        if place is None or name not in self._in_cluster(deployment).observed or self._open_pod is None:
            raise MeshError(Reason.DEPENDENCY_UNAVAILABLE, f"pod {name!r} is not ready any more")
        if key not in self._pods:
            self._pods[key] = self._open_pod(place, name=deployment.server_model_name)
        return self._pods[key]


def _keys(deployment: Deployment, external: ExternalBackend) -> list[_Key]:
    name, team = deployment.server_model_name, deployment.new.team
    return [(name, external, address, team) for address in external.addresses]
