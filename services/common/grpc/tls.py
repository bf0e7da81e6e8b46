"""Mutual TLS between services: each shows a certificate of the mesh's own authority, and asks for one.

Beyond this machine it is what keeps strangers out: services believe whom the gateway says that a caller is, so nobody
else may speak to them. On loopback it may be left out.
"""

import ssl
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any, ClassVar, Protocol, cast

import grpc

from services.common.errors import MeshError, invalid

AUTHORITY, CERTIFICATE, PRIVATE_KEY = "ca.crt", "tls.crt", "tls.key"
"""The files, as Kubernetes names them in a secret of the type kubernetes.io/tls."""


@dataclass(frozen=True, slots=True)
class PeerTls:
    """A service's certificate and whose it believes, in a folder of three files in PEM."""

    folder: Path

    @staticmethod
    def in_folder(folder: str, field: str = "tls_dir") -> "PeerTls | None":
        """What is in `folder`; None for an empty name. Raises INVALID_FIELD where a file is missing."""
        if not folder:
            return None
        made = PeerTls(Path(folder))
        missing = [name for name in (AUTHORITY, CERTIFICATE, PRIVATE_KEY) if not (made.folder / name).is_file()]
        if missing:
            raise invalid(field, folder, f"a folder with {AUTHORITY}, {CERTIFICATE} and {PRIVATE_KEY}; no {missing[0]}")
        return made

    def for_servers(self) -> grpc.ServerCredentials:
        """What a server shows, asking for the like. Files that change are taken by the connections that come next."""
        read = self._read()

        def fetch() -> grpc.ServerCertificateConfiguration | None:
            nonlocal read
            try:
                now = self._read()
            except OSError:
                # Between two of the three files of a rotation: the next connection looks again.
                return None
            if now == read:
                return None
            read = now
            return _configuration(now)

        # It may say that nothing changed by None, whatever the stubs say.
        asked = cast("Callable[[], grpc.ServerCertificateConfiguration]", fetch)
        return grpc.dynamic_ssl_server_credentials(_configuration(read), asked, require_client_authentication=True)

    def for_channels(self) -> grpc.ChannelCredentials:
        """What a caller shows, and whose servers it believes; the name that it dials must be in their certificate."""
        authority, certificate, private_key = self._read()
        return grpc.ssl_channel_credentials(authority, private_key, certificate)

    def for_sockets(self) -> ssl.SSLContext:
        """The same for callers without gRPC. Any name will do: that the certificate is by the mesh's authority is
        enough to ask how somebody is."""
        context = ssl.create_default_context(cafile=str(self.folder / AUTHORITY))
        context.load_cert_chain(self.folder / CERTIFICATE, self.folder / PRIVATE_KEY)
        context.check_hostname = False
        return context

    def _read(self) -> tuple[bytes, bytes, bytes]:
        """Raises OSError."""
        authority, certificate, private_key = (
            (self.folder / name).read_bytes() for name in (AUTHORITY, CERTIFICATE, PRIVATE_KEY)
        )
        return authority, certificate, private_key


@dataclass(frozen=True, slots=True)
class PublicTls:
    """TLS towards a gateway as its callers speak it: it proves who it is, and they show a key."""

    ca_file: Path | None = None
    """Whose certificates are believed, in PEM; None: those that this system believes."""

    def for_channels(self) -> grpc.ChannelCredentials:
        """Whose servers are believed. Raises OSError."""
        return grpc.ssl_channel_credentials(self.ca_file.read_bytes() if self.ca_file is not None else None)


class Listening(Protocol):
    """The settings of whatever other services reach."""

    model_config: ClassVar[Any]

    @property
    def host(self) -> str:
        """Where it listens."""

    @property
    def tls_dir(self) -> str:
        """Where its certificates are; empty: it has none."""

    @property
    def insecure(self) -> bool:
        """Whether it may do without, wherever it listens."""


def peer_tls(settings: Listening) -> PeerTls | None:
    """The certificates of a service; None where it has none and needs none. Raises SystemExit with one sentence where
    they cannot be read, or where it would listen beyond this machine without any."""
    variable = str(type(settings).model_config.get("env_prefix", "INFERMESH_"))
    try:
        found = PeerTls.in_folder(settings.tls_dir, f"{variable}TLS_DIR")
    except MeshError as error:
        raise SystemExit(error.message) from None
    if found is None and not is_loopback(settings.host) and not settings.insecure:
        raise SystemExit(
            f"{variable}HOST is {settings.host!r}, which others than this machine reach, and services believe whoever "
            f"reaches them; set {variable}TLS_DIR to a folder with certificates, or {variable}INSECURE=true"
        )
    return found


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches what listens on `host`."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _configuration(read: tuple[bytes, bytes, bytes]) -> grpc.ServerCertificateConfiguration:
    authority, certificate, private_key = read
    return grpc.ssl_server_certificate_configuration([(private_key, certificate)], root_certificates=authority)
