"""Tells the deployer, every few seconds, how much each version is asked for, also that none is.

The hot path leaves two counts with each version (`engines/demand.py`); everything else happens here. While the deployer
is away windows are added up, and told as one when it is back.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

import grpc
from infermesh.deployer.v1 import activation_service_pb2 as pb
from infermesh.deployer.v1 import activation_service_pb2_grpc

from services.batcher.domain.demand import Demand, Untold
from services.common.clock import Clock
from services.common.errors import MeshError
from services.common.telemetry.logging import get_logger

log = get_logger(__name__)

DEADLINE_S = 2.0
"""Of one report: the next one says the same and more."""
_WINDOW_MIN_S = 1e-3
_SLICE_S = 0.0015
"""How long it holds the loop at once while it goes through the versions."""
_MEASURED_MAX = 500
"""Versions whose latency is told; of as many it takes a millisecond or two."""

Latencies = Callable[[Iterable[tuple[str, str]]], Mapping[tuple[str, str], float]]
"""The 95th percentile of versions since it was last asked for, in milliseconds, as far as it is known."""


class DemandReports:
    """What one batcher is asked for."""

    def __init__(
        self,
        channel: grpc.aio.Channel,
        *,
        batcher_id: str,
        take: Callable[[], Iterable[Demand | None]],
        clock: Clock,
        period_s: float,
    ) -> None:
        """`take` hands out, once, what came since it was last asked, version by version; None: nothing."""
        self._stub = activation_service_pb2_grpc.ActivationServiceStub(channel)
        self._batcher_id = batcher_id
        self._take = take
        self._clock = clock
        self._period_s = period_s
        self._untold = Untold()
        self._taken_s = clock.monotonic()
        self._away = False
        """Whether the deployer has not taken the last report."""
        self.latencies: Latencies = lambda _: {}

    async def run(self) -> None:
        """Reports for as long as the process lives; a task of the lifecycle."""
        while True:
            await self._clock.sleep(self._period_s)
            await self.report()

    async def report(self) -> None:
        """One report. What cannot be told is kept for the next one."""
        await self._gather()
        untold = self._untold
        request = pb.ReportDemandRequest(
            batcher_id=self._batcher_id,
            window_s=max(_WINDOW_MIN_S, untold.window_s),
            demands=[_to_proto(demand) for demand in untold.demands],
        )
        try:
            await self._stub.ReportDemand(request, timeout=DEADLINE_S)
        except MeshError as error:
            if not self._away:
                log.warning("the deployer does not take what is in demand; it is told later", error=error.message)
            self._away = True
            return
        if self._away:
            log.info("the deployer takes what is in demand again")
        self._away = False
        untold.clear()

    async def _gather(self) -> None:
        demands: list[Demand] = []
        now_s = began_s = self._clock.monotonic()
        for demand in self._take():
            if demand is not None:
                demands.append(demand)
            if self._clock.monotonic() - began_s > _SLICE_S:
                await asyncio.sleep(0)
                began_s = self._clock.monotonic()
        p95_ms = self.latencies([demand.key for demand in demands[:_MEASURED_MAX]])
        seconds, self._taken_s = now_s - self._taken_s, now_s
        self._untold.add([replace(one, p95_ms=p95_ms.get(one.key, 0.0)) for one in demands], seconds)


def _to_proto(demand: Demand) -> pb.VersionDemand:
    return pb.VersionDemand(
        model_name=demand.model_name,
        version=demand.version,
        requests=demand.requests,
        rows=demand.rows,
        in_flight=demand.in_flight,
        queued=demand.queued,
        queue_wait_max_ms=demand.waited_max_s * 1000,
        latency_p95_ms=demand.p95_ms,
    )
