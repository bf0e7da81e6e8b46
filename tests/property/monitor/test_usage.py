"""Usage adds up however it was cut, costs add up to the last fraction, and the file says what was counted."""

import csv
import io
from dataclasses import fields, replace
from datetime import timedelta
from fractions import Fraction

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from services.common.errors import CATALOGUE, Reason
from services.monitor.domain.records import Group
from services.monitor.domain.usage import Usage, UsageKey, Used, usage_of
from services.monitor.domain.usage_cost import Prices, PriceTable, cost, cost_per_1000
from services.monitor.domain.usage_export import COLUMNS, decimal, header, line
from services.monitor.domain.usage_window import Hours, hour_of, hour_start, hours
from tests.support.clock import NOON
from tests.support.monitor_log import group_of
from tests.support.monitor_usage_machine import REASONS, REQUESTS, Asked, UsageMachine, reason_name

NOW_US = int(NOON.timestamp() * 1_000_000)
USED = st.builds(Used, *[st.integers(0, 10**15)] * 5)
PRICE = st.fractions(0, 10**6, max_denominator=10**6)
PRICES = st.builds(Prices, *[PRICE] * 4)
BYTES = st.integers(0, 10**18)


def group(requests: list[Asked], *, gpus: float = 1.0) -> Group:
    return group_of(
        [one.latency_us for one in requests],
        times_us=[NOW_US - one.ago_us for one in requests],
        teams=[one.team for one in requests],
        rows=[one.rows for one in requests],
        kinds=[one.kind for one in requests],
        reasons=[one.reason for one in requests],
        codes=[int(CATALOGUE[Reason(REASONS[one.reason])]) if one.reason else 0 for one in requests],
        compute_us=[one.compute_us for one in requests],
        gpus=gpus,
    )


def used_of(*groups: Group) -> Usage:
    usage = Usage()
    for one in groups:
        usage.add_group(one, now_us=NOW_US, reason_name=reason_name)
    return usage


@given(requests=st.lists(REQUESTS, min_size=1, max_size=30), cut=st.integers(0, 30), gpus=st.sampled_from([0, 0.5, 8]))
def test_usage_is_the_same_however_requests_are_cut_into_groups(requests: list[Asked], cut: int, gpus: float) -> None:
    whole = used_of(group(requests, gpus=gpus))
    parts = [part for part in (requests[:cut], requests[cut:]) if part]
    assert used_of(*(group(part, gpus=gpus) for part in parts)) == whole
    assert used_of(*(group([one], gpus=gpus) for one in reversed(requests))) == whole


def test_nobodys_requests_are_nobodys() -> None:
    requests = [Asked(0, "", 2, 10, 5, 0, 0), Asked(0, "", 3, 10, 5, 4, 0)]
    unnamed = replace(group(requests), teams=[])
    ((key, used),) = usage_of(unnamed, now_us=NOW_US, reason_name=reason_name)
    assert key == UsageKey(hour_of(NOON), "", "digits", "v1.0.0")
    assert used == Used(2, 5, 20, 10, 10_000)


def test_of_a_group_without_requests_nothing_is_charged() -> None:
    empty = group_of([], times_us=[])
    assert not list(usage_of(empty, now_us=NOW_US, reason_name=reason_name))
    assert empty.codes.dtype == np.int64


@given(parts=st.lists(st.tuples(USED, BYTES), min_size=1, max_size=8), prices=PRICES)
def test_costs_of_parts_add_up_to_the_cost_of_the_whole(parts: list[tuple[Used, int]], prices: Prices) -> None:
    whole = Used()
    for used, _ in parts:
        whole.add(used)
    stored = sum(held for _, held in parts)
    assert sum(cost(used, held, prices) for used, held in parts) == cost(whole, stored, prices)


@given(used=USED, stored=BYTES, one=PRICES, other=PRICES, factor=PRICE)
def test_costs_are_linear_in_prices(used: Used, stored: int, one: Prices, other: Prices, factor: Fraction) -> None:
    mixed = Prices(*[getattr(one, name.name) + factor * getattr(other, name.name) for name in fields(Prices)])
    assert cost(used, stored, mixed) == cost(used, stored, one) + factor * cost(used, stored, other)
    assert cost(used, stored, Prices()) == 0


def test_what_a_table_charges() -> None:
    prices = Prices(Fraction("0.5"), Fraction(2), Fraction(3), Fraction("7.2"))
    used = Used(requests=2000, predictions=500, compute_us=1_800_000_000, gpu_milli_us=4 * 3600 * 10**9)
    assert cost(used, 0, prices) == Fraction(1) + Fraction(1) + Fraction(12)
    assert cost(Used(), 10**9 * 720, prices) == Fraction("7.2")
    assert cost_per_1000(cost(used, 0, prices), used.predictions) == 28
    assert cost_per_1000(Fraction(5), 0) == 0


@given(value=st.fractions(0, 10**9, max_denominator=10**9), places=st.integers(1, 12))
def test_decimals_are_exact_to_their_places_and_without_exponent(value: Fraction, places: int) -> None:
    text = decimal(value, places=places)
    assert set(text) <= set("0123456789.")
    assert abs(Fraction(text) - value) <= Fraction(1, 2 * 10**places)


NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)


@given(lines=st.lists(st.tuples(NAMES, NAMES, USED, BYTES), max_size=5), currency=NAMES, prices=PRICES)
def test_any_reader_of_csv_gets_out_what_was_put_in(
    lines: list[tuple[str, str, Used, int]], currency: str, prices: Prices
) -> None:
    table = PriceTable(currency, prices)
    keys = [UsageKey(hour_of(NOON), team, model, "v1.0.0") for team, model, _, _ in lines]
    written = header() + "".join(
        line(key, used, stored, table) for key, (_, _, used, stored) in zip(keys, lines, strict=True)
    )
    first, *rest = csv.reader(io.StringIO(written, newline=""))
    assert tuple(first) == COLUMNS
    for read, key, (team, model, used, stored) in zip(rest, keys, lines, strict=True):
        row = dict(zip(COLUMNS, read, strict=True))
        assert row["hour"] == f"{hour_start(key.hour):%Y-%m-%dT%H:%M:%SZ}"
        assert (row["team"], row["model"], row["currency"]) == (team, model, currency)
        assert (int(row["requests"]), int(row["predictions"])) == (used.requests, used.predictions)
        assert Fraction(row["serving_seconds"]) * 10**6 == used.serving_us
        assert Fraction(row["compute_seconds"]) * 10**6 == used.compute_us
        assert Fraction(row["gpu_seconds"]) * 10**9 == used.gpu_milli_us
        assert Fraction(row["stored_gb_hours"]) * 10**9 == stored
        assert abs(Fraction(row["cost"]) - cost(used, stored, prices)) <= Fraction(1, 10**12)


@given(ago=st.timedeltas(timedelta(0), timedelta(days=500)), length=st.timedeltas(timedelta.resolution, timedelta(500)))
def test_hours_hold_the_window_and_no_hour_more(ago: timedelta, length: timedelta) -> None:
    begin = NOON - ago
    span = hours(begin, begin + length, now=NOON)
    assert hour_start(span.first) <= begin < hour_start(span.first + 1)
    assert hour_start(span.end - 1) < begin + length <= hour_start(span.end)


@given(first=st.integers(0, 10**6), length=st.integers(1, 200))
def test_days_and_the_hours_at_their_edges_are_the_window(first: int, length: int) -> None:
    span = Hours(first, first + length)
    days = span.days
    assert days.first % 24 == days.end % 24 == 0 or days == Hours(span.end, span.end)
    edges = [hour for hour in range(span.first, span.end) if hour < days.first or hour >= days.end]
    assert sorted([*edges, *range(days.first, days.end)]) == list(range(span.first, span.end))
    assert len(edges) < 48


TestUsage = UsageMachine.TestCase
TestUsage.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)
