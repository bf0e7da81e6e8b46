"""A cluster in which the work of batch jobs runs: an API server, played or real, with one node whose pods are processes
of this machine."""

import asyncio
import base64
import json
import os
import secrets
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from services.common.body import Body
from services.common.errors import MeshError
from services.common.kubernetes.api_server import APPLY
from tests.support.batch_pods import Node, PlayedJobs
from tests.support.operator_kube import KINDS, NODE, Kube, kube
from tests.support.operator_mock import played_api_server
from tests.support.s3 import S3

VARIABLE = "INFERMESH_TEST_KUBECONFIG"
ROWS = 4000
BUCKETS = "buckets"
"""The Secret of what opens them."""


@dataclass
class Ground:
    """A cluster with one node."""

    kubeconfig: Path
    kube: Kube
    namespace: str
    node: Node
    real: bool

    async def job(self) -> Body | None:
        """The one Job that there is."""
        found = await self.kube.list("Job", self.namespace)
        assert len(found) <= 1
        return found[0] if found else None

    async def keep(self, name: str, content: Mapping[str, bytes]) -> None:
        """Makes a Secret, or changes it."""
        data = {key: base64.b64encode(value).decode() for key, value in content.items()}
        metadata = {"name": name, "namespace": self.namespace}
        await self.kube.apply({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": data})


def real_kubeconfig() -> Path | None:
    """Of the cluster to test in; None: none is named."""
    named = os.environ.get(VARIABLE)
    return Path(named) if named else None


@asynccontextmanager
async def ground_in(folder: Path, s3: S3, *, real: bool) -> AsyncIterator[Ground]:
    """A namespace of its own, with what opens the buckets of `s3`; `folder` is for files."""
    namespace = f"test-{secrets.token_hex(4)}" if real else "vision"
    mine = {name: os.environ[name] for name in ("PATH", "HOME", "PYTHONPATH") if name in os.environ}
    mine["PYTHONPATH"] = os.pathsep.join(one for one in sys.path if one)
    async with AsyncExitStack() as stack:
        named = real_kubeconfig() if real else None
        kubeconfig = named or (await stack.enter_async_context(played_api_server(folder)))[1]
        client = await stack.enter_async_context(kube(kubeconfig))
        tasks = []
        if real:
            await client.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
            node_body = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE}}
            query = {"fieldManager": NODE, "force": "true"}
            await client.server.call(
                "PATCH", f"/api/v1/nodes/{NODE}", kind="Node", query=query, body=node_body, content_type=APPLY
            )
        else:
            tasks.append(asyncio.create_task(PlayedJobs(client, namespace).run(), name="jobs"))
        node = Node(client, namespace, mine, binds=real, folder=folder / "node")
        ground = Ground(kubeconfig, client, namespace, node, real)
        await ground.keep(BUCKETS, {key: value.encode() for key, value in s3.environment.items()})
        tasks.append(asyncio.create_task(node.run(), name="node"))
        try:
            yield ground
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            if real:
                await client.delete("Namespace", "", namespace)
                at_once = {"apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0}
                with suppress(MeshError):
                    await client.server.call("DELETE", KINDS["Pod"].path(namespace), kind="Pod", body=at_once)


def cluster_settings(
    ground: Ground, *, batch_port: int, registry_address: str, batcher_address: str
) -> dict[str, object]:
    """What a batch service is told of it: the cluster "far"."""
    return {
        "clusters": f"far={ground.kubeconfig}",
        "cluster_owner": ground.namespace,
        "cluster_namespace": ground.namespace,
        "cluster_namespaces": ground.namespace,
        "pod_image": "registry.example/infermesh/services:0.1.0",
        "pod_batch_address": f"127.0.0.1:{batch_port}",
        "pod_registry_address": registry_address,
        "pod_batcher_address": batcher_address,
        "pod_env_from_secrets": BUCKETS,
        "pod_start_timeout_s": 2.0,
        "pod_retries": 2,
        "pods_max": 2,
        "spot_node_labels": "",
        "spot_taints": "",
    }


def places(s3: S3, rows: int = ROWS) -> tuple[str, str]:
    """An input of so many rows, and a place for the output."""
    folder = secrets.token_hex(4)
    lines = (json.dumps({"id": 1000 + row, "a": row / 4, "b": row % 90}) for row in range(rows))
    s3.put(f"{folder}/in.jsonl", "\n".join(lines).encode())
    return f"s3://{s3.bucket}/{folder}/in.jsonl", f"s3://{s3.bucket}/{folder}/out.jsonl"


def ids(s3: S3, target: str) -> list[int]:
    """The keys in an output, as they lie."""
    content = s3.get(target.removeprefix(f"s3://{s3.bucket}/"))
    return [json.loads(line)["id"] for line in content.splitlines()]
