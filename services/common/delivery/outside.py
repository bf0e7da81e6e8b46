"""Which addresses a caller may have this service call.

A webhook is a request that a stranger words and that leaves from inside: where it may go is decided by the address that
is really connected to and not by the name, which may mean something else at the next look.
"""

from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address

_METADATA = frozenset(
    ip_address(text)
    for text in (
        "169.254.169.254",
        "168.63.129.16",
        "100.100.100.200",
        "192.0.0.192",
        "fd00:ec2::254",
        "fd20:ce::254",
    )
)
"""Where clouds tell machines who they are and hand them credentials; some of these look public, others private."""
_NAT64 = IPv6Network("64:ff9b::/96")


def forbidden(address: IPv4Address | IPv6Address, *, private_allowed: bool) -> str:
    """Why an address may not be called, as the rest of a sentence about it; empty where it may."""
    meant = _meant(address)
    if meant in _METADATA or meant.is_link_local:
        return "is a link-local or metadata address"
    if meant.is_multicast or meant.is_unspecified or (meant.is_reserved and not meant.is_private):
        return "is no address of a host"
    if not meant.is_global and not private_allowed:
        return "is a private address, which the setting WEBHOOK_PRIVATE of the service would allow"
    return ""


def _meant(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """The IPv4 address that an IPv6 one is another spelling of."""
    if isinstance(address, IPv4Address):
        return address
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFF_FFFF)
    return address.ipv4_mapped or address.sixtofour or address
