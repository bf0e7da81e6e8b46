"""Addresses of servers that are not the mesh's own: host:port, behind a scheme where they are spoken to by TLS."""

from dataclasses import dataclass

HTTPS, GRPCS = "https://", "grpcs://"
"""Such an address is spoken to by TLS and by nothing else."""


@dataclass(frozen=True, slots=True)
class ServerAddress:
    """Where a server is."""

    host_port: str
    """host:port; an IPv6 address is in brackets."""
    tls: bool = False

    @staticmethod
    def of(address: str) -> "ServerAddress":
        """What `address`, host:port with or without a scheme of TLS, says."""
        for scheme in (HTTPS, GRPCS):
            if address.startswith(scheme):
                return ServerAddress(address.removeprefix(scheme), tls=True)
        return ServerAddress(address)

    @property
    def host(self) -> str:
        """The host, an IPv6 address without its brackets."""
        return self.host_port.rpartition(":")[0].strip("[]")

    @property
    def port(self) -> int:
        """The port."""
        return int(self.host_port.rpartition(":")[2])
