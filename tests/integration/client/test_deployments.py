"""Deployments followed over streams that break, and the commands that follow them."""

import json

import grpc
import pytest
from infermesh.client import Client, InfermeshError
from infermesh.client.cli.deployment_views import steps
from infermesh.deployer.v1.deployment_pb2 import Batching

from tests.integration.client.scripted import Scripted, deployment

NAME = "v1-0-0"


def test_a_deployment_is_called_after_its_version_and_waited_for(client: Client, scripted: Scripted) -> None:
    scripted.deployer.becomes = "pending"
    client.deployments.deploy("digits", "v1.0.0", traffic_split={"v1.0.0": 100})
    (sent,) = scripted.deployer.created
    assert sent.deployment_name == NAME
    assert dict(sent.traffic_split) == {"v1.0.0": 100}
    scripted.deployer.scripts = [[deployment("v1.0.0", "deploying"), deployment("v1.0.0", "active")]]
    assert client.deployments.wait("digits", NAME, timeout_s=30).status == "active"


@pytest.mark.parametrize("break_", [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.INTERNAL, None])
def test_a_broken_stream_is_opened_again_and_nothing_is_told_twice(
    client: Client, scripted: Scripted, break_: grpc.StatusCode | None
) -> None:
    deploying = deployment("v1.0.0", "deploying")
    scripted.deployer.deployments[NAME] = deployment("v1.0.0", "pending")
    scripted.deployer.scripts = [
        [deploying, *([break_] if break_ else [])],
        [deploying, deployment("v1.0.0", "active")],
    ]
    seen = []
    for item in client.deployments.watch("digits", NAME, timeout_s=30):
        seen.append(item.status)
        if item.status == "active":
            break
    assert seen == ["pending", "deploying", "active"]
    assert scripted.deployer.watched == 2


def test_a_stream_that_keeps_breaking_ends_in_its_error(client: Client, scripted: Scripted) -> None:
    scripted.deployer.deployments[NAME] = deployment("v1.0.0", "deploying")
    scripted.deployer.scripts = [[grpc.StatusCode.UNAVAILABLE]] * 100
    with pytest.raises(InfermeshError, match="broken off"):
        list(client.deployments.watch("digits", NAME, timeout_s=30, outage_timeout_s=0.3))


def test_what_cannot_be_deployed_raises_its_own_reason(client: Client, scripted: Scripted) -> None:
    scripted.deployer.deployments[NAME] = deployment(
        "v1.0.0", "failed", error_message="the model server refused it", error_reason="LOAD_FAILED"
    )
    with pytest.raises(InfermeshError, match="the model server refused it") as caught:
        client.deployments.wait("digits", NAME, timeout_s=30)
    assert caught.value.reason == "LOAD_FAILED"


def test_waiting_ends_when_gateways_know_the_version(client: Client, scripted: Scripted) -> None:
    scripted.deployer.deployments[NAME] = deployment("v1.0.0", "active")
    scripted.router.late_times = 3
    client.deployments.wait("digits", NAME, timeout_s=30)
    assert scripted.router.asked == 4


def test_gateways_that_do_not_learn_are_not_waited_for_forever(client: Client, scripted: Scripted) -> None:
    unknown = deployment("v7.0.0", "active")
    assert not client.deployments.wait_routed(unknown, timeout_s=0.3)
    scripted.router.late_times = 1_000
    assert not client.deployments.wait_routed(deployment("v1.0.0", "active"), timeout_s=0.3)


def test_an_older_success_is_not_taken_for_the_new_one(client: Client, scripted: Scripted) -> None:
    stale = deployment("v1.0.0", "active")
    stale.generation = 2
    fresh = deployment("v1.0.0", "active")
    fresh.generation = fresh.observed_generation = 2
    scripted.deployer.deployments[NAME] = stale
    scripted.deployer.scripts = [[fresh]]
    assert client.deployments.wait("digits", NAME, timeout_s=30).observed_generation == 2


def test_time_that_is_over_tells_the_step(client: Client, scripted: Scripted) -> None:
    scripted.deployer.deployments[NAME] = deployment("v1.0.0", "deploying")
    with pytest.raises(InfermeshError, match=r"is deploying after 1.5 s \(loading\)") as caught:
        client.deployments.wait("digits", NAME, timeout_s=1.5)
    assert caught.value.code is grpc.StatusCode.DEADLINE_EXCEEDED
    assert "infermesh deployments digits" in caught.value.advice


def test_a_removal_is_waited_for_also_where_the_stream_did_not_tell(client: Client, scripted: Scripted) -> None:
    scripted.deployer.deployments[NAME] = deployment("v1.0.0", "terminating")
    scripted.deployer.scripts = [[None]]
    client.deployments.wait_removed("digits", NAME, timeout_s=30)
    client.deployments.wait_removed("digits", NAME, timeout_s=30)
    with pytest.raises(InfermeshError) as caught:
        client.deployments.wait("digits", NAME, timeout_s=30)
    assert caught.value.reason == "DEPLOYMENT_NOT_FOUND"


def test_a_namesake_is_not_the_deployment_that_is_followed(client: Client, scripted: Scripted) -> None:
    scripted.deployer.deployments[NAME] = deployment("v1.0.0", "deploying")
    scripted.deployer.scripts = [[deployment("v9.0.0", "active", name="other"), grpc.StatusCode.UNAVAILABLE]]
    watched = client.deployments.watch("digits", NAME, timeout_s=30)
    assert next(watched).status == "deploying"
    replaced = deployment("v1.0.0", "active")
    replaced.deployment_id = "another"
    scripted.deployer.deployments[NAME] = replaced
    assert list(watched) == []


def test_the_command_waits_and_prints_what_it_became(scripted: Scripted) -> None:
    scripted.deployer.becomes = "pending"
    scripted.deployer.scripts = [[deployment("v1.0.0", "active", load_time_ms=312.0)]]
    options = ("--json", "--batch-size", "64", "--cache", "--sleep-after", "60", "--int8")
    made = json.loads(scripted.run("deploy", "digits", "v1.0.0", *options).stdout)
    assert made["status"] == "active"
    (sent,) = scripted.deployer.created
    assert sent.batching.max_batch_size == 64
    assert not sent.batching.HasField("batch_timeout_ms")
    assert (sent.serving.deterministic, sent.serving.precision) == (True, "int8")
    assert (sent.autoscaling.enabled, sent.autoscaling.min_replicas, sent.autoscaling.idle_timeout_s) == (True, 0, 60)
    shown = scripted.run("deployments").stdout
    assert "digits" in shown
    assert "active" in shown


def test_the_command_shows_the_steps(scripted: Scripted) -> None:
    shown = scripted.run("deploy", "digits", "v1.0.0", "--traffic", "v1.0.0=100").stdout
    assert "✓ Validated the artifact is what the registry says" in shown
    assert "infermesh predict digits --version v1.0.0" in shown
    assert dict(scripted.deployer.created[0].traffic_split) == {"v1.0.0": 100}


def test_what_sleeps_is_listed_so_and_what_is_under_way_is_no_failure(scripted: Scripted) -> None:
    sleeps, builds = deployment("v1.0.0", "active"), deployment("v1.1.0", "deploying")
    sleeps.conditions.add(type="Asleep", status="True", reason="Idle", message="nobody asked for it for 900 s")
    builds.conditions.add(type="Environment", status="False", reason="Building", message="installing torch")
    scripted.deployer.deployments = {"v1-0-0": sleeps, "v1-1-0": builds}
    first, second = [line for line in scripted.run("deployments").stdout.splitlines() if "v1-" in line]
    assert ("asleep" in first, "asleep" in second) == (True, False)
    assert steps(sleeps)[-1].startswith("[green]✓[/] Asleep")
    assert steps(builds)[-1].startswith("[dim]·[/] Environment")
    sleeps.conditions[-1].status, sleeps.conditions[-1].reason = "False", "Asked"
    assert "asleep" not in scripted.run("deployments").stdout
    assert steps(sleeps)[-1].startswith("[dim]·[/] Asleep")


def test_the_command_fails_with_the_deployment(scripted: Scripted) -> None:
    scripted.deployer.becomes = "pending"
    scripted.deployer.scripts = [
        [deployment("v1.0.0", "failed", error_message="out of memory", error_reason="LOAD_FAILED")]
    ]
    result = scripted.run("deploy", "digits", "v1.0.0", "--json", code=5)
    assert json.loads(result.stderr)["error"]["reason"] == "LOAD_FAILED"
    assert result.stdout == ""
    assert "out of memory" in scripted.run("deployments", "digits").stdout


@pytest.mark.parametrize("given", [NAME, "v1.0.0", "1.0.0"])
def test_a_deployment_is_taken_away_by_name_or_version(scripted: Scripted, given: str) -> None:
    scripted.deployer.deployments[NAME] = deployment("v1.0.0", "active")
    scripted.deployer.scripts = [[None]]
    assert json.loads(scripted.run("undeploy", "digits", given, "--json").stdout)["removed"] is True
    assert scripted.deployer.deployments == {}


def test_a_version_that_is_not_deployed_is_named(scripted: Scripted) -> None:
    result = scripted.run("undeploy", "digits", "v7.7.7", code=3)
    assert "v7.7.7" in result.stderr
    assert scripted.run("undeploy", "digits", "nothing", code=3).stdout == ""


def test_what_failed_is_tried_again(scripted: Scripted) -> None:
    scripted.deployer.deployments[NAME] = deployment("v1.0.0", "failed")
    assert json.loads(scripted.run("restart", "digits", "v1.0.0", "--json").stdout)["status"] == "active"
    assert scripted.deployer.restarted == [NAME]


def test_a_change_sends_what_was_given_alone(client: Client, scripted: Scripted) -> None:
    scripted.deployer.deployments[NAME] = deployment("v1.0.0", "active")
    client.deployments.update("digits", NAME, version="v1.1.0", batching=Batching(max_batch_size=8), etag="e")
    (sent,) = scripted.deployer.updated
    assert (sent.deployment.version, sent.deployment.batching.max_batch_size) == ("v1.1.0", 8)
    assert sent.deployment.etag == "e"
    assert not sent.deployment.HasField("resources")
    assert not sent.HasField("update_mask")
