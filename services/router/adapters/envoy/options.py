"""What the gateway must know of the mesh beside the models."""

from dataclasses import dataclass, fields

from services.router.domain.address import split_address


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

    @property
    def carried(self) -> bool:
        """Whether batchers are inside the gateways."""
        return not self.batchers

    def __post_init__(self) -> None:
        for one in fields(self):
            value = getattr(self, one.name)
            if one.name.endswith("_address"):
                split_address(value, one.name)
        for place, address in enumerate(self.batchers):
            split_address(address, f"batchers[{place}]")
