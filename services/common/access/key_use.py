"""Notes which keys were used, and tells the registry once a minute."""

from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime

import grpc
from infermesh.registry.v1 import team_service_pb2, team_service_pb2_grpc

from services.common.clock import Clock
from services.common.errors import MeshError
from services.common.telemetry.logging import get_logger

log = get_logger(__name__)

PERIOD_S = 60.0
KEYS_MAX = 20_000
"""Keys that are noted between two reports; of more, the rest waits until it is used again."""
_KEYS_A_CALL = 1000
_DEADLINE_S = 2.0

Report = Callable[[Mapping[str, datetime]], Awaitable[None]]
"""Takes the last use of each key. Raises MeshError."""


class KeyUse:
    """One entry a key, however often it was used. What cannot be reported is given up: a later use says more."""

    def __init__(self, report: Report, *, clock: Clock) -> None:
        self._report = report
        self._clock = clock
        self._used: dict[str, datetime] = {}

    def note(self, key_id: str) -> None:
        """The key was used now."""
        if key_id in self._used or len(self._used) < KEYS_MAX:
            self._used[key_id] = self._clock.now()

    async def run(self) -> None:
        """Reports; never ends by itself."""
        while True:
            await self._clock.sleep(PERIOD_S)
            await self.flush()

    async def flush(self) -> None:
        """Reports what is noted."""
        used, self._used = self._used, {}
        if not used:
            return
        try:
            await self._report(used)
        except MeshError as error:
            log.info("the last use of keys could not be reported", keys=len(used), error=error.message)


def report_to_registry(channel: grpc.aio.Channel) -> Report:
    """Reports over gRPC."""
    teams = team_service_pb2_grpc.TeamServiceStub(channel)

    async def report(used: Mapping[str, datetime]) -> None:
        uses = []
        for key_id, moment in used.items():
            use = team_service_pb2.KeyUse(key_id=key_id)
            use.used_at.FromDatetime(moment)
            uses.append(use)
        for start in range(0, len(uses), _KEYS_A_CALL):
            request = team_service_pb2.ReportKeyUseRequest(uses=uses[start : start + _KEYS_A_CALL])
            await teams.ReportKeyUse(request, timeout=_DEADLINE_S)

    return report
