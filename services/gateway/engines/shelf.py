"""The configurations of gateways: in memory, and on disk a moment later."""

import asyncio

from services.common.clock import Clock
from services.common.errors import MeshError, Reason
from services.common.telemetry.logging import get_logger
from services.gateway.domain.messages import Configuration
from services.gateway.ports import Store

log = get_logger(__name__)

GATEWAYS_MAX = 16
"""Gateways that one keeper keeps; there should be a keeper beside each."""

_BYTES_PER_S = 1_000_000
"""What is written in the long run, at most: ten thousand models are some megabytes, each change writes all of them, and
rules may change every second for hours."""
_BURST_BYTES = 16_000_000
"""What may be written at once after a quiet time, so that a few changes are on disk as soon as they are made."""
_FAILED_PAUSE_S = 10.0


class Shelf:
    """Keeps what gateways took."""

    def __init__(self, store: Store, *, clock: Clock, period_s: float) -> None:
        """`period_s`: the least time between two writes. What changes meanwhile goes into one."""
        self._store = store
        self._clock = clock
        self._period_s = period_s
        self._kept: dict[str, Configuration] = {}
        self._opening = asyncio.Lock()
        self._unsaved: set[str] = set()
        self._failed = False
        self._budget_bytes = float(_BURST_BYTES)
        self._changed = asyncio.Event()

    async def open(self, gateway: str) -> None:
        """Reads what is on disk for a gateway, the first time that it dials. A damaged file is as good as none. Raises
        QUOTA_EXCEEDED where there are too many gateways."""
        async with self._opening:
            if gateway in self._kept:
                return
            if len(self._kept) >= GATEWAYS_MAX:
                raise MeshError(
                    Reason.QUOTA_EXCEEDED,
                    f"{gateway} is one gateway more than the {GATEWAYS_MAX} that one keeper keeps; start a keeper "
                    "beside each, or give a gateway the same node id whenever it starts",
                )
            self._kept[gateway] = await self._load(gateway)

    def of(self, gateway: str) -> Configuration:
        """What an opened gateway took last."""
        return self._kept[gateway]

    def keep(self, gateway: str, configuration: Configuration) -> None:
        """An opened gateway goes by this from now on."""
        self._kept[gateway] = configuration
        self._unsaved.add(gateway)
        self._changed.set()

    async def run(self) -> None:
        """Writes what changes, for as long as the process lives."""
        seen_s = self._clock.monotonic()
        while True:
            await self._changed.wait()
            self._changed.clear()
            size = await self.flush()
            now_s = self._clock.monotonic()
            earned = (now_s - seen_s) * _BYTES_PER_S
            self._budget_bytes, seen_s = min(_BURST_BYTES, self._budget_bytes + earned) - size, now_s
            pause_s = max(self._period_s, -self._budget_bytes / _BYTES_PER_S)
            if self._failed:
                self._changed.set()
                pause_s = max(pause_s, _FAILED_PAUSE_S)
            await self._clock.sleep(pause_s)

    async def flush(self) -> int:
        """Writes what is not on disk yet, now. Returns the bytes. What cannot be written is left for the next time."""
        written, self._failed = 0, False
        # What changes meanwhile is for the next time: it may change again.
        for gateway in list(self._unsaved):
            self._unsaved.discard(gateway)
            try:
                size = await asyncio.to_thread(self._store.save, gateway, self._kept[gateway])
            except asyncio.CancelledError:
                self._unsaved.add(gateway)  # nobody will know what became of it
                raise
            except OSError as error:
                self._failed = True
                self._unsaved.add(gateway)
                log.warning("the configuration cannot be kept on disk", gateway=gateway, error=str(error))
            else:
                written += size
                log.debug("configuration kept", gateway=gateway, size_bytes=size)
        return written

    async def _load(self, gateway: str) -> Configuration:
        try:
            found = await asyncio.to_thread(self._store.load, gateway)
        except (MeshError, OSError) as error:
            log.warning("the kept configuration cannot be used", gateway=gateway, error=str(error))
            found = None
        return found or Configuration()
