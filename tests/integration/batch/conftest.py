"""A batch service as a real process, over a real PostgreSQL and real servers for the model and the registry."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import grpc
import pytest

from services.common.grpc.tls import PeerTls
from services.supervisor.parts.service import service_part
from services.supervisor.ports import free_ports
from tests.integration.batch.driving import ModelPort, Service
from tests.support.batch_fakes import SUMS
from tests.support.batch_ground import VARIABLE, Ground, ground_in, real_kubeconfig
from tests.support.batch_servers import RegistryServicer, SumsServicer, serving
from tests.support.s3 import S3, s3_server


@pytest.fixture(scope="module")
def s3() -> Iterator[S3]:
    with s3_server() as server:
        yield server


@pytest.fixture(params=["played", "real"])
async def ground(request: pytest.FixtureRequest, s3: S3, tmp_path: Path, socket_enabled: None) -> AsyncIterator[Ground]:
    """A cluster, played and, where one is named, real."""
    if request.param == "real" and not real_kubeconfig():
        pytest.skip(f"{VARIABLE} names no kubeconfig of a Kubernetes cluster to test in")
    async with ground_in(tmp_path, s3, real=request.param == "real") as made:
        yield made


@pytest.fixture
def model() -> SumsServicer:
    return SumsServicer()  # type: ignore[abstract]  # only what the service calls


@pytest.fixture
def tls() -> PeerTls | None:
    """By which services of the mesh speak to each other."""
    return None


@pytest.fixture
def gateway_credentials() -> grpc.ServerCredentials | None:
    """By which the gateway proves who it is."""
    return None


@pytest.fixture
async def model_port(
    model: SumsServicer, gateway_credentials: grpc.ServerCredentials | None
) -> AsyncIterator[ModelPort]:
    (port,) = free_ports(1)
    serves = ModelPort(model, port, gateway_credentials)
    await serves.open()
    yield serves
    model.release()
    await serves.close()


@pytest.fixture
async def registry_address(tls: PeerTls | None) -> AsyncIterator[str]:
    registry = RegistryServicer([(SUMS, "active")])  # type: ignore[abstract]  # only what the service calls
    async with serving(registry=registry, credentials=tls.for_servers() if tls is not None else None) as address:
        yield address


@pytest.fixture
def more_settings() -> dict[str, object]:
    """What a module tells its service beside the rest."""
    return {}


@pytest.fixture
def workers() -> int:
    """Processes that do chunks."""
    return 1


@pytest.fixture
def service_ports() -> list[int]:
    """Where the service listens, and where its metrics are."""
    return free_ports(2)


@pytest.fixture
async def service(  # noqa: PLR0917 - fixtures are named, not counted
    database_url: str,
    tmp_path: Path,
    registry_address: str,
    model_port: ModelPort,
    more_settings: dict[str, object],
    workers: int,
    service_ports: list[int],
    tls: PeerTls | None,
) -> AsyncIterator[Service]:
    """Started and ready; whatever still runs is stopped at the end."""
    port, metrics_port = service_ports
    part = service_part(
        "batch",
        ports={"batch": port, "batch_metrics": metrics_port},
        settings={
            "port": port,
            "metrics_port": metrics_port,
            "database_url": database_url,
            "data_dir": tmp_path / "data",
            "registry_address": registry_address,
            "batcher_address": f"127.0.0.1:{model_port.port}",
            "authentication": False,
            "lease_s": 1.0,
            # Beside other tests a nice worker would do nothing for longer than its leases last.
            "worker_niceness": 0,
            "poll_period_s": 0.1,
            "chunk_rows_min": 20,
            **({"tls_dir": tls.folder} if tls is not None else {}),
            **more_settings,
            "workers": workers,
        },
        work_dir=tmp_path,
        log_path=tmp_path / "batch.log",
        tls=tls,
    )
    running = Service(part, port, metrics_port, tls)
    await running.start()
    yield running
    await running.stop()
    await running.close()
