"""What all dashboards have in common: variables, links to each other, rows."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count

from grafana_foundation_sdk.builders import dashboard
from grafana_foundation_sdk.models import dashboard as models

from tools.grafana.panels import HERE, SOURCE, Panel

_TAG = "infermesh"
_EVERYTHING = models.VariableOption(text="All", value="$__all")


@dataclass(frozen=True)
class Row:
    """Panels under one heading."""

    title: str
    panels: Sequence[Panel]


@dataclass(frozen=True)
class Choice:
    """A variable whose values are those of a label. `several`: any number of them, all at first."""

    name: str
    metric: str
    """With a selector, where what was chosen before matters."""
    several: bool = True


MODEL = Choice("model", f"model_requests_total{{{HERE}}}")
VERSION = Choice("version", f'model_requests_total{{{HERE},model=~"$model"}}')


def board(
    uid: str, title: str, *, says: str, rows: Sequence[Row], choices: Sequence[Choice] = ()
) -> dashboard.Dashboard:
    """A dashboard: its rows one under the other."""
    made = (
        dashboard.Dashboard(title)
        .uid(f"infermesh-{uid}")
        .description(says)
        .tags([_TAG])
        .timezone("browser")
        .refresh("30s")
        .time("now-1h", "now")
        .tooltip(models.DashboardCursorSync.CROSSHAIR)
        .link(
            dashboard.DashboardLink("infermesh")
            .type(models.DashboardLinkType.DASHBOARDS)
            .tags([_TAG])
            .as_dropdown(True)
            .include_vars(True)
            .keep_time(True)
        )
        .with_variable(dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus"))
        .with_variable(_variable(Choice("namespace", "model_active_requests")))
    )
    for choice in choices:
        made = made.with_variable(_variable(choice))
    ids = count(1)
    for row in rows:
        made = made.with_row(dashboard.Row(row.title).id(next(ids)))
        for panel in row.panels:
            made = made.with_panel(panel.id(next(ids)))
    return made


def _variable(choice: Choice) -> dashboard.QueryVariable:
    variable = (
        dashboard.QueryVariable(choice.name)
        .label(choice.name.capitalize())
        .datasource(SOURCE)
        .query(f"label_values({choice.metric}, {choice.name})")
        .refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(models.VariableSort.ALPHABETICAL_ASC)
    )
    if choice.several:
        # Also what has no such label: on one machine nothing has a namespace.
        variable = variable.multi(True).include_all(True).all_value(".*").current(_EVERYTHING)
    return variable
