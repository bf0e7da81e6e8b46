"""Issuers as operators write them down: what is read, and what is said of a mistake."""

import json
from pathlib import Path
from typing import Any

import pytest

from services.common.errors import MeshError, Reason
from services.router.adapters.envoy.options import EnvoyOptions
from services.router.domain.issuers import CA_FILE_DEFAULT, Issuer, issuers_from_json
from services.router.settings import RouterSettings
from services.router.wiring_access import issuers, told_by_settings
from tests.support.gateway_keys import Signer

GOOD: dict[str, Any] = {"issuer": "https://id.example", "audiences": ["mesh"], "jwks_uri": "https://id.example/keys"}


def test_none_is_none() -> None:
    assert issuers_from_json("") == issuers_from_json(" ") == issuers_from_json("[]") == ()


def test_what_is_not_said_is_as_documented() -> None:
    [one] = issuers_from_json(json.dumps([GOOD]))
    assert one == Issuer(issuer="https://id.example", audiences=("mesh",), jwks_uri="https://id.example/keys")
    assert (one.user_claim, one.team_claim, one.role_claim, one.ca_file) == ("sub", "", "", CA_FILE_DEFAULT)
    assert one.origin == ("https", "id.example", 443)


def test_all_may_be_said() -> None:
    keys = json.loads(Signer("k").key_set)
    told = {
        "issuer": "dex",
        "audiences": "mesh",
        "jwks": keys,
        "user_claim": "email",
        "team_claim": "org.team",
        "role_claim": "https://id.example/role",
    }
    [one] = issuers_from_json(json.dumps([told]))
    assert (one.audiences, json.loads(one.jwks), one.jwks_uri) == (("mesh",), keys, "")
    assert (one.user_claim, one.team_claim, one.role_claim) == ("email", "org.team", "https://id.example/role")


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"issuer": ""}, "oidc_issuers[0].issuer"),
        ({"issuer": "infermesh"}, "oidc_issuers[0].issuer"),
        ({"issuer": 7}, "oidc_issuers[0].issuer"),
        ({"audiences": []}, "oidc_issuers[0].audiences"),
        ({"audiences": None}, "oidc_issuers[0].audiences"),
        ({"audiences": [""]}, "oidc_issuers[0].audiences"),
        ({"jwks_uri": ""}, "oidc_issuers[0].jwks_uri"),
        ({"jwks_uri": "ftp://x/keys"}, "oidc_issuers[0].jwks_uri"),
        ({"jwks_uri": "https:///keys"}, "oidc_issuers[0].jwks_uri"),
        ({"jwks_uri": "https://x:99999/keys"}, "oidc_issuers[0].jwks_uri"),
        ({"jwks_uri": "https://user:secret@x/keys"}, "oidc_issuers[0].jwks_uri"),
        ({"jwks_uri": "https://x/a b"}, "oidc_issuers[0].jwks_uri"),
        ({"jwks": "/keys.json"}, "oidc_issuers[0].jwks_uri"),
        ({"jwks_uri": "", "jwks": {"keys": []}}, "oidc_issuers[0].jwks"),
        ({"user_claim": ""}, "oidc_issuers[0].user_claim"),
        ({"team_claim": "a b"}, "oidc_issuers[0].team_claim"),
        ({"role_claim": ["admin"]}, "oidc_issuers[0].role_claim"),
        ({"audience": "mesh"}, "oidc_issuers[0].audience"),
    ],
)
def test_a_mistake_is_named(change: dict[str, Any], field: str) -> None:
    with pytest.raises(MeshError) as failed:
        issuers_from_json(json.dumps([{**GOOD, **change}]))
    assert failed.value.reason is Reason.INVALID_FIELD
    assert [one.field for one in failed.value.violations] == [field]


@pytest.mark.parametrize("text", ["nonsense", "{}", "7", json.dumps([GOOD] * 17), '["https://id.example"]'])
def test_what_is_no_list_of_objects_is_refused(text: str) -> None:
    with pytest.raises(MeshError, match="oidc_issuers"):
        issuers_from_json(text)


def test_each_issuer_may_be_there_once() -> None:
    with pytest.raises(MeshError, match=r"oidc_issuers\[1\].issuer"):
        issuers_from_json(json.dumps([GOOD, GOOD]))


def settings(**told: object) -> RouterSettings:
    return RouterSettings.model_validate({"database_url": "postgresql+psycopg://nowhere/x", **told})


def test_keys_in_a_file_are_read_at_the_start(tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    file.write_text(Signer("k").key_set)
    told = json.dumps([{"issuer": "dex", "audiences": "mesh", "jwks": str(file)}])
    [one] = issuers(settings(oidc_issuers=told))
    assert one.jwks == file.read_text()


@pytest.mark.parametrize("content", [None, "{}"])
def test_a_start_with_a_file_without_keys_ends_with_the_variable(tmp_path: Path, content: str | None) -> None:
    file = tmp_path / "keys.json"
    if content is not None:
        file.write_text(content)
    told = json.dumps([{"issuer": "dex", "audiences": "mesh", "jwks": str(file)}])
    with (
        pytest.raises(SystemExit, match=r"^INFERMESH_ROUTER_OIDC_ISSUERS\[0\].jwks is .*keys.json"),
        told_by_settings(),
    ):
        issuers(settings(oidc_issuers=told))


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ({"tls_certificate": "/tls/tls.crt"}, "INFERMESH_ROUTER_TLS_PRIVATE_KEY"),
        ({"tls_private_key": "/tls/tls.key"}, "INFERMESH_ROUTER_TLS_CERTIFICATE"),
        ({"tls_certificate": "tls.crt", "tls_private_key": "/tls/tls.key"}, "INFERMESH_ROUTER_TLS_CERTIFICATE"),
    ],
)
def test_certificate_and_key_come_together(told: dict[str, str], said: str) -> None:
    addresses = ("registry", "deployer", "router", "batch", "monitor")
    more = {f"{name}_address": "127.0.0.1:1" for name in addresses}
    with pytest.raises(SystemExit, match=f"^{said} is "), told_by_settings():
        EnvoyOptions(batchers=(), **more, **told)  # type: ignore[arg-type]
