"""What the gateway must know of the mesh beside the models."""

from dataclasses import dataclass, fields

from services.common.errors import invalid
from services.router.domain.address import split_address
from services.router.domain.issuers import Issuer


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvoyOptions:
    """Addresses are host:port, as the gateway reaches them. Raises INVALID_FIELD where one is not."""

    batchers: tuple[str, ...]
    """The batchers. None: each gateway carries a batcher of its own, as a filter in its chain."""
    registry_address: str
    deployer_address: str
    router_address: str
    """The router's own: its public service, reflection and health."""
    batch_address: str
    monitor_address: str
    gateway_host: str = "127.0.0.1"
    """The IP address to listen on; loopback unless told otherwise."""
    gateway_port: int = 8080
    authentication: bool = False
    """Whether callers must show a credential. Nobody gets in before it is known who may: see `control_plane`."""
    issuers: tuple[Issuer, ...] = ()
    """Who beside the mesh vouches for callers."""
    limiter: str = ""
    """host:port of the limiter, which holds callers to their limits over all gateways together. Empty: each gateway
    holds them to the whole limit, which is right where there is one."""
    peer_tls_dir: str = ""
    """Folder with ca.crt, tls.crt and tls.key, as the gateway sees it: mutual TLS between it and all services. Empty:
    none, which fits one machine."""
    tls_certificate: str = ""
    """File with the gateway's certificate and its chain, PEM, as the gateway sees it. Empty: no TLS."""
    tls_private_key: str = ""
    """File with the key of the certificate."""

    @property
    def carried(self) -> bool:
        """Whether batchers are inside the gateways."""
        return not self.batchers

    @property
    def encrypted(self) -> bool:
        """Whether the gateway speaks TLS."""
        return bool(self.tls_certificate)

    def __post_init__(self) -> None:
        if bool(self.tls_certificate) != bool(self.tls_private_key):
            missing, given = (
                ("tls_private_key", "tls_certificate")
                if self.tls_certificate
                else ("tls_certificate", "tls_private_key")
            )
            raise invalid(missing, "", f"the path of a file, since {given} is set; or neither of the two")
        for name in ("tls_certificate", "tls_private_key", "peer_tls_dir"):
            path = getattr(self, name)
            if path and not path.startswith("/"):
                raise invalid(name, path, "an absolute path, as the gateway sees it")
        for one in fields(self):
            value = getattr(self, one.name)
            if one.name.endswith("_address"):
                split_address(value, one.name)
        if self.limiter:
            split_address(self.limiter, "limiter")
        for place, address in enumerate(self.batchers):
            split_address(address, f"batchers[{place}]")
