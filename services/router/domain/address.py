"""Addresses as host:port."""

from services.common.errors import invalid


def split_address(address: str, field: str = "address") -> tuple[str, int]:
    """Host and port. Raises INVALID_FIELD where `address` is not host:port."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise invalid(field, address, "host:port with a port of 1 to 65535")
    return host.strip("[]"), int(port)
