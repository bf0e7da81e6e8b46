"""A real API server, where INFERMESH_TEST_KUBECONFIG names one, with a namespace for each test and a played kubelet."""

import asyncio
import os
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from services.common.body import Body, text
from services.common.kubernetes.conditions import find
from services.operator.adapters.kinds import KINDS
from tests.support.operator_kube import Kube, Kubelet, kube, shown
from tests.support.waiting import eventually

VARIABLE = "INFERMESH_TEST_KUBECONFIG"


@dataclass
class Ground:
    """Where a test works."""

    kubeconfig: Path
    kube: Kube
    namespace: str
    kubelet: Kubelet

    async def until(self, name: str, *, timeout_s: float = 30.0, **status: object) -> Body:
        """A ModelDeployment once its status says so."""

        async def looks() -> Body | None:
            body = await self.kube.get("ModelDeployment", self.namespace, name)
            assert body is not None, f"no ModelDeployment {name}"
            told = body.get("status")
            found = told if isinstance(told, dict) else {}
            assert {key: found.get(key) for key in status} == status, shown(body)
            return body

        found = await eventually(looks, timeout_s=timeout_s, every_s=0.1, what=f"{name}: {status}")
        assert found is not None
        return found

    async def gone(self, kind: str, name: str, *, timeout_s: float = 30.0) -> None:
        """Returns once there is no such object."""

        async def is_gone() -> bool:
            return await self.kube.get(kind, self.namespace, name) is None

        await eventually(is_gone, timeout_s=timeout_s, every_s=0.1, what=f"{kind} {name} goes")

    async def condition(self, name: str, kind: str) -> tuple[str, str, str]:
        """Status, reason and message of a condition."""
        body = await self.kube.get("ModelDeployment", self.namespace, name)
        found = find(body or {}, kind)
        return text(found, "status"), text(found, "reason"), text(found, "message")


@pytest.fixture
async def ground(socket_enabled: None) -> AsyncIterator[Ground]:
    """A namespace of a real cluster."""
    named = os.environ.get(VARIABLE)
    if not named:
        pytest.skip(f"{VARIABLE} names no kubeconfig of a Kubernetes cluster to test in")
    async with kube(Path(named)) as client:
        await client.install()
        namespace = f"test-{secrets.token_hex(4)}"
        await client.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
        kubelet = Kubelet(client, namespace)
        running = asyncio.create_task(kubelet.run(), name="kubelet")
        try:
            yield Ground(Path(named), client, namespace, kubelet)
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            await _release(client, namespace)
            await client.delete("Namespace", "", namespace)
            # No kubelet is left to say that they ended.
            at_once = {"apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0}
            await client.server.call("DELETE", KINDS["Pod"].path(namespace), kind="Pod", body=at_once)


async def _release(client: Kube, namespace: str) -> None:
    """Lets go of what no operator drains any more."""
    gate = asyncio.Semaphore(8)

    async def release(kind: str, name: str) -> None:
        async with gate:
            await client.patch(kind, namespace, name, {"metadata": {"finalizers": None}})

    for kind in ("ModelDeployment", "ABTest"):
        found = await client.list(kind, namespace)
        await asyncio.gather(*(release(kind, text(one, "metadata", "name")) for one in found))
