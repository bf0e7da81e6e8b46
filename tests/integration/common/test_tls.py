"""Services that show each other certificates: who has none of the mesh's own is not spoken to."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from infermesh.deployer.v1 import backend_service_pb2, backend_service_pb2_grpc

from services.common.clock import SystemClock
from services.common.errors import MeshError, Reason
from services.common.grpc.channel import open_channel
from services.common.grpc.server import GrpcServer, add_grpc_server
from services.common.grpc.tls import CERTIFICATE, PRIVATE_KEY, PeerTls, is_loopback
from services.common.lifecycle import Lifecycle
from services.common.settings import ServiceSettings, settings_config
from tests.support.certificates import certificates

NAME = "infermesh.deployer.v1.BackendService"


class Settings(ServiceSettings):
    model_config = settings_config("tls_test")
    port: int = 0
    metrics_port: int = 0
    shutdown_grace_s: float = 2.0


class Servicer(backend_service_pb2_grpc.BackendServiceServicer):
    """Answers."""

    async def WatchBackends(
        self, request: backend_service_pb2.WatchBackendsRequest, context: Any
    ) -> AsyncIterator[backend_service_pb2.WatchBackendsResponse]:
        yield backend_service_pb2.WatchBackendsResponse(revision=7)


@asynccontextmanager
async def serving(settings: Settings) -> AsyncIterator[GrpcServer]:
    """A service with these settings."""
    lifecycle = Lifecycle(name="test", clock=SystemClock())
    server = add_grpc_server(
        lifecycle,
        settings,
        services=[(lambda s: backend_service_pb2_grpc.add_BackendServiceServicer_to_server(Servicer(), s), NAME)],
        clock=SystemClock(),
    )
    await lifecycle.start()
    try:
        yield server
    finally:
        await lifecycle.stop()


async def called(server: GrpcServer, tls: PeerTls | None) -> int:
    """What it answers a caller with these certificates."""
    async with open_channel(f"127.0.0.1:{server.port}", tls=tls) as channel:
        stub = backend_service_pb2_grpc.BackendServiceStub(channel)
        request = backend_service_pb2.WatchBackendsRequest(watcher_id="test")
        [answer] = [answer async for answer in stub.WatchBackends(request, timeout=10)]
        return answer.revision


async def test_those_with_certificates_of_the_mesh_speak_and_nobody_else_does(tmp_path: Path) -> None:
    own, other = tmp_path / "ca", tmp_path / "other-ca"
    registry = certificates(tmp_path, "registry", authority=own)
    router = PeerTls(certificates(tmp_path, "router", authority=own))
    stranger = PeerTls(certificates(tmp_path, "stranger", authority=other))
    half = PeerTls(certificates(tmp_path, "half", authority=own))
    # Knows the authority and shows a certificate of another one.
    for file in (CERTIFICATE, PRIVATE_KEY):
        (half.folder / file).write_bytes((stranger.folder / file).read_bytes())
    async with serving(Settings(tls_dir=str(registry))) as server:
        assert await called(server, router) == 7
        for nobody in (None, stranger, half):
            with pytest.raises(MeshError) as caught:
                await called(server, nobody)
            assert caught.value.reason is Reason.DEPENDENCY_UNAVAILABLE


async def test_a_caller_does_not_speak_to_a_server_of_another_name(tmp_path: Path) -> None:
    elsewhere = certificates(tmp_path, "registry", authority=tmp_path / "ca", hosts=("registry.mesh.svc",))
    router = PeerTls(certificates(tmp_path, "router", authority=tmp_path / "ca"))
    async with serving(Settings(tls_dir=str(elsewhere))) as server:
        with pytest.raises(MeshError):
            await called(server, router)


async def test_certificates_that_change_on_disk_are_shown_to_those_who_come_next(tmp_path: Path) -> None:
    registry = certificates(tmp_path, "registry", authority=tmp_path / "ca")
    router = PeerTls(certificates(tmp_path, "router", authority=tmp_path / "ca"))
    async with serving(Settings(tls_dir=str(registry))) as server:
        assert await called(server, router) == 7
        # All of it is new, the authority too: who has the old one alone is a stranger now.
        certificates(tmp_path, "registry", authority=tmp_path / "new-ca")
        renewed = PeerTls(certificates(tmp_path, "renewed", authority=tmp_path / "new-ca"))
        assert await called(server, renewed) == 7
        with pytest.raises(MeshError):
            await called(server, router)


@pytest.mark.parametrize(("host", "alone"), [("127.0.0.1", True), ("::1", True), ("localhost", True)])
def test_loopback(host: str, alone: bool) -> None:
    assert is_loopback(host) is alone


@pytest.mark.parametrize("host", ["0.0.0.0", "10.0.0.3", "::", "registry"])
async def test_beyond_this_machine_nobody_listens_without_certificates(host: str) -> None:
    assert not is_loopback(host)
    with pytest.raises(SystemExit, match="INFERMESH_TLS_TEST_TLS_DIR"):
        async with serving(Settings(host=host)):
            raise AssertionError


async def test_where_it_is_asked_for_one_listens_all_the_same() -> None:
    async with serving(Settings(host="0.0.0.0", insecure=True)) as server:
        assert await called(server, None) == 7


async def test_missing_files_are_named(tmp_path: Path) -> None:
    folder = certificates(tmp_path, "registry", authority=tmp_path / "ca")
    (folder / PRIVATE_KEY).unlink()
    with pytest.raises(SystemExit, match=r"no tls\.key"):
        async with serving(Settings(tls_dir=str(folder))):
            raise AssertionError


def test_the_certificates_are_by_the_authority(tmp_path: Path) -> None:
    folder = certificates(tmp_path, "registry", authority=tmp_path / "ca")
    made = x509.load_pem_x509_certificate((folder / CERTIFICATE).read_bytes())
    made.verify_directly_issued_by(x509.load_pem_x509_certificate((folder / "ca.crt").read_bytes()))
