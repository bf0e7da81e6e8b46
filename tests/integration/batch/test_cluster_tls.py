"""Workers in a cluster, for a mesh whose services speak mutual TLS and whose gateway has a certificate of its own."""

from pathlib import Path

import grpc
import pytest

from services.batch.domain.indexed_job import GATEWAY_SECRET
from services.common.errors import Reason
from services.common.grpc.tls import AUTHORITY, CERTIFICATE, PRIVATE_KEY, PeerTls
from tests.integration.batch.driving import ModelPort, Service
from tests.support.batch_ground import ROWS, Ground, cluster_settings, ids, places
from tests.support.certificates import certificates
from tests.support.s3 import S3
from tests.support.waiting import eventually

MESH = "mesh-certificate"
pytestmark = pytest.mark.timeout(240)


@pytest.fixture
def tls(tmp_path: Path) -> PeerTls:
    return PeerTls(certificates(tmp_path / "tls", "batch", authority=tmp_path / "authority"))


@pytest.fixture
def gateway(tmp_path: Path) -> Path:
    """Its certificate, by an authority that services of the mesh do not believe."""
    return certificates(tmp_path / "tls", "gateway", authority=tmp_path / "other")


@pytest.fixture
def gateway_credentials(gateway: Path) -> grpc.ServerCredentials:
    pair = ((gateway / PRIVATE_KEY).read_bytes(), (gateway / CERTIFICATE).read_bytes())
    return grpc.ssl_server_credentials([pair])


@pytest.fixture
async def ground(ground: Ground, tls: PeerTls, gateway: Path) -> Ground:
    """With the Secrets by which pods and gateway are known."""
    files = (AUTHORITY, CERTIFICATE, PRIVATE_KEY)
    await ground.keep(MESH, {name: (tls.folder / name).read_bytes() for name in files})
    await ground.keep(GATEWAY_SECRET, {AUTHORITY: (gateway / AUTHORITY).read_bytes(), "api-key": b"not for workers"})
    return ground


@pytest.fixture
def more_settings(
    ground: Ground, service_ports: list[int], registry_address: str, model_port: ModelPort, gateway: Path
) -> dict[str, object]:
    told = cluster_settings(
        ground,
        batch_port=service_ports[0],
        registry_address=registry_address,
        batcher_address=f"127.0.0.1:{model_port.port}",
    )
    own = {
        "batcher_tls": gateway / AUTHORITY,
        "pod_batcher_tls": "secret",
        "pod_tls_secret": MESH,
        "pod_silent_timeout_s": 20.0,
    }
    return {**told, **own}


async def test_workers_are_known_to_the_mesh_and_know_its_gateway(service: Service, s3: S3, ground: Ground) -> None:
    source, target = places(s3)
    job = await service.submit(source, target, batch_size=20, runtime="far", max_parallelism=2)
    ended = await service.ended(job.job_id, timeout_s=90)
    assert ended.status == "completed", ended.error_message
    assert ids(s3, target) == [1000 + row for row in range(ROWS)]
    await eventually(lambda: not ground.node.alive(), what="workers end")
    assert set(ground.node.codes().values()) == {0}
    mounted = {file.name for file in ground.node.folder.glob("*/gateway/*")}
    assert mounted == {AUTHORITY}, "the key by which servers fetch packages is none of theirs"


async def test_workers_that_a_stranger_certified_fail_the_job_and_it_says_what_to_look_at(
    service: Service, s3: S3, ground: Ground, tmp_path: Path
) -> None:
    stranger = certificates(tmp_path / "tls", "stranger", authority=tmp_path / "other")
    await ground.keep(MESH, {name: (stranger / name).read_bytes() for name in (AUTHORITY, CERTIFICATE, PRIVATE_KEY)})
    job = await service.ended((await service.submit(*places(s3, 100), runtime="far")).job_id, timeout_s=120)
    assert (job.status, job.error_reason) == ("failed", Reason.WORKERS_FAILED), job.error_message
    assert "none of them has asked the batch service for work in 20 s" in job.error_message
    assert "INFERMESH_BATCH_POD_TLS_SECRET" in job.error_message
    await eventually(lambda: not ground.node.alive(), what="workers end")
