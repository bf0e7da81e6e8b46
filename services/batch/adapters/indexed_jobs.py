"""A `Launcher` over the cluster's API server."""

import asyncio
from collections.abc import Mapping, Sequence

from services.batch.domain.indexed_job import FIELD_MANAGER, NAME, OWNER, Manifest
from services.batch.domain.launched import Launched, read_launched
from services.common.body import Body, items, name_of, namespace_of, table, text
from services.common.clock import Clock
from services.common.errors import MeshError, Reason
from services.common.kubernetes.api_server import APPLY, MERGE, ApiServer, is_missing
from services.common.kubernetes.kinds import Kind
from services.common.kubernetes.names import BATCH_WORKERS
from services.common.kubernetes.reflector import Reflector
from services.common.signals import Signal

JOB = Kind("batch", "v1", "Job", "jobs")
POD = Kind("", "v1", "Pod", "pods")
EVENT = Kind("", "v1", "Event", "events")
_MANAGER = {"fieldManager": FIELD_MANAGER, "fieldValidation": "Strict"}
_JOB_OF_POD = "batch.kubernetes.io/job-name"
_EVENTS_MAX = "20"
_FORBIDDEN, _UNPROCESSABLE = "403", "422"


class IndexedJobs:
    """A `Launcher`. `run` follows Jobs and pods, in these namespaces or, where none is named, in all."""

    def __init__(
        self, name: str, server: ApiServer, *, owner: str, namespaces: Sequence[str] = (), clock: Clock
    ) -> None:
        """`owner` tells this mesh's Jobs from those of others in the cluster."""
        self._name = name
        self._server = server
        self._owner = owner
        self._changed = Signal()
        labels = f"{NAME}={BATCH_WORKERS},{OWNER}={self._owner}"

        def follow(kind: Kind) -> Mapping[str, Reflector]:
            return {
                namespace: Reflector(
                    server, kind, namespace=namespace, labels=labels, clock=clock, changed=self._changed.fire
                )
                for namespace in namespaces or ("",)
            }

        self._jobs, self._pods = follow(JOB), follow(POD)

    @property
    def changed(self) -> Signal:
        """Fires whenever anything may be otherwise."""
        return self._changed

    @property
    def synced(self) -> bool:
        """Whether Jobs and pods have been read once."""
        return all(one.synced for one in (*self._jobs.values(), *self._pods.values()))

    @property
    def trouble(self) -> MeshError | None:
        """What the API server said instead of telling."""
        for one in (*self._jobs.values(), *self._pods.values()):
            if one.trouble is not None:
                return self._refusal(one.trouble, "")
        return None

    async def run(self) -> None:
        """All watches."""
        async with asyncio.TaskGroup() as group:
            for what, reflectors in (("jobs", self._jobs), ("pods", self._pods)):
                for namespace, one in reflectors.items():
                    group.create_task(one.run(), name=f"cluster {self._name}: {what} {namespace}".rstrip())

    def jobs(self) -> Sequence[Launched]:
        """All of this mesh."""
        return [read_launched(body) for one in self._jobs.values() for body in one.every() if self._ours(body)]

    def find(self, namespace: str, name: str) -> Launched | None:
        """By its name."""
        return next((one for one in self.jobs() if (one.namespace, one.name) == (namespace, name)), None)

    def pods(self, job: Launched) -> Sequence[Body]:
        """By the label that the Job controller gives them."""
        return [
            body
            for one in self._pods.values()
            for body in one.every()
            if namespace_of(body) == job.namespace and text(body, "metadata", "labels", _JOB_OF_POD) == job.name
        ]

    async def refusals(self, job: Launched) -> Sequence[str]:
        """From the Job's Events."""
        query = {"fieldSelector": f"involvedObject.uid={job.uid},reason=FailedCreate", "limit": _EVENTS_MAX}
        page = await self._called("GET", EVENT.path(job.namespace), job.namespace, kind=EVENT.kind, query=query)
        found = [
            table(one)
            for one in items(page, "items")
            if text(one, "involvedObject", "uid") == job.uid and text(one, "reason") == "FailedCreate"
        ]
        return [text(one, "message") for one in sorted(found, key=_told_at)]

    async def apply(self, manifest: Manifest) -> None:
        """Server-side apply. A Job that is there, and cannot become this one, is left as it is."""
        namespace = namespace_of(manifest)
        path = JOB.path(namespace, name_of(manifest))
        query = {**_MANAGER, "force": "true"}
        try:
            answer = await self._called(
                "PATCH", path, namespace, kind=JOB.kind, query=query, body=manifest, content_type=APPLY
            )
        except MeshError as error:
            if error.metadata.get("status") != _UNPROCESSABLE:
                raise
            try:
                answer = await self._called("GET", path, namespace, kind=JOB.kind)
            except MeshError:
                raise error from None
        self._learned(answer)

    async def change(self, job: Launched, changes: Manifest) -> None:
        """A merge patch of this very Job."""
        body = {**changes, "metadata": {"uid": job.uid}}
        path = JOB.path(job.namespace, job.name)
        try:
            answer = await self._called(
                "PATCH", path, job.namespace, kind=JOB.kind, query=_MANAGER, body=body, content_type=MERGE
            )
        except MeshError as error:
            if self._gone(error, job):
                return
            raise
        self._learned(answer)

    async def remove(self, job: Launched) -> None:
        """Deletes by uid; its pods go by themselves."""
        options = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "propagationPolicy": "Background",
            "preconditions": {"uid": job.uid},
        }
        path = JOB.path(job.namespace, job.name)
        try:
            answer = await self._called("DELETE", path, job.namespace, kind=JOB.kind, body=options)
        except MeshError as error:
            if self._gone(error, job):
                return
            raise
        if answer.get("kind") == JOB.kind and text(answer, "metadata", "deletionTimestamp"):
            self._learned(answer)
        else:
            self._forget(job)

    async def _called(
        self,
        verb: str,
        path: str,
        namespace: str,
        *,
        kind: str,
        query: Mapping[str, str] | None = None,
        body: object = None,
        content_type: str = "application/json",
    ) -> Body:
        try:
            return await self._server.call(verb, path, kind=kind, query=query, body=body, content_type=content_type)
        except MeshError as error:
            if is_missing(error) and verb != "PATCH":
                raise
            raise self._refusal(error, namespace) from error

    def _gone(self, error: MeshError, job: Launched) -> bool:
        """Whether it is no more, or has made room for a namesake."""
        if not is_missing(error) and error.reason is not Reason.ETAG_MISMATCH:
            return False
        self._forget(job)
        return True

    def _learned(self, body: Body) -> None:
        reflector = self._reflector(namespace_of(body))
        if reflector is not None:
            reflector.learn(body)

    def _forget(self, job: Launched) -> None:
        reflector = self._reflector(job.namespace)
        if reflector is not None:
            reflector.forget(job.namespace, job.name, job.uid)

    def _reflector(self, namespace: str) -> Reflector | None:
        return self._jobs.get(namespace) or self._jobs.get("")

    def _ours(self, body: Body) -> bool:
        labels = table(body, "metadata", "labels")
        return labels.get(NAME) == BATCH_WORKERS and labels.get(OWNER) == self._owner

    def _refusal(self, error: MeshError, namespace: str) -> MeshError:
        """What the API server refuses, in the mesh's words."""
        if error.reason is not Reason.CLUSTER_REFUSED:
            return error
        told = {**error.metadata, "cluster": self._name, "namespace": namespace}
        if error.metadata.get("status") == _FORBIDDEN and "exceeded quota" in error.message:
            advice = "wait until other jobs of the team have ended, or ask for more, and retry the job"
            return MeshError(
                Reason.QUOTA_EXCEEDED, f"cluster {self._name!r} refuses it: {error.message}; {advice}", metadata=told
            )
        place = f"namespace {namespace!r}" if namespace else "the namespaces of teams"
        advice = f"see that {place} is there and that the batch service may write Jobs and read pods and events in it"
        return MeshError(
            Reason.CLUSTER_REFUSED, f"cluster {self._name!r} refuses it: {error.message}; {advice}", metadata=told
        )


def _told_at(event: Body) -> str:
    return text(event, "lastTimestamp") or text(event, "eventTime") or text(event, "metadata", "creationTimestamp")
