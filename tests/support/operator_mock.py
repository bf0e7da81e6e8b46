"""kmock's Kubernetes with what the operator relies on beyond it: server-side apply, dry runs, generations, resource
versions, owners, and a Deployment controller whose replicas are there at once, or when the test says so.

It stands in where no API server is at hand. What it does not do, the tests against a real one cover: schemas, CEL,
field managers, quotas at admission, pods.
"""

import copy
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any

import aiohttp.web
import kmock
import yaml

from services.common.kubernetes.kinds import MODEL_DEPLOYMENT, Kind
from services.operator.adapters.kinds import AB_TEST, CHILDREN, EVENT, KINDS, LEASE, QUOTA

_NAMESPACE = KINDS["Namespace"]
_OF_TEAMS = tuple(KINDS[kind] for kind in ("LimitRange", "Role", "RoleBinding", "Secret"))
_JOB = Kind("batch", "v1", "Job", "jobs")
_SERVED = (*CHILDREN, MODEL_DEPLOYMENT, _JOB, AB_TEST, QUOTA, EVENT, LEASE, KINDS["Pod"], *_OF_TEAMS)
_LOOKED_AT = (
    _NAMESPACE,
    Kind("apiextensions.k8s.io", "v1", "CustomResourceDefinition", "customresourcedefinitions", namespaced=False),
)
"""What kopf itself wants to follow."""
_NOW = "2026-11-26T12:00:00Z"
_VERBS = {"get", "list", "watch", "create", "update", "patch", "delete"}
Objects = dict[tuple[str, str, str], dict[str, Any]]


class PlayedApiServer(kmock.KubernetesEmulator):
    """`replicas_ready`: whether replicas of Deployments answer as soon as they are made."""

    def prepare(self) -> None:
        """Declares what is served."""
        self.replicas_ready = True
        self.kept: Objects = {}
        self._numbers = count(1)
        for kind in (*_SERVED, *_LOOKED_AT):
            self.resources[kmock.resource(kind.group, kind.version, kind.plural)] = kmock.ResourceInfo(
                kind=kind.kind,
                namespaced=kind.namespaced,
                verbs=set(_VERBS),
                singular=kind.kind.lower(),
                subresources={"status"},
            )

    async def _handle(self, request: kmock.Request) -> aiohttp.web.StreamResponse:
        if request.method == kmock.method.PATCH and request.url.path.startswith(f"{_NAMESPACE.path('')}/"):
            # kmock takes one namespace for what is in it, so those that are made are not among those that it lists.
            name = request.url.path.split("/")[4]
            if request.url.path == _NAMESPACE.path("", name):
                made = {"apiVersion": "v1", "kind": _NAMESPACE.kind, "metadata": {"name": name}}
                return aiohttp.web.json_response(made)
        kind = next(
            (one for one in _SERVED if request.resource is not None and one.plural == request.resource.plural), None
        )
        method = str(request.method.value).upper()
        watching = "watch" in request.params
        if kind is None or (method == "GET" and watching):
            return await super()._handle(request)
        if method == "GET" and request.name is None:
            return self._list(kind, request)
        key = (kind.plural, str(request.namespace), str(request.name or request.data["metadata"]["name"]))
        async with self._lock:
            status, answer = await self._change(method, kind, key, request)
        return aiohttp.web.json_response(answer, status=status)

    async def _serve_watch(self, request: kmock.Request) -> AsyncIterator[Any]:
        """Begins with what came since the list that it follows, as the real one does."""
        since = request.params.get("resourceVersion", "")
        missed = [
            {"type": "ADDED", "object": copy.deepcopy(body)}
            for (plural, _, _), body in self.kept.items()
            if request.resource is not None
            and plural == request.resource.plural
            # Of what kmock lists itself the version is no number.
            and since.isdigit()
            and int(body["metadata"]["resourceVersion"]) > int(since)
        ]
        async for payload in super()._serve_watch(request):
            yield payload
            while missed:
                yield missed.pop(0)

    def _list(self, kind: Kind, request: kmock.Request) -> aiohttp.web.StreamResponse:
        wanted = dict(pair.split("=", 1) for pair in request.params.get("labelSelector", "").split(",") if pair)
        only = request.params.get("fieldSelector", "").removeprefix("metadata.name=")
        found = [
            body
            for (plural, namespace, name), body in self.kept.items()
            if plural == kind.plural
            and only in {"", name}
            and request.namespace in {None, namespace}
            and wanted.items() <= body["metadata"].get("labels", {}).items()
        ]
        listed = {"apiVersion": kind.api_version, "kind": f"{kind.kind}List", "items": found}
        return aiohttp.web.json_response({**listed, "metadata": {"resourceVersion": str(next(self._numbers))}})

    async def _change(
        self, method: str, kind: Kind, key: tuple[str, str, str], request: kmock.Request
    ) -> tuple[int, Mapping[str, Any]]:
        before = self.kept.get(key)
        if method == "GET":
            return (200, before) if before is not None else _failed(404, "not found")
        if method == "DELETE":
            return await self._delete(key, before)
        body = request.data if request.data is not None else json.loads(request.body)
        refused = _refused(method, before, body)
        if refused is not None:
            return refused
        if before is None and (method == "POST" or "apply-patch" in request.headers.get("Content-Type", "")):
            return await self._create(kind, key, body, dry_run="dryRun" in request.params)
        if before is None:
            return _failed(404, "not found")
        after = self._changed(before, body, request)
        if after == before or "dryRun" in request.params:
            return 200, before
        await self._keep(key, after, "MODIFIED")
        meta = after["metadata"]
        if meta.get("deletionTimestamp") and not meta.get("finalizers"):
            await self._gone(key)
        return 200, after

    def _changed(self, before: dict[str, Any], body: Mapping[str, Any], request: kmock.Request) -> dict[str, Any]:
        after = copy.deepcopy(before)
        if request.subresource == "status":
            new = body["status"]
            merged = {one["type"]: one for one in before.get("status", {}).get("conditions", [])}
            merged |= {one["type"]: one for one in new.get("conditions", [])}
            # What other managers wrote stays.
            kept = before.get("status", {})
            after["status"] = {**kept, **new, **({"conditions": list(merged.values())} if merged else {})}
        elif request.method == kmock.method.PUT:
            after = {**copy.deepcopy(dict(body)), "metadata": after["metadata"]}
        else:
            _merge(after, body)
            if after.get("spec") != before.get("spec"):
                after["metadata"]["generation"] += 1
        after["metadata"]["resourceVersion"] = before["metadata"]["resourceVersion"]
        return after

    async def _create(
        self, kind: Kind, key: tuple[str, str, str], body: Mapping[str, Any], *, dry_run: bool
    ) -> tuple[int, Mapping[str, Any]]:
        made = copy.deepcopy(dict(body))
        made["metadata"] |= {"uid": f"uid-{next(self._numbers)}", "generation": 1, "creationTimestamp": _NOW}
        if kind.namespaced:
            made["metadata"]["namespace"] = key[1]
        if not dry_run:
            await self._keep(key, made, "ADDED")
        return 201, made

    async def _keep(self, key: tuple[str, str, str], body: dict[str, Any], event: str) -> None:
        body["metadata"]["resourceVersion"] = str(next(self._numbers))
        if body["kind"] == "Deployment":
            self._roll(body)
        self.kept[key] = body
        await self._tell(key, event, body)

    def _roll(self, body: dict[str, Any]) -> None:
        """What a Deployment's controller and its pods come to."""
        wanted = body["spec"].get("replicas", 1)
        ready = wanted if self.replicas_ready else min(wanted, body.get("status", {}).get("readyReplicas", 0))
        status: dict[str, Any] = {"observedGeneration": body["metadata"]["generation"], "replicas": wanted}
        status |= {"updatedReplicas": wanted, "readyReplicas": ready, "availableReplicas": ready}
        available = {"type": "Available", "status": str(ready >= wanted), "lastTransitionTime": _NOW, "reason": "x"}
        body["status"] = {**status, "conditions": [available]}

    async def roll_on(self) -> None:
        """Replicas that were held back answer."""
        self.replicas_ready = True
        for key, body in list(self.kept.items()):
            if body["kind"] == "Deployment":
                async with self._lock:
                    await self._keep(key, copy.deepcopy(body), "MODIFIED")

    async def _delete(self, key: tuple[str, str, str], before: dict[str, Any] | None) -> tuple[int, Mapping[str, Any]]:
        if before is None:
            return _failed(404, "not found")
        if before["metadata"].get("finalizers"):
            if not before["metadata"].get("deletionTimestamp"):
                marked = copy.deepcopy(before)
                # Long ago by the operator's clock: what drains by time alone has drained.
                marked["metadata"]["deletionTimestamp"] = _NOW
                await self._keep(key, marked, "MODIFIED")
        else:
            await self._gone(key)
        return 200, before

    async def _gone(self, key: tuple[str, str, str]) -> None:
        body = self.kept.pop(key)
        await self._tell(key, "DELETED", body)
        uid = body["metadata"]["uid"]
        for other, owned in list(self.kept.items()):
            if any(owner["uid"] == uid for owner in owned["metadata"].get("ownerReferences", [])):
                await self._gone(other)

    async def _tell(self, key: tuple[str, str, str], event: str, body: Mapping[str, Any]) -> None:
        kind = next(one for one in _SERVED if one.plural == key[0])
        resource = kmock.resource(kind.group, kind.version, kind.plural)
        await self._buses[resource].put({"type": event, "object": copy.deepcopy(body)})


def _refused(
    method: str, before: Mapping[str, Any] | None, body: Mapping[str, Any]
) -> tuple[int, Mapping[str, Any]] | None:
    """Why a change may not be made: somebody was quicker."""
    if method == "POST" and before is not None:
        return _failed(409, "already exists")
    meta = body.get("metadata", {})
    uid, version = meta.get("uid"), meta.get("resourceVersion")
    if uid and (before is None or before["metadata"]["uid"] != uid):
        return _failed(409, "Precondition failed: UID in precondition")
    if version and (before is None or before["metadata"]["resourceVersion"] != version):
        return _failed(409, "the object has been modified")
    return None


def _merge(into: dict[str, Any], changes: Mapping[str, Any]) -> None:
    for name, value in changes.items():
        if value is None:
            into.pop(name, None)
        elif isinstance(value, Mapping) and isinstance(into.get(name), dict):
            _merge(into[name], value)
        else:
            into[name] = copy.deepcopy(value)


def _failed(code: int, message: str) -> tuple[int, Mapping[str, Any]]:
    return code, {"apiVersion": "v1", "kind": "Status", "status": "Failure", "code": code, "message": message}


@asynccontextmanager
async def played_api_server(folder: Path) -> AsyncIterator[tuple[PlayedApiServer, Path]]:
    """The server, and a kubeconfig that names it."""
    async with PlayedApiServer() as played, kmock.Server(played) as server:
        played.prepare()
        cluster = {"server": str(server.url).rstrip("/")}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "played", "cluster": cluster}],
            "users": [{"name": "tester", "user": {"token": "token"}}],
            "contexts": [{"name": "played", "context": {"cluster": "played", "user": "tester"}}],
            "current-context": "played",
        }
        kubeconfig = folder / "kubeconfig"
        kubeconfig.write_text(yaml.safe_dump(config))
        yield played, kubeconfig
