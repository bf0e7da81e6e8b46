"""A `Cluster` over its API server."""

import asyncio
import re
from collections.abc import Iterator, Mapping, Sequence

from services.common.body import Body, items, name_of, namespace_of, whole
from services.common.clock import Clock
from services.common.errors import FieldViolation, MeshError, Reason, invalid, invalid_fields
from services.common.kubernetes.api_server import APPLY, MERGE, ApiServer, is_missing
from services.common.kubernetes.kinds import MODEL_DEPLOYMENT, Kind
from services.common.kubernetes.names import DEPLOYMENT, VERSION, label_value, workload_name
from services.common.kubernetes.reflector import Reflector
from services.common.signals import Signal
from services.deployer.domain.catalog import Place
from services.deployer.domain.cluster.endpoints import PodsOf, pods_of
from services.deployer.domain.cluster.floor import Floor
from services.deployer.domain.cluster.objects import FIELD_MANAGER, ClusterObject, read_object, status_of
from services.deployer.domain.deployment import Condition

_SLICE = Kind("discovery.k8s.io", "v1", "EndpointSlice", "endpointslices")
_WORKLOAD = Kind("apps", "v1", "Deployment", "deployments")
_STRICT = {"fieldManager": FIELD_MANAGER, "force": "true", "fieldValidation": "Strict"}
_FORBIDDEN, _UNPROCESSABLE = "403", "422"
_CAPITAL = re.compile(r"(?<=[a-z])([A-Z])")
_UNITS = {"_seconds": "_s"}


class KubernetesCluster:
    """A `Cluster`. `run` follows its objects and endpoints, in these namespaces or, where none is named, in all."""

    def __init__(self, name: str, server: ApiServer, *, namespaces: Sequence[str] = (), clock: Clock) -> None:
        self._name = name
        self._server = server
        self._changed = Signal()
        self._known: tuple[ClusterObject, ...] | None = None
        self._pods: Mapping[PodsOf, Mapping[str, Place]] | None = None
        self._objects = {
            namespace: Reflector(
                server, MODEL_DEPLOYMENT, namespace=namespace, clock=clock, changed=self._forget_objects
            )
            for namespace in namespaces or ("",)
        }
        self._slices = {
            namespace: Reflector(
                server,
                _SLICE,
                namespace=namespace,
                labels=f"{DEPLOYMENT},{VERSION}",
                clock=clock,
                changed=self._forget_pods,
            )
            for namespace in namespaces or ("",)
        }

    @property
    def name(self) -> str:
        """As deployments name it."""
        return self._name

    @property
    def changed(self) -> Signal:
        """Fires whenever anything may be otherwise."""
        return self._changed

    @property
    def synced(self) -> bool:
        """Whether objects and endpoints have been read once."""
        return all(one.synced for one in (*self._objects.values(), *self._slices.values()))

    async def run(self) -> None:
        """All watches."""
        async with asyncio.TaskGroup() as group:
            for what, reflectors in (("model deployments", self._objects), ("endpoints", self._slices)):
                for namespace, one in reflectors.items():
                    group.create_task(one.run(), name=f"cluster {self._name}: {what} {namespace}".rstrip())

    def objects(self) -> Sequence[ClusterObject]:
        """All, the oldest first."""
        if self._known is None:
            found = [read_object(body, cluster=self._name) for body in self._bodies(self._objects)]
            self._known = tuple(sorted(found, key=lambda one: (one.made_at, one.namespace, one.name)))
        return self._known

    def find(self, namespace: str, model_name: str, deployment_name: str) -> ClusterObject | None:
        """The oldest object of that name in the mesh."""
        wanted = (namespace, model_name, deployment_name)
        return next(
            (one for one in self.objects() if (one.namespace, one.new.model_name, one.new.deployment_name) == wanted),
            None,
        )

    def pods(self, found: ClusterObject, version: str) -> Mapping[str, Place]:
        """By the labels of the EndpointSlices."""
        if self._pods is None:
            self._pods = pods_of(self._bodies(self._slices))
        return self._pods.get((found.namespace, found.name, label_value(version)), {})

    async def read(self, namespace: str, name: str) -> ClusterObject | None:
        """A GET."""
        try:
            body = await self._server.call("GET", MODEL_DEPLOYMENT.path(namespace, name), kind=MODEL_DEPLOYMENT.kind)
        except MeshError as error:
            if is_missing(error):
                return None
            raise
        return self._learned(body)

    async def in_namespace(self, namespace: str) -> Sequence[ClusterObject]:
        """A list."""
        page = await self._server.call("GET", MODEL_DEPLOYMENT.path(namespace), kind=MODEL_DEPLOYMENT.kind)
        return [read_object(one, cluster=self._name) for one in items(page, "items") if isinstance(one, Mapping)]

    async def apply(self, manifest: Body, *, dry_run: bool = False) -> ClusterObject:
        """Server-side apply, by force: who asks the mesh last has the last word."""
        if self._reflector(namespace_of(manifest)) is None:
            raise invalid("namespace", namespace_of(manifest), ", ".join(self._objects))
        path = MODEL_DEPLOYMENT.path(namespace_of(manifest), name_of(manifest))
        query = _STRICT | ({"dryRun": "All"} if dry_run else {})
        try:
            body = await self._server.call(
                "PATCH", path, kind=MODEL_DEPLOYMENT.kind, query=query, body=manifest, content_type=APPLY
            )
        except MeshError as error:
            raise self._refusal(error, namespace_of(manifest)) from error
        return read_object(body, cluster=self._name) if dry_run else self._learned(body)

    async def delete(self, found: ClusterObject) -> None:
        """Deletes by uid."""
        options = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "propagationPolicy": "Background",
            "preconditions": {"uid": found.uid},
        }
        path = MODEL_DEPLOYMENT.path(found.namespace, found.name)
        try:
            body = await self._server.call("DELETE", path, kind=MODEL_DEPLOYMENT.kind, body=options)
        except MeshError as error:
            if is_missing(error) or error.reason is Reason.ETAG_MISMATCH:
                # It is gone, or has made room for a namesake.
                return
            raise self._refusal(error, found.namespace) from error
        if body.get("kind") == MODEL_DEPLOYMENT.kind:
            # It stays until the operator has let go of it.
            self._learned(body)
        else:
            reflector = self._reflector(found.namespace)
            if reflector is not None:
                reflector.forget(found.namespace, found.name, found.uid)

    async def tell(self, found: ClusterObject, conditions: tuple[Condition, ...], floor: Floor | None) -> None:
        """Server-side apply of the status; nothing where the object is gone meanwhile."""
        path = MODEL_DEPLOYMENT.path(found.namespace, found.name, "status")
        try:
            body = await self._server.call(
                "PATCH",
                path,
                kind=f"{MODEL_DEPLOYMENT.kind}/status",
                query=_STRICT,
                body=status_of(found, conditions, floor),
                content_type=APPLY,
            )
        except MeshError as error:
            if is_missing(error) or error.reason is Reason.ETAG_MISMATCH:
                return
            raise
        self._learned(body)

    async def wake(self, found: ClusterObject) -> None:
        """One replica by the scale of the version's Deployment, where there is none."""
        path = _WORKLOAD.path(found.namespace, workload_name(found.name, found.new.version), "scale")
        scale = await self._server.call("GET", path, kind="Scale")
        if not whole(scale, "spec", "replicas"):
            body = {"spec": {"replicas": 1}}
            await self._server.call("PATCH", path, kind="Scale", body=body, content_type=MERGE)

    def _reflector(self, namespace: str) -> Reflector | None:
        return self._objects.get(namespace) or self._objects.get("")

    @staticmethod
    def _bodies(reflectors: Mapping[str, Reflector]) -> Iterator[Body]:
        for one in reflectors.values():
            yield from one.every()

    def _learned(self, body: Body) -> ClusterObject:
        reflector = self._reflector(namespace_of(body))
        if reflector is not None:
            reflector.learn(body)
        return read_object(body, cluster=self._name)

    def _forget_objects(self) -> None:
        self._known = None
        self._changed.fire()

    def _forget_pods(self) -> None:
        self._pods = None
        self._changed.fire()

    def _refusal(self, error: MeshError, namespace: str) -> MeshError:
        """What the API server refuses, in the mesh's words."""
        status = error.metadata.get("status", "")
        if error.reason is not Reason.CLUSTER_REFUSED:
            return error
        if status == _FORBIDDEN and "exceeded quota" in error.message:
            return MeshError(
                Reason.QUOTA_EXCEEDED,
                f"cluster {self._name!r} refuses it: {error.message}; scale something down there, or ask for more",
                metadata={"cluster": self._name, "namespace": namespace},
            )
        if status == _UNPROCESSABLE and error.violations:
            return invalid_fields([FieldViolation(_field(one.field), one.description) for one in error.violations])
        advice = f"see that namespace {namespace!r} exists there and that the deployer may write ModelDeployments in it"
        return MeshError(
            Reason.CLUSTER_REFUSED,
            f"cluster {self._name!r} refuses it: {error.message}; {advice}",
            metadata={**error.metadata, "cluster": self._name, "namespace": namespace},
        )


def _field(path: str) -> str:
    """A field of the object as the mesh's API names it."""
    name = _CAPITAL.sub(lambda found: f"_{found[1].lower()}", path.removeprefix("spec."))
    for there, here in _UNITS.items():
        name = name.removesuffix(there) + here if name.endswith(there) else name
    return name
