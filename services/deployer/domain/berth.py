"""What was decided of a deployment's servers, for the one look at it."""

from collections.abc import Iterable
from dataclasses import dataclass

from services.deployer.domain.placement import Shortage


@dataclass(frozen=True, slots=True)
class Berth:
    """Where a deployment shall be."""

    servers: frozenset[str]
    """The servers that it shall be on now."""
    spread: int
    """The number of servers that it is wished on."""
    copies: int
    """Replicas on each of them."""
    drained: tuple[str, ...] = ()
    """Servers that hold it, but shall not, and whose last request has come long ago."""
    evicted: str | None = None
    """Set: it is to make room, and the words for it."""
    short: Shortage | None = None
    """Why it has no server, where memory is what it lacks."""

    @staticmethod
    def on_all(servers: Iterable[str], replicas: int) -> "Berth":
        """On every one of these, with all replicas in each."""
        names = frozenset(servers)
        return Berth(names, max(1, len(names)), replicas)

    def replicas_on(self, servers: int, wished: int) -> int:
        """How many of the wished replicas answer where so many servers do."""
        return min(wished, servers * self.copies)
