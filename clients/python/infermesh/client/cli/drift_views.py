"""Baselines and drift reports for people: readable at 80 columns and without colours."""

from collections.abc import Iterator, Sequence

from infermesh.client.cli.figures import count, figure
from infermesh.client.cli.output import facts, sparkline, state, table, when
from infermesh.monitor.v1 import drift_pb2
from rich.console import Group, RenderableType
from rich.markup import escape

BINS_SHOWN_MAX = 16
_NAME_SHOWN_MAX = 28


def source_text(baseline: drift_pb2.Baseline) -> str:
    """Where a baseline comes from."""
    if baseline.WhichOneof("source") == "reference_window":
        window = baseline.reference_window
        return f"traffic from {when(window.start_time)} to {when(window.end_time)}"
    return baseline.sample_uri


def baselines_listed(baselines: Sequence[drift_pb2.Baseline]) -> RenderableType:
    """One line each."""
    if not baselines:
        return "[dim]no baselines; `infermesh drift baseline create` makes one[/]"
    made = table("id", "version", "status", "rows", "source", right=("rows",), whole=("version",))
    for one in baselines:
        why = f" [red]{escape(one.status_message)}[/]" if one.status_message else ""
        rows = count(one.row_count) if one.row_count else ""
        made.add_row(one.baseline_id, one.version, state(one.status), rows, escape(source_text(one)) + why)
    return made


def baseline_shown(one: drift_pb2.Baseline) -> RenderableType:
    """One baseline."""
    return facts(
        (
            ("baseline", one.baseline_id),
            ("version", f"{escape(one.model_name)} {escape(one.version)}"),
            ("status", state(one.status)),
            ("why", escape(one.status_message)),
            ("source", escape(source_text(one))),
            ("rows", count(one.row_count) if one.row_count else ""),
            ("made", f"{when(one.created_at)} by {escape(one.created_by)}"),
        )
    )


def reports_listed(reports: Sequence[drift_pb2.DriftReport]) -> RenderableType:
    """One line each."""
    if not reports:
        return "[dim]no drift reports; one is made each hour of a version with a baseline and 1,000 predictions[/]"
    made = table("id", "version", "window", "rows", "severity", "drifting", right=("rows",), whole=("version",))
    for one in reports:
        made.add_row(
            one.report_id,
            one.version,
            f"{when(one.window.start_time)[:16]} – {when(one.window.end_time)[11:16]}",
            count(one.row_count),
            severity(one.severity),
            escape(", ".join([*_drifting(one), *one.anomalies])),
        )
    return made


def report_shown(one: drift_pb2.DriftReport, *, features_max: int) -> RenderableType:
    """One report: its verdict, every feature with its two distributions as bars, the worst first."""
    parts: list[RenderableType] = [facts(_summary(one)), ""]
    made = table(
        "feature", "severity", "effect", "p", "missing", "baseline", "window", right=("effect", "p", "missing")
    )
    for feature in one.features[:features_max]:
        bins = feature.bins[:BINS_SHOWN_MAX]
        made.add_row(
            _name(feature),
            severity(feature.severity),
            _effect(feature),
            f"{feature.p_value:.1g}",
            figure("error_rate", feature.missing_fraction) if feature.missing_fraction else "",
            *_bars(bins),
        )
    parts.append(made)
    if (more := len(one.features) - features_max) > 0:
        parts.append(f"[dim]and {more} more; --features shows more of them[/]")
    return Group(*parts, *_bins_of_worst(one))


def _bars(bins: Sequence[drift_pb2.DistributionBin]) -> tuple[str, str]:
    """Baseline and window as bars of one scale."""
    baseline, window = [one.baseline_share for one in bins], [one.window_share for one in bins]
    top = max([*baseline, *window], default=0.0)
    return sparkline([*baseline, top])[:-1], sparkline([*window, top])[:-1]


def severity(word: str) -> str:
    """A severity in its colour."""
    return {"high": "[red]high[/]", "moderate": "[yellow]moderate[/]"}.get(word, f"[dim]{word}[/]")


def _summary(one: drift_pb2.DriftReport) -> Iterator[tuple[str, str]]:
    yield "report", one.report_id
    yield "version", f"{escape(one.model_name)} {escape(one.version)}, against baseline {one.baseline_id}"
    yield "window", f"{when(one.window.start_time)} to {when(one.window.end_time)}, {count(one.row_count)} predictions"
    yield "drift", severity(one.severity)
    yield "anomalies", escape(", ".join(one.anomalies))
    if one.domain_classifier_auc:
        yield "told apart", f"AUC {one.domain_classifier_auc:.2f} of whole rows (0.5: not at all)"
    if one.HasField("expected_accuracy"):
        yield "expected accuracy", figure("accuracy", one.expected_accuracy)
    if one.HasField("realised_accuracy"):
        yield "realised accuracy", f"{figure('accuracy', one.realised_accuracy)} of {count(one.outcome_count)} outcomes"


def _bins_of_worst(one: drift_pb2.DriftReport) -> Iterator[RenderableType]:
    """What the worst feature's bars stand for."""
    worst = next((feature for feature in one.features if feature.severity != "none"), None)
    if worst is None or not worst.bins:
        return
    yield ""
    yield f"[bold]{escape(worst.feature)}[/]"
    made = table("bin", "baseline", "window", right=("baseline", "window"))
    for drawn in worst.bins[:BINS_SHOWN_MAX]:
        shares = (figure("error_rate", share) for share in (drawn.baseline_share, drawn.window_share))
        made.add_row(escape(drawn.label), *shares)
    yield made


def _name(feature: drift_pb2.FeatureDrift) -> str:
    name = feature.feature
    shown = name if len(name) <= _NAME_SHOWN_MAX else f"{name[: _NAME_SHOWN_MAX - 1]}…"
    return f"{escape(shown)} [dim]output[/]" if feature.output else escape(shown)


def _effect(feature: drift_pb2.FeatureDrift) -> str:
    """What the threshold is for: the Kolmogorov–Smirnov statistic, or the stability index of categories."""
    if feature.ks_statistic or not feature.psi:
        return f"KS {feature.ks_statistic:.3f}"
    return f"PSI {feature.psi:.3f}"


def _drifting(one: drift_pb2.DriftReport) -> list[str]:
    names = [feature.feature for feature in one.features if feature.severity != "none"]
    return [*names[:3], *([f"{len(names) - 3} more"] if len(names) > 3 else [])]
