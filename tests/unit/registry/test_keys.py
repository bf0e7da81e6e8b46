"""What keys may be asked for, what is signed, and the private key's file."""

import os
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from services.common.errors import MeshError, Reason
from services.common.grpc.identity import Identity
from services.registry.adapters.signing_key import SigningKey, load_signing_key
from services.registry.domain.jwk import PublicKey, key_set, public_key_of
from services.registry.domain.keys import (
    KeyWish,
    Kind,
    NewKey,
    check_not_above,
    check_wish,
    claims_of,
)
from services.registry.domain.quotas import RateLimit
from services.registry.engines.keys import MadeKey

NOW = datetime(2026, 1, 15, 12, tzinfo=UTC)
WISH = KeyWish("vision", "camera", "viewer")
KEY = NewKey(key_id="k1", kind=Kind.KEY, team="vision", name="camera", role="viewer", created_at=NOW, signed_by="kid")


def pem_of(private: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> str:
    return private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


@pytest.mark.parametrize(
    ("change", "fields"),
    [
        ({"name": ""}, ["name"]),
        ({"name": "x" * 129}, ["name"]),
        ({"role": "platform-admin"}, ["role"]),
        ({"scopes": ("predict", "everything")}, ["scopes"]),
        ({"models": ("No",)}, ["models"]),
        ({"models": tuple(f"m{number}" for number in range(51))}, ["models"]),
        ({"rate_limit": RateLimit(float("nan"), -1)}, ["rate_limit.requests_per_sec", "rate_limit.burst"]),
        ({"expires_at": NOW}, ["expires_at"]),
        ({"expires_at": datetime.max.replace(tzinfo=UTC)}, ["expires_at"]),
        ({"request_id": "x" * 129}, ["request_id"]),
        ({"name": "\0", "role": ""}, ["name", "role"]),
    ],
)
def test_a_wrong_wish_is_told_all_that_is_wrong(change: dict[str, object], fields: list[str]) -> None:
    check_wish(WISH, now=NOW)
    with pytest.raises(MeshError) as caught:
        check_wish(replace(WISH, **change), now=NOW)  # type: ignore[arg-type]
    assert caught.value.reason is Reason.INVALID_FIELD
    assert [one.field for one in caught.value.violations] == fields


@pytest.mark.parametrize(
    ("caller", "wish", "above"),
    [
        (Identity(role="admin"), WISH, ""),
        (Identity(role="admin"), replace(WISH, role="admin"), ""),
        (Identity(role="deployer"), replace(WISH, role="admin"), "role"),
        (Identity(role="admin", scopes=frozenset({"admin"})), WISH, "scopes"),
        (Identity(role="admin", scopes=frozenset({"admin"})), replace(WISH, scopes=("admin",)), ""),
        (Identity(role="admin", models=frozenset({"iris"})), WISH, "models"),
        (Identity(role="admin", models=frozenset({"iris"})), replace(WISH, models=("iris", "rose")), "models"),
        (Identity(role="admin", models=frozenset({"iris"})), replace(WISH, models=("iris",)), ""),
        (Identity(), replace(WISH, role="admin"), ""),
    ],
)
def test_no_key_is_above_its_maker(caller: Identity, wish: KeyWish, above: str) -> None:
    if not above:
        check_not_above(caller, wish)
        return
    with pytest.raises(MeshError) as caught:
        check_not_above(caller, wish)
    assert (caught.value.reason, caught.value.metadata) == (Reason.PERMISSION_DENIED, {"fields": above})


def test_claims_that_limit_nothing_are_left_out() -> None:
    base = {"iss": "infermesh", "aud": "infermesh", "jti": "k1", "team": "vision", "role": "viewer"}
    assert claims_of(KEY) == {**base, "iat": int(NOW.timestamp())}
    whole = replace(
        KEY, user="ann", scopes=("batch", "predict"), models=("a", "b"), expires_at=NOW + timedelta(hours=1)
    )
    assert claims_of(whole) == {
        **base,
        "iat": int(NOW.timestamp()),
        "sub": "ann",
        "scope": "batch predict",
        "models": "a b",
        "exp": int(NOW.timestamp()) + 3600,
    }


def test_a_made_key_does_not_show_its_secret_in_logs() -> None:
    assert "hush" not in repr(MadeKey(None, "hush"))  # type: ignore[arg-type]


def test_a_kid_is_the_thumbprint_of_rfc_7638() -> None:
    # The public key of RFC 7515, appendix A.3.
    key = PublicKey("f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU", "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0")
    assert key.kid == "oKIywvGUpTVTyxMQ3bwIIeQUudfr_CkLMjCE19ECD-U"
    assert public_key_of(1, 2) == PublicKey("A" * 42 + "E", "A" * 42 + "I")
    assert key_set([key, key]) == key_set([key])


def test_the_private_key_is_made_once_and_for_its_owner_alone(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        made = load_signing_key(pem="", path=None, data_dir=tmp_path / "registry")
    finally:
        os.umask(before)
    file = tmp_path / "registry" / "keys" / "signing.pem"
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.parent.stat().st_mode & 0o777 == 0o700
    again = load_signing_key(pem="", path=None, data_dir=tmp_path / "registry")
    assert again.public_key == made.public_key
    assert load_signing_key(pem=file.read_text(), path=None, data_dir=tmp_path).public_key == made.public_key
    assert load_signing_key(pem="", path=file, data_dir=tmp_path).public_key == made.public_key
    assert sorted(one.name for one in file.parent.iterdir()) == ["signing.lock", "signing.pem"]


def test_a_half_written_key_is_made_anew(tmp_path: Path) -> None:
    folder = tmp_path / "keys"
    folder.mkdir()
    (folder / "signing.new").write_bytes(b"half")
    load_signing_key(pem="", path=None, data_dir=tmp_path)
    assert (folder / "signing.pem").stat().st_mode & 0o777 == 0o600
    assert not (folder / "signing.new").exists()


def test_what_is_signed_is_verified_by_the_public_half() -> None:
    private = ec.generate_private_key(ec.SECP256R1())
    signer = SigningKey(private)
    token = signer.sign(claims_of(KEY))
    assert jwt.get_unverified_header(token) == {"alg": "ES256", "typ": "JWT", "kid": signer.public_key.kid}
    assert jwt.decode(token, private.public_key(), algorithms=["ES256"], audience="infermesh")["jti"] == "k1"


@pytest.mark.parametrize("pem", ["nonsense", pem_of(ec.generate_private_key(ec.SECP384R1()))])
def test_what_is_no_signing_key_ends_the_start_with_a_sentence(pem: str, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="openssl genpkey"):
        load_signing_key(pem=pem, path=None, data_dir=tmp_path)
    with pytest.raises(SystemExit, match="cannot be read"):
        load_signing_key(pem="", path=tmp_path / "none", data_dir=tmp_path)
