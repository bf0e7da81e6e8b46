"""Dashboards are what their tool makes, fit Grafana's schema, and ask for metrics that there are."""

import json
import re
from collections.abc import Iterator
from typing import Any

import promql_parser
import pytest
import yaml
from grafana_foundation_sdk.models.dashboard import Dashboard

from services.supervisor.settings import ROOT
from tests.support.helm import CHART, of_kind, rendered
from tools.grafana_dashboards import FILES, text_of

DASHBOARDS = sorted((CHART / "dashboards").glob("*.json"))
PROVISIONING = ROOT / "deploy" / "grafana" / "provisioning"
_NAME = re.compile(
    r"\b(?:(?:model|batcher|router|monitor|batch|limiter|grpc_server|deployer|database|team|usage)_[a-z0-9_]+)\b(?=\s*[{\[])"
)
_OF_OTHERS = re.compile(r"\b(?:process|up|envoy|nv|namespace:|model:)[a-z0-9_:]*(?=\s*[{\[])")
_SUFFIX = re.compile(r"_(?:total|bucket|sum|count)$")


def test_the_files_are_what_the_tool_makes() -> None:
    assert {path.name: path.read_text() for path in DASHBOARDS} == {
        name: text_of(make()) for name, make in FILES.items()
    }


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_grafanas_schema_has_every_field(path: Any) -> None:
    """What Grafana's own SDK reads out of a file and writes again is the file: no field is unknown to it."""
    made = json.loads(path.read_text())
    read = Dashboard.from_json(made)
    assert read.title == made["title"]
    assert read.uid == f"infermesh-{path.stem}"
    assert read.panels is not None
    assert len(read.panels) == len(made["panels"])


def test_provisioning_names_the_datasource_and_the_folder_by_variables() -> None:
    [source] = yaml.safe_load((PROVISIONING / "datasources" / "prometheus.yaml").read_text())["datasources"]
    assert (source["type"], source["url"]) == ("prometheus", "$INFERMESH_PROMETHEUS")
    assert source["jsonData"]["exemplarTraceIdDestinations"][0]["name"] == "trace_id"
    [provider] = yaml.safe_load((PROVISIONING / "dashboards" / "infermesh.yaml").read_text())["providers"]
    assert provider["options"] == {"path": "$INFERMESH_DASHBOARDS"}
    guide = (ROOT / "docs" / "architecture" / "dashboards.md").read_text()
    assert "INFERMESH_PROMETHEUS=" in guide
    assert f"INFERMESH_DASHBOARDS=$PWD/{(CHART / 'dashboards').relative_to(ROOT)}" in guide


def _expressions(dashboard: Any) -> Iterator[str]:
    for panel in dashboard["panels"]:
        for target in panel.get("targets", ()):
            yield target["expr"]
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            yield variable["query"].removeprefix("label_values(")


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
        assert names or _OF_OTHERS.search(expression) or "model_active_requests" in expression, expression
        asked |= names
    assert len(asked) > 5
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
        assert one["type"] == "row" or (one["description"] and one["datasource"]["uid"] == "${datasource}")
    for one in panels:
        for target in one.get("targets", ()):
            promql_parser.parse(target["expr"].replace("$__rate_interval", "1m").replace("$__range", "1h"))


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


def test_what_is_asked_of_envoy_is_the_same_in_a_cluster_and_on_one_machine() -> None:
    config = yaml.safe_load((ROOT / "deploy" / "prometheus" / "prometheus.yaml").read_text())
    [local] = [job for job in config["scrape_configs"] if job["job_name"] == "gateway"]
    [monitor] = [
        one["spec"]
        for one in of_kind(rendered("full"), "ServiceMonitor")
        if one["metadata"]["name"].endswith("gateway-envoy")
    ]
    [endpoint] = monitor["endpoints"]
    assert endpoint["params"]["filter"] == local["params"]["filter"]
    assert endpoint["authorization"]["credentials"] == {"name": "prometheus-key", "key": "key"}
    assert monitor["jobLabel"] == "app.kubernetes.io/component"
