"""Canaries, through the client and the command."""

import json
from datetime import UTC, datetime, timedelta

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from infermesh.client import Client, InfermeshError
from infermesh.client.cli.quantities import now
from infermesh.router.v1.canary_pb2 import Canary
from infermesh.router.v1.traffic_rule_pb2 import CanaryConfig, CanaryStage, SuccessCriteria

from tests.integration.client.scripted import Scripted, deployment

START = ("canary", "start", "digits", "v1-1-0")


def stamp(moment: datetime) -> Timestamp:
    made = Timestamp()
    made.FromDatetime(moment.astimezone(UTC))
    return made


def canary(status: str = "running", *, stage: int = 0) -> Canary:
    stages = [CanaryStage(percent=10, duration_minutes=30), CanaryStage(percent=100)]
    made = Canary(
        canary_id="one",
        model_name="digits",
        deployment_name="v1-1-0",
        version="v1.1.0",
        baseline_version="v1.0.0",
        status=status,
        stage=stage,
        percent=stages[stage].percent,
        config=CanaryConfig(enabled=True, stages=stages),
        etag="3",
    )
    if status == "running":
        made.stage_started_at.CopyFrom(stamp(now() - timedelta(minutes=10)))
        made.stage_ends_at.CopyFrom(stamp(now() + timedelta(minutes=20, seconds=5)))
    made.results.add(
        criterion="error_rate_max",
        limit=0.01,
        measured=0.002,
        low=0.0,
        high=0.006,
        request_count=2_000,
        verdict="passing",
    )
    return made


def test_a_canary_is_started_whole_and_comes_back(client: Client, scripted: Scripted) -> None:
    started = client.canaries.start(
        "digits",
        "v1-1-0",
        stages=[CanaryStage(percent=10, duration_minutes=30), CanaryStage(percent=100)],
        criteria=SuccessCriteria(error_rate_max=0.02),
        hold_minutes_max=90,
        reason="the forest",
    )
    assert (started.version, started.status, started.percent) == ("v1.1.0", "running", 10)
    (sent,) = scripted.router.updates
    assert (sent.model_name, sent.deployment_name, sent.reason) == ("digits", "v1-1-0", "the forest")
    assert sent.canary_config.enabled
    assert sent.canary_config.success_criteria.error_rate_max == pytest.approx(0.02)
    assert sent.canary_config.hold_minutes_max == 90
    assert sent.request_id
    assert not sent.traffic_split


def test_without_a_word_the_mesh_decides_stages_and_limits(client: Client, scripted: Scripted) -> None:
    client.canaries.start("digits", "v1-1-0")
    (sent,) = scripted.router.updates
    assert list(sent.canary_config.stages) == []
    assert not sent.canary_config.HasField("success_criteria")


def test_every_limit_can_be_said_on_the_command_line(scripted: Scripted) -> None:
    scripted.run(
        *START,
        *("--stage", "10%/30m", "--stage", "50%/1h", "--hold", "2h", "--requests-min", "500"),
        *("--error-rate-max", "1%", "--latency-p95-max-ms", "120", "--latency-p99-max-ms", "200"),
        *("--accuracy-min", "0.9", "--error-rate-increase-max", "0.5%", "--latency-p95-ratio-max", "1.2"),
        *("--accuracy-decrease-max", "2%", "--prediction-shift-max", "0.1", "--shadow-disagreement-max", "5%"),
        *("--metric", "ctr:min=0.1,decrease_max=5%", "--metric", "revenue:max=9"),
    )
    config = scripted.router.updates[0].canary_config
    assert [(stage.percent, stage.duration_minutes) for stage in config.stages] == [(10, 30), (50, 60), (100, 0)]
    assert config.hold_minutes_max == 120
    limits = config.success_criteria
    said = {field.name: value for field, value in limits.ListFields() if field.name != "metrics"}
    assert said == pytest.approx(
        {
            "error_rate_max": 0.01,
            "latency_p95_max_ms": 120,
            "latency_p99_max_ms": 200,
            "accuracy_min": 0.9,
            "error_rate_increase_max": 0.005,
            "latency_p95_ratio_max": 1.2,
            "accuracy_decrease_max": 0.02,
            "requests_min": 500,
            "prediction_shift_max": 0.1,
            "shadow_disagreement_max": 0.05,
        }
    )
    # A limit that the contract gains must be sayable too.
    assert {*said, "metrics"} == set(SuccessCriteria.DESCRIPTOR.fields_by_name)
    ctr, revenue = limits.metrics
    assert (ctr.name, ctr.min, ctr.HasField("max")) == ("ctr", 0.1, False)
    assert ctr.decrease_max == pytest.approx(0.05)
    assert (revenue.name, revenue.max) == ("revenue", 9)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--stage", "10%/soon"), "--stage"),
        (("--stage", "0%/1h"), "1 to 100"),
        (("--stage", "50%/1h", "--stage", "10%/1h"), "shares must grow"),
        (("--error-rate-max", "much"), "--error-rate-max"),
        (("--accuracy-min", "200%"), "--accuracy-min"),
        (("--metric", "ctr"), "NAME:LIMIT=VALUE"),
        (("--metric", "ctr:least=1"), "min, max or decrease_max"),
        (("--hold", "1 fortnight"), "--hold"),
    ],
)
def test_what_is_no_limit_names_its_option(scripted: Scripted, words: tuple[str, ...], said: str) -> None:
    result = scripted.run(*START, *words, code=2)
    assert said in " ".join(result.stderr.replace("│", " ").split())
    assert scripted.router.updates == []


def test_a_plan_shows_stages_and_limits_and_starts_nothing(scripted: Scripted) -> None:
    shown = scripted.run(*START, "--stage", "10%/30m", "--error-rate-max", "2%", "--plan").stdout
    for words in ("10 %", "30m", "100 %", "error_rate_max 2 %", "v1.1.0 gets 10 % instead of 0 %"):
        assert words in shown
    assert scripted.router.updates == []
    assert scripted.router.plans[0].canary_config.enabled


def test_a_version_may_stand_for_its_deployment(scripted: Scripted) -> None:
    scripted.deployer.deployments["blue"] = deployment("v1.1.0", "active", name="blue")
    scripted.run("canary", "start", "digits", "1.1.0")
    assert scripted.router.updates[0].deployment_name == "blue"


def test_the_status_shows_stage_time_and_interval(scripted: Scripted) -> None:
    scripted.router.canary = canary()
    shown = scripted.run("canary", "status", "digits").stdout
    for words in (
        "▶ 10 %",
        "· 100 %",
        "20m 0",
        "error_rate_max 0.2 %, to be ≤ 1 %: passing",
        "●",
        "┃",
        "2,000 samples",
    ):
        assert words in shown
    assert json.loads(scripted.run("canary", "status", "digits", "--json").stdout)["etag"] == "3"
    assert "v1.1.0" in scripted.run("canary", "list", "digits").stdout


def test_no_canary_is_no_status(scripted: Scripted) -> None:
    result = scripted.run("canary", "status", "digits", code=3)
    assert "had no canary" in result.stderr
    assert "no canaries" in scripted.run("canary", "list", "digits").stdout


def test_watching_tells_each_change_once_through_an_outage(client: Client, scripted: Scripted) -> None:
    scripted.router.canary_steps = [canary(), grpc.StatusCode.UNAVAILABLE, canary(stage=1)]
    scripted.router.canary = canary("promoted", stage=1)
    seen = [(one.status, one.stage) for one in client.canaries.watch("digits", period_s=0.01, timeout_s=30)]
    assert seen == [("running", 0), ("running", 1), ("promoted", 1)]


def test_watching_ends_in_time(client: Client, scripted: Scripted) -> None:
    scripted.router.canary = canary()
    with pytest.raises(InfermeshError) as caught:
        list(client.canaries.watch("digits", period_s=0.05, timeout_s=0.3))
    assert caught.value.code is grpc.StatusCode.DEADLINE_EXCEEDED


@pytest.mark.parametrize(("status", "code"), [("promoted", 0), ("rolled_back", 5), ("aborted", 5)])
def test_the_exit_code_of_watching_tells_how_it_went(scripted: Scripted, status: str, code: int) -> None:
    scripted.router.canary = canary(status)
    scripted.router.canary.status_reason = "error_rate 5 % is above 1 %"
    result = scripted.run("canary", "status", "digits", "--watch", code=code)
    assert "error_rate 5 % is above 1 %" in result.stdout
    lines = scripted.run("canary", "status", "digits", "--watch", "--json", code=code).stdout.splitlines()
    assert [json.loads(line)["status"] for line in lines] == [status]


@pytest.mark.parametrize(
    ("verb", "status"), [("pause", "paused"), ("resume", "running"), ("promote", "promoted"), ("abort", "aborted")]
)
def test_a_canary_is_moved_by_hand(scripted: Scripted, client: Client, verb: str, status: str) -> None:
    scripted.router.canary = canary()
    moved = json.loads(scripted.run("canary", verb, "digits", "--reason", "by hand", "--etag", "3", "--json").stdout)
    assert moved["status"] == status
    assert scripted.router.commands == [(verb, "3", "by hand")]
    result = scripted.run("canary", verb, "digits", "--etag", "2", code=5)
    assert "moved on" in result.stderr
    move = {
        "pause": client.canaries.pause,
        "resume": client.canaries.resume,
        "promote": client.canaries.promote,
        "abort": client.canaries.abort,
    }[verb]
    assert move("digits", reason="again").status == status
