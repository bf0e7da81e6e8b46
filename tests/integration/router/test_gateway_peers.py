"""Mutual TLS from the keeper to the router, and from the gateway to services: who has no certificate reaches nobody."""

import asyncio
from pathlib import Path
from typing import Any

from services.common.grpc.tls import CERTIFICATE, PRIVATE_KEY
from services.router.adapters.envoy.control_plane import EnvoyControlPlane
from tests.support.certificates import certificates
from tests.support.envoy_gateway import running_gateway
from tests.support.kept_gateway import KeptGateway
from tests.support.waiting import until

MODEL = "/v1/models/digits"


class PeeredGateway(KeptGateway):
    """A keeper, a router and services that show each other certificates, and a gateway that has one too."""

    def __init__(self, folder: Path, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(folder, loop)
        self.services_tls_dir = str(certificates(folder, "services", authority=folder / "ca"))
        keeper = certificates(folder, "keeper", authority=folder / "ca")
        self.keeper_settings = {**self.keeper_settings, "tls_dir": keeper}

    def peer_tls_dir(self) -> str:
        """What the gateway has."""
        return str(certificates(self._folder, "gateway", authority=self._folder / "ca"))

    def new_plane(self, **changes: Any) -> EnvoyControlPlane:
        """One whose gateways show their certificate."""
        return super().new_plane(**{"peer_tls_dir": self.peer_tls_dir(), **changes})


class BareGateway(PeeredGateway):
    """The gateway has no certificate."""

    def peer_tls_dir(self) -> str:
        """Nothing."""
        return ""


class StrangeGateway(PeeredGateway):
    """The gateway's certificate is by another authority, which it believes alone."""

    def peer_tls_dir(self) -> str:
        """Another authority's."""
        return str(certificates(self._folder, "stranger", authority=self._folder / "other"))


def test_callers_reach_services_over_a_gateway_that_shows_its_certificate(tmp_path: Path) -> None:
    with running_gateway(tmp_path / "gateway", kind=PeeredGateway) as gateway:
        answer = gateway.rest("GET", MODEL)
        assert answer.status_code == 200, answer.text
        assert gateway.stats("cluster.registry.ssl.handshake")["cluster.registry.ssl.handshake"] >= 1


def test_a_gateway_without_a_certificate_or_with_a_strangers_reaches_nobody(tmp_path: Path) -> None:
    for number, kind in enumerate((BareGateway, StrangeGateway)):
        with running_gateway(tmp_path / f"gateway-{number}", kind=kind) as gateway:
            answer = gateway.rest("GET", MODEL)
            assert answer.status_code == 503, answer.text
            assert answer.json()["details"][0]["reason"] == "DEPENDENCY_UNAVAILABLE"


def test_certificates_that_are_moved_into_the_folder_are_shown_next(tmp_path: Path) -> None:
    with running_gateway(tmp_path / "gateway", kind=PeeredGateway) as gateway:
        assert gateway.rest("GET", MODEL).status_code == 200
        folder = Path(gateway.peer_tls_dir())
        before = _read(gateway)
        renewed = certificates(tmp_path, "renewed", authority=tmp_path / "gateway" / "ca")
        for name in (PRIVATE_KEY, CERTIFICATE):
            (renewed / name).replace(folder / name)

        until(lambda: _read(gateway) > before, within_s=20, what="the gateway reads it")
        assert gateway.rest("GET", MODEL).status_code == 200


def _read(gateway: PeeredGateway) -> int:
    """How often the gateway has read its certificate for this service."""
    return sum(gateway.stats("cluster.registry.client_ssl_socket_factory.ssl_context_update_by_sds").values())
