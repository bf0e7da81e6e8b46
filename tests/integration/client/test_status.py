"""What the status command says, whatever is away."""

import json

from infermesh.client.health import SERVICES
from infermesh.router.v1 import receiver_pb2

from tests.integration.client.scripted import Scripted, deployment
from tests.support.parts import free_port


def test_all_is_well(scripted: Scripted) -> None:
    scripted.deployer.deployments["v1-0-0"] = deployment("v1.0.0", "active")
    state = json.loads(scripted.run("status", "--json").stdout)
    assert state["gateway"] == scripted.address
    assert {part["name"]: part["healthy"] for part in state["parts"]} == dict.fromkeys(SERVICES, True)
    assert [item["version"] for item in state["deployments"]] == ["v1.0.0"]
    assert "v1.0.0" in scripted.run("status").stdout


def test_a_part_that_is_away_is_shown_and_is_the_exit_code(scripted: Scripted) -> None:
    scripted.health.away = {"monitor"}
    result = scripted.run("status", "--json", code=4)
    parts = {part["name"]: part for part in json.loads(result.stdout)["parts"]}
    assert not parts["monitor"]["healthy"]
    assert parts["batcher"]["healthy"]
    assert "no healthy upstream" in scripted.run("status", code=4).stdout


def batcher(place: int, **more: object) -> receiver_pb2.Batcher:
    told = {"batcher_id": f"batcher-{place}", "connected": True, "current": True, **more}
    return receiver_pb2.Batcher(address=f"127.0.0.1:811{place}", **told)  # type: ignore[arg-type]


def test_each_of_several_batchers_is_shown(scripted: Scripted) -> None:
    refused = {"current": False, "error_message": "it cannot read the table"}
    scripted.router.batchers = [batcher(1, **refused), batcher(0), batcher(2, batcher_id="", connected=False)]
    lines = [line.strip().split(maxsplit=2) for line in scripted.run("status", code=4).stdout.splitlines()]
    parts = [line[0] for line in lines if line]
    assert parts.index("127.0.0.1:8112") == parts.index("batcher") + 1
    rows = {line[0]: line[1:] for line in lines if len(line) == 3}
    assert rows["batcher-0"] == ["connected", "127.0.0.1:8110"]
    assert rows["batcher-1"] == ["behind", "127.0.0.1:8111, it serves an older table: it cannot read the table"]
    assert rows["127.0.0.1:8112"][0] == "away"
    assert "the router has no word from it" in rows["127.0.0.1:8112"][1]
    state = json.loads(scripted.run("status", "--json", code=4).stdout)
    assert {one["address"]: one["connected"] for one in state["batchers"]} == {
        "127.0.0.1:8110": True,
        "127.0.0.1:8111": True,
        "127.0.0.1:8112": False,
    }


def test_what_is_missing_in_the_prediction_log_is_said(scripted: Scripted) -> None:
    assert "prediction log" not in scripted.run("status").stdout
    health = scripted.monitor.log_health
    health.dropped_count, health.unkept_count = 1000, 2
    shown = " ".join(scripted.run("status").stdout.split())
    assert "of the last 60 minutes: 1,000 requests were dropped, 2 counted and not kept" in shown
    assert json.loads(scripted.run("status", "--json").stdout)["prediction_log"]["dropped_count"] == 1000
    health.stored = False
    assert "is not stored now" in " ".join(scripted.run("status").stdout.split())


def test_one_batcher_is_a_part_and_no_list(scripted: Scripted) -> None:
    scripted.router.batchers = [batcher(0)]
    assert "batcher-0" not in scripted.run("status").stdout
    assert len(json.loads(scripted.run("status", "--json").stdout)["batchers"]) == 1


def test_without_the_router_the_rest_is_shown(scripted: Scripted) -> None:
    scripted.router.batchers = None
    state = json.loads(scripted.run("status", "--json").stdout)
    assert state["batchers"] == []
    assert state["batchers_unknown"] == "the router does not answer"


def test_no_gateway_is_a_failure_that_says_how_to_start_one(scripted: Scripted) -> None:
    scripted.address = f"127.0.0.1:{free_port()}"
    result = scripted.run("status", code=4)
    assert scripted.address in result.stderr
    assert "make run" in result.stderr
