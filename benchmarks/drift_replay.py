"""`python -m benchmarks.drift_replay`: how often drift is claimed where there is none, and how soon it is seen.

In virtual time and by chance alone, so it says nothing of how fast the code is. First real rows are replayed for many
days, a report each hour, with a few and with many features; then the same rows with one thing changed.
"""

import argparse
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from itertools import islice
from multiprocessing import get_context

import numpy as np
from rich.console import Console
from rich.table import Table
from scipy.stats import beta

from benchmarks.drift_world import Floats, World, world
from services.monitor.domain.drift.accuracy import Realised, has_fallen
from services.monitor.domain.drift.rows import FeatureKey, Rows
from services.monitor.domain.drift.summary import Summary
from services.monitor.domain.drift.verdict import NONE, Thresholds, Verdict, judge

Change = Callable[[World, Floats, np.random.Generator], Rows]

HOURS = 24
ROWS = 1000
LIMITS = Thresholds()
_STEP = 250
"""Predictions between looks, where delays are measured."""
_DELAY_MAX = 20_000


@contextmanager
def workers() -> Iterator[Executor]:
    """A process for each core, each with one thread for linear algebra: days and runs do not depend on each other, and
    matrices are so small that threads cost four times the CPU and save no time."""
    os.environ.update(OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1", OMP_NUM_THREADS="1")
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        yield pool


def quiet_day(mixtures: int, rows: int, day: int, *, naive: bool = False) -> tuple[bool, int, int]:
    """Replays a day without drift: whether there was an alarm, how many by features, how many by the classifier."""
    features = joint = 0
    # A new baseline each day: one unlucky baseline must not decide the figure.
    chance = np.random.default_rng((7, mixtures, rows, day))
    one = world(mixtures=mixtures, seed=day)
    baseline = one.summary(one.rows(one.baseline), chance)
    for table in islice(one.windows(rows, chance), HOURS):
        window = one.summary(one.rows(table), chance)
        verdict = judge(baseline, window, chance=chance, thresholds=LIMITS)
        features += _naive(verdict) if naive else verdict.severity != NONE
        joint += verdict.joint_drift(LIMITS)
    return features + joint > 0, features, joint


def quiet_days(pool: Executor, days: int, mixtures: int, rows: int, *, naive: bool = False) -> tuple[int, int, int]:
    """Replays days without drift: days with an alarm, alarms by features, alarms by the classifier."""
    found = list(pool.map(partial(quiet_day, mixtures, rows, naive=naive), range(days)))
    alarmed, features, joint = (sum(column) for column in zip(*found, strict=True))
    return alarmed, features, joint


def between(successes: int, trials: int) -> tuple[float, float]:
    """The 95 % confidence interval of a share (Clopper, Pearson 1934)."""
    low = float(beta.ppf(0.025, successes, trials - successes + 1)) if successes else 0.0
    high = float(beta.ppf(0.975, successes + 1, trials - successes)) if successes < trials else 1.0
    return low, high


def _naive(verdict: Verdict) -> bool:
    """What a test of each feature at 5 % says, whatever the effect and however many features there are."""
    return any(one.comparison.p_value <= 0.05 for one in verdict.features)


def false_alarms(pool: Executor, days: int) -> Table:
    """Days without drift."""
    table = Table("features", "rows a window", "days", "reports", "alarms", "joint", "days with an alarm", "95 %")
    table.title = "Real rows without drift, a report each hour"
    for mixtures, rows, part in ((0, 1000, 1.0), (0, 5000, 0.5), (990, 1000, 0.1)):
        many = max(1, round(days * part))
        alarmed, features, joint = quiet_days(pool, many, mixtures, rows)
        low, high = between(alarmed, many)
        table.add_row(
            str(10 + mixtures),
            f"{rows:,}",
            str(many),
            f"{many * HOURS:,}",
            str(features),
            str(joint),
            f"{alarmed / many:.2%}",
            f"{low:.2%} to {high:.2%}",
        )
    return table


# What is changed first, so that each is a `partial` that another process can be sent.
def _shifted(name: str, deviations: float, one: World, table: Floats, _chance: np.random.Generator) -> Rows:
    at = one.names.index(name)
    moved = table.copy()
    moved[:, at] += deviations * one.baseline[:, at].std()
    return one.rows(moved)


def _scaled(name: str, times: float, one: World, table: Floats, _chance: np.random.Generator) -> Rows:
    at = one.names.index(name)
    moved = table.copy()
    moved[:, at] = one.baseline[:, at].mean() + times * (table[:, at] - one.baseline[:, at].mean())
    return one.rows(moved)


def _new_category(share: float, one: World, table: Floats, chance: np.random.Generator) -> Rows:
    rows = one.rows(table)
    key = FeatureKey("hlthg")
    names = [
        "unheard of" if new else name
        for name, new in zip(rows.categories[key], chance.random(len(table)) < share, strict=True)
    ]
    return Rows(rows.count, numbers=rows.numbers, categories={**rows.categories, key: names})


def _missing(name: str, share: float, one: World, table: Floats, chance: np.random.Generator) -> Rows:
    rows = one.rows(table)
    key = FeatureKey(name)
    column = np.where(chance.random(len(table)) < share, np.nan, rows.numbers[key])
    return Rows(rows.count, numbers={**rows.numbers, key: column}, categories=rows.categories)


def _unrelated(name: str, one: World, table: Floats, chance: np.random.Generator) -> Rows:
    at = one.names.index(name)
    moved = table.copy()
    moved[:, at] = chance.permutation(table[:, at])
    return one.rows(moved)


DRIFTS: Sequence[tuple[str, Change]] = (
    ("shift by 0.3 deviations", partial(_shifted, "disea", 0.3)),
    ("shift by 0.5 deviations", partial(_shifted, "disea", 0.5)),
    ("shift by 1 deviation", partial(_shifted, "disea", 1.0)),
    ("scale by 1.5", partial(_scaled, "disea", 1.5)),
    ("scale by 2", partial(_scaled, "disea", 2.0)),
    ("new category, 3 % of rows", partial(_new_category, 0.03)),
    ("new category, 10 % of rows", partial(_new_category, 0.10)),
    ("15 % of values missing", partial(_missing, "disea", 0.15)),
    ("30 % of values missing", partial(_missing, "disea", 0.30)),
    ("related no more: coinsurance", partial(_unrelated, "lncoins")),
)


def delay(change: Change, run: int) -> tuple[float, float]:
    """Predictions after the change until a feature is called drifting, and until features or whole rows are. The window
    is always that of the last thousand predictions, looked at every `_STEP`."""
    chance = np.random.default_rng((11, run))
    one = world(mixtures=0, seed=run)
    baseline = one.summary(one.rows(one.baseline), chance)
    steps = one.windows(_STEP, chance)
    held = [one.summary(one.rows(next(steps)), chance) for _ in range(ROWS // _STEP)]
    either = float("inf")
    for passed in range(_STEP, _DELAY_MAX + 1, _STEP):
        held = [*held[1:], one.summary(change(one, next(steps), chance), chance)]
        window = Summary()
        for part in held:
            window.merge(part)
        verdict = judge(baseline, window, chance=chance, thresholds=LIMITS)
        if verdict.severity != NONE or verdict.joint_drift(LIMITS):
            either = min(either, passed)
        if verdict.severity != NONE:
            return passed, either
        if either < passed - ROWS:
            break  # whole rows have shown it, and the window is full of changed ones: features will not
    return float("inf"), either


def label_flip(share: float, run: int) -> tuple[float, float]:
    """Outcomes after labels flipped until the accuracy is called fallen; the features and confidences are as before."""
    chance = np.random.default_rng((13, run))
    right = total = 0
    while total < _DELAY_MAX:
        confidences = chance.beta(9, 1, size=50)
        correct = (chance.random(50) < confidences) ^ (chance.random(50) < share)
        right, total = right + int(correct.sum()), total + 50
        if has_fallen(Realised(total, right / total), expected=0.9, alarm_rate=LIMITS.alarm_rate):
            return total, total
    return float("inf"), float("inf")


def delays(pool: Executor, runs: int) -> Table:
    """How soon changes are seen."""
    table = Table("change", "seen by features", "median", "95 % within", "or by whole rows", "median", "hourly reports")
    table.title = "Predictions (label flip: outcomes) from the change until it is seen"
    cases: list[tuple[str, Callable[[int], tuple[float, float]]]] = []
    cases += [(name, partial(delay, change)) for name, change in DRIFTS]
    cases += [(f"label flip, {share:.0%} of outcomes", partial(label_flip, share)) for share in (0.1, 0.2, 0.3)]
    for name, measured in cases:
        found = list(pool.map(measured, range(runs)))
        features, either = (np.array(column) for column in zip(*found, strict=True))
        reports = np.ceil(np.median(either) / ROWS)
        table.add_row(
            name,
            f"{np.isfinite(features).mean():.0%}",
            _shown(features, 0.5),
            _shown(features, 0.95),
            f"{np.isfinite(either).mean():.0%}",
            _shown(either, 0.5),
            f"{reports:.0f}" if np.isfinite(reports) else "–",
        )
    return table


def _shown(values: Floats, share: float) -> str:
    value = float(np.quantile(values, share, method="higher"))
    return f"{value:,.0f}" if np.isfinite(value) else "–"


def main(arguments: Sequence[str]) -> int:
    """Prints the tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.drift_replay", description=__doc__)
    parser.add_argument("--days", type=int, default=300, help="days without drift (default 300)")
    parser.add_argument("--runs", type=int, default=40, help="changes of each kind (default 40)")
    options = parser.parse_args(arguments)
    console = Console(width=120)
    with workers() as pool:
        naive, _, _ = quiet_days(pool, 10, 0, ROWS, naive=True)
        console.print(false_alarms(pool, options.days))
        console.print(f"each feature tested at 5 % instead: {naive} of 10 days have an alarm")
        console.print(delays(pool, options.runs))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
