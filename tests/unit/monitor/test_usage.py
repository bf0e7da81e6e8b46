"""Whose usage a caller may see, which hours, who may set prices; and when storage is looked at."""

import asyncio
from datetime import UTC, datetime, timedelta
from fractions import Fraction

import pytest
from infermesh.monitor.v1 import model_metrics_pb2, monitor_service_pb2

from services.common.errors import MeshError, Reason
from services.common.grpc.identity import Identity, set_identity
from services.monitor.domain.usage import UsageKey, Used
from services.monitor.domain.usage_cost import Prices, PriceTable
from services.monitor.domain.usage_window import Hours, hour_of, hours
from services.monitor.engines.usage import UsageReports
from services.monitor.engines.usage_storage import StorageMeter
from services.monitor.ports_usage import Stored
from services.monitor.servicers.usage import UsageMethods
from tests.support.clock import NOON, FakeClock
from tests.support.monitor_stores import MemoryStore
from tests.support.monitor_usage import MemoryPrices, MemoryStorage, MemoryStorageSource, MemoryUsageReader
from tests.support.waiting import eventually

HOUR = hour_of(NOON)
DECEMBER = datetime(2025, 12, 1, tzinfo=UTC)
VISION = Identity(role="viewer", team="vision")
OPERATOR = Identity(role="platform-admin")


class Bench:
    """Reports over three teams' usage of this month."""

    def __init__(self) -> None:
        self.log, self.storage, self.prices = MemoryStore(), MemoryStorage(), MemoryPrices()
        for team in ("", "risk", "vision"):
            for model in ("digits", "fraud"):
                self.log.usage[UsageKey(HOUR - 1, team, model, "v1.0.0")].add(Used(2000, 4000, 5, 3_600_000_000, 0))
        self.log.usage[UsageKey(HOUR - 24 * 40, "vision", "digits", "v1.0.0")].add(Used(7))
        self.reports = UsageReports(
            reader=MemoryUsageReader(self.log, self.storage), prices=self.prices, clock=FakeClock()
        )

    async def seen(self, identity: Identity, team: str = "", start: datetime | None = None) -> list[str]:
        bills = await self.reports.totals(identity, team, start=start, end=None, after=None, limit=100)
        return [f"{bill.metered.key.team}/{bill.metered.key.model}" for bill in bills]


@pytest.mark.parametrize(
    ("identity", "team", "seen"),
    [
        (Identity(), "", ["/digits", "/fraud", "risk/digits", "risk/fraud", "vision/digits", "vision/fraud"]),
        (OPERATOR, "", ["/digits", "/fraud", "risk/digits", "risk/fraud", "vision/digits", "vision/fraud"]),
        (OPERATOR, "risk", ["risk/digits", "risk/fraud"]),
        (OPERATOR, "nobody", []),
        (VISION, "", ["vision/digits", "vision/fraud"]),
        (VISION, "vision", ["vision/digits", "vision/fraud"]),
        (Identity(role="admin", team="vision", models=frozenset({"fraud"})), "", ["vision/fraud"]),
        (Identity(role="platform-admin", models=frozenset({"fraud"})), "risk", ["risk/fraud"]),
    ],
)
async def test_callers_see_their_own_teams_usage_and_operators_all(
    identity: Identity, team: str, seen: list[str]
) -> None:
    assert await Bench().seen(identity, team) == seen


@pytest.mark.parametrize("team", ["risk", "absent", ""])
async def test_another_teams_usage_is_that_of_a_team_that_does_not_exist(team: str) -> None:
    """And who is of no team has none to see: never what nobody is charged for."""
    bench = Bench()
    for identity in (VISION, Identity(role="viewer", user="ann")) if team else (Identity(role="viewer", user="ann"),):
        with pytest.raises(MeshError) as caught:
            await bench.seen(identity, team)
        assert caught.value.reason is Reason.TEAM_NOT_FOUND
        assert caught.value.metadata == {"team_name": team}
        with pytest.raises(MeshError, match="there is no team"):
            bench.reports.export(identity, team, start=None, end=None)


async def test_the_default_is_this_month_and_a_window_may_be_of_any_age() -> None:
    bench = Bench()
    assert await bench.seen(VISION, start=datetime(2025, 1, 1, tzinfo=UTC)) == ["vision/digits", "vision/fraud"]
    (digits, _) = await bench.reports.totals(VISION, "", start=None, end=None, after=None, limit=10)
    assert digits.metered.used.requests == 2000
    (digits, _) = await bench.reports.totals(
        VISION, "", start=NOON - timedelta(days=41), end=None, after=None, limit=10
    )
    assert digits.metered.used.requests == 2007


@pytest.mark.parametrize(
    ("start", "end", "wanted"),
    [
        (None, None, Hours(hour_of(datetime(2026, 1, 1, tzinfo=UTC)), HOUR)),
        (NOON - timedelta(minutes=90), NOON - timedelta(minutes=61), Hours(HOUR - 2, HOUR - 1)),
        (NOON - timedelta(minutes=1), NOON + timedelta(hours=5), Hours(HOUR - 1, HOUR + 5)),
        (None, DECEMBER, Hours(hour_of(DECEMBER.replace(month=11)), hour_of(DECEMBER))),
        (datetime(1, 1, 1, tzinfo=UTC), NOON, Hours(0, HOUR)),
    ],
)
def test_windows_are_rounded_outward_to_whole_hours(
    start: datetime | None, end: datetime | None, wanted: Hours
) -> None:
    assert hours(start, end, now=NOON) == wanted


@pytest.mark.parametrize(
    ("start", "end", "field"),
    [
        (NOON, NOON, "end_time"),
        (NOON, NOON - timedelta(seconds=1), "end_time"),
        (NOON + timedelta(hours=1), NOON + timedelta(hours=2), "start_time"),
        (None, datetime(1, 1, 1, tzinfo=UTC), "end_time"),
    ],
)
def test_a_window_that_is_none_is_refused(start: datetime | None, end: datetime, field: str) -> None:
    with pytest.raises(MeshError) as caught:
        hours(start, end, now=NOON)
    assert caught.value.violations[0].field == field


async def test_costs_follow_the_prices_of_the_moment() -> None:
    bench = Bench()
    await bench.reports.set_prices(PriceTable("EUR", Prices(Fraction("0.5"), Fraction(3))), expected=0)
    (bill, _) = await bench.reports.totals(VISION, "", start=None, end=None, after=None, limit=10)
    assert (float(bill.cost), float(bill.cost_per_1000)) == (4.0, 1.0)
    lines = "".join([piece async for piece in bench.reports.export(VISION, "", start=None, end=None)]).splitlines()
    assert lines[1] == "2026-01-15T11:00:00Z,vision,digits,v1.0.0,2000,4000,0.000005,3600,0,0,4,EUR"
    assert len(lines) == 3


async def test_an_export_goes_on_where_a_page_ends() -> None:
    bench = Bench()
    for hour in range(HOUR - 200, HOUR):
        for version in range(12):
            bench.log.usage[UsageKey(hour, "large", "digits", f"v{version}.0.0")].add(Used(1))
    pieces = [piece async for piece in bench.reports.export(OPERATOR, "large", start=None, end=None)]
    assert len(pieces) == 4
    lines = "".join(pieces).splitlines()
    assert len(set(lines)) == len(lines) == 1 + 200 * 12


class Face(UsageMethods):
    """The methods alone."""


def face(bench: Bench, **said: str) -> Face:
    set_identity({f"x-infermesh-{name}": value for name, value in said.items()})
    return Face(bench.reports)  # type: ignore[abstract] # the others are not asked


async def test_pages_belong_to_their_query() -> None:
    methods = face(Bench(), role="platform-admin")
    request = monitor_service_pb2.ListTeamUsageRequest(page_size=4)
    first = await methods.ListTeamUsage(request, None)  # type: ignore[arg-type]
    request.page_token = first.next_page_token
    second = await methods.ListTeamUsage(request, None)  # type: ignore[arg-type]
    names = [(one.team_name, one.model_name) for one in (*first.usage, *second.usage)]
    assert names == [(team, model) for team in ("", "risk", "vision") for model in ("digits", "fraud")]
    assert not second.next_page_token
    request.team_name = "risk"
    with pytest.raises(MeshError) as caught:
        await methods.ListTeamUsage(request, None)  # type: ignore[arg-type]
    assert caught.value.reason is Reason.INVALID_PAGE_TOKEN


def priced(**fields: object) -> monitor_service_pb2.UpdatePriceTableRequest:
    return monitor_service_pb2.UpdatePriceTableRequest(price_table=model_metrics_pb2.PriceTable(**fields))  # type: ignore[arg-type]


async def test_prices_are_set_with_the_etag_that_was_read() -> None:
    methods = face(Bench(), role="platform-admin")
    before = await methods.GetPriceTable(monitor_service_pb2.GetPriceTableRequest(), None)  # type: ignore[arg-type]
    assert (before.currency, before.HasField("updated_at"), before.etag) == ("", False, "0")
    table = await methods.UpdatePriceTable(priced(currency="EUR", per_gpu_hour=0.1, etag=before.etag), None)  # type: ignore[arg-type]
    assert (table.currency, table.per_gpu_hour, table.updated_at.ToDatetime(UTC)) == ("EUR", 0.1, NOON)
    for etag in (before.etag, "nonsense", "-1", "9" * 30):
        with pytest.raises(MeshError) as caught:
            await methods.UpdatePriceTable(priced(currency="USD", etag=etag), None)  # type: ignore[arg-type]
        assert caught.value.reason is Reason.ETAG_MISMATCH
    again = await methods.UpdatePriceTable(priced(currency="USD"), None)  # type: ignore[arg-type]
    assert (again.currency, again.per_gpu_hour) == ("USD", 0.0)
    assert again.etag not in {before.etag, table.etag}


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"per_1000_requests": -0.01}, "price_table.per_1000_requests"),
        ({"per_compute_hour": float("nan")}, "price_table.per_compute_hour"),
        ({"per_gpu_hour": float("inf")}, "price_table.per_gpu_hour"),
        ({"per_gb_month": 1e13}, "price_table.per_gb_month"),
        ({"currency": "x" * 17}, "price_table.currency"),
        ({"currency": "a\nb"}, "price_table.currency"),
    ],
)
async def test_prices_that_are_none_are_refused_with_the_field(fields: dict[str, object], field: str) -> None:
    methods = face(Bench(), role="platform-admin")
    with pytest.raises(MeshError) as caught:
        await methods.UpdatePriceTable(priced(**fields), None)  # type: ignore[arg-type]
    assert (caught.value.reason, caught.value.violations[0].field) == (Reason.INVALID_FIELD, field)


async def test_storage_is_looked_at_once_an_hour_and_missed_hours_are_filled() -> None:
    clock, source, storage = FakeClock(NOON + timedelta(minutes=20)), MemoryStorageSource(), MemoryStorage()
    source.held = [Stored("vision", "digits", 5)]
    task = asyncio.create_task(StorageMeter(source=source, store=storage, clock=clock).run())
    try:
        await eventually(lambda: HOUR in storage.hours, what="a sample at the start")
        clock.advance(39 * 60)
        await asyncio.sleep(0)
        assert source.asked == 1
        source.held = [Stored("vision", "digits", 8)]
        clock.advance(2 * 60)
        await eventually(lambda: HOUR + 1 in storage.hours, what="a sample in the next hour")
        source.away = True
        for _ in range(3 * 60):
            clock.advance(60)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        assert max(storage.hours) == HOUR + 1
        source.away, source.held = False, [Stored("risk", "fraud", 1)]
        clock.advance(60)
        await eventually(lambda: HOUR + 4 in storage.hours, what="a sample once the registry is back")
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    sizes = [storage.hours[HOUR + hour] for hour in range(5)]
    assert sizes == [{("vision", "digits"): 5}, *[{("vision", "digits"): 8}] * 3, {("risk", "fraud"): 1}]


async def test_an_hour_that_another_monitor_looked_at_is_not_asked_for_again() -> None:
    source, storage = MemoryStorageSource(), MemoryStorage()
    meters = [StorageMeter(source=source, store=storage, clock=FakeClock()) for _ in range(3)]
    for meter in meters:
        await meter.keep()
    assert source.asked == 1
