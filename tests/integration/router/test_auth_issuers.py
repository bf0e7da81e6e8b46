"""Tokens of OpenID Connect issuers at a real gateway, whose keys it fetches from a real server, also over TLS."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from services.common.clock import SystemClock
from services.common.grpc.identity import identity_of
from services.router.domain.issuers import Issuer
from services.supervisor.certificates import LocalAuthority
from tests.support.envoy_gateway import running_gateway, split
from tests.support.gateway_keys import Signer, bearer, now_s
from tests.support.guarded_calls import WAYS, Answered, Way
from tests.support.guarded_gateway import GuardedGateway
from tests.support.parts import free_port
from tests.support.played_issuer import PlayedIssuer, serving
from tests.support.waiting import until

DIGITS = [split("digits", {"v1.0.0": 100})]
GRPC, REST = WAYS["grpc"], WAYS["rest"]


@dataclass
class Issuers:
    """Who vouches for callers beside the mesh."""

    plain: Signer
    """Its tokens say who the user is, and no more."""
    teams: Signer
    """Its tokens say team and role too, in claims of other names; its keys come over TLS."""
    inline: Signer
    """Its keys are configured."""
    dead: Signer
    """Its keys cannot be had."""
    impostor: Signer
    """Its certificate is by nobody whom the gateway trusts."""


@pytest.fixture(scope="module")
def issuers() -> Issuers:
    names = ("plain", "teams", "inline", "dead", "impostor")
    return Issuers(**{name: Signer("k", issuer=f"https://{name}.example", audience="mesh") for name in names})


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, issuers: Issuers) -> Iterator[GuardedGateway]:
    folder = tmp_path_factory.mktemp("gateway")
    with ExitStack() as stack:
        plain = stack.enter_context(serving(PlayedIssuer(issuers.plain)))
        teams, teams_ca = stack.enter_context(_over_tls(issuers.teams, folder / "teams"))
        impostor, _ = stack.enter_context(_over_tls(issuers.impostor, folder / "impostor"))
        options = {
            "issuers": (
                _issuer(issuers.plain, jwks_uri=plain.uri),
                _issuer(
                    issuers.teams,
                    jwks_uri=teams.uri,
                    user_claim="email",
                    team_claim="org.team",
                    role_claim="mesh_role",
                    ca_file=str(teams_ca),
                ),
                _issuer(issuers.inline, jwks=issuers.inline.key_set),
                _issuer(issuers.dead, jwks_uri=f"http://127.0.0.1:{free_port()}/keys"),
                _issuer(issuers.impostor, jwks_uri=impostor.uri, ca_file=str(teams_ca)),
            )
        }

        class Gateway(GuardedGateway):
            def __init__(self, *told: Any) -> None:
                super().__init__(*told)
                self.options = options

        yield stack.enter_context(running_gateway(folder / "envoy", publish=DIGITS, kind=Gateway))


@contextmanager
def _over_tls(signer: Signer, folder: Path) -> Iterator[tuple[PlayedIssuer, Path]]:
    issued = LocalAuthority(folder, now=SystemClock().now()).issue("issuer", hosts=("127.0.0.1",))
    played = PlayedIssuer(signer, certificate=(issued.certificate, issued.private_key))
    with serving(played) as running:
        yield running, issued.authority


def _issuer(signer: Signer, **more: str) -> Issuer:
    return Issuer(issuer=signer.issuer, audiences=(signer.audience, "another"), **more)


def asked(gateway: GuardedGateway, signer: Signer, way: Way = REST, **claims: Any) -> Answered:
    return way(gateway, [*bearer(signer.token(**{"sub": "ann", "exp": now_s() + 60, **claims})).items()])


@pytest.mark.parametrize("way", WAYS.values(), ids=list(WAYS))
@pytest.mark.parametrize("name", ["plain", "inline"])
def test_a_token_says_who_the_user_is_and_what_else_it_claims_counts_for_nothing(
    gateway: GuardedGateway, issuers: Issuers, way: Way, name: str
) -> None:
    claims = {"role": "platform-admin", "team": "secret", "jti": "k", "scope": "admin", "models": "m"}
    signer: Signer = getattr(issuers, name)
    until(lambda: asked(gateway, signer, way).code == 0, what="its keys were fetched")
    found = identity_of(asked(gateway, signer, way, **claims).headers)
    assert (found.user, found.role, found.team, found.key_id) == ("ann", "anonymous", "", "")
    assert (found.scopes, found.models) == (frozenset(), frozenset())


def test_team_and_role_come_from_the_claims_that_are_configured(gateway: GuardedGateway, issuers: Issuers) -> None:
    claims: dict[str, Any] = {
        "email": "ann@example.com",
        "org": {"team": "vision"},
        "mesh_role": "deployer",
        "role": "admin",
    }
    until(lambda: asked(gateway, issuers.teams, **claims).code == 0, what="its keys were fetched over TLS")
    found = identity_of(asked(gateway, issuers.teams, **claims).headers)
    assert (found.user, found.team, found.role) == ("ann@example.com", "vision", "deployer")
    refused = asked(gateway, issuers.teams, mesh_role="superuser")
    assert (refused.code, "role" in refused.message) == (16, True)
    nobody = asked(gateway, issuers.teams, email="ann@example.com")
    assert identity_of(nobody.headers).role == "anonymous"


@pytest.mark.parametrize(
    ("claims", "said"),
    [
        ({"aud": "somebody"}, "somebody else"),
        ({"aud": "infermesh"}, "somebody else"),
        ({"exp": None}, ""),
        ({"exp": 1}, "expired"),
        ({"iss": "https://nobody.example"}, "does not trust"),
        ({"iss": "https://teams.example"}, "by no key"),
        ({"iss": "infermesh", "aud": "infermesh", "role": "platform-admin"}, "by no key"),
    ],
)
def test_a_token_for_others_or_of_another_name_is_refused(
    gateway: GuardedGateway, issuers: Issuers, claims: dict[str, Any], said: str
) -> None:
    until(lambda: asked(gateway, issuers.teams).code == 0, what="keys were fetched")
    for way in (REST, GRPC):
        answer = asked(gateway, issuers.inline, way, **claims)
        assert (answer.code, said in answer.message) == (16, True), answer


def test_the_mesh_vouches_for_no_user_of_an_issuer(gateway: GuardedGateway, issuers: Issuers) -> None:
    forged = gateway.signer.token(iss=issuers.inline.issuer, aud="mesh", sub="ann", exp=now_s() + 60)
    assert REST(gateway, [*bearer(forged).items()]).code == 16


@pytest.mark.parametrize("name", ["dead", "impostor"])
def test_an_issuer_whose_keys_cannot_be_had_disturbs_nobody_else(
    gateway: GuardedGateway, issuers: Issuers, name: str
) -> None:
    for way in (REST, GRPC):
        answer = asked(gateway, getattr(issuers, name), way)
        assert (answer.code, answer.reason) == (14, "DEPENDENCY_UNAVAILABLE")
        assert "cannot be fetched" in answer.message
        assert way(gateway, [*bearer(gateway.signer.key("k")).items()]).code == 0
