"""Dashboards ask for metrics that there are, with labels that they have."""

import json
import re
from collections.abc import Iterator
from typing import Any

import promql_parser
import pytest

from services.supervisor.settings import ROOT
from tests.support.helm import CHART, of_kind, rendered

DASHBOARDS = sorted((CHART / "dashboards").glob("*.json"))
_NAME = re.compile(r"\b(?:(?:model|batcher|router|monitor|batch|limiter|grpc_server)_[a-z0-9_]+)\b(?=\s*[{\[])")
_SUFFIX = re.compile(r"_(?:total|bucket|sum|count)$")
_OF_PROMETHEUS_CLIENT = {"process_resident_memory_bytes"}


def _expressions(dashboard: Any) -> Iterator[str]:
    for panel in dashboard["panels"]:
        for target in panel.get("targets", ()):
            yield target["expr"]
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            yield variable["definition"]


@pytest.fixture(scope="module")
def known() -> set[str]:
    """The names of metrics in the code, without the endings that Prometheus' clients add."""
    texts = [path.read_text() for path in (ROOT / "services").rglob("*.py")]
    return {_SUFFIX.sub("", name) for text in texts for name in re.findall(r'"([a-z]+(?:_[a-z0-9]+)+)"', text)}


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_every_metric_is_one_that_services_have(path: Any, known: set[str]) -> None:
    asked = set()
    for expression in _expressions(json.loads(path.read_text())):
        names = set(_NAME.findall(expression))
        assert names or "process_" in expression or "model_active_requests" in expression, expression
        asked |= names
    assert len(asked) > 15
    assert {name for name in asked if _SUFFIX.sub("", name) not in known} == set()


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_panels_have_places_of_their_own_and_words(path: Any) -> None:
    dashboard = json.loads(path.read_text())
    panels = dashboard["panels"]
    assert len({one["id"] for one in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for one in panels:
        place = one["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, one["title"]
        taken |= cells
        assert one["title"]
    for one in panels:
        for target in one.get("targets", ()):
            promql_parser.parse(target["expr"].replace("$__rate_interval", "1m"))


def test_the_chart_brings_them_to_grafana() -> None:
    found = {
        name: text
        for one in of_kind(rendered("full"), "ConfigMap")
        if one["metadata"]["labels"].get("grafana_dashboard") == "1"
        for name, text in one["data"].items()
    }
    assert {name: json.loads(text) for name, text in found.items()} == {
        path.name: json.loads(path.read_text()) for path in DASHBOARDS
    }
    assert not of_kind(rendered("minimal"), "ConfigMap")
