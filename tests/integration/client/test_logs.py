"""The prediction log, through the client and the command."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import grpc
import pytest
from google.protobuf.struct_pb2 import Value
from infermesh.client import Client
from infermesh.client.cli.app import build_app
from infermesh.client.cli.commands import logs
from infermesh.client.cli.quantities import now
from infermesh.monitor.v1 import inference_log_pb2, monitor_service_pb2, monitor_service_pb2_grpc
from typer.testing import CliRunner, Result


def entry(number: int, **fields: object) -> inference_log_pb2.InferenceLog:
    made = inference_log_pb2.InferenceLog(
        request_id=f"req-{number}",
        model_name="digits",
        version="v1.0.0",
        latency_ms=1.5,
        **fields,  # type: ignore[arg-type]
    )
    made.timestamp.FromDatetime(datetime(2026, 7, 1, 12, 0, number, tzinfo=UTC))
    return made


@dataclass
class Logging(monitor_service_pb2_grpc.MonitorServiceServicer):
    """Says what a test wants. Pages hold two."""

    entries: list[inference_log_pb2.InferenceLog] = field(default_factory=list)
    asked: list[monitor_service_pb2.ListInferenceLogsRequest] = field(default_factory=list)
    policy: inference_log_pb2.LoggingPolicy = field(default_factory=inference_log_pb2.LoggingPolicy)
    updates: list[monitor_service_pb2.UpdateLoggingPolicyRequest] = field(default_factory=list)
    exports: list[monitor_service_pb2.ExportInferenceLogsRequest] = field(default_factory=list)
    states: list[str] = field(default_factory=list)
    looks: list[list[inference_log_pb2.InferenceLog] | grpc.StatusCode] = field(default_factory=list)
    """What comes of one look after the other; empty: `entries`, of all."""

    def ListInferenceLogs(
        self, request: monitor_service_pb2.ListInferenceLogsRequest, context: grpc.ServicerContext
    ) -> monitor_service_pb2.ListInferenceLogsResponse:
        self.asked.append(request)
        if self.looks:
            found = self.looks.pop(0)
            if isinstance(found, grpc.StatusCode):
                context.abort(found, "as the test says")
            self.entries = found
        begin = int(request.page_token or 0)
        token = str(begin + 2) if len(self.entries) > begin + 2 else ""
        return monitor_service_pb2.ListInferenceLogsResponse(
            inference_logs=self.entries[begin : begin + 2], next_page_token=token
        )

    def GetLoggingPolicy(
        self, request: monitor_service_pb2.GetLoggingPolicyRequest, context: grpc.ServicerContext
    ) -> inference_log_pb2.LoggingPolicy:
        return self.policy

    def UpdateLoggingPolicy(
        self, request: monitor_service_pb2.UpdateLoggingPolicyRequest, context: grpc.ServicerContext
    ) -> inference_log_pb2.LoggingPolicy:
        self.updates.append(request)
        return request.logging_policy

    def ExportInferenceLogs(
        self, request: monitor_service_pb2.ExportInferenceLogsRequest, context: grpc.ServicerContext
    ) -> inference_log_pb2.LogExport:
        self.exports.append(request)
        return self._export()

    def GetLogExport(
        self, request: monitor_service_pb2.GetLogExportRequest, context: grpc.ServicerContext
    ) -> inference_log_pb2.LogExport:
        return self._export()

    def _export(self) -> inference_log_pb2.LogExport:
        status = self.states.pop(0)
        why = "it is full" if status == "failed" else ""
        return inference_log_pb2.LogExport(export_id="export_1", status=status, row_count=1234, status_message=why)


@dataclass
class Mesh:
    """The monitor of a test, and the command line against it."""

    log: Logging
    address: str

    def run(self, *words: str) -> Result:
        return CliRunner().invoke(build_app(), ["logs", *words, "--gateway", self.address])


@pytest.fixture
def mesh() -> Iterator[Mesh]:
    log = Logging()  # type: ignore[abstract] # it is asked for nothing else
    with ThreadPoolExecutor(4) as pool:
        server = grpc.server(pool)
        monitor_service_pb2_grpc.add_MonitorServiceServicer_to_server(log, server)
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        yield Mesh(log, f"127.0.0.1:{port}")
        server.stop(grace=None).wait()


def test_entries_are_a_table_with_the_columns_of_which_there_is_anything(mesh: Mesh) -> None:
    mesh.log.entries = [entry(3), entry(2, error_message="MODEL_FAILED"), entry(1, metadata={"kind": "shadow"})]
    shown = mesh.run("list", "digits", "--since", "6h")
    assert shown.exit_code == 0, shown.output
    lines = [line.split() for line in shown.stdout.splitlines() if "req-" in line]
    assert [line[2:] for line in lines] == [
        ["req-3", "v1.0.0", "1.5", "ok"],
        ["req-2", "v1.0.0", "1.5", "MODEL_FAILED"],
        ["req-1", "v1.0.0", "1.5", "ok", "shadow"],
    ]
    assert "user" not in shown.stdout
    request = mesh.log.asked[0]
    assert request.end_time.ToDatetime() - request.start_time.ToDatetime() == timedelta(hours=6)
    mesh.log.entries = [entry(1, user_id="ann", output=Value(string_value="x" * 100))]
    assert all(word in mesh.run("list", "digits").stdout for word in ("ann", "user", "output", "…"))


def test_filters_are_asked_for_and_a_request_is_looked_for_far_back(mesh: Mesh) -> None:
    mesh.run("list", "digits", "--request", "req-1", "--user", "ann", "--errors", "-v", "v1.0.0")
    request = mesh.log.asked[0]
    assert (request.request_id, request.user_id, request.errors_only) == ("req-1", "ann", True)
    assert request.version == "v1.0.0"
    assert request.end_time.ToDatetime() - request.start_time.ToDatetime() == timedelta(days=30)
    mesh.log.entries = [entry(1, input_hash="ab")]
    [shown] = json.loads(mesh.run("list", "digits", "--json").stdout)["inference_logs"]
    assert (shown["request_id"], shown["input_hash"]) == ("req-1", "ab")
    assert mesh.run("list", "digits", "--since", "soon").exit_code == 2
    assert mesh.run("list", "digits", "-f", "--until", "2026-07-01T00:00:00Z").exit_code == 2


def test_what_is_followed_is_shown_once_each_in_order_and_outlives_an_outage(
    mesh: Mesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "_PERIOD_S", 0.01)
    one, two, three = (entry(number) for number in (1, 2, 3))
    mesh.log.looks = [[one], grpc.StatusCode.UNAVAILABLE, [two, one], [three, two], grpc.StatusCode.PERMISSION_DENIED]
    shown = mesh.run("list", "digits", "--follow")
    assert shown.exit_code != 0
    assert [word for word in shown.stdout.split() if word.startswith("req-")] == ["req-1", "req-2", "req-3"]
    assert "more come" not in shown.output
    assert mesh.log.looks == [], "it ends with what is no interruption, and not before"


def test_who_follows_more_than_can_be_shown_is_told(mesh: Mesh, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "_PERIOD_S", 0.01)
    monkeypatch.setattr(logs, "_FOLLOWED_MAX", 1)
    mesh.log.looks = [[entry(1)], [entry(2)], grpc.StatusCode.PERMISSION_DENIED]
    assert mesh.run("list", "digits", "--follow").output.count("more come than can be shown") == 1


def test_the_client_pages_and_stops_at_its_limit(mesh: Mesh) -> None:
    mesh.log.entries = [entry(number) for number in (5, 4, 3, 2, 1)]
    with Client(mesh.address) as client:
        assert [one.request_id for one in client.logs.list("digits", limit=3)] == ["req-5", "req-4", "req-3"]
        with pytest.raises(ValueError, match="nothing is to change"):
            client.logs.set_policy("digits")


def test_a_policy_is_shown_and_what_is_said_is_changed(mesh: Mesh) -> None:
    mesh.log.policy = inference_log_pb2.LoggingPolicy(
        model_name="digits", sample_rate=0.01, log_output=True, redacted_fields=["secret"], etag="0"
    )
    shown = mesh.run("policy", "show", "digits").stdout
    assert all(word in shown for word in ("every version", "0.01", "secret", "inherited"))
    mesh.run(
        "policy", "set", "digits", "-v", "v1.0.0", "--share", "5%", "--no-output", "--redact", "a", "--redact", "b"
    )
    mesh.run("policy", "set", "digits", "--redact-nothing", "--etag", "3")
    first, second = mesh.log.updates
    assert list(first.update_mask.paths) == ["sample_rate", "log_output", "redacted_fields"]
    assert (first.logging_policy.sample_rate, list(first.logging_policy.redacted_fields)) == (0.05, ["a", "b"])
    assert first.logging_policy.version == "v1.0.0"
    assert (list(second.update_mask.paths), second.logging_policy.etag) == (["redacted_fields"], "3")
    for wrong in ((), ("--redact", "a", "--redact-nothing"), ("--share", "2")):
        assert mesh.run("policy", "set", "digits", *wrong).exit_code == 2
    assert len(mesh.log.updates) == 2


def test_an_export_is_waited_for_and_a_failed_one_is_the_exit_code(mesh: Mesh) -> None:
    mesh.log.states = ["pending", "completed"]
    done = mesh.run("export", "digits", "/tmp/x", "--since", "7d", "--format", "bulk_json")
    assert done.exit_code == 0, done.output
    assert "1,234" in done.stdout
    request = mesh.log.exports[0]
    assert (request.format, request.output_uri, len(request.request_id)) == ("bulk_json", "/tmp/x", 32)
    assert request.end_time.ToDatetime(UTC) <= now()
    mesh.log.states = ["failed"]
    failed = mesh.run("export", "digits", "/tmp/x")
    assert failed.exit_code == 1
    assert "it is full" in failed.stdout
    mesh.log.states = ["pending", *["running"] * 100]
    late = mesh.run("export", "digits", "/tmp/x", "--for", "0.2")
    assert late.exit_code != 0
    assert "export export_1 has not ended within 0.2 s" in late.output
    mesh.log.states = ["running", "running"]
    assert mesh.run("export", "digits", "/tmp/x", "--no-wait").exit_code == 0
    assert "running" in mesh.run("exported", "export_1").stdout
