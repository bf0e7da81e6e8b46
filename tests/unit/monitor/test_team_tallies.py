"""What requests were to teams, against a recount; and how it is shown."""

from collections import Counter
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from services.common.errors import CATALOGUE, Reason
from services.monitor.adapters.prometheus_teams import OTHER, TEAMS_MAX, PrometheusTeamBoard
from services.monitor.domain.records import CALLER_KINDS, Kind
from services.monitor.domain.team_tallies import TeamOutcome, TeamTally, outcome_of, tallies_of
from services.monitor.domain.usage_cost import Prices, PriceTable
from tests.support.monitor_log import group_of

REASONS = (Reason.QUEUE_FULL, Reason.QUOTA_EXCEEDED, Reason.MODEL_FAILED, Reason.SCHEMA_VIOLATION)
REQUESTS = st.lists(
    st.tuples(
        st.sampled_from(["red", "blue", ""]),
        st.sampled_from([None, *REASONS]),
        st.sampled_from(list(Kind)),
        st.integers(1, 5),
        st.integers(0, 900),
    ),
    min_size=1,
    max_size=30,
)


@pytest.mark.parametrize(
    ("reason", "outcome"),
    [
        ("QUEUE_FULL", TeamOutcome.REFUSED),
        ("QUOTA_EXCEEDED", TeamOutcome.REFUSED),
        ("SCHEMA_VIOLATION", TeamOutcome.CALLERS_FAULT),
        ("MODEL_FAILED", TeamOutcome.FAILED),
        ("SOMETHING_NEW", TeamOutcome.FAILED),
    ],
)
def test_failures_are_told_apart(reason: str, outcome: TeamOutcome) -> None:
    assert outcome_of(reason) is outcome


@given(requests=REQUESTS)
def test_tallies_are_what_a_recount_finds(requests: list[tuple[str, Reason | None, Kind, int, int]]) -> None:
    numbers = {reason: place for place, reason in enumerate(REASONS, 1)}
    group = replace(
        group_of([1000] * len(requests), times_us=list(range(len(requests)))),
        teams=[team for team, *_ in requests],
        codes=np.array([int(CATALOGUE[reason]) if reason else 0 for _, reason, *_ in requests]),
        reasons=np.array([numbers[reason] if reason else 0 for _, reason, *_ in requests]),
        kinds=np.array([int(kind) for _, _, kind, _, _ in requests]),
        rows=np.array([rows for *_, rows, _ in requests]),
        compute_us=np.array([spent for *_, spent in requests]),
        gpus=0.5,
    )
    found = tallies_of(group, reason_name=lambda number: REASONS[number - 1].name)
    wanted: Counter[tuple[str, TeamOutcome, str]] = Counter()
    for team, reason, kind, rows, spent in requests:
        if kind in CALLER_KINDS:
            outcome = outcome_of(reason.name) if reason else TeamOutcome.ANSWERED
            wanted[team, outcome, "requests"] += 1
            wanted[team, outcome, "predictions"] += 0 if reason else rows
            wanted[team, outcome, "compute_us"] += spent
            wanted[team, outcome, "gpu_milli_us"] += spent * 500
    said = {
        (one.team, one.outcome, what): getattr(one, what)
        for one in found
        for what in ("requests", "predictions", "compute_us", "gpu_milli_us")
    }
    assert said == dict(wanted)


def tally(team: str, outcome: TeamOutcome = TeamOutcome.ANSWERED) -> TeamTally:
    return TeamTally(team, outcome, requests=2, predictions=3, compute_us=4_000_000, gpu_milli_us=2_000_000_000)


def test_teams_and_prices_are_shown() -> None:
    registry = CollectorRegistry()
    board = PrometheusTeamBoard(registry)
    assert registry.get_sample_value("usage_price", {"of": "gpu_hour", "currency": "EUR"}) is None
    board.teams([tally("red"), tally("red", TeamOutcome.FAILED)])
    board.prices(PriceTable("EUR", Prices(per_gpu_hour=Fraction("1.9"))))
    assert registry.get_sample_value("team_requests_total", {"team": "red", "outcome": "answered"}) == 2
    assert registry.get_sample_value("team_requests_total", {"team": "red", "outcome": "failed"}) == 2
    # It never was refused, and says so: a rate begins with its 0.
    assert registry.get_sample_value("team_requests_total", {"team": "red", "outcome": "refused"}) == 0
    # What failed for the platform's sake is nobody's bill.
    assert registry.get_sample_value("team_compute_seconds_total", {"team": "red"}) == 4
    assert registry.get_sample_value("team_gpu_seconds_total", {"team": "red"}) == 2
    assert registry.get_sample_value("usage_price", {"of": "gpu_hour", "currency": "EUR"}) == 1.9


def test_what_is_shown_is_bounded() -> None:
    registry = CollectorRegistry()
    board = PrometheusTeamBoard(registry)
    for number in range(TEAMS_MAX + 2):
        board.teams([tally(f"team-{number}")])
    [family] = [one for one in registry.collect() if one.name == "team_predictions"]
    assert len(family.samples) == TEAMS_MAX + 1
    assert registry.get_sample_value("team_predictions_total", {"team": OTHER}) == 6
