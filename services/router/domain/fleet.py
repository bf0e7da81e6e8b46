"""Which batchers gateways send to: those of the settings, and those that say themselves where they are."""

import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from services.common.errors import MeshError
from services.router.domain.address import split_address


@dataclass(frozen=True, slots=True)
class Fleet:
    """Batchers by address, host:port.

    A batcher whose stream ends may be restarting, or may have lost the router and nothing else, so it is kept for
    `grace_s` seconds, and longer while nobody else is there: gateways' own checks know better than we who is dead, and
    the death of a stream must not take the last batcher away from them.
    """

    configured: tuple[str, ...]
    """Always in use."""
    grace_s: float
    present: frozenset[str] = frozenset()
    """Those that are connected and have taken a serving table."""
    left_s: Mapping[str, float] = field(default_factory=dict)
    """When those that are kept were last there, in seconds of the clock that never goes back."""

    def seen(self, present: Iterable[str], *, now_s: float) -> "Fleet":
        """The fleet after a look at who is there now. Addresses that no gateway could reach do not count."""
        there = frozenset(address for address in present if is_reachable(address))
        left_s = {**self.left_s, **dict.fromkeys(self.present - there, now_s)}
        kept = {
            address: moment_s
            for address, moment_s in left_s.items()
            if address not in there and (not there or now_s < moment_s + self.grace_s)
        }
        return replace(self, present=there, left_s=kept)

    @property
    def addresses(self) -> tuple[str, ...]:
        """Everyone to send to, each once: those of the settings first, then the others by name."""
        return tuple(dict.fromkeys([*self.configured, *sorted({*self.present, *self.left_s})]))

    def missed(self, connected: Iterable[str]) -> tuple[str, ...]:
        """Who is sent to and is not `connected`, by address."""
        return tuple(sorted({*self.addresses} - {*connected}))

    @property
    def next_look_s(self) -> float | None:
        """When the next one is dropped if nobody comes or goes; None where that is never."""
        if not self.present or not self.left_s:
            return None
        return min(self.left_s.values()) + self.grace_s


def is_reachable(address: str) -> bool:
    """Whether it is host:port and more than "wherever I listen", which 0.0.0.0 means."""
    try:
        host, _ = split_address(address)
    except MeshError:
        return False
    try:
        return not ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return True
