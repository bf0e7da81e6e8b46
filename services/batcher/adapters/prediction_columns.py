"""Finished requests of one version as a `PredictionGroup`: one column for each fact."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from infermesh.monitor.v1 import prediction_log_pb2 as pb

from services.batcher.domain.log_detail import Detail
from services.batcher.domain.row_labels import NOTHING, TEXT_LENGTH_MAX, RowLabels
from services.batcher.domain.shadow_sums import PairSums
from services.batcher.faces.call import KIND_SHADOW
from services.batcher.faces.catalog import VersionPlan
from services.batcher.telemetry.version_stats import VersionStats

_UINT32_MAX = 0xFFFFFFFF

Entry = tuple[VersionPlan | str, float, float, int, int, int, str, str, str, int, float, Detail | None, bytes]
"""Version (or the model's name), end and duration in seconds, rows, code, reason, id, user, team, kind,
seconds of model servers, what else is noted of it, the id of its trace (empty: it has none)."""
Comparisons = Mapping[str, PairSums]
"""Of one shadow version, by the version that answered the callers."""


@dataclass(slots=True)
class _Reported:
    """What the monitor was told of a version's predictions so far."""

    by_class: dict[str, int]
    high: int = 0
    medium: int = 0
    low: int = 0


class Columns:
    """Makes groups, and knows what was told before."""

    def __init__(self) -> None:
        self._reported: dict[VersionStats, _Reported] = {}

    def group(self, key: VersionPlan | str, entries: Sequence[Entry], *, epoch_us: float) -> pb.PredictionGroup:
        """Of at least one entry. `epoch_us`: microseconds since 1970 at which the monotonic clock was at 0."""
        _, ended, took, rows, codes, reasons, ids, users, teams, kinds, compute, details, traces = zip(
            *entries, strict=True
        )
        group = pb.PredictionGroup(
            request_times_us=[int(epoch_us + end_s * 1e6) for end_s in ended],
            request_latencies_us=[min(_UINT32_MAX, max(0, int(seconds * 1e6))) for seconds in took],
            request_rows=rows,
            request_codes=codes,
            request_reasons=reasons,
            request_ids=ids,
            request_users=users if any(users) else (),
            request_teams=teams if any(teams) else (),
            request_kinds=kinds if any(kinds) else (),
            request_compute_us=_microseconds(compute) if any(compute) else (),
        )
        if any(traces):
            group.request_trace_ids.extend(traces)
        if any(details):
            _add_details(group, details)
        if isinstance(key, str):
            group.model_name = key
            return group
        _name(group, key)
        if kinds.count(KIND_SHADOW) < len(kinds):
            self._add_scores(group, key)
        return group

    def _add_scores(self, group: pb.PredictionGroup, plan: VersionPlan) -> None:
        """What was predicted since the last chunk."""
        stats = plan.stats
        before = self._reported.get(stats) or _Reported({})
        named = stats.classes(plan.outputs)
        _add(group.predictions_by_class, {name: count - before.by_class.get(name, 0) for name, count in named.items()})
        _add(
            group.predictions_by_confidence,
            {
                "high": stats.confidence_high - before.high,
                "medium": stats.confidence_medium - before.medium,
                "low": stats.confidence_low - before.low,
            },
        )
        self._reported[stats] = _reported(named, stats)


def compared_group(plan: VersionPlan) -> pb.PredictionGroup:
    """A group without requests, for comparisons alone."""
    group = pb.PredictionGroup()
    _name(group, plan)
    return group


def comparisons(by_primary: Comparisons, *, epoch_us: float) -> Iterable[pb.ShadowComparisons]:
    """How the answers of one shadow version compared."""
    for primary_version, sums in by_primary.items():
        yield pb.ShadowComparisons(
            primary_version=primary_version,
            compared_count=sums.compared,
            disagreed_count=sums.disagreed,
            failed_by_reason={reason.value: count for reason, count in sums.failed.items()},
            dropped_count=sums.dropped,
            examples=[
                pb.ShadowExample(
                    request_id=one.request_id,
                    time_us=int(epoch_us + one.answered_s * 1e6),
                    row=one.row,
                    primary_output=one.primary_output,
                    shadow_output=one.shadow_output,
                    difference=one.difference,
                )
                for one in sums.examples
            ],
        )


def _add_details(group: pb.PredictionGroup, details: Sequence[Detail | None]) -> None:
    """Columns of what is noted of some requests, each only where one of them has it."""
    labels = [one.labels if one is not None else None for one in details]
    if any(labels):
        group.request_labels.extend([_labels(one or NOTHING) for one in labels])
    hashes = [one.input_hash if one is not None else b"" for one in details]
    if any(hashes):
        group.request_input_hashes.extend(hashes)
    outputs = [one.output if one is not None else "" for one in details]
    if any(outputs):
        group.request_outputs.extend(outputs)


def _labels(labels: RowLabels) -> pb.RequestLabels:
    return pb.RequestLabels(classes=[name[:TEXT_LENGTH_MAX] for name in labels.classes], values=labels.values)


def _name(group: pb.PredictionGroup, plan: VersionPlan) -> None:
    served = plan.served
    group.model_name, group.version, group.deployment_name = (
        served.model_name,
        served.version,
        served.deployment_name,
    )
    group.gpus = served.gpus


def _microseconds(seconds: Iterable[float]) -> Iterator[int]:
    """Whole microseconds that add up to what the seconds add up to: shares of large batches are less than one each, and
    rounded one by one all of them would be nothing."""
    total_s, told_us = 0.0, 0
    for share_s in seconds:
        total_s += share_s
        share_us = min(_UINT32_MAX, max(0, round(total_s * 1e6) - told_us))
        told_us += share_us
        yield share_us


def _add(counts: Mapping[str, int], more: Mapping[str, int]) -> None:
    counts.update({name: count for name, count in more.items() if count > 0})  # type: ignore[attr-defined]


def _reported(named: dict[str, int], stats: VersionStats) -> _Reported:
    return _Reported(named, stats.confidence_high, stats.confidence_medium, stats.confidence_low)
