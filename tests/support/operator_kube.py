"""A test's own way to an API server, past the operator; and a kubelet that is played: pods become ready, or fail."""

import asyncio
import contextlib
import itertools
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import yaml
from prometheus_client import CollectorRegistry

from services.common.body import Body, at, items, name_of, namespace_of, text
from services.common.clock import SystemClock
from services.common.errors import MeshError
from services.common.kubernetes.api_server import APPLY, MERGE, ApiServer, counted, is_missing
from services.common.kubernetes.kinds import Kind
from services.operator.adapters.kinds import KINDS as _OPERATORS

CRDS = Path(__file__).parents[2] / "deploy" / "helm" / "infermesh" / "crds"
MODEL_DEPLOYMENT = "ModelDeployment"
JOB = Kind("batch", "v1", "Job", "jobs")
KINDS: Mapping[str, Kind] = {**_OPERATORS, JOB.kind: JOB}
_MANAGER = {"fieldManager": "kubectl", "force": "true", "fieldValidation": "Strict"}


class Kube:
    """What a person with kubectl can do."""

    def __init__(self, server: ApiServer) -> None:
        self.server = server

    async def apply(
        self,
        body: Body,
        *,
        manager: str = "kubectl",
        dry_run: bool = False,
        force: bool = True,
        subresource: str = "",
    ) -> Body:
        """Server-side apply, strictly checked."""
        kind = KINDS[text(body, "kind")]
        path = kind.path(namespace_of(body), name_of(body), subresource)
        query = {**_MANAGER, "fieldManager": manager, "force": str(force).lower()}
        query |= {"dryRun": "All"} if dry_run else {}
        return await self.server.call("PATCH", path, kind=kind.kind, query=query, body=body, content_type=APPLY)

    async def get(self, kind: str, namespace: str, name: str) -> Body | None:
        """An object; None where there is none."""
        try:
            return await self.server.call("GET", KINDS[kind].path(namespace, name), kind=kind)
        except MeshError as error:
            if is_missing(error):
                return None
            raise

    async def list(self, kind: str, namespace: str, *, fields: str = "") -> list[Body]:
        """All objects of a kind."""
        query = {"fieldSelector": fields} if fields else {}
        found = await self.server.call("GET", KINDS[kind].path(namespace), kind=kind, query=query)
        return [one for one in items(found, "items") if isinstance(one, dict)]

    async def patch(self, kind: str, namespace: str, name: str, patch: Body, subresource: str = "") -> Body:
        """A merge patch."""
        path = KINDS[kind].path(namespace, name, subresource)
        return await self.server.call("PATCH", path, kind=kind, body=patch, content_type=MERGE)

    async def delete(self, kind: str, namespace: str, name: str) -> None:
        """Deletes an object."""
        with contextlib.suppress(MeshError):
            await self.server.call("DELETE", KINDS[kind].path(namespace, name), kind=kind)

    async def install(self) -> None:
        """The project's custom resources, and waits until they are served."""
        for file in sorted(CRDS.glob("*.yaml")):
            crd = yaml.safe_load(file.read_text())
            path = f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{crd['metadata']['name']}"
            await self.server.call("PATCH", path, kind="CRD", query=_MANAGER, body=crd, content_type=APPLY)
            for _ in range(200):
                found = await self.server.call("GET", path, kind="CRD")
                if any(
                    text(one, "type") == "Established" and text(one, "status") == "True"
                    for one in items(found, "status", "conditions")
                ):
                    break
                await asyncio.sleep(0.05)


@asynccontextmanager
async def kube(kubeconfig: Path) -> AsyncIterator[Kube]:
    """A way to the API server of a kubeconfig."""
    server = ApiServer(
        kubeconfig=kubeconfig,
        clock=SystemClock(),
        calls_per_s=5_000,
        calls_burst=5_000,
        deadline_s=20,
        calls=counted("test", CollectorRegistry()),
        service="test",
    )
    await server.open()
    try:
        yield Kube(server)
    finally:
        await server.close()


Fate = Callable[[Body], Mapping[str, object] | None]
"""What becomes of a pod: a status, or None to leave it as it is."""


def ready_status(pod: Body) -> Mapping[str, object] | None:
    """Every container runs and is ready."""
    if any(
        text(one, "type") == "Ready" and text(one, "status") == "True" for one in items(pod, "status", "conditions")
    ):
        return None
    number = int(text(pod, "metadata", "uid")[:4], 16)
    address = f"10.1.{number >> 8}.{number & 255}"
    return {
        "phase": "Running",
        "podIP": address,
        "podIPs": [{"ip": address}],
        "conditions": [
            {"type": kind, "status": "True", "lastTransitionTime": text(pod, "metadata", "creationTimestamp")}
            for kind in ("Initialized", "ContainersReady", "Ready")
        ],
    }


def fetch_failed(words: str) -> Fate:
    """The init container ends with an error and these last words."""

    def status(pod: Body) -> Mapping[str, object] | None:
        if items(pod, "status", "initContainerStatuses"):
            return None
        ended = {"exitCode": 1, "reason": "Error", "message": words}
        container = {
            "name": "fetch",
            "image": "x",
            "imageID": "",
            "ready": False,
            "restartCount": 1,
            "state": {"terminated": ended},
        }
        return {"phase": "Pending", "initContainerStatuses": [container]}

    return status


NODE = "played"
_PODS_AT_ONCE = 8
_ALL_PODS_EVERY = 5


class Kubelet:
    """Looks after the pods of a namespace, as a scheduler and a node would; `fate` decides what becomes of each."""

    def __init__(self, kube: Kube, namespace: str) -> None:
        self._kube = kube
        self._namespace = namespace
        self.fate: Fate = ready_status

    async def run(self) -> None:
        """Until it is cancelled."""
        node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE}}
        path = f"/api/v1/nodes/{NODE}"
        query = {"fieldManager": NODE, "force": "true"}
        await self._kube.server.call("PATCH", path, kind="Node", query=query, body=node, content_type=APPLY)
        gate = asyncio.Semaphore(_PODS_AT_ONCE)

        async def look_after(pod: Body) -> None:
            async with gate:
                with contextlib.suppress(MeshError):
                    await self._look_after(pod)

        for number in itertools.count():
            # All pods, with those that are to end, only now and then: of many that is much to read.
            fields = "" if number % _ALL_PODS_EVERY == 0 else "status.phase=Pending"
            pods = await self._kube.list("Pod", self._namespace, fields=fields)
            await asyncio.gather(*map(look_after, pods))
            await asyncio.sleep(0.2)

    async def _look_after(self, pod: Body) -> None:
        pods, name = KINDS["Pod"], name_of(pod)
        server = self._kube.server
        if at(pod, "metadata", "deletionTimestamp") is not None:
            at_once = {"apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0}
            await server.call("DELETE", pods.path(self._namespace, name), kind="Pod", body=at_once)
            return
        status = self.fate(pod)
        if status is None:
            return
        if not text(pod, "spec", "nodeName"):
            binding = {
                "apiVersion": "v1",
                "kind": "Binding",
                "metadata": {"name": name, "namespace": self._namespace},
                "target": {"apiVersion": "v1", "kind": "Node", "name": NODE},
            }
            await server.call("POST", pods.path(self._namespace, name, "binding"), kind="Pod", body=binding)
        path = pods.path(self._namespace, name, "status")
        await server.call("PATCH", path, kind="Pod", body={"status": status}, content_type=MERGE)


def wish(namespace: str, name: str = "digits", **spec: object) -> dict[str, object]:
    """A ModelDeployment as a person writes it."""
    return wished(namespace, spec, name=name)


def wished(namespace: str, spec: Body, *, name: str = "digits") -> dict[str, object]:
    """A ModelDeployment as a person writes it, its spec but for what every one has."""
    return {
        "apiVersion": "infermesh.dev/v1alpha1",
        "kind": MODEL_DEPLOYMENT,
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"modelName": "digits", "version": "v1.0.0", **spec},
    }


def shown(body: Body | None) -> str:
    """An object's status, for the message of a failed assertion."""
    return json.dumps(at(body, "status"), indent=1)
