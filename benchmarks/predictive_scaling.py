"""`python -m benchmarks.predictive_scaling`: replicas that follow the load against replicas that precede it as well.

Two recorded traces are replayed in virtual time, from an empty history: the deployer's own scaler, history and
forecasts decide, and a queue says which requests wait too long. So it says nothing of how fast the code is, and it is
the same on every machine. What the forecast gains is compared with what as many replica-hours gain without one, by a
lower target.
"""

import argparse
import lzma
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from math import exp, log
from multiprocessing import get_context
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.plot import line_plot, sparkline
from benchmarks.scaling_world import Model, Outcome, arrivals, run
from services.deployer.domain.deployment import Autoscaling

RECORDED = Path(__file__).parent / "recorded"
SERVICE_S = 0.05
SLO_S = 0.1
TARGET = 0.6
"""Of what a replica can answer."""
LESS = 0.9
"""Of the target, for as many replica-hours and more."""
LOADS_S = (3.8, 30.0)
"""What a model of 540 MB takes (RESULTS.md), and the longest that a load may take."""
HOURS_MAX = 1.1
_MINUTES_A_DAY = 1440


@dataclass(frozen=True, slots=True)
class Trace:
    """Requests that came somewhere."""

    name: str
    file: str
    spacing_s: float
    factor: float
    """What a number in the file is multiplied by, to be requests per second here."""

    def rates(self, days: int) -> list[float]:
        """Requests per second, the first `days` of them. A gap at the end of a day goes on as it began."""
        found: list[float] = []
        for line in lzma.decompress((RECORDED / self.file).read_bytes()).decode().splitlines()[:days]:
            numbers = [float(number) for number in line.split()]
            last = max(place for place, number in enumerate(numbers) if number > 0)
            # The minute in which a record ends is not whole.
            whole = numbers if last == len(numbers) - 1 else numbers[: last - 1]
            found += [*whole, *[whole[-1]] * (len(numbers) - len(whole))]
        return [rate * self.factor for rate in found]


TRACES = (
    Trace("event stream", "twitter-stream-2021-08.txt.xz", 60.0, 1.0),
    # One request a second would need no second replica: as many as sixty such servers get.
    Trace("web server x 60", "nasa-http-1995-08.txt.xz", 300.0, 60 / 300),
)


@dataclass(frozen=True, slots=True)
class Compared:
    """A trace under one seed, for one load time."""

    trace: Trace
    load_s: float
    seed: int
    reactive: Outcome
    predictive: Outcome
    lower: Outcome
    """Reactive, with a target of LESS."""

    @property
    def hours_ratio(self) -> float:
        """Replica-hours of predictive over reactive."""
        return self.predictive.replica_hours / self.reactive.replica_hours

    @property
    def misses_ratio(self) -> float:
        """Misses of predictive over reactive."""
        return self.predictive.misses / max(1, self.reactive.misses)

    @property
    def bought(self) -> float:
        """The misses of reactive with a target so low that it takes as many replica-hours as predictive: misses fall
        by about the same factor with each replica-hour."""
        more = self.lower.replica_hours - self.reactive.replica_hours
        share = (self.predictive.replica_hours - self.reactive.replica_hours) / more
        few, many = max(1, self.lower.misses), max(1, self.reactive.misses)
        return exp(log(many) + share * (log(few) - log(many)))


def compare(trace: Trace, days: int, seed: int, loads_s: Sequence[float]) -> list[Compared]:
    """All load times, of the same arrivals and forecasts."""
    rate = 1 / SERVICE_S
    came = arrivals(trace.rates(days), trace.spacing_s, seed=seed, capacity=TARGET * rate)
    found = []
    for load_s in loads_s:
        model = Model(SERVICE_S, load_s, SLO_S)
        scaling = Autoscaling(enabled=True, max_replicas=64, target_requests_per_sec=TARGET * rate)
        lower = Autoscaling(enabled=True, max_replicas=64, target_requests_per_sec=LESS * TARGET * rate)
        found.append(
            Compared(
                trace,
                load_s,
                seed,
                run(model, scaling, came, predictive=False),
                run(model, scaling, came, predictive=True),
                run(model, lower, came, predictive=False),
            )
        )
    return found


def report(results: Sequence[Compared]) -> Table:
    """One line for each trace, load time and policy: sums over the seeds."""
    table = Table("trace", "load s", "replicas", "misses", "of requests", "replica-hours", "changes")
    for trace, load_s in dict.fromkeys((result.trace, result.load_s) for result in results):
        group = [result for result in results if (result.trace, result.load_s) == (trace, load_s)]
        requests = sum(result.reactive.requests for result in group)
        hours = sum(result.reactive.replica_hours for result in group)
        for name, outcomes in (
            ("reactive", [result.reactive for result in group]),
            ("predictive", [result.predictive for result in group]),
        ):
            misses = sum(outcome.misses for outcome in outcomes)
            ours = sum(outcome.replica_hours for outcome in outcomes)
            table.add_row(
                trace.name,
                f"{load_s:g}",
                name,
                f"{misses:,}",
                f"{misses / requests:.4%}",
                f"{ours:,.0f} ({ours / hours - 1:+.1%})",
                f"{sum(outcome.changes for outcome in outcomes):,}",
            )
        bought = sum(result.bought for result in group)
        row = ("reactive, as many hours", f"{bought:,.0f}", f"{bought / requests:.4%}", "as predictive", "")
        table.add_row(trace.name, f"{load_s:g}", *row)
    return table


def verdict(results: Sequence[Compared]) -> tuple[bool, str]:
    """Whether the bar is held in each run, and in words."""
    held = [result.misses_ratio < 1 and result.hours_ratio <= HOURS_MAX for result in results]
    misses, hours = [one.misses_ratio for one in results], [one.hours_ratio for one in results]
    words = (
        f"fewer misses at no more than {HOURS_MAX - 1:.0%} more replica-hours in {sum(held)} of {len(held)} runs: "
        f"misses {min(misses) - 1:+.0%} to {max(misses) - 1:+.0%}, "
        f"replica-hours {min(hours) - 1:+.1%} to {max(hours) - 1:+.1%}; "
        f"fewer than as many replica-hours buy in {sum(one.predictive.misses < one.bought for one in results)}"
    )
    return all(held), words


def draw(result: Compared, day: int) -> str:
    """The replicas of a day, minute by minute, and what the rate asks for."""
    rates = result.trace.rates(day + 1)[-int(86_400 / result.trace.spacing_s) :]
    each = int(result.trace.spacing_s / 60)
    minutes = slice(day * _MINUTES_A_DAY, (day + 1) * _MINUTES_A_DAY)
    return line_plot(
        f"{result.trace.name}, day {day + 1}, a load takes {result.load_s:g} s",
        x_label="hours",
        y_label="replicas",
        x=[minute / 60 for minute in range(_MINUTES_A_DAY)],
        series={
            "asked for": [rates[minute // each] * SERVICE_S / TARGET for minute in range(_MINUTES_A_DAY)],
            "reactive": [float(count) for count in result.reactive.replicas[minutes]],
            "predictive": [float(count) for count in result.predictive.replicas[minutes]],
        },
    )


def main() -> int:
    """Prints a table, what it comes to, and where it drew a day."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.predictive_scaling", description=__doc__)
    parser.add_argument("--days", type=int, default=28, help="so many days of each trace at most (28)")
    parser.add_argument("--seeds", type=int, default=3, help="so many runs of each, of other chance (3)")
    parser.add_argument("--loads", default=",".join(map(str, LOADS_S)), help="seconds that a load takes, by commas")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--plot", type=Path, default=Path(".build/bench/predictive_scaling.svg"))
    arguments = parser.parse_args()
    loads_s = [float(load_s) for load_s in arguments.loads.split(",")]
    # The interpreter starts anew in each: what was imported here by threads may not be forked.
    with ProcessPoolExecutor(arguments.processes, mp_context=get_context("spawn")) as pool:
        runs = [
            pool.submit(compare, trace, arguments.days, seed, loads_s)
            for trace in TRACES
            for seed in range(1, arguments.seeds + 1)
        ]
        results = [result for found in runs for result in found.result()]
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 140)
    console.print(report(results))
    held, words = verdict(results)
    console.print(words)
    drawn = max(results, key=lambda result: (result.load_s, -TRACES.index(result.trace), -result.seed))
    days = len(drawn.reactive.replicas) // _MINUTES_A_DAY
    for name, outcome in (("reactive", drawn.reactive), ("predictive", drawn.predictive)):
        by_day = [sum(outcome.missed[day * 1440 : (day + 1) * 1440]) for day in range(days)]
        console.print(
            f"misses a day, {drawn.trace.name}, {name:10} {sparkline(by_day)} {by_day[0]:,} to {by_day[-1]:,}"
        )
    arguments.plot.parent.mkdir(parents=True, exist_ok=True)
    arguments.plot.write_text(draw(drawn, days - 1))
    console.print(f"the last day is drawn in {arguments.plot}")
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
