"""What the engines need of the world, as small protocols. Each has a fake that passes the same tests."""

from collections.abc import Sequence
from typing import Protocol

from services.router.domain.routing import GatewayState, RoutingTable


class Gateways(Protocol):
    """The gateways that are connected."""

    async def publish(self, table: RoutingTable) -> None:
        """Makes `table` what every gateway routes by, also those that connect later.

        Returns once every gateway that is connected has acknowledged it, or 2 s have passed; at once where none is.
        Never raises for what a gateway does. Called one at a time, with revisions that only grow.
        """
        ...

    def connected(self) -> Sequence[GatewayState]:
        """Every gateway that is connected now, by name."""
        ...
