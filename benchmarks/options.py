"""The options of `make bench`."""

import argparse
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from benchmarks.parts import BY_DEFAULT, PARTS
from benchmarks.stage import Effort
from benchmarks.targets import TITLES
from services.supervisor.settings import ROOT

_CALLERS_MAX = 4096
_QUICK_SECONDS, _SECONDS = 0.5, 2.0


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The options. Exits with a sentence where one is wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="The mesh against bare Triton, in turns, in the same run. benchmarks/README.md says what each part "
        "measures and how to read it.",
    )
    parser.add_argument(
        "--part", type=_names(PARTS, "part"), default=BY_DEFAULT, help=f"by commas; all but soak: {', '.join(PARTS)}"
    )
    parser.add_argument("--quick", action="store_true", help="0.5 s a measurement and fewer settings: for trying out")
    parser.add_argument("--seconds", type=_between(0.2, 600.0), help="length of each measurement (2)")
    parser.add_argument("--rounds", type=int, choices=range(1, 101), metavar="1..100", default=3, help="rounds (3)")
    parser.add_argument("--callers", type=_callers, default=(8, 64, 256), help="loads of the closed loop (8,64,256)")
    parser.add_argument(
        "--only", type=_names(TITLES, "target"), default=tuple(TITLES), help=f"targets: {', '.join(TITLES)}"
    )
    parser.add_argument("--minutes", type=_between(0.2, 1440.0), default=10.0, help="length of the soak (10)")
    parser.add_argument(
        "--plot", type=Path, default=ROOT / ".build" / "bench" / "soak.svg", help="where the soak draws (%(default)s)"
    )
    parser.add_argument("--json", type=Path, help="also write everything measured to this file")
    return parser.parse_args(argv)


def effort_of(arguments: argparse.Namespace) -> Effort:
    """How long and how often."""
    return Effort(
        seconds=arguments.seconds or (_QUICK_SECONDS if arguments.quick else _SECONDS),
        rounds=arguments.rounds,
        quick=arguments.quick,
        callers=arguments.callers,
        only=arguments.only,
        soak_minutes=arguments.minutes,
        plot=arguments.plot,
    )


def _between(low: float, high: float) -> Callable[[str], float]:
    def number(text: str) -> float:
        value = float(text)
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{text} is not within {low:g} to {high:g}")
        return value

    return number


def _callers(text: str) -> tuple[int, ...]:
    counts = tuple(int(part) for part in text.split(","))
    if not counts or any(not 1 <= count <= _CALLERS_MAX for count in counts):
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of numbers from 1 to {_CALLERS_MAX}")
    return tuple(sorted(set(counts)))


def _names(known: Collection[str], what: str) -> Callable[[str], tuple[str, ...]]:
    def names(text: str) -> tuple[str, ...]:
        asked = text.split(",")
        if unknown := [name for name in asked if name not in known]:
            raise argparse.ArgumentTypeError(f"no {what} {unknown[0]!r}; there are {', '.join(known)}")
        # In the order in which they run.
        return tuple(name for name in known if name in asked)

    return names
