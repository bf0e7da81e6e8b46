"""Teams and keys, as people meet them at the gateway: who gets in, who sees what, and what ends it."""

import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, timedelta
from typing import Any, cast

import grpc
import httpx
import pytest
from google.rpc import status_pb2
from infermesh.client import Client, InfermeshError
from infermesh.client.credentials import Credentials
from infermesh.prediction.v1 import instance_pb2, prediction_pb2, prediction_service_pb2_grpc
from infermesh.registry.v1 import team_pb2

from tests.e2e.driving import TIMEOUT_S, Rest, reason
from tests.e2e.rehearsing import install
from tests.support.mesh import Mesh
from tests.support.waiting import until

ROW = {"value": 0.9, "fault": 0}


@dataclass(frozen=True)
class Team:
    """A team, with a caller for each role."""

    name: str
    viewer: Rest
    deployer: Rest
    admin: Rest
    keys: dict[str, str]

    def close(self) -> None:
        """Closes the connections of its callers."""
        for rest in (self.viewer, self.deployer, self.admin):
            rest.close()


@pytest.fixture(scope="module")
def operator(mesh: Mesh) -> Iterator[Rest]:
    assert mesh.key, "a mesh asks for keys unless it is told not to"
    client = Rest(mesh.gateway, mesh.key)
    yield client
    client.close()


def make_team(mesh: Mesh, operator: Rest, **more: Any) -> Team:
    """A new team."""
    name = f"team-{secrets.token_hex(4)}"
    operator.ok("POST", "/v1/teams", json={"name": name, **more})
    keys = {
        role: operator.ok("POST", f"/v1/teams/{name}/api-keys", json={"name": f"a {role}", "role": role})["secret"]
        for role in ("viewer", "deployer", "admin")
    }
    viewer, deployer, admin = (Rest(mesh.gateway, key) for key in keys.values())
    return Team(name, viewer, deployer, admin, keys)


@pytest.fixture(scope="module")
def risk(mesh: Mesh, operator: Rest) -> Iterator[Team]:
    made = make_team(mesh, operator, description="those who judge")
    yield made
    made.close()


@pytest.fixture(scope="module")
def other(mesh: Mesh, operator: Rest) -> Iterator[Team]:
    made = make_team(mesh, operator)
    yield made
    made.close()


@pytest.fixture(scope="module")
def model(risk: Team, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A model of the team, which answers."""
    return install(risk.deployer, tmp_path_factory.mktemp("rehearsal"))


def predicts(rest: Rest, model: str) -> httpx.Response:
    return rest.call("POST", f"/v1/models/{model}/predict", json={"instances": [ROW]})


def answered(rest: Rest, model: str) -> None:
    """Waits until the gateway has heard that the caller may."""
    until(lambda: predicts(rest, model).status_code == 200, within_s=30, what=f"{model} answers")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/models"),
        ("POST", "/v1/models/digits/predict"),
        ("POST", "/v2/models/digits/infer"),
        ("GET", "/v2/models/digits"),
        ("GET", "/metrics"),
        ("GET", "/v1/teams"),
    ],
)
@pytest.mark.parametrize("credential", ["", "Bearer nonsense", "Basic dXNlcjpwYXNz", "Bearer " + "a" * 3000])
def test_nobody_gets_in_without_a_credential(mesh: Mesh, method: str, path: str, credential: str) -> None:
    headers = {"authorization": credential} if credential else {}
    # What a caller says of itself counts for nothing.
    headers |= {"x-infermesh-role": "platform-admin", "x-infermesh-user": "root", "X-Infermesh-Team": "risk"}
    answer = httpx.request(
        method, f"http://{mesh.gateway}{path}", headers=headers, json={}, timeout=TIMEOUT_S, trust_env=False
    )
    assert answer.status_code == 401, answer.text
    body = answer.json()
    assert (body.get("reason") or reason(body)) == "UNAUTHENTICATED"
    assert "www-authenticate" in answer.headers
    assert "dXNlcjpwYXNz" not in answer.text


@pytest.mark.parametrize(
    "path",
    [
        *("/health", "/ready", "/v1/jwks.json", "/v1/openapi.json", "/v2/health/live", "/v2/health/ready"),
        *("/console", "/console/models/digits"),
    ],
)
def test_health_the_public_keys_and_the_console_are_for_everybody(mesh: Mesh, path: str) -> None:
    assert httpx.get(f"http://{mesh.gateway}{path}", timeout=TIMEOUT_S, trust_env=False).status_code == 200


def test_everybody_learns_who_they_are(operator: Rest, risk: Team) -> None:
    assert operator.ok("GET", "/v1/caller")["role"] == "platform-admin"
    seen = risk.viewer.ok("GET", "/v1/caller")
    assert (seen["team"], seen["role"]) == (risk.name, "viewer")
    assert [team["name"] for team in risk.viewer.ok("GET", "/v1/teams")["teams"]] == [risk.name]


def test_a_teams_model_answers_its_members_and_is_not_there_for_others(
    mesh: Mesh, operator: Rest, risk: Team, other: Team, model: str
) -> None:
    for rest in (risk.viewer, risk.deployer, risk.admin, operator):
        answered(rest, model)
    absent = f"rehearsal-{secrets.token_hex(4)}"
    calls = [
        ("GET", "/v1/models/{}"),
        ("GET", "/v1/models/{}/versions"),
        ("GET", "/v1/models/{}/versions/v1.0.0"),
        ("GET", "/v1/models/{}/aliases"),
        ("GET", "/v1/models/{}/deployments"),
        ("GET", "/v1/models/{}/deployments/old"),
        ("GET", "/v1/models/{}/traffic"),
        ("GET", "/v1/models/{}/canary"),
        ("GET", "/v1/models/{}/ab-tests"),
        ("GET", "/v1/models/{}/metrics"),
        ("POST", "/v1/models/{}/predict"),
        ("POST", "/v1/models/{}/rollback"),
        ("POST", "/v2/models/{}/infer"),
        ("GET", "/v2/models/{}"),
        ("GET", "/v2/models/{}/ready"),
    ]
    for rest in (other.viewer, other.admin):
        for method, path in calls:
            theirs, nobodys = (
                rest.call(method, path.format(name), **({"json": {"instances": [ROW]}} if method == "POST" else {}))
                for name in (model, absent)
            )
            told = theirs.status_code, theirs.text.replace(model, "…")
            assert told == (nobodys.status_code, nobodys.text.replace(absent, "…")), f"{method} {path}"
            assert theirs.status_code in (400, 403, 404), f"{method} {path}: {theirs.text}"
    listed = [item["name"] for item in other.viewer.ok("GET", "/v1/models", params={"page_size": 1000})["models"]]
    assert model not in listed
    assert "digits" in listed, "without a team it is everybody's"
    deployments = other.viewer.ok("GET", "/v1/deployments", params={"page_size": 1000})["deployments"]
    assert model not in {item["model_name"] for item in deployments}


def test_over_grpc_a_foreign_model_is_as_one_that_is_not_there(mesh: Mesh, other: Team, model: str) -> None:
    absent = f"rehearsal-{secrets.token_hex(4)}"
    instance = instance_pb2.Instance(features={"value": instance_pb2.Feature(float_value=0.9)})

    def asked(name: str) -> tuple[grpc.StatusCode, str]:
        request = prediction_pb2.PredictRequest(model_name=name, instances=[instance])
        with Credentials(other.keys["viewer"]).open_channel(mesh.gateway, tls=False, options=()) as channel:
            stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
            with pytest.raises(grpc.RpcError) as caught:
                stub.Predict(request, timeout=TIMEOUT_S)
            trailers = {item[0]: item[1] for item in cast("grpc.Call", caught.value).trailing_metadata() or ()}
            details = cast("bytes", trailers["grpc-status-details-bin"])
            return caught.value.code(), str(status_pb2.Status.FromString(details)).replace(name, "…")

    assert asked(model) == asked(absent)


def test_a_role_may_what_it_may_and_no_more(risk: Team, model: str) -> None:
    refused = risk.viewer.refused(403, "PATCH", f"/v1/models/{model}/traffic", json={"traffic_split": {"v1.0.0": 100}})
    assert reason(refused) == "PERMISSION_DENIED"
    assert "deployer" in refused["message"]
    assert reason(risk.viewer.refused(403, "POST", "/v1/models", json={"name": "x", "version": "v1.0.0"}))
    made = {"name": "another", "role": "viewer"}
    assert reason(risk.deployer.refused(403, "POST", f"/v1/teams/{risk.name}/api-keys", json=made))
    above = {"name": "too much", "role": "platform-admin"}
    assert reason(risk.admin.call("POST", f"/v1/teams/{risk.name}/api-keys", json=above).json())
    assert reason(risk.admin.refused(403, "POST", "/v1/teams", json={"name": "mine"})) == "PERMISSION_DENIED"
    quota = {"resource_quota": {"models": 1000}}
    assert reason(risk.admin.refused(403, "PATCH", f"/v1/teams/{risk.name}", json=quota)) == "PERMISSION_DENIED"


def test_a_shared_model_may_be_called_and_not_changed_until_it_is_not_shared_any_more(
    risk: Team, other: Team, model: str
) -> None:
    risk.admin.ok("POST", f"/v1/models/{model}:share", json={"team": other.name})
    answered(other.viewer, model)
    assert other.viewer.ok("GET", f"/v1/models/{model}")["team"] == risk.name
    moved = other.admin.call("PATCH", f"/v1/models/{model}/traffic", json={"traffic_split": {"v1.0.0": 100}})
    assert moved.status_code == 403, moved.text
    risk.admin.ok("POST", f"/v1/models/{model}:unshare", json={"team": other.name})
    until(lambda: predicts(other.viewer, model).status_code == 404, within_s=30, what="it is gone for them")
    answered(risk.viewer, model)


def test_a_key_for_one_model_and_one_purpose_is_good_for_nothing_else(mesh: Mesh, risk: Team, model: str) -> None:
    narrow = {"name": "scoring", "role": "viewer", "scopes": ["predict"], "models": [model]}
    secret = risk.admin.ok("POST", f"/v1/teams/{risk.name}/api-keys", json=narrow)["secret"]
    scoring = Rest(mesh.gateway, secret)
    assert predicts(scoring, model).status_code == 200
    assert scoring.call("POST", "/v1/models/digits/predict", json={"instances": []}).status_code == 404
    assert reason(scoring.refused(403, "GET", f"/v1/models/{model}")) == "PERMISSION_DENIED"
    scoring.close()


def test_a_revoked_key_soon_opens_nothing_while_others_go_on(mesh: Mesh, risk: Team, model: str) -> None:
    made = risk.admin.ok("POST", f"/v1/teams/{risk.name}/api-keys", json={"name": "lost", "role": "viewer"})
    lost = Rest(mesh.gateway, made["secret"])
    assert predicts(lost, model).status_code == 200
    key_id = made["api_key"]["key_id"]
    risk.admin.ok("POST", f"/v1/teams/{risk.name}/api-keys/{key_id}:revoke", json={"reason": "it was in a log"})
    began_s = time.monotonic()
    until(lambda: predicts(lost, model).status_code == 401, within_s=10, what="it is refused", every_s=0.01)
    print(f"refused {time.monotonic() - began_s:.3f} s after the revocation was answered")
    refused = predicts(lost, model).json()
    assert "revoked" in refused["message"]
    assert predicts(risk.viewer, model).status_code == 200
    listed = risk.admin.ok("GET", f"/v1/teams/{risk.name}/api-keys")["api_keys"]
    assert next(item for item in listed if item["key_id"] == key_id)["revoked_at"]
    assert "secret" not in str(listed)
    lost.close()


def test_a_key_ends_when_it_said_it_would(mesh: Mesh, risk: Team) -> None:
    with Client(mesh.gateway, credentials=Credentials(risk.keys["admin"])) as admin:
        # The mesh's clock decides, not the test's.
        now = admin.keys.create(risk.name, "clock", role="viewer").api_key.created_at.ToDatetime(UTC)
        made = admin.keys.create(risk.name, "short", role="viewer", expires_at=now + timedelta(seconds=4))
    short = Rest(mesh.gateway, made.secret)
    assert short.ok("GET", "/v1/caller")["team"] == risk.name
    until(lambda: short.call("GET", "/v1/caller").status_code == 401, within_s=30, what="it has expired")
    assert "expired" in short.call("GET", "/v1/caller").json()["message"]
    short.close()


def test_a_team_at_its_limit_is_told_and_others_go_on(mesh: Mesh, operator: Rest, risk: Team) -> None:
    slow = make_team(mesh, operator, rate_limit={"requests_per_sec": 1, "burst": 5})

    def beyond() -> httpx.Response | None:
        answer = slow.viewer.call("GET", "/v1/models")
        return answer if answer.status_code == 429 else None

    refused = until(beyond, within_s=20, every_s=0, what="the limit is reached")
    assert refused is not None
    assert int(refused.headers["retry-after"]) >= 1
    assert refused.json()["details"][0]["metadata"]["limit"] == "team.rate_limit"
    for _ in range(20):
        risk.viewer.ok("GET", "/v1/models")
    slow.close()


def test_the_python_client_does_it_all(mesh: Mesh) -> None:
    name = f"cli-{secrets.token_hex(4)}"
    with Client(mesh.gateway, credentials=Credentials(mesh.key)) as client:
        made = client.teams.create(team_pb2.Team(name=name))
        assert made.name == name
        key = client.keys.create(name, "mine", role="admin")
        client.teams.set_member(name, "ada@example.com", "deployer")
        assert [member.user for member in client.teams.members(name)] == ["ada@example.com"]
    with Client(mesh.gateway, credentials=Credentials(key.secret)) as client:
        assert client.teams.caller().team == name
        with pytest.raises(InfermeshError) as caught:
            client.teams.create(team_pb2.Team(name=f"{name}-2"))
        assert caught.value.reason == "PERMISSION_DENIED"
    with Client(mesh.gateway, credentials=Credentials("")) as client:
        with pytest.raises(InfermeshError) as caught:
            client.teams.caller()
        assert caught.value.reason == "UNAUTHENTICATED"
        assert "INFERMESH_API_KEY" in caught.value.advice
