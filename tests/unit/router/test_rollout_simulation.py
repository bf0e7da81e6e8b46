"""Rollouts played through by chance: good versions are not taken back, bad ones are found soon. Seeded."""

import numpy as np
import pytest
from scipy import stats

from benchmarks.rollout_world import LIMIT_PLACE, P95_SHARE, TAILS, Behaviour, Limits, Tally, breached, rollouts
from services.router.domain.criteria import SuccessCriteria, Verdict, judged
from services.router.domain.evidence import Latencies, VersionEvidence

ALL = Limits(error_rate_max=0.01, p95_max=True, error_rate_increase_max=0.0, p95_ratio_max=True)
GOOD = Behaviour()
FOUND_WITHIN = 1500
"""Requests of the canary within which a rise of the error rate from 1 % to 3 % is found in 95 % of runs; see
docs/architecture/ab-tests.md."""
FOUND_WITHIN_RELATIVE = 1800
"""The same against a baseline with 99 % of the traffic."""


def test_at_most_one_in_a_hundred_rollouts_of_a_version_as_good_as_allowed_is_rolled_back() -> None:
    runs = 2000
    found = rollouts(GOOD, GOOD, ALL, runs=runs, seed=11, stage_requests=1000, look_every=20)
    wrong = int(np.sum(found.at > 0))
    print(f"{wrong} of {runs} rolled back, looked at 200 times each")
    # So many would be no sign yet of more than 1 %.
    assert wrong <= stats.binom.ppf(0.5, runs, 0.01)


def test_a_rise_of_two_points_is_found_within_the_requests_that_are_promised() -> None:
    # One stage that goes on until it is found: a version above its limit passes none.
    alone = rollouts(Behaviour(0.03), GOOD, Limits(error_rate_max=0.01), runs=1000, seed=12, stage_requests=4000)
    assert alone.share == 1.0
    print(f"3 % errors, limit 1 %: median {alone.within(0.5):.0f}, 95 % within {alone.within(0.95):.0f} requests")
    assert alone.within(0.95) <= FOUND_WITHIN
    relative = rollouts(
        Behaviour(0.03),
        GOOD,
        Limits(error_rate_increase_max=0.0),
        runs=200,
        seed=13,
        stages=(1, 100, 100, 100),
        stage_requests=3000,
        look_every=50,
    )
    print(f"relative: median {relative.within(0.5):.0f}, 95 % within {relative.within(0.95):.0f} requests")
    assert relative.within(0.95) <= FOUND_WITHIN_RELATIVE


@pytest.mark.parametrize(("rate", "times"), [(0.01, 1.0), (0.03, 1.0), (0.01, 2.0), (0.0, 0.5)])
def test_the_simulation_decides_as_the_router_does(rate: float, times: float) -> None:
    random = np.random.default_rng(14)
    runs, alpha = 25, 0.0025
    mine, other = Tally(runs), Tally(runs)
    mine.serve(Behaviour(rate, tuple(times * tail for tail in TAILS)), 900, random, timed=True)
    other.serve(GOOD, 3000, random, timed=True)
    expected = breached(ALL, mine, other, alpha=alpha)
    # The limit is the upper bound of the bucket that the bounds of the simulation stand for.
    limit_ms = 1.01 ** (100 * (LIMIT_PLACE + 1)) / 1000
    criteria = SuccessCriteria(
        error_rate_max=0.01, latency_p95_max_ms=limit_ms, error_rate_increase_max=0.0, latency_p95_ratio_max=1.0
    )
    assert pytest.approx(0.05) == P95_SHARE
    for run in range(runs):
        results = judged(criteria, canary=_evidence(mine, run), baseline=_evidence(other, run), alpha=alpha)
        verdicts = {result.criterion: result.verdict for result in results}
        assert (Verdict.BREACHED in verdicts.values()) == expected[run], verdicts


def _evidence(tally: Tally, run: int) -> VersionEvidence:
    """What is not above bound i and above the one before is in bucket 100 (i + 1)."""
    above = [tally.requests, *tally.above[run].tolist(), 0]
    counts = {100 * (place + 1): above[place] - above[place + 1] for place in range(len(above) - 1)}
    return VersionEvidence(
        "v1.0.0", requests=tally.requests, faults=int(tally.faults[run]), latencies=Latencies(1.01, counts)
    )
