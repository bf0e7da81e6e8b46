"""Answers what teams used and what that costs, computed when it is asked for, by the prices of that moment.

Callers see their own team's usage, operators all. Another team's answers as a team that does not exist.
"""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from fractions import Fraction

from services.common.access.decide import team_not_found
from services.common.clock import Clock
from services.common.errors import MeshError, Reason, invalid
from services.common.grpc.identity import PLATFORM_ADMIN, Identity
from services.monitor.domain.usage import UsageKey
from services.monitor.domain.usage_cost import PriceTable, cost, cost_per_1000
from services.monitor.domain.usage_export import header, line
from services.monitor.domain.usage_window import hours
from services.monitor.ports_usage import Metered, PriceStore, UsageQuery, UsageReader

_EXPORT_ROWS = 1000
"""In one message."""
_CURRENCY_LENGTH_MAX = 16


@dataclass(frozen=True, slots=True)
class Bill:
    """One entry: what was used and what it costs."""

    metered: Metered
    cost: Fraction
    cost_per_1000: Fraction


class UsageReports:
    """Reads what was metered, and keeps the prices."""

    def __init__(self, *, reader: UsageReader, prices: PriceStore, clock: Clock) -> None:
        self._reader = reader
        self._prices = prices
        self._clock = clock

    async def totals(
        self,
        identity: Identity,
        team: str,
        *,
        start: datetime | None,
        end: datetime | None,
        after: tuple[str, str, str] | None,
        limit: int,
    ) -> Sequence[Bill]:
        """Entries by team, model and version, from behind that one. Raises TEAM_NOT_FOUND, INVALID_FIELD."""
        query = self._query(identity, team, start, end)
        prices = (await self._prices.get()).prices
        bills = []
        for one in await self._reader.totals(query, after=after, limit=limit):
            costs = cost(one.used, one.stored_byte_hours, prices)
            bills.append(Bill(one, costs, cost_per_1000(costs, one.used.predictions)))
        return bills

    def export(
        self, identity: Identity, team: str, *, start: datetime | None, end: datetime | None
    ) -> AsyncIterator[str]:
        """The pieces of a file, whole lines each. Raises TEAM_NOT_FOUND, INVALID_FIELD."""
        return self._lines(self._query(identity, team, start, end))

    async def prices(self) -> PriceTable:
        """What usage costs."""
        return await self._prices.get()

    async def set_prices(self, table: PriceTable, *, expected: int | None) -> PriceTable:
        """Replaces the table. Raises INVALID_FIELD, and ETAG_MISMATCH where its revision is not the expected one."""
        _check(table)
        changed = await self._prices.put(table, expected=expected)
        if changed is None:
            raise MeshError(
                Reason.ETAG_MISMATCH, "the prices have changed since they were read; read them again and decide anew"
            )
        return changed

    async def _lines(self, query: UsageQuery) -> AsyncIterator[str]:
        table = await self._prices.get()
        yield header()
        after: UsageKey | None = None
        while True:
            found = await self._reader.by_hour(query, after=after, limit=_EXPORT_ROWS)
            if found:
                yield "".join([line(one.key, one.used, one.stored_byte_hours, table) for one in found])
            if len(found) < _EXPORT_ROWS:
                return
            after = found[-1].key

    def _query(self, identity: Identity, team: str, start: datetime | None, end: datetime | None) -> UsageQuery:
        if identity.role not in {"", PLATFORM_ADMIN}:
            if not identity.team or (team and team != identity.team):
                raise team_not_found(team)
            team = identity.team
        return UsageQuery(hours(start, end, now=self._clock.now()), team or None, identity.models or None)


def _check(table: PriceTable) -> None:
    currency = table.currency
    if len(currency) > _CURRENCY_LENGTH_MAX or not currency.isprintable():
        raise invalid("price_table.currency", currency, f"at most {_CURRENCY_LENGTH_MAX} printable characters")
