"""Every method and every REST route through the gateway, by everybody who has no right: each fails closed.

What services decide by themselves is walked through in `tests/integration/access`; here are real keys, of every bad
kind, and the gateway in between.
"""

import re
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, timedelta
from typing import Any, cast

import grpc
import httpx
import pytest
from google.rpc import error_details_pb2, status_pb2
from infermesh.client import Client
from infermesh.client.credentials import Credentials
from infermesh.registry.v1 import team_pb2

from services.common.access.policy import rule_of
from services.common.access.roles import Role
from services.common.access.rule import Access
from tests.e2e.driving import OLD, Rest, bearer, registration
from tests.support.every_call import Call, Names, RestCall, every_call
from tests.support.mesh import Mesh
from tests.support.waiting import until

TIMEOUT_S = 20.0
_OWN_ID = re.compile(r"req_[0-9a-f]+(-\d+)?")
PUBLIC = tuple(call for call in every_call() if not rule_of(call.method).internal_only)
INTERNAL = tuple(call for call in every_call() if rule_of(call.method).internal_only)
OPEN = frozenset(call.method for call in PUBLIC if rule_of(call.method).role is Role.ANONYMOUS)
"""For everybody, with or without a credential. Two of them need a user, and say so themselves."""
NEEDS_USER = frozenset(
    f"/infermesh.registry.v1.TeamService/{name}" for name in ("GetCaller", "ListTeams", "ExchangeToken")
)
FORGED = {
    "x-infermesh-role": "platform-admin",
    "x-infermesh-user": "root",
    "x-infermesh-team": "risk",
    "x-infermesh-key": "k",
}
pytestmark = pytest.mark.timeout(300)


@dataclass(frozen=True)
class Setting:
    """Two teams, a model of the first, and keys."""

    gateway: str
    model: str
    team: str
    keys: Mapping[str, str]
    """By whose they are."""


def expired(admin: Client, team: str) -> str:
    """A key that has ended."""
    now = admin.keys.create(team, "clock", role="viewer").api_key.created_at.ToDatetime(UTC)
    return admin.keys.create(team, "short", role="admin", expires_at=now + timedelta(seconds=4)).secret


@pytest.fixture(scope="module")
def setting(mesh: Mesh) -> Iterator[Setting]:
    own, other, model = (f"{what}-{secrets.token_hex(4)}" for what in ("own", "oth", "sample"))
    with Client(mesh.gateway, credentials=Credentials(mesh.key)) as operator:
        keys = {"operator": mesh.key}
        for team in (own, other):
            operator.teams.create(team_pb2.Team(name=team))
            for role in ("viewer", "admin"):
                keys[f"{role} of {team[:3]}"] = operator.keys.create(team, role, role=role).secret
        ended = expired(operator, own)
        lost = operator.keys.create(own, "lost", role="admin")
        operator.keys.revoke(own, lost.api_key.key_id)
    rest = Rest(mesh.gateway, keys["admin of own"])
    rest.ok("POST", "/v1/models", json=registration(model, OLD))
    signature = ended.rpartition(".")[2]
    good = keys["admin of own"]
    keys |= {
        "nobody": "",
        "garbage": "garbage",
        "signed by nobody": f"{good.rpartition('.')[0]}.{signature}",
        "expired": ended,
        "revoked": lost.secret,
    }
    for name in ("expired", "revoked"):
        probe = Rest(mesh.gateway, keys[name])
        until(lambda probe=probe: probe.call("GET", "/v1/caller").status_code == 401, within_s=30, what=f"{name} is")  # type: ignore[misc]
        probe.close()
    yield Setting(mesh.gateway, model, own, keys)
    rest.close()


@dataclass(frozen=True)
class Answer:
    """What came of a call over gRPC."""

    code: grpc.StatusCode
    reason: str
    text: str


def over_grpc(channel: grpc.Channel, call: Call, names: Names, headers: Mapping[str, str]) -> Answer:
    """One call. Of a stream the first answer is enough."""
    message, metadata = call.request(names).SerializeToString(), tuple(headers.items())
    # Bytes in and bytes out: without types, as channels give them for methods that no stub knows.
    way: Any = channel
    told = {"timeout": TIMEOUT_S, "metadata": metadata}
    try:
        if call.streams_out:
            ask = way.stream_stream if call.streams_in else way.unary_stream
            stream = ask(call.method)(iter([message]) if call.streams_in else message, **told)
            said = next(stream, None)
            stream.cancel()
        elif call.streams_in:
            said = way.stream_unary(call.method)(iter([message]), **told)
        else:
            said = way.unary_unary(call.method)(message, **told)
    except grpc.RpcError as error:
        failed = cast("grpc.Call", error)
        trailers = {item[0]: item[1] for item in failed.trailing_metadata() or ()}
        status = status_pb2.Status.FromString(cast("bytes", trailers.get("grpc-status-details-bin", b"")))
        info = error_details_pb2.ErrorInfo()
        reasons = [info.reason for detail in status.details if detail.Unpack(info)]
        return Answer(failed.code(), reasons[0] if reasons else "", f"{failed.details()} {status}")
    return Answer(grpc.StatusCode.OK, "", repr(said))


def over_rest(http: httpx.Client, call: RestCall, headers: Mapping[str, str]) -> httpx.Response:
    """One call."""
    return http.request(call.verb, call.path, content=call.body, headers={"content-type": call.content_type, **headers})


@pytest.mark.parametrize("who", ["nobody", "garbage", "signed by nobody", "expired", "revoked"])
def test_nobody_gets_anything_by_a_credential_that_is_none(setting: Setting, who: str) -> None:
    names = Names(model=setting.model, team=setting.team)
    headers = {**FORGED, **bearer(setting.keys[who])}
    let_in = []
    with (
        grpc.insecure_channel(setting.gateway) as channel,
        httpx.Client(base_url=f"http://{setting.gateway}", timeout=TIMEOUT_S, trust_env=False) as http,
    ):
        for call in PUBLIC:
            if call.method in OPEN - NEEDS_USER:
                continue
            answer = over_grpc(channel, call, names, headers)
            if (answer.code, answer.reason) != (grpc.StatusCode.UNAUTHENTICATED, "UNAUTHENTICATED"):
                let_in.append(f"{call.method}: {answer}")
            for route in call.rest(names):
                status = over_rest(http, route, headers).status_code
                if status != 401:
                    let_in.append(f"{route.verb} {route.path}: {status}")
    assert not let_in, "\n".join(let_in)


def test_what_is_between_services_is_closed_to_operators_too(setting: Setting) -> None:
    names = Names(model=setting.model, team=setting.team)
    allowed = (grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.UNIMPLEMENTED)
    with grpc.insecure_channel(setting.gateway) as channel:
        answers = {
            call.method: over_grpc(channel, call, names, {**FORGED, **bearer(setting.keys["operator"])})
            for call in INTERNAL
        }
    assert len(answers) >= 10
    assert not {method: answer for method, answer in answers.items() if answer.code not in allowed}


def test_a_viewer_changes_nothing(setting: Setting) -> None:
    names = Names(model=setting.model, team=setting.team)
    headers = bearer(setting.keys["viewer of own"])
    let_in = []
    with (
        grpc.insecure_channel(setting.gateway) as channel,
        httpx.Client(base_url=f"http://{setting.gateway}", timeout=TIMEOUT_S, trust_env=False) as http,
    ):
        for call in PUBLIC:
            if rule_of(call.method).role <= Role.VIEWER:
                continue
            answer = over_grpc(channel, call, names, headers)
            if answer.reason not in ("PERMISSION_DENIED", "NOT_IMPLEMENTED"):
                let_in.append(f"{call.method}: {answer}")
            for route in call.rest(names):
                status = over_rest(http, route, headers).status_code
                if status != 403:
                    let_in.append(f"{route.verb} {route.path}: {status}")
    assert not let_in, "\n".join(let_in)


@pytest.mark.parametrize("who", ["viewer of oth", "admin of oth"])
def test_another_teams_model_and_team_are_as_such_as_are_not_there(setting: Setting, who: str) -> None:
    hidden = Names(model=setting.model, team=setting.team)
    absent = Names(model=f"sample-{secrets.token_hex(4)}", team=f"own-{secrets.token_hex(4)}")
    headers: dict[str, Any] = bearer(setting.keys[who])
    told = []
    with (
        grpc.insecure_channel(setting.gateway) as channel,
        httpx.Client(base_url=f"http://{setting.gateway}", timeout=TIMEOUT_S, trust_env=False) as http,
    ):
        for call in PUBLIC:
            if not call.by_name or call.endless or rule_of(call.method).access is Access.CREATE:
                continue
            both = [over_grpc(channel, call, names, headers) for names in (hidden, absent)]
            texts = [_nameless(answer.text, names) for answer, names in zip(both, (hidden, absent), strict=True)]
            if (both[0].code, texts[0]) != (both[1].code, texts[1]):
                told.append(f"{call.method}: {both}")
            for routes in zip(call.rest(hidden), call.rest(absent), strict=True):
                answers = [over_rest(http, route, headers) for route in routes]
                bodies = [
                    _nameless(answer.text, names) for answer, names in zip(answers, (hidden, absent), strict=True)
                ]
                if (answers[0].status_code, bodies[0]) != (answers[1].status_code, bodies[1]):
                    told.append(f"{routes[0].verb} {routes[0].path}: {[answer.text for answer in answers]}")
    assert not told, "\n".join(told)


def _nameless(text: str, names: Names) -> str:
    # Requests without an id are given one each.
    return _OWN_ID.sub("req", text.replace(names.model, "model").replace(names.team, "team"))
