"""Baselines: made by callers, read by a background task."""

import asyncio
import secrets
from collections.abc import Sequence
from datetime import datetime, timedelta

from services.common.clock import Clock
from services.common.errors import MeshError, Reason, invalid
from services.common.names import check_model_name, check_version
from services.common.telemetry.logging import get_logger
from services.monitor.domain.drift.reports import PREDICTIONS_MIN, Baseline, Span
from services.monitor.domain.drift.slices import outward
from services.monitor.domain.drift.summary import Summary
from services.monitor.ports_drift import BaselineStore, SampleSource, SliceStore

log = get_logger(__name__)

_LOOK_PERIOD_S = 5.0
_READ_TIMEOUT_S = 300.0
REQUEST_ID_MAX = 64


class Baselines:
    """Owns baselines. `run`, a background task, reads those that are pending, also those that other monitors took."""

    def __init__(
        self,
        *,
        store: BaselineStore,
        slices: SliceStore,
        samples: SampleSource,
        clock: Clock,
        retention_days: int,
    ) -> None:
        """`retention_days`: how far back a reference window may begin."""
        self._store = store
        self._slices = slices
        self._samples = samples
        self._clock = clock
        self._retention = timedelta(days=retention_days)
        self._wanted = asyncio.Event()

    async def create(
        self,
        model: str,
        version: str,
        *,
        sample_uri: str,
        start: datetime | None,
        end: datetime | None,
        by: str,
        request_id: str,
    ) -> Baseline:
        """Makes one, which is pending. Raises INVALID_FIELD where the source is none, and REQUEST_ID_REUSED."""
        window = None
        if sample_uri:
            self._samples.check(sample_uri)
        else:
            window = self._window(start, end)
        check_request_id(request_id)
        baseline = Baseline(
            baseline_id=f"bl_{secrets.token_hex(8)}",
            model=check_model_name(model, "baseline.model_name"),
            version=check_version(version, "baseline.version"),
            created_at=self._clock.now(),
            created_by=by,
            sample_uri=sample_uri,
            window=window,
        )
        made = await self._store.create(baseline, request_id=request_id)
        self._wanted.set()
        return made

    async def get(self, model: str, baseline_id: str) -> Baseline:
        """One. Raises BASELINE_NOT_FOUND."""
        found = await self._store.get(check_model_name(model), baseline_id)
        if found is None:
            raise _not_found(model, baseline_id)
        return found

    async def find(
        self, model: str, version: str, *, after: tuple[datetime, str] | None, limit: int
    ) -> Sequence[Baseline]:
        """Those of a model, newest first."""
        named = check_version(version) if version else ""
        return await self._store.find(check_model_name(model), named, after=after, limit=limit)

    async def delete(self, model: str, baseline_id: str) -> None:
        """Forgets one. Raises BASELINE_NOT_FOUND."""
        if not await self._store.delete(check_model_name(model), baseline_id):
            raise _not_found(model, baseline_id)

    async def run(self) -> None:
        """Reads what is pending as soon as it is there."""
        while True:
            try:
                async with asyncio.timeout(_LOOK_PERIOD_S):
                    await self._wanted.wait()
            except TimeoutError:
                pass
            self._wanted.clear()
            try:
                while await self.read_one():
                    pass
            except MeshError as error:
                log.warning("baselines not read; tried again", reason=error.message)

    async def read_one(self) -> bool:
        """Reads the oldest pending one; False where there is none."""
        baseline = await self._store.claim(now=self._clock.now())
        if baseline is None:
            return False
        try:
            async with asyncio.timeout(_READ_TIMEOUT_S):
                summary = await self._summary(baseline)
        except TimeoutError:
            await self._fail(baseline, f"it could not be read within {_READ_TIMEOUT_S:.0f} s")
        except MeshError as error:
            if error.reason is Reason.DEPENDENCY_UNAVAILABLE:
                raise
            await self._fail(baseline, error.message)
        else:
            if summary.rows < PREDICTIONS_MIN:
                await self._fail(baseline, f"it has {summary.rows} rows; a baseline needs {PREDICTIONS_MIN} at least")
            elif not (summary.numbers or summary.categories):
                await self._fail(baseline, "it has no column of numbers or categories")
            else:
                await self._store.activate(baseline, summary)
                log.info("baseline active", model=baseline.model, version=baseline.version, rows=summary.rows)
        return True

    async def _summary(self, baseline: Baseline) -> Summary:
        if baseline.window is not None:
            return await self._slices.read(baseline.model, baseline.version, baseline.window)
        return await self._samples.read(baseline.sample_uri)

    async def _fail(self, baseline: Baseline, why: str) -> None:
        log.warning("baseline failed", model=baseline.model, version=baseline.version, reason=why)
        await self._store.fail(baseline, why)

    def _window(self, start: datetime | None, end: datetime | None) -> Span:
        now = self._clock.now()
        if start is None or end is None:
            raise invalid("baseline.source", None, "sample_uri, or a reference_window with start_time and end_time")
        if start >= end:
            raise invalid("baseline.reference_window.end_time", end.isoformat(), "a moment after start_time")
        if end > now:
            raise invalid("baseline.reference_window.end_time", end.isoformat(), "a moment that has passed")
        if start < now - self._retention:
            raise invalid(
                "baseline.reference_window.start_time",
                start.isoformat(),
                f"at most {self._retention.days} days ago: no more is kept of features",
            )
        return Span(*outward(start, end))


def check_request_id(request_id: str) -> None:
    """Raises INVALID_FIELD where it is too long."""
    if len(request_id) > REQUEST_ID_MAX or "\0" in request_id:
        raise invalid("request_id", request_id, f"at most {REQUEST_ID_MAX} characters")


def _not_found(model: str, baseline_id: str) -> MeshError:
    return MeshError(
        Reason.BASELINE_NOT_FOUND,
        f"model {model!r} has no baseline {baseline_id!r}; ListBaselines shows those that there are",
        metadata={"model_name": model, "baseline_id": baseline_id[:100]},
    )
