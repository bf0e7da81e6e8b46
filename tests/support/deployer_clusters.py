"""Clusters for tests of the deployer: one in memory, with kubectl, an operator and pods, whose watch may break."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from services.common.body import Body, at, items, table, text, whole
from services.common.clock import Clock
from services.common.errors import MeshError, Reason
from services.common.signals import Signal
from services.deployer.domain.catalog import Place
from services.deployer.domain.cluster.endpoints import server_id
from services.deployer.domain.cluster.floor import Floor
from services.deployer.domain.cluster.objects import FIELD_MANAGER, OWN, ClusterObject, read_object, status_of
from services.deployer.domain.cluster.wishes import spec_of
from services.deployer.domain.deployment import (
    Condition,
    Deployment,
    NewDeployment,
    Progress,
    Recipe,
    Wish,
)
from services.deployer.domain.plan import ServerState
from services.deployer.domain.trial import Tensor, TensorShape
from tests.support.deployer_fakes import DIGITS_SCHEMA

NOON = datetime(2026, 1, 15, 12, tzinfo=UTC)
NAMESPACE = "red"
_Key = tuple[str, str]


def some_deployment(model: str, version: str, recipe: Recipe) -> Deployment:
    """A deployment of a version, on the deployer's own servers."""
    new = NewDeployment(model, version, "main", Wish())
    return Deployment("0", new, recipe, new.wish, Progress(), 1, NOON, NOON)


@dataclass
class KnownNamespaces:
    """A `Namespaces`."""

    known: dict[str, str] = field(default_factory=dict)

    async def of(self, team: str) -> str:
        """As it was said."""
        return self.known[team]


@dataclass
class FakePods:
    """A `Pods`: every pod answers what digits does, or not."""

    sick: set[str] = field(default_factory=set)
    proven: set[tuple[str, str]] = field(default_factory=set)
    """Pods that answered a trial, each with what it serves."""

    def __call__(self, place: Place, *, name: str) -> "FakePod":
        """The pod there."""
        return FakePod(self, place, name)


@dataclass(frozen=True)
class FakePod:
    """An `ExternalServer`."""

    pods: FakePods
    place: Place
    name: str

    async def observe(self) -> ServerState:
        """Nobody asks a pod how it stands."""
        raise AssertionError(self.name)

    async def software(self) -> str:
        """What it is."""
        return "fake 1"

    async def schema(self) -> None:
        """Nobody asks."""
        raise AssertionError(self.name)

    async def load(self, name: str) -> None:
        """It has it."""
        assert name == self.name

    async def unload(self, name: str) -> None:
        """Pods are the operator's to take away."""
        raise AssertionError(name)

    async def infer(self, name: str, inputs: Sequence[Tensor]) -> Mapping[str, TensorShape]:
        """What the schema says."""
        if self.place.server_id in self.pods.sick:
            raise MeshError(Reason.WARMUP_FAILED, "it answers nonsense; register a version that does not")
        self.pods.proven.add((self.place.server_id, name))
        rows = inputs[0].shape[0]
        return {one.name: TensorShape(one.data_type.value, (rows, *one.shape)) for one in DIGITS_SCHEMA.outputs}

    async def close(self) -> None:
        """Nothing is open."""


class FakeCluster:
    """A `Cluster`. `truth` is what the API server has; what is known of it comes by a watch, a step behind."""

    def __init__(self, name: str, clock: Clock) -> None:
        self._name = name
        self._clock = clock
        self._number = 0
        self.truth: dict[_Key, dict[str, object]] = {}
        self.replicas: dict[tuple[str, str], list[str]] = {}
        """Ready pods by object and version."""
        self.idle: set[str] = set()
        """Objects that an autoscaler has left without replicas, but for those that were woken."""
        self.away = False
        self.watching = True
        self.wakes = 0
        self.tells = 0
        """How often the deployer's part of a status was written."""
        self.restart()

    def restart(self) -> None:
        """The deployer is another process: nothing is known."""
        self._known: dict[_Key, dict[str, object]] = {}
        self._known_pods: dict[tuple[str, str], list[str]] = {}
        self._changed = Signal()
        self._synced = False

    @property
    def name(self) -> str:
        """Its name."""
        return self._name

    @property
    def changed(self) -> Signal:
        """Of what is known."""
        return self._changed

    @property
    def synced(self) -> bool:
        """Whether there was a list."""
        return self._synced

    async def run(self) -> None:
        """The watch: all that there is, again and again, where it is not broken."""
        while True:
            if self.watching and not self.away:
                pods = {key: list(value) for key, value in self.replicas.items()}
                if self._known != self.truth or self._known_pods != pods or not self._synced:
                    self._known, self._known_pods, self._synced = dict(self.truth), pods, True
                    self._changed.fire()
            await self._clock.sleep(0.25)

    def objects(self) -> Sequence[ClusterObject]:
        """What is known."""
        return sorted(map(self._read, self._known.values()), key=lambda one: (one.made_at, one.name))

    def find(self, namespace: str, model_name: str, deployment_name: str) -> ClusterObject | None:
        """The oldest."""
        wanted = (namespace, model_name, deployment_name)
        named = (one for one in self.objects() if (one.namespace, *names_of(one)) == wanted)
        return next(named, None)

    def pods(self, found: ClusterObject, version: str) -> Mapping[str, Place]:
        """Ready ones, as known."""
        there = self._known_pods.get((found.name, version), [])
        places = [server_id(pod, f"10.0.0.{index}", 8000, 8001) for index, pod in enumerate(there)]
        return {name: Place(name, f"{name}:http", f"{name}:grpc") for name in places}

    async def read(self, namespace: str, name: str) -> ClusterObject | None:
        """The truth."""
        self._reach()
        body = self.truth.get((namespace, name))
        return self._learn(body) if body is not None else None

    async def in_namespace(self, namespace: str) -> Sequence[ClusterObject]:
        """The truth."""
        self._reach()
        return [self._read(body) for (where, _), body in self.truth.items() if where == namespace]

    async def apply(self, manifest: Body, *, dry_run: bool = False) -> ClusterObject:
        """As the API server does it, but that the whole spec is replaced."""
        self._reach()
        made = self.written(manifest, FIELD_MANAGER)
        if dry_run:
            return self._read(made)
        self.truth[NAMESPACE, text(made, "metadata", "name")] = made
        return self._learn(made)

    async def delete(self, found: ClusterObject) -> None:
        """Marks it; the operator lets go."""
        self._reach()
        body = self.truth.get((found.namespace, found.name))
        if body is not None and text(body, "metadata", "uid") == found.uid:
            self.kubectl_delete(found.name)
            self._learn(self.truth[found.namespace, found.name])

    async def tell(self, found: ClusterObject, conditions: tuple[Condition, ...], floor: Floor | None) -> None:
        """Merges the deployer's conditions, and replaces the floor."""
        self._reach()
        body = self.truth.get((found.namespace, found.name))
        if body is not None and text(body, "metadata", "uid") == found.uid:
            told = table(status_of(found, conditions, floor), "status")
            rest = [one for one in items(body, "status", "conditions") if text(one, "type") not in OWN]
            kept = {key: value for key, value in table(body, "status").items() if key != "forecast"}
            self.tells += 1
            self._put(
                found.name, {**body, "status": {**kept, **told, "conditions": [*rest, *items(told, "conditions")]}}
            )
            self._learn(self.truth[found.namespace, found.name])

    async def wake(self, found: ClusterObject) -> None:
        """A first replica."""
        self._reach()
        self.wakes += 1
        self.replicas.setdefault((found.name, found.new.version), []).append(f"{found.name}-woken-{self.wakes}")

    def written(self, manifest: Body, manager: str) -> dict[str, object]:
        """A manifest over what there is. Raises ETAG_MISMATCH where it is not what it was made for."""
        name = text(manifest, "metadata", "name")
        there = self.truth.get((NAMESPACE, name), {})
        for part in ("uid", "resourceVersion"):
            wanted = text(manifest, "metadata", part)
            if wanted and wanted != text(there, "metadata", part):
                raise MeshError(Reason.ETAG_MISMATCH, "it is another one by now")
        self._number += 1
        generation = whole(there, "metadata", "generation")
        moved = at(there, "spec") != at(manifest, "spec")
        managers = [one for one in items(there, "metadata", "managedFields") if text(one, "manager") != manager]
        wrote = {"manager": manager, "time": f"{self._number:09}"}
        metadata = {
            "name": name,
            "namespace": NAMESPACE,
            "uid": text(there, "metadata", "uid") or f"uid-{self._number}",
            "creationTimestamp": text(there, "metadata", "creationTimestamp") or f"{self._number:09}",
            "deletionTimestamp": text(there, "metadata", "deletionTimestamp"),
            "resourceVersion": str(self._number),
            "generation": generation + moved,
            "annotations": {
                **table(there, "metadata", "annotations"),
                **table(manifest, "metadata", "annotations"),
            },
            "managedFields": [*managers, wrote],
        }
        return {**manifest, "metadata": metadata, "status": at(there, "status") or {}}

    def kubectl(self, name: str, version: str, wish: Wish, deployment_name: str = "") -> None:
        """What a person applies."""
        spec: dict[str, object] = {"modelName": "m", "version": version, "environment": "prod", **spec_of(wish)}
        there = self.truth.get((NAMESPACE, name))
        named = text(there, "spec", "deploymentName") if there is not None else deployment_name
        if named:
            spec["deploymentName"] = named
        self.truth[NAMESPACE, name] = self.written({"metadata": {"name": name}, "spec": spec}, "kubectl")

    def kubectl_delete(self, name: str) -> None:
        """What a person deletes."""
        body = self.truth.get((NAMESPACE, name))
        if body is not None:
            self._put(name, {**body, "metadata": {**table(body, "metadata"), "deletionTimestamp": "now"}})

    def operate(self) -> None:
        """One look of the operator at everything: pods come, old ones go once the new ones have the traffic, the
        status tells, and what is deleted goes."""
        for (_, name), body in list(self.truth.items()):
            found = self._read(body)
            mine = {key: pods for key, pods in self.replicas.items() if key[0] == name}
            if found.terminating:
                for key in mine:
                    del self.replicas[key]
                del self.truth[NAMESPACE, name]
                continue
            wanted = found.wish.resources.replicas
            pods = [f"{name}-{found.new.version}-{n}" for n in range(wanted)]
            if name in self.idle:
                pods = [one for one in self.replicas.get((name, found.new.version), []) if "-woken-" in one]
                wanted = len(pods)
            self.replicas[name, found.new.version] = pods
            routed = next((one.status for one in found.said if one.type == "Routed"), True)
            if (routed and found.said_of_now) or not wanted:
                for key in mine:
                    if key[1] != found.new.version:
                        del self.replicas[key]
            status = {"phase": "active", "replicas": wanted, "observedGeneration": found.generation, "message": ""}
            if any(at(body, "status", key) != value for key, value in status.items()):
                self._put(name, {**body, "status": {**table(body, "status"), **status}})

    def _put(self, name: str, body: dict[str, object]) -> None:
        self._number += 1
        metadata = {**table(body, "metadata"), "resourceVersion": str(self._number)}
        self.truth[NAMESPACE, name] = {**body, "metadata": metadata}

    def _learn(self, body: dict[str, object]) -> ClusterObject:
        key = (NAMESPACE, text(body, "metadata", "name"))
        if self._known.get(key) != body:
            self._known[key] = body
            self._changed.fire()
        return self._read(body)

    def _read(self, body: Body) -> ClusterObject:
        return read_object(body, cluster=self._name)

    def _reach(self) -> None:
        if self.away:
            raise MeshError(Reason.DEPENDENCY_UNAVAILABLE, "the API server does not answer; it is tried again")


def names_of(found: ClusterObject) -> tuple[str, str]:
    """Of what model, and what it is called in the mesh."""
    return found.new.model_name, found.new.deployment_name
