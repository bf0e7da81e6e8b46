"""Tells gateways which batchers there are, as batchers come and go."""

from collections.abc import Sequence

from services.common.clock import Clock
from services.common.signals import wait_at_most
from services.common.telemetry.logging import get_logger
from services.router.domain.fleet import Fleet, is_reachable
from services.router.engines.batchers import Batchers
from services.router.ports import Gateways

log = get_logger(__name__)


class FleetKeeper:
    """Follows `Batchers`. One counts once it has taken a serving table: before that it would refuse everything."""

    def __init__(
        self, *, configured: Sequence[str], batchers: Batchers, gateways: Gateways, clock: Clock, grace_s: float
    ) -> None:
        self._batchers = batchers
        self._gateways = gateways
        self._clock = clock
        self._fleet = Fleet(tuple(configured), grace_s)
        self._unreachable: set[str] = set()
        self._names: dict[str, str] = {}
        """Of all that gateways send to and that were ever connected, by address."""

    @property
    def addresses(self) -> Sequence[str]:
        """The batchers that gateways send to now, as host:port."""
        return self._fleet.addresses

    @property
    def missed(self) -> Sequence[tuple[str, str]]:
        """Name and address of those that gateways send to although they are not connected; the name is empty where it
        was never told."""
        connected = [session.address for session in self._batchers.connected]
        return [(self._names.get(address, ""), address) for address in self._fleet.missed(connected)]

    async def run(self) -> None:
        """Never ends by itself."""
        while True:
            changed = self._batchers.changed.current
            self._look()
            next_s = self._fleet.next_look_s
            if next_s is None:
                await changed.wait()
            else:
                await wait_at_most(changed, max(0.0, next_s - self._clock.monotonic()))

    def _look(self) -> None:
        present = {session.address for session in self._batchers.connected if session.acknowledged_revision}
        before = self._fleet.addresses
        self._fleet = self._fleet.seen(present, now_s=self._clock.monotonic())
        known = self._names | {session.address: session.batcher_id for session in self._batchers.connected}
        self._names = {address: name for address, name in known.items() if address in self._fleet.addresses}
        if self._fleet.addresses != before:
            log.info("gateways send to other batchers", before=before, now=self._fleet.addresses)
            self._gateways.replace_batchers(self._fleet.addresses)
        self._name_unreachable(present)

    def _name_unreachable(self, present: set[str]) -> None:
        """Once for each: whoever stays connected is looked at again and again."""
        unreachable = {address for address in present if not is_reachable(address)}
        for address in sorted(unreachable - self._unreachable):
            log.warning("a batcher states an address that gateways cannot reach: set its ADDRESS", address=address)
        self._unreachable = unreachable
