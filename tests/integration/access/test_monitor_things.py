"""What a team keeps at the monitor — rules, silences, baselines, drift reports, logs, exports, policies — another team
neither sees nor changes, by whichever name or id it asks.

That every call is refused by the model's name is in the walk; here are the things that have names of their own, asked
for beside a model that the caller has, and what lists show.
"""

from datetime import timedelta
from pathlib import Path

import pytest
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from infermesh.monitor.v1 import alert_pb2, drift_pb2, inference_log_pb2, prediction_log_pb2_grpc
from infermesh.monitor.v1 import monitor_service_pb2 as pb

from services.common.clock import SystemClock
from services.common.grpc.identity import Identity
from tests.integration.access.mesh import CALLERS, HIDDEN, LENT, OWN, Answer, Mesh
from tests.support.every_call import Names, every_call
from tests.support.monitor_log import group_message, message
from tests.support.registry_team import OPERATOR, member
from tests.support.waiting import eventually

pytestmark = pytest.mark.timeout(180)

BLUE, RED = member("blue", "admin"), member("red", "admin")
CALLS = {str(call.descriptor.name): call for call in every_call("infermesh.monitor.v1.MonitorService")}


def at(**ago: float) -> Timestamp:
    stamp = Timestamp()
    stamp.FromDatetime(SystemClock().now() - timedelta(**ago))
    return stamp


def rule(name: str, model: str) -> alert_pb2.AlertRule:
    threshold = alert_pb2.ThresholdCondition(metric="error_rate", comparison=">", threshold=0.5)
    return alert_pb2.AlertRule(name=name, model_name=model, threshold=threshold, severity="info", enabled=True)


def silence(model: str) -> alert_pb2.Silence:
    return alert_pb2.Silence(model_name=model, reason="a secret of blue's", end_time=at(hours=-1))


async def ask(mesh: Mesh, name: str, caller: Identity, request: Message) -> Answer:
    return await mesh.ask(CALLS[name], Names("", ""), caller, request=request)


async def made(mesh: Mesh, name: str, request: Message, answer: type[Message], *, by: Identity = BLUE) -> Message:
    said = await ask(mesh, name, by, request)
    assert said.code == "OK", (name, said)
    return answer.FromString(said.payload)


async def same_as_absent(
    mesh: Mesh, name: str, request: Message, theirs: str, absent: str, *, caller: Identity = RED
) -> None:
    """A request that names another team's thing is answered as one that names none."""
    of_none = type(request).FromString(request.SerializeToString().replace(theirs.encode(), absent.encode()))
    assert of_none != request, name
    hidden, nothing = await ask(mesh, name, caller, request), await ask(mesh, name, caller, of_none)
    assert hidden.renamed(theirs, absent) == nothing, name
    assert nothing.code == "NOT_FOUND", (name, nothing)


def other(identifier: str) -> str:
    return identifier[:-1] + ("0" if identifier[-1] != "0" else "1")


async def test_rules_of_another_team(mesh: Mesh) -> None:
    for name, model in (("blue-hides", HIDDEN), ("blue-lends", LENT)):
        await made(
            mesh, "CreateAlertRule", pb.CreateAlertRuleRequest(alert_rule=rule(name, model)), alert_pb2.AlertRule
        )
    before = await ask(mesh, "GetAlertRule", BLUE, pb.GetAlertRuleRequest(name="blue-hides"))
    louder = alert_pb2.AlertRule(name="blue-hides", severity="critical")
    update = pb.UpdateAlertRuleRequest(alert_rule=louder)
    update.update_mask.paths.append("severity")
    for call, request in (
        ("GetAlertRule", pb.GetAlertRuleRequest(name="blue-hides")),
        ("DeleteAlertRule", pb.DeleteAlertRuleRequest(name="blue-hides")),
        ("UpdateAlertRule", update),
    ):
        await same_as_absent(mesh, call, request, "blue-hides", "blue-hidez")
        await same_as_absent(mesh, call, request, "blue-hides", "blue-hidez", caller=CALLERS["a key for one model"])
    assert await ask(mesh, "GetAlertRule", BLUE, pb.GetAlertRuleRequest(name="blue-hides")) == before
    # What is shared is seen and not changed.
    assert (await ask(mesh, "GetAlertRule", RED, pb.GetAlertRuleRequest(name="blue-lends"))).code == "OK"
    gone = await ask(mesh, "DeleteAlertRule", RED, pb.DeleteAlertRuleRequest(name="blue-lends"))
    assert gone.code == "PERMISSION_DENIED"
    taken = await ask(mesh, "CreateAlertRule", RED, pb.CreateAlertRuleRequest(alert_rule=rule("mine", HIDDEN)))
    assert taken.reason == "MODEL_NOT_FOUND"
    for caller, hidden in ((RED, False), (BLUE, True), (OPERATOR, True), (CALLERS["a key for one model"], False)):
        listed = await ask(mesh, "ListAlertRules", caller, pb.ListAlertRulesRequest(page_size=100))
        assert (b"blue-hides" in listed.payload) is hidden
        assert b"error-rate" in listed.payload, "what is for all models is everybody's to see"
    everyones = await ask(mesh, "DeleteAlertRule", RED, pb.DeleteAlertRuleRequest(name="error-rate"))
    assert everyones.code == "PERMISSION_DENIED"


async def test_silences_of_another_team(mesh: Mesh) -> None:
    kept = await made(mesh, "CreateSilence", pb.CreateSilenceRequest(silence=silence(HIDDEN)), alert_pb2.Silence)
    assert isinstance(kept, alert_pb2.Silence)
    request = pb.DeleteSilenceRequest(silence_id=kept.silence_id)
    await same_as_absent(mesh, "DeleteSilence", request, kept.silence_id, other(kept.silence_id))
    refused = await ask(mesh, "CreateSilence", RED, pb.CreateSilenceRequest(silence=silence(HIDDEN)))
    assert refused.reason == "MODEL_NOT_FOUND"
    refused = await ask(mesh, "CreateSilence", RED, pb.CreateSilenceRequest(silence=silence("")))
    assert refused.reason == "PERMISSION_DENIED"
    for caller, seen in ((RED, False), (BLUE, True), (OPERATOR, True)):
        listed = await ask(mesh, "ListSilences", caller, pb.ListSilencesRequest())
        assert (kept.silence_id.encode() in listed.payload) is seen


async def test_channels_are_the_operators(mesh: Mesh) -> None:
    channel = alert_pb2.NotificationChannel(name="ops", webhook=alert_pb2.WebhookTarget(url="https://example.com/hook"))
    request = pb.CreateNotificationChannelRequest(notification_channel=channel)
    await made(mesh, "CreateNotificationChannel", request, alert_pb2.NotificationChannel, by=OPERATOR)
    for name in ("ops", "none"):
        for call, asked in (
            ("GetNotificationChannel", pb.GetNotificationChannelRequest(name=name)),
            ("DeleteNotificationChannel", pb.DeleteNotificationChannelRequest(name=name)),
            ("TestNotificationChannel", pb.TestNotificationChannelRequest(name=name)),
        ):
            assert (await ask(mesh, call, RED, asked)).code == "PERMISSION_DENIED"
    listed = await ask(mesh, "ListNotificationChannels", RED, pb.ListNotificationChannelsRequest())
    assert (listed.code, b"ops" in listed.payload) == ("PERMISSION_DENIED", False)
    assert (
        await ask(mesh, "GetNotificationChannel", OPERATOR, pb.GetNotificationChannelRequest(name="ops"))
    ).code == "OK"


async def test_baselines_and_reports_of_another_team_beside_a_model_of_ones_own(mesh: Mesh) -> None:
    window = drift_pb2.ReferenceWindow(start_time=at(hours=3), end_time=at(hours=2))
    baseline = drift_pb2.Baseline(model_name=HIDDEN, version="v1.0.0", reference_window=window)
    kept = await made(mesh, "CreateBaseline", pb.CreateBaselineRequest(baseline=baseline), drift_pb2.Baseline)
    assert isinstance(kept, drift_pb2.Baseline)
    theirs = kept.baseline_id
    for call, request in (
        ("GetBaseline", pb.GetBaselineRequest(model_name=OWN, baseline_id=theirs)),
        ("DeleteBaseline", pb.DeleteBaselineRequest(model_name=OWN, baseline_id=theirs)),
    ):
        await same_as_absent(mesh, call, request, theirs, other(theirs))
    for caller in (RED, CALLERS["a key for one model"]):
        listed = await ask(mesh, "ListBaselines", caller, pb.ListBaselinesRequest(model_name=OWN))
        assert (listed.code, theirs.encode() in listed.payload) == ("OK", False)
    there = pb.GetBaselineRequest(model_name=HIDDEN, baseline_id=theirs)
    assert (await ask(mesh, "GetBaseline", BLUE, there)).code == "OK"
    hidden = await ask(mesh, "ListDriftReports", RED, pb.ListDriftReportsRequest(model_name=HIDDEN))
    assert hidden.reason == "MODEL_NOT_FOUND"


async def test_logs_exports_and_policies_of_another_team(mesh: Mesh, tmp_path: Path) -> None:
    stub = prediction_log_pb2_grpc.PredictionLogServiceStub(mesh.channels["monitor"])
    groups = []
    for model in (HIDDEN, LENT):
        group = group_message([1_000, 1_000], at=SystemClock().now() - timedelta(minutes=1), model=model)
        # Failed ones are all logged.
        group.request_codes.extend([13, 13])
        del group.request_ids[:]
        group.request_ids.extend([f"blue-asked-{model}", f"red-asked-{model}"])
        group.request_teams.extend(["blue", "red"])
        groups.append(group)
    call = stub.RecordPredictions(iter([message(1, *groups)]))
    assert [answer.acknowledged_sequence async for answer in call][-1] == 1

    async def ids(caller: Identity, model: str) -> set[str]:
        answer = await ask(mesh, "ListInferenceLogs", caller, pb.ListInferenceLogsRequest(model_name=model))
        if answer.code != "OK":
            return {answer.reason}
        return {log.request_id for log in pb.ListInferenceLogsResponse.FromString(answer.payload).inference_logs}

    async def stored() -> bool:
        return await ids(BLUE, HIDDEN) == {f"blue-asked-{HIDDEN}", f"red-asked-{HIDDEN}"}

    await eventually(stored)
    assert await ids(RED, HIDDEN) == {"MODEL_NOT_FOUND"}
    assert await ids(RED, OWN) == set()
    assert await ids(RED, LENT) == {f"red-asked-{LENT}"}, "of a shared model one's own requests alone"
    found = await ask(
        mesh, "ListInferenceLogs", RED, pb.ListInferenceLogsRequest(model_name=LENT, request_id=f"blue-asked-{LENT}")
    )
    assert (found.code, b"blue-asked" in found.payload) == ("OK", False)

    export = pb.ExportInferenceLogsRequest(
        model_name=HIDDEN,
        start_time=at(hours=3),
        end_time=at(hours=2),
        format="parquet",
        output_uri=(tmp_path / "blue-logs").as_uri(),
    )
    kept = await made(mesh, "ExportInferenceLogs", export, inference_log_pb2.LogExport)
    assert isinstance(kept, inference_log_pb2.LogExport)
    request = pb.GetLogExportRequest(export_id=kept.export_id)
    await same_as_absent(mesh, "GetLogExport", request, kept.export_id, other(kept.export_id))
    assert (await ask(mesh, "GetLogExport", BLUE, request)).code == "OK"

    policy = inference_log_pb2.LoggingPolicy(model_name=LENT, sample_rate=0.5, redacted_fields=["secret"])
    await made(
        mesh,
        "UpdateLoggingPolicy",
        pb.UpdateLoggingPolicyRequest(logging_policy=policy),
        inference_log_pb2.LoggingPolicy,
    )
    policy.redacted_fields[:] = []
    changed = await ask(mesh, "UpdateLoggingPolicy", RED, pb.UpdateLoggingPolicyRequest(logging_policy=policy))
    assert changed.code == "PERMISSION_DENIED"
    shown = await ask(mesh, "GetLoggingPolicy", BLUE, pb.GetLoggingPolicyRequest(model_name=LENT))
    assert b"secret" in shown.payload
