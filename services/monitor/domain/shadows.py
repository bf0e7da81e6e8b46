"""How two versions' answers to the same requests compare."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from services.monitor.domain.aggregate import EARLY_MAX_US, LATE_MAX_US, Cell
from services.monitor.domain.measures import (
    SHADOWS_COMPARED,
    SHADOWS_DISAGREED,
    SHADOWS_FAILED,
    SHADOWS_UNSENT,
)
from services.monitor.domain.records import Group, ShadowExample

EXAMPLES_MAX = 100
"""Examples kept of each pair: the newest ones."""
_Z_95 = 1.959963984540054


@dataclass(frozen=True, order=True, slots=True)
class ShadowPair:
    """The version that got the copies, and the one that answered the callers."""

    model: str
    shadow_version: str
    primary_version: str


@dataclass
class ShadowReport:
    """What a window shows of a pair."""

    pair: ShadowPair
    compared: int = 0
    disagreed: int = 0
    unsent: int = 0
    failed_by_reason: dict[str, int] = field(default_factory=dict)
    examples: Sequence[ShadowExample] = ()

    @property
    def disagreement_rate(self) -> float:
        """The share of the compared ones that disagree; 0 where none was compared."""
        return self.disagreed / self.compared if self.compared else 0.0


def pair_examples(group: Group, *, now_us: int) -> Iterator[tuple[ShadowPair, Sequence[ShadowExample]]]:
    """The examples that a group brings, by pair; their times within reason, as those of requests."""
    for compared in group.comparisons:
        if compared.examples:
            yield (
                ShadowPair(group.model, group.version, compared.primary_version),
                [
                    replace(example, time_us=min(max(example.time_us, now_us - LATE_MAX_US), now_us + EARLY_MAX_US))
                    for example in compared.examples
                ],
            )


def newest(examples: Sequence[ShadowExample]) -> list[ShadowExample]:
    """The ones to keep, the newest first."""
    return sorted(examples, key=lambda example: (-example.time_us, example.request_id))[:EXAMPLES_MAX]


def reports(model: str, cells: Mapping[str, Cell], *, shadow_version: str = "") -> list[ShadowReport]:
    """The reports of a model out of its versions' cells, by shadow version and primary version."""
    found: dict[ShadowPair, ShadowReport] = {}
    for version, cell in cells.items():
        if shadow_version and version != shadow_version:
            continue
        for (name, values), count in cell.counts.items():
            if name not in (SHADOWS_COMPARED, SHADOWS_DISAGREED, SHADOWS_UNSENT, SHADOWS_FAILED):
                continue
            primary, _, reason = values.partition(" ")
            pair = ShadowPair(model, version, primary)
            _count(found.setdefault(pair, ShadowReport(pair)), name, reason, count)
    return [found[pair] for pair in sorted(found)]


def _count(report: ShadowReport, name: str, reason: str, count: int) -> None:
    if name == SHADOWS_COMPARED:
        report.compared += count
    elif name == SHADOWS_DISAGREED:
        report.disagreed += count
    elif name == SHADOWS_UNSENT:
        report.unsent += count
    else:
        report.failed_by_reason[reason] = report.failed_by_reason.get(reason, 0) + count


def wilson_interval(hits: int, total: int) -> tuple[float, float]:
    """The 95 % confidence interval of a share (Wilson, JASA 1927): true to its level also near 0 and 1, and for few.
    (0, 1) where there is nothing to judge by.
    """
    if total <= 0:
        return 0.0, 1.0
    share, squared = hits / total, _Z_95 * _Z_95
    centre = share + squared / (2 * total)
    spread = _Z_95 * math.sqrt(share * (1 - share) / total + squared / (4 * total * total))
    scale = 1 + squared / total
    low, high = (centre - spread) / scale, (centre + spread) / scale
    return (0.0 if hits == 0 else max(0.0, low)), (1.0 if hits == total else min(1.0, high))
