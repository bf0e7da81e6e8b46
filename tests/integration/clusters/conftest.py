"""A whole cluster as far as the mesh sees it: a real API server, the operator, the deployer, and a played kubelet whose
pods are all one real Triton."""

import asyncio
import hashlib
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from pydantic import SecretStr

from services.common.names import backend_model_name
from services.deployer.adapters.repository import FolderPackageStore
from services.deployer.domain.deployment import Recipe
from services.deployer.domain.package import package_of
from services.deployer.settings import DeployerSettings
from services.operator.domain.names import GRPC_PORT, HTTP_PORT
from tests.integration.deployer.conftest import part, triton  # noqa: F401 - fixtures
from tests.integration.deployer.driving import DIGITS, Mesh, Triton
from tests.integration.operator.conftest import Ground, ground  # noqa: F401 - a fixture
from tests.support.deployer_clusters import some_deployment
from tests.support.deployer_fakes import FakeVersions, recipe
from tests.support.operator_kube import ready_status

OLD, NEW = "v1.0.0", "v1.1.0"
CLUSTER = "test"


def _own_address() -> str:
    """An address of this machine that pods may have: none of loopback. No packet is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        try:
            one.connect(("192.0.2.1", 9))
        except OSError:
            pytest.skip("this machine has no address but loopback, which no endpoint may have")
        return str(one.getsockname()[0])


@asynccontextmanager
async def _led_on(address: str, port: int, to: int) -> AsyncIterator[None]:
    """Whatever comes to `address` is led on to this machine's port `to`."""

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65_536):
                writer.write(data)
                await writer.drain()
        except OSError:
            return
        finally:
            writer.close()

    async def both(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", to)
        await asyncio.gather(pump(reader, back), pump(there, writer))

    try:
        server = await asyncio.start_server(both, address, port)
    except OSError as error:
        pytest.skip(f"{address}:{port}, where a pod's port is to be, cannot be listened on ({error})")
    async with server:
        yield


@pytest.fixture
async def pods(ground: Ground, triton: Triton, tmp_path: Path) -> AsyncIterator[str]:  # noqa: F811
    """Pods are Triton with both versions of digits. Their address."""
    address = _own_address()
    settings = DeployerSettings(database_url=SecretStr("postgresql://"))
    packages = FolderPackageStore(tmp_path / "repository", runner=settings.runner, artifacts=None, quantizer=None)
    await packages.start()
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{triton.part.ports['triton_http']}") as client:
        for version in (OLD, NEW):
            deployment = some_deployment("digits", version, known()["digits", version])
            await packages.ensure(package_of(deployment, runner_digest=packages.runner_digest(), threads_default=1))
            name = backend_model_name("digits", version)
            loaded = await client.post(f"/v2/repository/models/{name}/load", json={}, timeout=30)
            assert loaded.status_code == httpx.codes.OK, loaded.text
    ports = triton.part.ports

    def fate(pod: Mapping[str, object]) -> Mapping[str, object] | None:
        status = ready_status(pod)
        return {**status, "podIP": address, "podIPs": [{"ip": address}]} if status is not None else None

    ground.kubelet.fate = fate
    async with (
        _led_on(address, HTTP_PORT, ports["triton_http"]),
        _led_on(address, GRPC_PORT, ports["triton_grpc"]),
    ):
        yield address


def known() -> dict[tuple[str, str], Recipe]:
    """What the registry knows."""
    files = {version: DIGITS / f"digits-{version}.onnx" for version in (OLD, NEW)}
    return {
        ("digits", version): recipe(path=str(path), digest=hashlib.sha256(path.read_bytes()).hexdigest())
        for version, path in files.items()
    }


@pytest.fixture
async def mesh(ground: Ground, pods: str, database_url: str, tmp_path: Path) -> AsyncIterator[Mesh]:  # noqa: F811
    """A deployer that was given the cluster, and has no model server of its own."""
    settings = DeployerSettings(
        port=0,
        metrics_port=0,
        database_url=SecretStr(database_url),
        model_repository=tmp_path / "own",
        triton_http_address="127.0.0.1:1",
        triton_grpc_address="127.0.0.1:1",
        clusters=f"{CLUSTER}={ground.kubeconfig}",
        cluster_namespace=ground.namespace,
        cluster_namespaces=ground.namespace,
        drain_s=0.2,
        period_s=0.2,
    )
    deployer = Mesh(settings, FakeVersions(known()))
    await deployer.start()
    yield deployer
    await deployer.stop()
