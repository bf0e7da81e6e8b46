"""Reports how versions' answers to shadow copies compare with what callers got."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from services.common.clock import Clock
from services.common.errors import invalid
from services.common.names import check_model_name, check_version
from services.monitor.domain.shadows import EXAMPLES_MAX, ShadowReport, reports
from services.monitor.domain.window import minute_start, window
from services.monitor.ports import ExampleStore, MetricQuery, MetricReader

_WINDOW_DEFAULT = timedelta(days=1)
_EXAMPLES_DEFAULT = 10


class Shadows:
    """Makes reports of what was counted. `keep` removes examples past retention."""

    def __init__(self, *, reader: MetricReader, examples: ExampleStore, clock: Clock, retention_days: int) -> None:
        self._reader = reader
        self._examples = examples
        self._clock = clock
        self._retention = timedelta(days=retention_days)

    async def find(
        self, model: str, *, shadow_version: str, start: datetime | None, end: datetime | None, examples_max: int
    ) -> Sequence[ShadowReport]:
        """The reports by shadow version, then by primary version; over the last day where no window is given."""
        if examples_max > EXAMPLES_MAX:
            raise invalid("examples_max", examples_max, f"0 to {EXAMPLES_MAX}; 0 means {_EXAMPLES_DEFAULT}")
        now = self._clock.now()
        span = window(start or (end or now) - _WINDOW_DEFAULT, end, now=now)
        version = check_version(shadow_version, "shadow_version") if shadow_version else ""
        query = MetricQuery(check_model_name(model), version or None, None, span.first, span.end)
        cells = {found: cell for (found, _), cell in (await self._reader.read(query)).items()}
        found = reports(model, cells, shadow_version=version)
        if found:
            first, last = minute_start(span.first), minute_start(span.end)
            known = await self._examples.examples(model, first=first, end=last, limit=examples_max or _EXAMPLES_DEFAULT)
            for report in found:
                report.examples = known.get(report.pair, ())
        return found

    async def keep(self) -> None:
        """Removes the examples that are past retention."""
        await self._examples.forget(before=self._clock.now() - self._retention)
