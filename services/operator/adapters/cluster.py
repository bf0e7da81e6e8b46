"""A `Cluster` and a `LeaseStore` over the API server."""

import hashlib
from collections.abc import Mapping, Sequence

from services.common.body import Body, items, name_of, namespace_of, text
from services.common.clock import Clock
from services.common.errors import MeshError, Reason
from services.common.kubernetes.api_server import APPLY, MERGE, ApiServer, is_missing
from services.common.kubernetes.kinds import Kind
from services.operator.adapters.kinds import EVENT, KINDS, LEASE, POD
from services.operator.domain.manifests.parts import Manifest
from services.operator.domain.names import FIELD_MANAGER
from services.operator.domain.observed import written_moment

_PODS_MAX = 50
_PAGE = 500
_EVENT_WORDS_MAX = 1000
_STRICT = {"fieldManager": FIELD_MANAGER, "force": "true", "fieldValidation": "Strict"}


class KubernetesCluster:
    """A `Cluster`. `instance` names the process in Events."""

    def __init__(self, server: ApiServer, *, clock: Clock, instance: str) -> None:
        self._server = server
        self._clock = clock
        self._instance = instance

    async def apply(self, manifest: Manifest, *, dry_run: bool = False) -> Body:
        """Server-side apply."""
        kind = _kind(manifest)
        query = _STRICT | ({"dryRun": "All"} if dry_run else {})
        path = kind.path(namespace_of(manifest), name_of(manifest))
        try:
            return await self._server.call(
                "PATCH", path, kind=kind.kind, query=query, body=manifest, content_type=APPLY
            )
        except MeshError as error:
            if is_missing(error):
                raise MeshError(
                    error.reason,
                    f"{kind.kind} {name_of(manifest)} cannot be made: {error.message}; see that the namespace exists "
                    f"and that the cluster has {kind.api_version}",
                    metadata=error.metadata,
                ) from error
            raise

    async def apply_status(self, manifest: Manifest) -> Body:
        """Server-side apply of the status."""
        kind = _kind(manifest)
        path = kind.path(namespace_of(manifest), name_of(manifest), "status")
        return await self._server.call(
            "PATCH", path, kind=f"{kind.kind}/status", query=_STRICT, body=manifest, content_type=APPLY
        )

    async def annotate(self, body: Body, annotations: Mapping[str, str | None]) -> Body:
        """A merge patch of the annotations."""
        kind = _kind(body)
        path = kind.path(namespace_of(body), name_of(body))
        patch = {"metadata": {"uid": text(body, "metadata", "uid"), "annotations": dict(annotations)}}
        return await self._server.call("PATCH", path, kind=kind.kind, body=patch, content_type=MERGE)

    async def delete(self, body: Body) -> None:
        """Deletes by uid; the garbage collector goes after what it owns."""
        kind = _kind(body)
        options = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "propagationPolicy": "Background",
            "preconditions": {"uid": text(body, "metadata", "uid")},
        }
        try:
            await self._server.call(
                "DELETE", kind.path(namespace_of(body), name_of(body)), kind=kind.kind, body=options
            )
        except MeshError as error:
            if not is_missing(error) and error.reason is not Reason.ETAG_MISMATCH:
                raise
            # It is gone, or has made room for a namesake.

    async def named(self, kind: str, name: str) -> Sequence[Body]:
        """Lists of that name alone, page by page: a right to one name allows no other."""
        made = KINDS[kind]
        query = {"fieldSelector": f"metadata.name={name}", "limit": str(_PAGE)}
        found: list[Body] = []
        while True:
            page = await self._server.call("GET", made.path(""), kind=kind, query=query)
            # Within a list objects do not say what they are.
            own = {"apiVersion": made.api_version, "kind": kind}
            found += [{**one, **own} for one in items(page, "items") if isinstance(one, dict)]
            query["continue"] = text(page, "metadata", "continue")
            if not query["continue"]:
                return found

    async def pods(self, namespace: str, labels: Mapping[str, str]) -> Sequence[Body]:
        """A list of at most 50, which is enough to tell what is wrong with them."""
        query = {
            "labelSelector": ",".join(f"{key}={value}" for key, value in labels.items()),
            "limit": str(_PODS_MAX),
            # From the API server's memory: what was true a moment ago does.
            "resourceVersion": "0",
        }
        found = await self._server.call("GET", POD.path(namespace), kind=POD.kind, query=query)
        return [one for one in items(found, "items") if isinstance(one, dict)]

    async def record_event(self, about: Body, *, kind: str, reason: str, message: str) -> None:
        """One Event object for each thing that is said; saying it again counts it up."""
        uid, now = text(about, "metadata", "uid"), written_moment(self._clock.now())
        digest = hashlib.sha256(f"{uid}\0{kind}\0{reason}\0{message}".encode()).hexdigest()[:16]
        namespace = namespace_of(about)
        event = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": f"{name_of(about)}.{digest}", "namespace": namespace},
            "involvedObject": {
                "apiVersion": text(about, "apiVersion"),
                "kind": text(about, "kind"),
                "name": name_of(about),
                "namespace": namespace,
                "uid": uid,
            },
            "type": kind,
            "reason": reason[:128],
            "message": message[:_EVENT_WORDS_MAX],
            "source": {"component": FIELD_MANAGER, "host": self._instance},
            "reportingComponent": FIELD_MANAGER,
            "reportingInstance": self._instance,
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
        }
        try:
            await self._server.call("POST", EVENT.path(namespace), kind=EVENT.kind, body=event)
        except MeshError as error:
            if error.reason is not Reason.ETAG_MISMATCH:
                raise
            path = EVENT.path(namespace, f"{name_of(about)}.{digest}")
            await self._server.call("PATCH", path, kind=EVENT.kind, body={"lastTimestamp": now}, content_type=MERGE)


class KubernetesLease:
    """A `LeaseStore`: one Lease object."""

    def __init__(self, server: ApiServer, *, namespace: str, name: str) -> None:
        self._server = server
        self._namespace = namespace
        self._name = name

    async def read(self) -> Body | None:
        """The Lease."""
        try:
            path = LEASE.path(self._namespace, self._name)
            return await self._server.call("GET", path, kind=LEASE.kind, urgent=True)
        except MeshError as error:
            if is_missing(error):
                return None
            raise

    async def write(self, spec: Body, *, over: Body | None) -> Body | None:
        """Replaces exactly what was read, or makes it."""
        metadata: dict[str, object] = {"name": self._name, "namespace": self._namespace}
        if over is not None:
            metadata["resourceVersion"] = text(over, "metadata", "resourceVersion")
        lease = {"apiVersion": LEASE.api_version, "kind": LEASE.kind, "metadata": metadata, "spec": dict(spec)}
        verb, name = ("POST", "") if over is None else ("PUT", self._name)
        try:
            path = LEASE.path(self._namespace, name)
            return await self._server.call(verb, path, kind=LEASE.kind, body=lease, urgent=True)
        except MeshError as error:
            if error.reason is Reason.ETAG_MISMATCH or is_missing(error):
                return None
            raise


def _kind(body: Body) -> Kind:
    return KINDS[text(body, "kind")]
