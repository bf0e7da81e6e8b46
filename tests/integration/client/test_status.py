"""What the status command says, whatever is away."""

import json

from infermesh.client.health import SERVICES

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


def test_no_gateway_is_a_failure_that_says_how_to_start_one(scripted: Scripted) -> None:
    scripted.address = f"127.0.0.1:{free_port()}"
    result = scripted.run("status", code=4)
    assert scripted.address in result.stderr
    assert "make run" in result.stderr
