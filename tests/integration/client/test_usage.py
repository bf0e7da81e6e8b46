"""Usage and prices, through the client and the command."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import pytest
from google.api import httpbody_pb2
from google.rpc import code_pb2
from infermesh.client import Client, InfermeshError
from infermesh.client.cli.app import build_app
from infermesh.client.cli.quantities import now
from infermesh.monitor.v1 import model_metrics_pb2, monitor_service_pb2, monitor_service_pb2_grpc
from typer.testing import CliRunner, Result

from tests.integration.client.refusing import refuse

HEADER = (
    "hour,team,model,version,requests,predictions,serving_seconds,compute_seconds,gpu_seconds,stored_gb_hours,cost,"
    "currency\r\n"
)
HOURS = (
    "2026-07-01T22:00:00Z,vision,digits,v1.0.0,1000,4000,5,1.5,3,0,2,EUR\r\n"
    "2026-07-01T23:00:00Z,vision,digits,v1.0.0,500,500,5,0.5,1,0,1,EUR\r\n"
    '2026-07-02T00:00:00Z,"a ""team"", of old",digits,,0,0,0,0,0,2.5,0.25,EUR\r\n'
)


def entry(team: str, version: str, **figures: float) -> model_metrics_pb2.TeamUsage:
    return model_metrics_pb2.TeamUsage(team_name=team, model_name="digits", version=version, **figures)


@dataclass
class Metering(monitor_service_pb2_grpc.MonitorServiceServicer):
    """Says what a test wants. Pages hold two."""

    entries: list[model_metrics_pb2.TeamUsage] = field(default_factory=list)
    prices: model_metrics_pb2.PriceTable = field(default_factory=model_metrics_pb2.PriceTable)
    asked: list[monitor_service_pb2.ListTeamUsageRequest] = field(default_factory=list)
    exported: list[monitor_service_pb2.ExportTeamUsageRequest] = field(default_factory=list)
    breaks_off: bool = False

    def ListTeamUsage(
        self, request: monitor_service_pb2.ListTeamUsageRequest, context: grpc.ServicerContext
    ) -> monitor_service_pb2.ListTeamUsageResponse:
        self.asked.append(request)
        if request.team_name == "others":
            refuse(context, code_pb2.NOT_FOUND, "TEAM_NOT_FOUND", "there is no team 'others'")
        begin = int(request.page_token or 0)
        token = str(begin + 2) if len(self.entries) > begin + 2 else ""
        return monitor_service_pb2.ListTeamUsageResponse(usage=self.entries[begin : begin + 2], next_page_token=token)

    def ExportTeamUsage(
        self, request: monitor_service_pb2.ExportTeamUsageRequest, context: grpc.ServicerContext
    ) -> Iterator[httpbody_pb2.HttpBody]:
        self.exported.append(request)
        data = (HEADER + HOURS).encode()
        for begin in range(0, len(data), 50):
            yield httpbody_pb2.HttpBody(content_type="text/csv", data=data[begin : begin + 50])
        if self.breaks_off:
            context.abort(grpc.StatusCode.UNAVAILABLE, "broken off")

    def GetPriceTable(
        self, request: monitor_service_pb2.GetPriceTableRequest, context: grpc.ServicerContext
    ) -> model_metrics_pb2.PriceTable:
        return self.prices

    def UpdatePriceTable(
        self, request: monitor_service_pb2.UpdatePriceTableRequest, context: grpc.ServicerContext
    ) -> model_metrics_pb2.PriceTable:
        if request.price_table.etag not in {"", self.prices.etag}:
            refuse(context, code_pb2.ABORTED, "ETAG_MISMATCH", "the prices have changed since they were read")
        self.prices.CopyFrom(request.price_table)
        self.prices.etag = str(int(self.prices.etag or 0) + 1)
        self.prices.updated_at.FromDatetime(datetime(2026, 7, 1, tzinfo=UTC))
        return self.prices


@dataclass
class Mesh:
    """The monitor of a test, and the command line against it."""

    metering: Metering
    address: str

    def run(self, *words: str) -> Result:
        return CliRunner().invoke(build_app(), [*words, "--gateway", self.address])


@pytest.fixture
def mesh() -> Iterator[Mesh]:
    metering = Metering()  # type: ignore[abstract] # it is asked for nothing else
    with ThreadPoolExecutor(4) as pool:
        server = grpc.server(pool)
        monitor_service_pb2_grpc.add_MonitorServiceServicer_to_server(metering, server)
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        yield Mesh(metering, f"127.0.0.1:{port}")
        server.stop(grace=None).wait()


def filled(mesh: Mesh) -> Mesh:
    mesh.metering.entries = [
        entry("", "v1.0.0", request_count=1),
        entry("vision", "", stored_gb_hours=720, cost=0.5),
        entry("vision", "v1.0.0", request_count=1000, prediction_count=4000, compute_seconds=7200, cost=2),
        entry("vision", "v2.0.0", request_count=2000, prediction_count=1000, compute_seconds=90, gpu_seconds=1, cost=1),
    ]
    mesh.metering.prices.CopyFrom(model_metrics_pb2.PriceTable(currency="EUR", per_1000_requests=1, etag="3"))
    mesh.metering.prices.updated_at.FromDatetime(datetime(2026, 7, 1, tzinfo=UTC))
    return mesh


def test_usage_is_listed_over_all_pages(mesh: Mesh) -> None:
    start = datetime(2026, 7, 1, tzinfo=UTC)
    with Client(filled(mesh).address, timeout_s=30) as client:
        found = list(client.usage.list(team="vision", start=start))
        assert [one.version for one in found] == ["v1.0.0", "", "v1.0.0", "v2.0.0"]
        with pytest.raises(InfermeshError, match="there is no team"):
            list(client.usage.list(team="others"))
    assert {request.start_time.ToDatetime(UTC) for request in mesh.metering.asked[:2]} == {start}
    assert not mesh.metering.asked[0].HasField("end_time")


def test_usage_by_model_adds_up_versions_and_storage(mesh: Mesh) -> None:
    shown = filled(mesh).run("usage", "--json")
    assert shown.exit_code == 0, shown.output
    said = json.loads(shown.stdout)
    assert said["currency"] == "EUR"
    nobody, vision = said["usage"]
    assert (nobody["team_name"], nobody["request_count"], nobody["cost_per_1000_predictions"]) == ("", 1, 0)
    assert (vision["team_name"], vision["model_name"], "version" in vision) == ("vision", "digits", False)
    assert (vision["request_count"], vision["prediction_count"], vision["cost"]) == (3000, 5000, 3.5)
    assert (vision["cost_per_1000_predictions"], vision["stored_gb_hours"]) == (0.7, 720)
    text = mesh.run("usage").stdout
    assert "EUR" in text
    assert "3.50" in text
    assert "0.70" in text
    assert "2.0 h" in text
    assert "none" in text, "nobody's usage has no team to name"


def test_usage_by_version_has_a_line_for_each(mesh: Mesh) -> None:
    said = json.loads(filled(mesh).run("usage", "--by", "version", "--team", "vision", "--json").stdout)
    assert [one["version"] for one in said["usage"]] == ["v1.0.0", "", "v1.0.0", "v2.0.0"]
    assert {request.team_name for request in mesh.metering.asked} == {"vision"}


def test_usage_by_day_comes_from_the_hours(mesh: Mesh) -> None:
    said = json.loads(filled(mesh).run("usage", "--by", "day", "--since", "2026-07-01", "--json").stdout)
    days = [(one["day"], one["team_name"], one["request_count"], one["cost"]) for one in said["usage"]]
    assert days == [("2026-07-01", "vision", 1500, 3), ("2026-07-02", 'a "team", of old', 0, 0.25)]
    assert said["usage"][1]["stored_gb_hours"] == 2.5
    assert mesh.metering.exported[0].start_time.ToDatetime(UTC) == datetime(2026, 7, 1, tzinfo=UTC)


def test_without_prices_nothing_is_said_of_costs(mesh: Mesh) -> None:
    mesh.metering.entries = [entry("vision", "v1.0.0", request_count=1)]
    assert "cost" not in mesh.run("usage").stdout
    mesh.metering.entries = []
    assert "nothing was used" in mesh.run("usage").stdout


@pytest.mark.parametrize(
    ("since", "ago"), [("30d", timedelta(days=30)), ("90m", timedelta(minutes=90))], ids=["days", "minutes"]
)
def test_since_is_a_length_of_time_a_day_or_a_moment(mesh: Mesh, since: str, ago: timedelta) -> None:
    assert mesh.run("usage", "--since", since, "--until", "2126-07-01T10:00:00Z").exit_code == 0
    (asked,) = mesh.metering.asked
    left = now() - asked.start_time.ToDatetime(UTC) - ago
    assert timedelta(0) <= left < timedelta(minutes=5)
    assert asked.end_time.ToDatetime(UTC) == datetime(2126, 7, 1, 10, tzinfo=UTC)


@pytest.mark.parametrize("since", ["yesterday", "2026-13-01", "2026-07-01T10:00:00"])
def test_what_is_no_time_is_refused(mesh: Mesh, since: str) -> None:
    refused = mesh.run("usage", "--since", since)
    assert (refused.exit_code, "--since" in refused.output) == (2, True)
    assert not mesh.metering.asked


def test_an_export_is_a_file_as_a_whole_or_none(mesh: Mesh, tmp_path: Path) -> None:
    target = tmp_path / "july.csv"
    shown = mesh.run("usage", "--export", str(target), "--json")
    assert target.read_bytes() == (HEADER + HOURS).encode()
    assert json.loads(shown.stdout) == {"file": str(target), "size_bytes": len(HEADER + HOURS)}
    assert mesh.run("usage", "--export", "-").stdout_bytes == (HEADER + HOURS).encode()
    mesh.metering.breaks_off = True
    target.write_text("kept")
    assert mesh.run("usage", "--export", str(target)).exit_code == 4
    assert [(one.name, one.read_text()) for one in tmp_path.iterdir()] == [("july.csv", "kept")]
    missing = mesh.run("usage", "--export", str(tmp_path / "none" / "july.csv"))
    assert (missing.exit_code, "cannot be written" in missing.output) == (2, True)


def test_prices_are_shown_and_set_one_by_one(mesh: Mesh) -> None:
    assert "no prices are set" in mesh.run("prices", "show").stdout
    first = mesh.run("prices", "set", "--currency", "EUR", "--per-1000-requests", "0.02")
    assert first.exit_code == 0, first.output
    assert "0.02 EUR" in first.stdout
    mesh.run("prices", "set", "--per-gpu-hour", "1.9")
    said = json.loads(mesh.run("prices", "show", "--json").stdout)
    assert (said["currency"], said["per_1000_requests"], said["per_gpu_hour"], said["etag"]) == ("EUR", 0.02, 1.9, "2")
    stale = mesh.run("prices", "set", "--per-gpu-hour", "2", "--etag", "1")
    assert stale.exit_code == 5
    assert mesh.run("prices", "set", "--per-gpu-hour", "0").exit_code == 0
    assert mesh.metering.prices.per_gpu_hour == 0
    for words in (("set",), ("set", "--per-gpu-hour", "-1")):
        assert mesh.run("prices", *words).exit_code == 2
