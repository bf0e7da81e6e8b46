"""Who gets in at a real gateway, over every protocol, and what services learn of them; who does not, and why not."""

from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from services.common.grpc.identity import Identity, identity_of
from tests.support.envoy_gateway import TIMEOUT_S, running_gateway, split
from tests.support.gateway_keys import Signer, bearer, now_s
from tests.support.guarded_calls import WAYS, Way, refused
from tests.support.guarded_gateway import GuardedGateway

DIGITS = [split("digits", {"v1.0.0": 100})]
REVOKED = "key-revoked"
every_way = pytest.mark.parametrize("way", WAYS.values(), ids=list(WAYS))


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GuardedGateway]:
    with running_gateway(tmp_path_factory.mktemp("gateway"), publish=DIGITS, kind=GuardedGateway) as running:
        running.revoke(REVOKED)
        yield running


@every_way
def test_a_good_key_says_who_calls_and_goes_no_further(gateway: GuardedGateway, way: Way) -> None:
    key = gateway.signer.key("k1", sub="ann", scope="predict batch", models="digits", exp=now_s() + 60)
    seen = way(gateway, [*bearer(key).items()])
    assert seen.code == 0, seen
    found = identity_of(seen.headers)
    assert found == Identity(
        user="ann",
        team="vision",
        role="deployer",
        request_id=found.request_id,
        key_id="k1",
        scopes=frozenset({"predict", "batch"}),
        models=frozenset({"digits"}),
    )
    assert "authorization" not in seen.headers
    assert key not in str(seen)


Made = Callable[[Signer], dict[str, str]]
BAD: dict[str, tuple[Made, str]] = {
    "missing": (lambda _: {}, "no credential"),
    "no scheme": (lambda signer: {"authorization": signer.key("k")}, "no credential"),
    "basic": (lambda _: {"authorization": "Basic YTpi"}, "no credential"),
    "elsewhere": (lambda signer: {"x-api-key": signer.key("k")}, "no credential"),
    "no token": (lambda _: bearer("abc"), "cannot be read"),
    "garbage": (lambda _: bearer("a.b.c"), "cannot be read"),
    "empty": (lambda _: bearer(".."), "cannot be read"),
    "cut off": (lambda signer: bearer(signer.key("k")[:-20]), ""),
    "huge": (lambda _: bearer("x" * 50_000), "cannot be read"),
    "huge claims": (lambda signer: bearer(Signer(signer.kid).key("k", sub="x" * 30_000)), "by no key"),
    "expired": (lambda signer: bearer(signer.key("k", exp=now_s() - 30)), "expired"),
    "not yet": (lambda signer: bearer(signer.key("k", nbf=now_s() + 600)), "not valid yet"),
    "other audience": (lambda signer: bearer(signer.key("k", aud="somebody")), "somebody else"),
    "no audience": (lambda signer: bearer(signer.key("k", aud=None)), "somebody else"),
    "other issuer": (lambda signer: bearer(signer.key("k", iss="https://evil.example")), "does not trust"),
    "other key, same id": (lambda signer: bearer(Signer(signer.kid).key("k")), "by no key"),
    "other key": (lambda _: bearer(Signer("unknown").key("k")), "by no key"),
    "unsigned": (lambda signer: bearer(signer.unsigned(jti="k", role="platform-admin")), "cannot be read"),
    "signed with the public key": (
        lambda signer: bearer(signer.signed_with_the_public_key(jti="k", role="platform-admin")),
        "by no key",
    ),
    "revoked": (lambda signer: bearer(signer.key(REVOKED)), "revoked"),
    "unknown role": (lambda signer: bearer(signer.key("k", role="root")), "role"),
    "several roles": (lambda signer: bearer(signer.token(jti="k", role=["admin"])), "role"),
    "roles in one text": (lambda signer: bearer(signer.key("k", role="viewer,platform-admin")), "role"),
}


@every_way
@pytest.mark.parametrize("what", BAD)
def test_a_bad_credential_is_refused_and_what_was_wrong_is_said(gateway: GuardedGateway, way: Way, what: str) -> None:
    made, said = BAD[what]
    headers = made(gateway.signer)
    answer = way(gateway, [*headers.items()])
    assert (answer.code, answer.reason) == (16, "UNAUTHENTICATED"), answer
    assert said in answer.message
    token = headers.get("authorization", "").removeprefix("Bearer ").strip()
    assert not token or token not in str(answer)


def test_whoever_gets_a_401_over_http_is_told_how_to_authenticate(gateway: GuardedGateway) -> None:
    nothing = gateway.rest("GET", "/v1/models")
    bad = gateway.rest("GET", "/v1/models", headers=bearer("a.b.c"))
    assert (nothing.status_code, nothing.headers["www-authenticate"]) == (401, "Bearer")
    assert (bad.status_code, bad.headers["www-authenticate"]) == (401, 'Bearer error="invalid_token"')


def test_a_token_in_a_query_counts_for_nothing(gateway: GuardedGateway) -> None:
    key = gateway.signer.key("k")
    for name in ("access_token", "authorization", "token"):
        assert gateway.rest("GET", "/v1/models", params={name: key}).status_code == 401
    cookies = {"cookie": f"authorization={key}; access_token={key}"}
    assert gateway.rest("GET", "/v1/models", headers=cookies).status_code == 401


@every_way
def test_two_credentials_are_none(gateway: GuardedGateway, way: Way) -> None:
    """Whoever reads the first and whoever reads the last would take the caller for two."""
    good, bad = (("authorization", f"Bearer {token}") for token in (gateway.signer.key("k1"), "a.b.c"))
    for both in ([bad, good], [good, bad], [good, good]):
        assert way(gateway, both).code == 16


@every_way
def test_nobody_says_who_they_are_but_by_a_credential(gateway: GuardedGateway, way: Way) -> None:
    """In all spellings, and more than once."""
    forged = [
        (name, value)
        for name, value in (
            ("x-infermesh-role", "platform-admin"),
            ("x-infermesh-role", ""),
            ("x-infermesh-team", "secret"),
            ("x-infermesh-user", "root"),
            ("x-infermesh-user", "root"),
            ("x-infermesh-key", "another"),
            ("x-infermesh-scopes", "admin"),
            ("x-infermesh-models", "secret"),
        )
    ]
    if way in (WAYS["rest"], WAYS["open inference"]):
        forged += [("X-Infermesh-Role", "platform-admin"), ("X-INFERMESH-TEAM", "secret")]
    # What has another name is another header, and nobody reads it.
    forged.append(("x_infermesh_role", "platform-admin"))
    assert way(gateway, forged).code == 16
    seen = way(gateway, [*forged, *bearer(gateway.signer.key("k1", role="viewer")).items(), *forged])
    found = identity_of(seen.headers)
    assert (found.role, found.team, found.user, found.key_id) == ("viewer", "vision", "", "k1")
    assert (found.scopes, found.models) == (frozenset(), frozenset())


@every_way
@pytest.mark.parametrize("role", [{}, {"role": ""}, {"role": None}])
def test_whom_a_token_gives_no_role_is_nobody_in_particular_and_never_the_mesh_itself(
    gateway: GuardedGateway, way: Way, role: dict[str, Any]
) -> None:
    seen = way(gateway, [("x-infermesh-role", ""), *bearer(gateway.signer.token(sub="ann", **role)).items()])
    found = identity_of(seen.headers)
    assert (found.role, found.user, found.unbounded) == ("anonymous", "ann", False)


@pytest.mark.parametrize("headers", [{}, bearer("a.b.c"), bearer(Signer("other").key("k"))])
def test_health_needs_no_credential_and_minds_none(gateway: GuardedGateway, headers: dict[str, str]) -> None:
    assert gateway.rest("GET", "/health", headers=headers).json() == {"status": "healthy"}
    assert gateway.rest("GET", "/health?x=1", headers=headers).status_code == 200
    assert gateway.rest("GET", "/ready", headers=headers).status_code == 200
    # The double has no such method: what matters is that it was asked.
    assert gateway.rest("GET", "/v1/jwks.json", headers=headers).status_code == 501
    with gateway.channel() as channel:
        health: Any = health_pb2_grpc.HealthStub(channel)
        answer = health.Check(health_pb2.HealthCheckRequest(), metadata=tuple(headers.items()), timeout=TIMEOUT_S)
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/metrics",
        "/metrics?filter=x",
        "/healthy",
        "/health/",
        "/health/../v1/models",
        "//v1//models",
        "/ready/../metrics",
        "/v1/jwks.json/x",
        "/v1/JWKS.json",
        "/v1/models",
        "/v1/nothing",
        "/v2",
        "/v2/models/digits/ready",
        "/grpc.health.v1.Health/..%2f..%2fv1/models",
        "/infermesh.registry.v1.TeamService/GetKeySetX",
    ],
)
def test_all_else_needs_one(gateway: GuardedGateway, path: str) -> None:
    for method in ("GET", "POST", "OPTIONS", "HEAD"):
        assert gateway.rest(method, path).status_code == 401, method


def test_reflection_and_metrics_need_a_key(gateway: GuardedGateway) -> None:
    method = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
    user, key = bearer(gateway.signer.token(sub="ann")), bearer(gateway.signer.key("k1", role="viewer"))
    with gateway.channel() as channel:
        ask: Any = channel.stream_stream(method)
        for headers, code in (({}, 16), (user, 7)):
            with pytest.raises(grpc.RpcError) as failed:
                list(ask(iter([b":\x00"]), metadata=tuple(headers.items()), timeout=TIMEOUT_S))
            assert refused(failed.value).code == code
        assert list(ask(iter([b":\x00"]), metadata=tuple(key.items()), timeout=TIMEOUT_S))
    assert [gateway.rest("GET", "/metrics", headers=one).status_code for one in (user, key)] == [403, 200]
    assert gateway.rest("GET", "/metrics/", headers=user).status_code == 403


def test_the_scheme_may_be_written_in_small_letters(gateway: GuardedGateway) -> None:
    key = gateway.signer.key("k1")
    assert (
        gateway.rest("POST", "/v2/models/digits/infer", headers={"authorization": f"bearer {key}"}).status_code == 200
    )


def test_the_listener_is_as_it_was_when_it_was_made(gateway: GuardedGateway) -> None:
    gateway.revoke(REVOKED, "another")
    assert {name.rpartition("_")[2]: count for name, count in gateway.listeners().items()} == {
        "added": 1,
        "modified": 0,
        "updated": 0,
        "removed": 0,
    }
