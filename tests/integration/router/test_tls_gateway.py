"""TLS at the gateway's own port: what is spoken and what is not, and certificates that are renewed while it serves."""

import asyncio
import shutil
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import httpx
import pytest
from infermesh.prediction.v1 import prediction_pb2, prediction_service_pb2_grpc

from services.common.clock import SystemClock
from services.supervisor.certificates import LocalAuthority
from tests.support.envoy_gateway import TIMEOUT_S, running_gateway, split
from tests.support.gateway_keys import bearer
from tests.support.guarded_gateway import GuardedGateway
from tests.support.waiting import until

DIGITS = [split("digits", {"v1.0.0": 100})]


class EncryptedGateway(GuardedGateway):
    """Has a certificate for 127.0.0.1, by an authority of its own."""

    def __init__(self, folder: Path, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(folder, loop)
        self._authority = LocalAuthority(folder / "authority", now=SystemClock().now())
        self._issued = 0
        self.shown = folder / "shown"
        self.shown.mkdir(parents=True)
        self.authority_file = folder / "authority" / "ca.crt"
        self.renew()
        self.options = {
            "tls_certificate": str(self.shown / "tls.crt"),
            "tls_private_key": str(self.shown / "tls.key"),
        }

    def renew(self) -> None:
        """Moves another certificate and its key into their places, one after the other."""
        self._issued += 1
        issued = self._authority.issue(f"gateway-{self._issued}", hosts=("127.0.0.1",))
        for source, name in ((issued.private_key, "tls.key"), (issued.certificate, "tls.crt")):
            staged = self.shown / f"{name}.new"
            shutil.copyfile(source, staged)
            staged.rename(self.shown / name)

    def serial(self) -> str:
        """Of the certificate that the gateway shows."""
        context = ssl.create_default_context(cafile=str(self.authority_file))
        with handshaken(self, context) as encrypted:
            shown = encrypted.getpeercert()
        assert shown is not None
        return str(shown["serialNumber"])

    def client(self) -> httpx.Client:
        """One that trusts the authority and no other."""
        context = ssl.create_default_context(cafile=str(self.authority_file))
        return httpx.Client(
            base_url=f"https://127.0.0.1:{self.port}",
            verify=context,
            timeout=TIMEOUT_S,
            trust_env=False,
            headers=bearer(self.signer.key("k")),
        )


@contextmanager
def handshaken(gateway: EncryptedGateway, context: ssl.SSLContext) -> Iterator[ssl.SSLSocket]:
    """A connection on which the two have agreed."""
    with (
        socket.create_connection(("127.0.0.1", gateway.port), timeout=TIMEOUT_S) as plain,
        context.wrap_socket(plain, server_hostname="127.0.0.1") as encrypted,
    ):
        yield encrypted


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EncryptedGateway]:
    with running_gateway(tmp_path_factory.mktemp("gateway"), publish=DIGITS, kind=EncryptedGateway) as running:
        yield running


def test_rest_and_grpc_are_spoken_over_tls(gateway: EncryptedGateway) -> None:
    with gateway.client() as client:
        answer = client.post("/v1/models/digits/predict", json={})
        assert answer.status_code == 200
        assert answer.json()["headers"]["x-forwarded-proto"] == "https"
        assert client.get("/v1/models", headers={"authorization": ""}).status_code == 401
    trusted = grpc.ssl_channel_credentials(gateway.authority_file.read_bytes())
    with grpc.secure_channel(gateway.address, trusted) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        metadata = tuple(bearer(gateway.signer.key("k")).items())
        request = prediction_pb2.PredictRequest(model_name="digits")
        assert stub.Predict(request, metadata=metadata, timeout=TIMEOUT_S).model_name == "digits"


@pytest.mark.parametrize(("offered", "agreed"), [(["h2", "http/1.1"], "h2"), (["http/1.1"], "http/1.1"), ([], None)])
def test_client_and_gateway_agree_on_the_protocol(
    gateway: EncryptedGateway, offered: list[str], agreed: str | None
) -> None:
    context = ssl.create_default_context(cafile=str(gateway.authority_file))
    if offered:
        context.set_alpn_protocols(offered)
    with handshaken(gateway, context) as encrypted:
        assert encrypted.selected_alpn_protocol() == agreed
        assert encrypted.version() in ("TLSv1.2", "TLSv1.3")


def test_what_is_older_than_tls_1_2_is_not_spoken(gateway: EncryptedGateway) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match=r"TLSv1\.1|TLSv1_1"):
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises((ssl.SSLError, ConnectionError)), handshaken(gateway, context):
        pass


def test_nothing_is_spoken_in_the_clear(gateway: EncryptedGateway) -> None:
    with pytest.raises(httpx.HTTPError):
        gateway.rest("GET", "/health")


def test_another_certificate_is_taken_up_while_requests_go_on(gateway: EncryptedGateway) -> None:
    listeners, stop = gateway.listeners(), threading.Event()
    statuses: list[int] = []

    def predict() -> None:
        with gateway.client() as client:
            while not stop.is_set():
                # A connection each: each meets the certificate that there is.
                close = {"connection": "close"}
                statuses.append(client.post("/v1/models/digits/predict", json={}, headers=close).status_code)

    load = threading.Thread(target=predict, name="load")
    load.start()
    try:
        for _ in range(3):
            serials = {gateway.serial()}
            gateway.renew()
            until(lambda: gateway.serial() not in serials, what="the new certificate is shown")  # noqa: B023 - at once
        seen = len(statuses)
        until(lambda: len(statuses) > seen + 10, what="requests go on")
    finally:
        stop.set()
        load.join(TIMEOUT_S)
    assert set(statuses) == {200}
    assert gateway.listeners() == listeners


def test_a_gateway_starts_with_its_certificate_while_everything_else_is_dead(gateway: EncryptedGateway) -> None:
    until(lambda: "Secret" in gateway.kept_versions(), what="it is on disk where the certificate is")
    kept = gateway.kept_file.read_bytes()
    assert b"tls.key" in kept
    assert b"PRIVATE KEY" not in kept
    gateway.do(gateway.stop_router())
    gateway.do(gateway.kill_envoy())
    gateway.do(gateway.start_envoy())
    with gateway.client() as client:
        assert client.post("/v1/models/digits/predict", json={}).status_code == 200
    gateway.do(gateway.restart_router())
