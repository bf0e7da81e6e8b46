"""Makes forecasts of what deployments are asked for, anew every hour, and says what becomes of them."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import timedelta

from services.common.clock import Clock
from services.common.errors import MeshError
from services.common.telemetry.logging import get_logger
from services.deployer.domain.deployment import Deployment
from services.deployer.domain.forecast import (
    REFRESH_S,
    Forecast,
    Verdict,
    lead_s,
    learning,
    unavailable,
    verdict,
)
from services.deployer.domain.history import DAY, KEEP_DAYS, Key, Series, capacity, series
from services.deployer.domain.scaling import acts
from services.deployer.engines.history import RequestHistory, counted, key_of
from services.deployer.ports import Forecaster, RequestHistoryStore

log = get_logger(__name__)

LOOK_EVERY_S = 5.0
_AGAIN_S = 120.0
"""What could not be made is tried again after so long."""
_TOGETHER_MAX = 16
"""So many forecasts are made in one go."""


@dataclass(frozen=True, slots=True)
class _Made:
    version: str
    """The one whose replicas' capacity it knows."""
    due_s: float
    days: float
    forecast: Forecast | None
    problem: str = ""


class Forecasts:
    """Call `look` at each look of the loop, and let `run` make them."""

    def __init__(
        self, *, store: RequestHistoryStore, forecaster: Forecaster, history: RequestHistory, clock: Clock
    ) -> None:
        self._store = store
        self._forecaster = forecaster
        self._history = history
        self._clock = clock
        self._wanted: dict[Key, Deployment] = {}
        self._made: dict[Key, _Made] = {}

    def look(self, deployments: Iterable[Deployment]) -> None:
        """Forecasts are wanted for these alone. Older versions are left to what they are asked for."""
        self._wanted = {
            key_of(one): one for one in deployments if counted(one) and not one.successor and acts(one.wish.autoscaling)
        }
        self._made = {key: made for key, made in self._made.items() if key in self._wanted}

    def verdict(self, deployment: Deployment) -> Verdict | None:
        """What the forecast comes to now; None where none is wanted or was tried yet."""
        key, scaling = key_of(deployment), deployment.wish.autoscaling
        made = self._made.get(key)
        wanted = self._wanted.get(key)
        if made is None or scaling is None or wanted is None or wanted.deployment_id != deployment.deployment_id:
            return None
        if made.forecast is None:
            return unavailable(made.problem) if made.problem else learning(made.days)
        known = made.forecast.capacity if made.version == deployment.new.version else None
        return verdict(
            replace(made.forecast, capacity=scaling.target_requests_per_sec or known),
            now=self._clock.now(),
            lead_s=lead_s(deployment.progress.load_time_ms),
            recent=self._history.recent(key),
        )

    async def run(self) -> None:
        """Makes what is due, for as long as it runs."""
        while True:
            due = [key for key, one in self._wanted.items() if self._due(key, one.new.version)]
            for begin in range(0, len(due), _TOGETHER_MAX):
                await self._make(due[begin : begin + _TOGETHER_MAX])
            await self._clock.sleep(LOOK_EVERY_S)

    def _due(self, key: Key, version: str) -> bool:
        made = self._made.get(key)
        return made is None or made.version != version or self._clock.monotonic() >= made.due_s

    async def _make(self, keys: list[Key]) -> None:
        ready: dict[Key, tuple[str, Series, float | None]] = {}
        for key in keys:
            wanted, now = self._wanted.get(key), self._clock.now()
            if wanted is None:
                continue
            version = wanted.new.version
            try:
                buckets = await self._store.read(key, now - timedelta(days=KEEP_DAYS))
            except MeshError as error:
                self._failed([key], error)
                continue
            known = series(buckets, now)
            if known.enough:
                ready[key] = version, known, capacity(buckets, version)
            else:
                self._keep(key, version, known, None)
        try:
            outlooks = await self._forecaster.outlooks([known.rates for _, known, _ in ready.values()], day=DAY)
        except MeshError as error:
            self._failed(ready, error)
            return
        for (key, (version, known, per_replica)), outlook in zip(ready.items(), outlooks, strict=True):
            self._keep(key, version, known, Forecast(known.until, outlook.values, outlook.error, per_replica))
            log.info("forecast", model=key[0], deployment=key[1], error=round(outlook.error, 3), days=known.days)

    def _keep(self, key: Key, version: str, known: Series, forecast: Forecast | None) -> None:
        self._made[key] = _Made(version, self._clock.monotonic() + REFRESH_S, known.days, forecast)

    def _failed(self, keys: Iterable[Key], error: MeshError) -> None:
        """The last forecast goes on being used; where there is none, it is said why."""
        log.warning("forecasts could not be made; they are tried again", error=error.message)
        due_s = self._clock.monotonic() + _AGAIN_S
        for key in keys:
            wanted, before = self._wanted.get(key), self._made.get(key)
            if wanted is None:
                continue
            version, forecast = wanted.new.version, before.forecast if before is not None else None
            if forecast is not None and before is not None and before.version != version:
                forecast = replace(forecast, capacity=None)
            self._made[key] = _Made(version, due_s, 0.0, forecast, error.message)
