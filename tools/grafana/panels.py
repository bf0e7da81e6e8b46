"""Panels as this project draws them, on the builders of Grafana's own SDK, which know the schema.

Every query goes to the data source that the dashboard's variable names. `$namespace` is every namespace unless one is
chosen, also where no cluster gives any.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from grafana_foundation_sdk.builders import common, dashboard, prometheus, stat, timeseries
from grafana_foundation_sdk.models import common as common_models
from grafana_foundation_sdk.models import dashboard as models

SOURCE = models.DataSourceRef(type_val="prometheus", uid="${datasource}")
HERE = 'namespace=~"$namespace"'
"""What every selector has."""
RATE = "$__rate_interval"
_LETTERS = "ABCDEFGHIJ"
Panel = timeseries.Panel | stat.Panel
HEIGHT, STAT_HEIGHT = 8, 4


@dataclass(frozen=True)
class Query:
    """What is asked, and what its lines are called. `exemplars`: with marks that lead to the traces of single
    requests."""

    expr: str
    legend: str
    exemplars: bool = False


def quantiles(metric: str, where: str, *, by: str = "") -> Sequence[Query]:
    """The median, the 95th and the 99th percentile of a histogram."""
    labels = f"le, {by}" if by else "le"
    named = "".join(f" {{{{{label.strip()}}}}}" for label in by.split(",") if label)
    return [
        Query(
            f"histogram_quantile({share}, sum by ({labels}) (rate({metric}_bucket{{{where}}}[{RATE}])))",
            f"p{name}{named}",
            exemplars=True,
        )
        for share, name in ((0.5, 50), (0.95, 95), (0.99, 99))
    ]


def rate(metric: str, where: str, *, by: str = "") -> str:
    """How much a counter grows a second, added up."""
    return f"sum{f' by ({by})' if by else ''} (rate({metric}{{{where}}}[{RATE}]))"


def share(metric: str, part: str, whole: str, *, by: str = "") -> str:
    """The part of a counter's growth that one selector has of another's."""
    return f"{rate(metric, part, by=by)} / {rate(metric, whole, by=by)}"


def lines(
    title: str,
    queries: Sequence[Query],
    *,
    unit: str,
    says: str,
    width: int = 8,
    limits: Sequence[tuple[float, str]] = (),
    stacked: bool = False,
    most: float | None = None,
) -> timeseries.Panel:
    """A graph over time. `limits`: values beyond which it is drawn in that colour."""
    panel = (
        timeseries.Panel()
        .title(title)
        .description(says)
        .unit(unit)
        .min(0)
        .span(width)
        .height(HEIGHT)
        .fill_opacity(30 if stacked else 8)
        .show_points(common_models.VisibilityMode.NEVER)
        .legend(
            common.VizLegendOptions()
            .display_mode(common_models.LegendDisplayMode.LIST)
            .placement(common_models.LegendPlacement.BOTTOM)
            .show_legend(True)
        )
        .tooltip(common.VizTooltipOptions().mode(common_models.TooltipDisplayMode.MULTI))
    )
    if stacked:
        panel = panel.stacking(common.StackingConfig().mode(common_models.StackingMode.NORMAL).group("A"))
    if most is not None:
        panel = panel.max(most)
    if limits:
        panel = panel.thresholds(_steps(limits)).thresholds_style(
            common.GraphThresholdsStyleConfig().mode(common_models.GraphTresholdsStyleMode.LINE)
        )
    asked(panel, queries)
    return panel


def number(
    title: str,
    query: Query,
    *,
    unit: str,
    says: str,
    width: int = 4,
    limits: Sequence[tuple[float, str]] = (),
    decimals: int | None = None,
) -> stat.Panel:
    """One figure, the newest, with its course behind it."""
    panel = (
        stat.Panel()
        .title(title)
        .description(says)
        .unit(unit)
        .span(width)
        .height(STAT_HEIGHT)
        .graph_mode(common_models.BigValueGraphMode.AREA)
        .color_mode(common_models.BigValueColorMode.VALUE)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
    )
    if decimals is not None:
        panel = panel.decimals(decimals)
    panel = panel.thresholds(_steps(limits))
    asked(panel, [query])
    return panel


def asked(panel: timeseries.Panel | stat.Panel, queries: Sequence[Query]) -> None:
    """Gives a panel its queries."""
    panel.datasource(SOURCE)
    for letter, query in zip(_LETTERS, queries, strict=False):
        target = prometheus.Dataquery().ref_id(letter).expr(query.expr).legend_format(query.legend).datasource(SOURCE)
        if query.exemplars:
            target = target.exemplar(True)
        panel.with_target(target)


def _steps(limits: Sequence[tuple[float, str]]) -> dashboard.ThresholdsConfig:
    steps = [models.Threshold(value=None, color="green"), *(models.Threshold(value=v, color=c) for v, c in limits)]
    return dashboard.ThresholdsConfig().mode(models.ThresholdsMode.ABSOLUTE).steps(steps)
