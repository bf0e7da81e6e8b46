"""Whose signatures are verified, and why others are not."""

import base64
import hashlib
import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.x509.oid import NameOID

from services.registry.adapters.signature_check import Signed, check_signature
from services.registry.domain.signatures import Checked
from tests.support.registry_reading import ARTIFACTS, folder_files

SIGNATURES = ARTIFACTS.parent / "signatures"
NOW = datetime(2030, 1, 1, tzinfo=UTC)
KEY = (SIGNATURES / "key.pub").read_text()
ROOT = (SIGNATURES / "root.pem").read_text()
WHO = "trainer@example.com"
MODEL = b"the weights of a model"


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def alone(content: bytes) -> Signed:
    return Signed(sha256(content), lambda: {".": sha256(content)}, lambda: content)


def folder(files: Mapping[str, bytes]) -> Signed:
    digests = {path: sha256(content) for path, content in files.items()}
    return Signed("0" * 64, lambda: digests, lambda: None)


def pem(key: ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey | rsa.RSAPublicKey) -> str:
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return key.public_bytes(serialization.Encoding.PEM, form).decode()


SAVED = folder_files(ARTIFACTS / "savedmodel")
PLAIN = (ARTIFACTS / "xgboost-plain.json").read_bytes()


def bundle(name: str) -> bytes:
    return (SIGNATURES / f"{name}.sig").read_bytes()


def refused(checked: Checked, words: str) -> None:
    assert not checked.signature.verified
    assert words in checked.signature.problem, checked.signature.problem


def test_a_raw_signature_that_begins_as_a_bundle_does_is_none() -> None:
    keys = (ed25519.Ed25519PrivateKey.from_private_bytes(number.to_bytes(32)) for number in range(10_000))
    key = next(key for key in keys if key.sign(MODEL).startswith(b"{"))
    checked = check_signature(key.sign(MODEL), alone(MODEL), [pem(key.public_key())], NOW)
    assert checked.signature.verified, checked.signature.problem


@pytest.mark.parametrize("curve", [ec.SECP256R1(), ec.SECP384R1(), "ed25519", "rsa"])
@pytest.mark.parametrize("what", ["artifact", "digest", "hex"])
@pytest.mark.parametrize("armoured", [False, True])
def test_plain_signatures_of_every_kind_of_key(curve: ec.EllipticCurve | str, what: str, armoured: bool) -> None:
    message = {"artifact": MODEL, "digest": bytes.fromhex(sha256(MODEL)), "hex": sha256(MODEL).encode()}[what]
    key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey
    if isinstance(curve, ec.EllipticCurve):
        key = ec.generate_private_key(curve)
        signature = key.sign(message, ec.ECDSA(hashes.SHA256()))
    elif curve == "ed25519":
        key = ed25519.Ed25519PrivateKey.generate()
        signature = key.sign(message)
    else:
        key = rsa.generate_private_key(65537, 2048)
        pss = padding.PSS(padding.MGF1(hashes.SHA256()), padding.PSS.DIGEST_LENGTH)
        signature = key.sign(message, pss, hashes.SHA256())
    sent = base64.encodebytes(signature) if armoured else signature
    trusted = [KEY, pem(key.public_key())]
    checked = check_signature(sent, alone(MODEL), trusted, NOW)
    assert checked.signature.verified, checked.signature.problem
    assert (checked.signature.kind, checked.signature.signer[:7]) == ("public-key", "sha256:")
    refused(check_signature(sent, alone(MODEL + b"!"), trusted, NOW), "no signature of this artifact")
    refused(check_signature(sent, alone(MODEL), [KEY], NOW), "no signature of this artifact")
    refused(check_signature(sent, alone(MODEL), [WHO, "-----BEGIN PUBLIC KEY-----\nx"], NOW), "name no public key")


def test_the_model_signing_format_for_a_file_and_for_a_folder() -> None:
    for name, signed in (("xgboost-plain", alone(PLAIN)), ("savedmodel", folder(SAVED))):
        checked = check_signature(bundle(name), signed, [KEY], NOW)
        assert checked.signature.verified, checked.signature.problem
        assert (checked.signature.kind, checked.fits) == ("sigstore", True)


def test_a_manifest_of_other_files_is_told_by_name() -> None:
    changed = {**SAVED, "saved_model.pb": b"other"}
    checked = check_signature(bundle("savedmodel"), folder(changed), [KEY], NOW)
    refused(checked, "saved_model.pb")
    assert checked.fits is False
    refused(check_signature(bundle("savedmodel"), folder({**SAVED, "more.py": b""}), [KEY], NOW), "more.py")
    ignored = {**SAVED, ".git/config": b""}
    assert check_signature(bundle("savedmodel"), folder(ignored), [KEY], NOW).signature.verified
    refused(check_signature(bundle("xgboost-plain"), alone(MODEL), [KEY], NOW), "not the artifact")


def test_what_an_earlier_check_found_of_the_files_is_not_read_again() -> None:
    def never() -> Mapping[str, str]:
        raise AssertionError

    signed = Signed("0" * 64, never, lambda: None)
    assert check_signature(bundle("savedmodel"), signed, [KEY], NOW, fits=True).signature.verified
    other = pem(ec.generate_private_key(ec.SECP256R1()).public_key())
    checked = check_signature(bundle("savedmodel"), signed, [other], NOW, fits=True)
    refused(checked, "no key that the team's trusted_signers name")
    assert checked.fits is True


def test_a_changed_statement_is_not_verified() -> None:
    broken = json.loads(bundle("savedmodel"))
    payload = base64.b64decode(broken["dsseEnvelope"]["payload"]).replace(b"fingerprint.pb", b"fingerprint.pc")
    broken["dsseEnvelope"]["payload"] = base64.b64encode(payload).decode()
    refused(check_signature(json.dumps(broken).encode(), folder(SAVED), [KEY], NOW), "was changed since")


@pytest.mark.parametrize("content", [b"{", b"{}", b'{"dsseEnvelope": 1}', b'{"dsseEnvelope": {}}', b"", b"hello"])
def test_what_is_no_signature_at_all(content: bytes) -> None:
    assert not check_signature(content, alone(MODEL), [KEY], NOW).signature.verified


def test_certificates_need_a_root_and_an_identity_that_are_trusted() -> None:
    content = bundle("savedmodel-certificate")
    checked = check_signature(content, folder(SAVED), [ROOT, WHO], NOW)
    assert (checked.signature.verified, checked.signature.signer) == (True, WHO), checked.signature.problem
    refused(check_signature(content, folder(SAVED), [ROOT, "other@example.com"], NOW), WHO)
    refused(check_signature(content, folder(SAVED), [ROOT], NOW), WHO)
    refused(check_signature(content, folder(SAVED), [f"{WHO}|https://accounts.example.com", ROOT], NOW), WHO)
    refused(check_signature(content, folder(SAVED), [WHO, KEY], NOW), "no certificate among")
    refused(check_signature(content, folder(SAVED), [ROOT, WHO], NOW + timedelta(days=365 * 200)), "not now")
    refused(check_signature(content, folder(SAVED), [ROOT, WHO], datetime(2020, 1, 1, tzinfo=UTC)), "not now")


def certificate(
    key: ec.EllipticCurvePrivateKey, by: ec.EllipticCurvePrivateKey, issuer: str, *, ca: bool
) -> x509.Certificate:
    """One of `trainer`, issued by `issuer`'s key."""
    name = [x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, one)]) for one in ("trainer", issuer)]
    return (
        x509.CertificateBuilder()
        .subject_name(name[0])
        .issuer_name(name[1])
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(NOW - timedelta(days=1))
        .not_valid_after(NOW + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.RFC822Name(WHO)]), critical=False)
        .sign(by, hashes.SHA256())
    )


def test_who_is_no_authority_issues_nothing() -> None:
    """A chain over a certificate that is trusted for signing, and may not issue others."""
    root_key, leaf_key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    root = certificate(root_key, root_key, "trainer", ca=False)
    leaf = certificate(leaf_key, root_key, "trainer", ca=False)
    content = json.loads(bundle("savedmodel-certificate"))
    payload = base64.b64decode(content["dsseEnvelope"]["payload"])
    kind = content["dsseEnvelope"]["payloadType"]
    message = f"DSSEv1 {len(kind)} {kind} {len(payload)} ".encode() + payload
    content["dsseEnvelope"]["signatures"][0]["sig"] = base64.b64encode(
        leaf_key.sign(message, ec.ECDSA(hashes.SHA256()))
    ).decode()
    raw = base64.b64encode(leaf.public_bytes(serialization.Encoding.DER)).decode()
    content["verificationMaterial"]["x509CertificateChain"]["certificates"] = [{"rawBytes": raw}]
    sent = json.dumps(content).encode()
    trusted = root.public_bytes(serialization.Encoding.PEM).decode()
    refused(check_signature(sent, folder(SAVED), [trusted, WHO], NOW), "no certificate among")
    pinned = leaf.public_bytes(serialization.Encoding.PEM).decode()
    assert check_signature(sent, folder(SAVED), [pinned], NOW).signature.verified
