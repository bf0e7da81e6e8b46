"""`python -m benchmarks.rollout_simulation`: how often rollouts are wrong, and how soon they are right.

By chance alone, so it says nothing of how fast the code is. Canaries first: whole rollouts of a version that is exactly
as good as allowed, then versions that are worse. Then A/B tests that are looked at all the time.
"""

import argparse
import sys
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from benchmarks.ab_test_world import MEAN, RATE, peeked
from benchmarks.rollout_world import TAILS, Behaviour, Limits, rollouts

ALL = Limits(error_rate_max=0.01, p95_max=True, error_rate_increase_max=0.0, p95_ratio_max=True)
GOOD = Behaviour()


def false_rollbacks(runs: int) -> Table:
    """Versions that keep every limit, just so."""
    table = Table("limits", "rollouts", "rolled back", title="Canaries just as good as allowed")
    for name, limits in (
        ("error_rate_max 1 %", Limits(error_rate_max=0.01)),
        ("error_rate_increase_max 0", Limits(error_rate_increase_max=0.0)),
        ("latency_p95_max_ms", Limits(p95_max=True)),
        ("latency_p95_ratio_max 1", Limits(p95_ratio_max=True)),
        ("all four", ALL),
    ):
        found = rollouts(GOOD, GOOD, limits, runs=runs, seed=1, look_every=20)
        table.add_row(name, str(runs), f"{found.share:.2%}")
    return table


def requests_until_found(runs: int) -> Table:
    """Versions that do not."""
    table = Table(
        "limit", "version", "share", "median", "95 % within", title="Requests of the canary until it is found"
    )
    absolute, relative = Limits(error_rate_max=0.01), Limits(error_rate_increase_max=0.0)
    cases: list[tuple[str, Limits, str, Behaviour, int]] = [
        ("error_rate_max 1 %", absolute, f"{rate:.1%} errors", Behaviour(rate), 1)
        for rate in (0.015, 0.02, 0.03, 0.05, 0.1)
    ]
    cases.append(("the same, one of four limits", ALL, "3.0% errors", Behaviour(0.03), 1))
    cases += [
        ("error_rate_increase_max 0", relative, "3.0% errors, baseline 1 %", Behaviour(0.03), share)
        for share in (1, 10, 50)
    ]
    for times in (1.5, 2.0, 4.0):
        slow = Behaviour(tails=tuple(min(1.0, times * tail) for tail in TAILS))
        cases.append(("latency_p95_max_ms", Limits(p95_max=True), f"{5 * times:g} % above the limit", slow, 1))
    for name, limits, what, canary, share in cases:
        found = rollouts(
            canary, GOOD, limits, runs=runs, seed=2, stages=(share, *[100] * 3), stage_requests=12_000, look_every=20
        )
        table.add_row(name, what, f"{share} %", f"{found.within(0.5):,.0f}", f"{found.within(0.95):,.0f}")
    return table


def ab_tests(runs: int) -> Table:
    """Tests of two versions with equal shares, ended at the first verdict."""
    table = Table(
        "metric",
        "difference",
        "tests",
        "a verdict before the end",
        "at the end",
        "either",
        title="A/B tests under constant peeking",
    )
    for metric, rate, effect in (
        (RATE, 0.1, 0.0),
        (RATE, 0.005, 0.0),
        (MEAN, 0.0, 0.0),
        (RATE, 0.1, 0.01),
        (RATE, 0.1, 0.02),
        (MEAN, 0.0, 0.05),
        (MEAN, 0.0, 0.1),
    ):
        found = peeked(metric, effect, runs=runs, seed=3, rate=rate)
        points = f"{rate * 100:g} % {effect * 100:+g} points"
        shown = points if metric == RATE else f"{effect:+g} standard deviations"
        table.add_row(
            metric, shown, str(runs), f"{found.sequential:.1%}", f"{found.fixed_horizon:.1%}", f"{found.either:.1%}"
        )
    return table


def main(arguments: Sequence[str]) -> int:
    """Prints the tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.rollout_simulation", description=__doc__)
    parser.add_argument("--runs", type=int, default=2000, help="rollouts for each line (default 2000)")
    options = parser.parse_args(arguments)
    console = Console(width=110)
    for table in (false_rollbacks(options.runs), requests_until_found(options.runs // 4), ab_tests(options.runs)):
        console.print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
